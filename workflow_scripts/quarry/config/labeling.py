"""How labels are computed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from quarry.config.base import Section
from quarry.config.engines import AseLabeling, CommandLabeling, ImportPath, ReplayLabeling
from quarry.config.labeling_base import LabelingBase, PlainArguments
from quarry.config.methods import PyscfMethod

RecoveryRung = Literal["plain", "guess", "diis", "smearing", "level_shift", "newton"]


class PyscfLabeling(LabelingBase):
    """Labels from PySCF."""

    engine: Literal["pyscf"]
    method: PyscfMethod
    recovery: list[RecoveryRung] = ["plain", "guess", "diis", "smearing", "level_shift", "newton"]
    """Ways to the SCF solution, tried in this order until one converges: plain; guess (another initial guess); diis (augmented
    Roothaan-Hall DIIS, then a larger DIIS space with damping); smearing (Fermi occupations of falling width); level_shift
    (damping and level shift); newton (second-order solver). None changes the level of theory: the last run of each is without
    shift and smearing. [] and [plain]: no recovery."""
    stability: Literal["none", "internal", "external"] = "none"
    """internal: test that the SCF solution is a minimum (real orbitals, same spin restriction) and follow instabilities
    downhill. external: follow also those by which a closed shell falls to an unrestricted solution (stretched bonds, diradicals);
    not with excitations. The energy may then be lower than without, so that it is part of the method's identity."""
    look_for_instabilities: bool = False
    """Look for internal and external instabilities also where stability follows none, and say in the record what was found; no
    number changes. Costs 5 to 20 % of a label. Where stability follows some, the external one is looked for in any case (2 to
    6 %)."""

    def gives(self) -> tuple[str, frozenset[str]]:
        """Return what PySCF is asked for."""
        method = self.method
        found = ("energy", "homo", "lumo", "gap", "dipole", *(["forces"] if method.forces else []))
        states = ("excitation_energies", "oscillator_strengths") if method.excitations is not None else ()
        return "method", frozenset((*found, *states))

    @field_validator("recovery")
    @classmethod
    def _rungs_once(cls, recovery: list[RecoveryRung]) -> list[RecoveryRung]:
        if len(set(recovery)) < len(recovery):
            raise ValueError("a way is named twice; name each once")
        return recovery

    @model_validator(mode="after")
    def _states_of_a_closed_shell(self) -> Self:
        if self.stability == "external" and self.method.excitations is not None:
            raise ValueError(
                "stability: external and method.excitations: an unrestricted solution has other states (singlets mixed with "
                "triplets) than the closed shells beside it; set stability to internal, or excitations to null"
            )
        return self


class FunctionLabeling(LabelingBase):
    """Labels from a Python function (stand-in for tests and rehearsals, or the user's own code)."""

    engine: Literal["function"]
    function: ImportPath
    """Import path package.module:name; called with ASE atoms and the arguments, returns a dictionary of properties."""
    arguments: PlainArguments = {}
    """Keyword arguments of the function; part of the method's identity."""


Labeling = Annotated[
    PyscfLabeling | AseLabeling | CommandLabeling | ReplayLabeling | FunctionLabeling, Field(discriminator="engine")
]


MOST_CORES, MOST_MB, MOST_MINUTES = 1_000_000, 1_000_000_000, 10_000_000
"""No machine has more, and no queue takes it: a number beyond is a mistake (seconds for minutes, bytes for MB)."""


class StageResources(Section):
    """Cores, memory and time of one job. A profile's set-resources win over these, and set-threads for label jobs; the
    threads of model jobs are always these, because their results may differ in the last digits with the number.
    """

    threads: int = Field(default=1, gt=0, le=MOST_CORES)
    """Cores, and threads of the numerical libraries."""
    memory_MB: int = Field(default=2000, gt=0, le=MOST_MB)
    """Memory of the job."""
    walltime_min: int = Field(default=60, gt=0, le=MOST_MINUTES)
    """Time limit of the job."""


class LabelResources(StageResources):
    """Cores, memory and time of one label job, and MPI tasks where the engine is a program that takes them."""

    tasks: int = Field(default=1, gt=0, le=MOST_CORES)
    """MPI tasks of a command engine; each has `threads` cores, and memory_MB is that of all together."""

    def threads_of(self, cores: int) -> int:
        """Return the cores of each task of a job that has this many in all."""
        return max(1, cores // self.tasks)


class ModelResources(StageResources):
    """Cores, memory and time of one model job, and how short it must be to need no queue. A profile's set-resources win over
    the first three; the threads are always these, because results may differ in the last digits with their number.
    """

    beside_main_s: float = Field(default=30.0, ge=0, le=3600)
    """Seconds, on a cluster: training, evaluation, scoring or proposal that took less in the last iteration (all jobs of the
    step together, grown with the third power of the labels) runs beside the main process and waits for no queue; after twice
    the time it is ended and goes to the cluster. 0: never, for sites that forbid work on login nodes. profiles/README.md."""


class Resources(Section):
    """What one job of each kind asks for; no part of the campaign's identity."""

    label: LabelResources = LabelResources()
    """Jobs that label a structure, and the optimisation and Hessian of a wigner pool."""
    model: ModelResources = ModelResources()
    """Jobs that build features, train, score and propose."""


class Forecast(Section):
    """What `snakemake forecast` does before it has labels to go by."""

    probes: int = Field(default=5, ge=5)
    """Structures of the first batch, spread over its sizes, that are labelled to measure the cost; they go into the store, so
    that nothing is paid twice."""
