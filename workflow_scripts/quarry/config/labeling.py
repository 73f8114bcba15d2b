"""How labels are computed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from quarry.config.base import Section
from quarry.config.engines import AseLabeling, CommandLabeling, ReplayLabeling
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
    stability: Literal["none", "internal"] = "none"
    """internal: test that the SCF solution is a minimum (real orbitals, same spin restriction) and follow instabilities
    downhill. The energy may then be lower than without, so that it is part of the method's identity."""

    @field_validator("recovery")
    @classmethod
    def _rungs_once(cls, recovery: list[RecoveryRung]) -> list[RecoveryRung]:
        if len(set(recovery)) < len(recovery):
            raise ValueError("a way is named twice; name each once")
        return recovery


class FunctionLabeling(LabelingBase):
    """Labels from a Python function (stand-in for tests and rehearsals, or the user's own code)."""

    engine: Literal["function"]
    function: str = Field(pattern=r"^[\w.]+:\w+$")
    """Import path package.module:name; called with ASE atoms and the arguments, returns a dictionary of properties."""
    arguments: PlainArguments = {}
    """Keyword arguments of the function; part of the method's identity."""


Labeling = Annotated[
    PyscfLabeling | AseLabeling | CommandLabeling | ReplayLabeling | FunctionLabeling, Field(discriminator="engine")
]


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

    def threads_of(self, cores: int) -> int:
        """Return the cores of each task of a job that has this many in all."""
        return max(1, cores // self.tasks)


class Resources(Section):
    """What one job of each kind asks for; no part of the campaign's identity."""

    label: LabelResources = LabelResources()
    """Jobs that label a structure, and the optimisation and Hessian of a wigner pool."""
    model: StageResources = StageResources()
    """Jobs that build features, train, score and propose."""


class Forecast(Section):
    """What `snakemake forecast` does before it has labels to go by."""

    probes: int = Field(default=5, ge=5)
    """Structures of the first batch, spread over its sizes, that are labelled to measure the cost; they go into the store, so
    that nothing is paid twice."""
