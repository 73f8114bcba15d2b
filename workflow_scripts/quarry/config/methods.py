"""Levels of theory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from quarry.config.base import Section


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
