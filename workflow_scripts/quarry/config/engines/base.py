"""What the sections of all engines share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from quarry.config.base import Section
from quarry.config.engines.known import KnownLabels
from quarry.config.methods import Excitations, PyscfMethod

LONGEST_HEARTBEAT_S = 86400


class LabelingBase(Section):
    """What all engines share."""

    # The section of an engine narrows this to its name.
    engine: str
    """Which engine labels."""

    computes: ClassVar[bool] = True
    """Whether the engine can label a structure that nobody has seen before; False: it only knows finished labels."""
    labels_rows: ClassVar[bool] = False
    """Whether it labels rows of features as well as structures."""
    takes_periodic: ClassVar[bool | None] = False
    """Whether it takes periodic structures; None: as its key ``periodic`` says."""
    starts_mpi_tasks: ClassVar[bool] = False
    """Whether it starts a program with resources.label.tasks MPI tasks."""
    free_keys: ClassVar[tuple[str, ...]] = ()
    """Keys of its own that decide how labels come about, not which numbers they are: no part of the campaign's identity."""
    key_of_states: ClassVar[str | None] = None
    """The key under which excited states are asked for (``excitations``); None: the section does not say what states are."""
    switches: ClassVar[Mapping[str, str]] = {}
    """Properties that a key of True or False gives, and that key."""

    def gives(self) -> tuple[str, frozenset[str]] | None:
        """Return the key that says which properties labels have, and these; None where only labels will tell."""
        return None

    def input_files(self) -> list[str]:
        """Return the files that labels come from, as the campaign file names them; what is in them is part of the identity."""
        return []

    def written_folders(self) -> dict[str, str]:
        """Return the folders that label jobs write to beside results and store, by the key that names them."""
        return {}

    def problem_with_pool(self, rows: bool) -> str | None:
        """Return what of this section does not fit the pool, in one line, or None. rows: whether it holds rows of features."""
        return None

    @property
    def excitations(self) -> Excitations | None:
        """The excited states that each label has, where the section says it."""
        return None

    @property
    def n_states(self) -> int | None:
        """States whose energies each label has, the ground state among them; None where the section does not say it."""
        return None

    @property
    def geometry_method(self) -> PyscfMethod | None:
        """The method of the optimisation and Hessian of a wigner pool that names none; None: the pool must name one."""
        return None

    forces_remedy: ClassVar[str] = ""
    """Clause of a message, up to ", or ": how to get these forces, where that can be had."""

    @property
    def has_forces_for_modes(self) -> bool:
        """Whether its own forces can give the normal modes of a wigner pool, by displacing each atom."""
        return False

    @classmethod
    def names_of_shared_keys(cls) -> tuple[str, ...]:
        """Return the keys that all engines share; they decide how labels come about, not which numbers they are."""
        return tuple(name for name in LabelingBase.model_fields if name != "engine")

    store: str = "label_store"
    """Folder of the shared label store, relative to the working directory. May be changed: what the campaign has in the store
    before is taken from there. Where its group may write it, all users of the group can, whatever their umask."""
    max_failed_fraction: float = Field(default=0.2, ge=0, le=1)
    """Stop when more than this share of all labels has failed."""
    retries: int = Field(default=2, ge=0, le=1000)
    """How often a label job is tried again: after a fault of the machine, and with more memory or time when those ran out."""
    growth: float = Field(default=2.0, gt=1, le=100)
    """Factor by which memory or time grows with every attempt that ran out of it; of model jobs both, with every attempt."""
    structures_per_job: Annotated[int, Field(gt=0)] | Literal["auto"] = 1
    """Structures that one job labels one after another; auto: as many as make a job of about 20 minutes, by measured cost."""
    right_size: bool = True
    """Fit walltime, memory and order of the next iteration's jobs to the finished labels; False: always those of resources."""
    safety_factor: float = Field(default=2.0, ge=1, le=100)
    """Factor on the predicted walltime and memory of a right-sized job."""
    straggler_factor: float | None = Field(default=None, gt=1)
    """A label that runs longer than this many times its predicted time ends as out_of_time and goes into the next batch with
    more time, so that it does not hold the iteration; null: it may use its whole walltime."""
    outlier_z: float | None = Field(default=6.0, gt=0)
    """Robust z (energy per atom, force norm) against the batch above which a label is flagged, never dropped; null: off."""
    audit: Literal["warn", "stop", "off"] = "warn"
    """Labels against physics and against each other, at every merge: net force and torque, energies against forces, precision,
    absurd values, copies with other energies, unstable solutions (docs/labels.md). warn: what is found stands in audit.csv,
    terminal, history and report; stop: errors stop the campaign until they are corrected or rejected; off: no audit."""
    net_force_tolerance_eV_per_A: float = Field(default=5e-3, gt=0)
    """Largest net force and net torque of a label, per atom, that the audit passes; ten times as much is an error. PySCF's grids
    of level 1 give up to 0.0025, those of level 0 up to 0.06."""
    leave_out: str | None = None
    """Text file with ids of labels, one a line (lines of audit.csv or outliers.csv will do), that are kept, paid and counted, but
    neither learnt from nor measured by. May be changed on a running or finished campaign: it holds from the last batch on."""
    known: KnownLabels | None = None
    """Labels that you have already, of the same method as those to come, e.g. {file: mine.extxyz, columns: {energy: energy}}.
    They cost nothing, are marked in their records, and are not put into the store; give them to pool.files too."""
    heartbeat_s: float = Field(default=20.0, gt=0, le=LONGEST_HEARTBEAT_S)
    """Seconds between two signs of life of a running label in the store; after six missed ones another job takes over."""
