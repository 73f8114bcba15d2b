"""How labels are computed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from quarry.config.base import Section
from quarry.files import canonical_json


class PyscfMethod(Section):
    """Level of theory for PySCF."""

    xc: str
    """Density functional as libxc or PySCF names it (b3lyp, pbe0, HYB_GGA_XC_WB97X_D ...), or hf."""
    basis: str
    """Basis set as PySCF names it, e.g. 6-31g*, def2-svp."""
    ecp: str | None = None
    """Effective core potential for the elements that need one, e.g. def2-svp."""
    grid_level: int = Field(default=3, ge=0, le=9)
    """PySCF integration grid level (functionals only)."""
    convergence_hartree: float = Field(default=1e-9, gt=0)
    """SCF energy convergence."""
    max_cycles: int = Field(default=100, gt=0)
    """SCF cycles before the attempt counts as not converged."""
    density_fitting: bool = False
    """Density fitting of the Coulomb and exchange matrices with PySCF's default auxiliary basis."""
    dispersion: Literal["d3bj", "d4"] | None = None
    """Dispersion correction (pyscf-dispersion) with the functional's own parameters."""
    allow_vv10: bool = False
    """Accept functionals with VV10 nonlocal correlation: about 100 times the cost."""


class LabelingBase(Section):
    """What all engines share."""

    store: str = "label_store"
    """Folder of the shared label store, relative to the working directory."""
    max_failed_fraction: float = Field(default=0.2, ge=0, le=1)
    """Stop when more than this share of all labels has failed."""
    retries: int = Field(default=2, ge=0)
    """How often a label job is tried again after a fault of the machine."""


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


class Resources(Section):
    """What one job of each kind asks for; no part of the campaign's identity."""

    label: StageResources = StageResources()
    """Jobs that label a structure, and the optimisation and Hessian of a wigner pool."""
    model: StageResources = StageResources()
    """Jobs that build features, train, score and propose."""
