"""How labels are computed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from quarry.config.base import Section
from quarry.config.methods import PyscfMethod
from quarry.files import canonical_json


class LabelingBase(Section):
    """What all engines share."""

    store: str = "label_store"
    """Folder of the shared label store, relative to the working directory."""
    max_failed_fraction: float = Field(default=0.2, ge=0, le=1)
    """Stop when more than this share of all labels has failed."""
    retries: int = Field(default=2, ge=0)
    """How often a label job is tried again: after a fault of the machine, and with more memory or time when those ran out."""
    growth: float = Field(default=2.0, gt=1)
    """Factor by which memory or time grows with every attempt that ran out of it."""
    structures_per_job: int | Literal["auto"] = Field(default=1, gt=0)
    """Structures that one job labels one after another; auto: as many as make a job of about 20 minutes, by measured cost."""
    right_size: bool = True
    """Fit walltime, memory and order of the next iteration's jobs to the finished labels; False: always those of resources."""
    safety_factor: float = Field(default=2.0, ge=1)
    """Factor on the predicted walltime and memory of a right-sized job."""
    straggler_factor: float | None = Field(default=None, gt=1)
    """A label that runs longer than this many times its predicted time ends as out_of_time and goes into the next batch with
    more time, so that it does not hold the iteration; null: it may use its whole walltime."""
    outlier_z: float | None = Field(default=6.0, gt=0)
    """Robust z (energy per atom, force norm) against the batch above which a label is flagged, never dropped; null: off."""
    heartbeat_s: float = Field(default=20.0, gt=0)
    """Seconds between two signs of life of a running label in the store; after six missed ones another job takes over."""


class PyscfLabeling(LabelingBase):
    """Labels from PySCF."""

    engine: Literal["pyscf"]
    method: PyscfMethod


class FunctionLabeling(LabelingBase):
    """Labels from a Python function (stand-in for tests and rehearsals, or the user's own code)."""

    engine: Literal["function"]
    function: str = Field(pattern=r"^[\w.]+:\w+$")
    """Import path package.module:name; called with ASE atoms and the arguments, returns a dictionary of properties."""
    arguments: dict[str, Any] = {}
    """Keyword arguments of the function; part of the method's identity."""

    @field_validator("arguments")
    @classmethod
    def _plain(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            canonical_json(arguments)
        except (TypeError, ValueError) as error:
            raise ValueError(f"only plain values can be given, no infinite ones ({error})") from error
        return arguments


Labeling = Annotated[PyscfLabeling | FunctionLabeling, Field(discriminator="engine")]


class StageResources(Section):
    """Cores, memory and time of one job. A profile's set-resources win over these, and set-threads for label jobs; the
    threads of model jobs are always these, because their results may differ in the last digits with the number.
    """

    threads: int = Field(default=1, gt=0)
    """Cores, and threads of the numerical libraries."""
    memory_MB: int = Field(default=2000, gt=0)
    """Memory of the job."""
    walltime_min: int = Field(default=60, gt=0)
    """Time limit of the job."""


class LabelResources(StageResources):
    """Cores, memory and time of one label job, and MPI tasks where the engine is a program that takes them."""

    tasks: int = Field(default=1, gt=0)
    """MPI tasks of a command engine; each has `threads` cores, and memory_MB is that of all together."""


class Resources(Section):
    """What one job of each kind asks for; no part of the campaign's identity."""

    label: LabelResources = LabelResources()
    """Jobs that label a structure, and the optimisation and Hessian of a wigner pool."""
    model: StageResources = StageResources()
    """Jobs that build features, train, score and propose."""
