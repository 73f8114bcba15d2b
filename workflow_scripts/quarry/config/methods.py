"""Levels of theory."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from quarry.config.base import Section


class Excitations(Section):
    """Excited states by linear response: singlets for a closed-shell ground state, and for an open shell all the spin-conserving
    ones of the unrestricted ground state, doublets and quartets alike.
    """

    n_states: int = Field(gt=0)
    """Number of the lowest excited states."""
    kind: Literal["tda", "tddft"] = "tddft"
    """tddft: full linear response (time-dependent Hartree-Fock with xc: hf); tda: Tamm-Dancoff approximation (with hf: CIS)."""
    convergence: float = Field(default=1e-5, gt=0)
    """Norm of a root's residual at convergence, in hartree (in hartree squared for tddft with a functional without exact
    exchange, where PySCF solves for squared energies)."""
    max_cycles: int = Field(default=100, gt=0)
    """Cycles of the eigenvalue solver before a root counts as not converged; a second attempt has three times as many."""
    grid_level: int | None = Field(default=None, ge=0, le=9)
    """PySCF integration grid level of the functional's response; null: the ground state's. Level 1 changes excitation energies
    by about 0.1 meV and makes labels two to three times cheaper than level 3."""
    characters: bool = False
    """Keep each state's leading pairs of natural transition orbitals in the label record, by which states are tracked from
    geometry to geometry (spectrum.order: overlap)."""

    forces: bool = False
    """Compute energies and forces of the ground state and of all these states (state_energies, state_forces), analytically; of
    closed shells without dispersion. A state costs about what the ground state's forces do, twice to three times over."""

    def identity(self) -> dict[str, Any]:
        """Return what changes the numbers; keys of later versions only where they are used, so that older labels keep theirs."""
        data = self.model_dump(mode="json", exclude={"max_cycles", "grid_level", "characters", "forces"})
        if self.grid_level is not None:
            data["grid_level"] = self.grid_level
        return data | {name: True for name in ("characters", "forces") if getattr(self, name)}


class ActiveSpace(Section):
    """State-averaged CASSCF: the lowest states of one spin, with analytic forces of each (state_energies, state_forces; energy
    and forces are those of the lowest). Electrons beside the active ones are in doubly occupied orbitals.
    """

    electrons: int = Field(gt=0)
    """Active electrons."""
    orbitals: int = Field(gt=0, le=12)
    """Active orbitals."""
    n_states: int = Field(gt=1)
    """States over which orbitals are averaged with equal weights, the ground state among them; all of the structure's
    multiplicity."""
    reference: str
    """A geometry of the molecule, its atoms in the order of the pool's (anything that ASE reads), relative to the campaign file,
    where the orbitals around the gap of Hartree-Fock are the active ones that are meant. Its orbitals, optimised there, are where
    those of every label begin."""
    smallest_overlap: float = Field(default=0.2, ge=0, lt=1)
    """How alike the active orbitals of a label must be to those that it begins with: the smallest singular value of the overlap
    of both spaces. Below it the active space has changed, and there is no label. A double bond twisted by a right angle
    has about 0.45, other orbitals 0.02 (ethene and methaniminium)."""
    convergence_hartree: float = Field(default=1e-9, gt=0)
    """Convergence of the averaged energy."""
    max_cycles: int = Field(default=100, gt=0)
    """Cycles of the orbitals' optimisation before it counts as not converged."""

    @model_validator(mode="after")
    def _active(self) -> ActiveSpace:
        if not self.electrons < 2 * self.orbitals:
            raise ValueError(
                f"electrons = {self.electrons}: {self.orbitals} orbitals have no room for excitations; raise orbitals"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """Return what changes the numbers, apart from the reference geometry itself."""
        return self.model_dump(mode="json", exclude={"max_cycles", "reference", "smallest_overlap"})


DAMPED_D3 = ("grimme2010d3", "grimme2011damping")


class PyscfMethod(Section):
    """Level of theory for PySCF."""

    cites: ClassVar[tuple[str, ...]] = ("sun2020pyscf", "lehtola2018libxc")

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
    """Cycles of one SCF run before it counts as not converged; a recovery step that makes several runs has as many for each."""
    density_fitting: bool = False
    """Density fitting of the Coulomb and exchange matrices with PySCF's default auxiliary basis."""
    dispersion: Literal["d3bj", "d4"] | None = None
    """Dispersion correction (pyscf-dispersion) with the functional's own parameters."""
    allow_vv10: bool = False
    """Accept functionals with VV10 nonlocal correlation: about 100 times the cost."""
    forces: bool = True
    """Compute forces (of the ground state); False saves their time where only energies or spectra are wanted."""
    excitations: Excitations | None = None
    """Excitation energies and oscillator strengths; null: none."""

    def citations(self) -> tuple[str, ...]:
        """Return the papers of PySCF, libxc and the dispersion correction."""
        return (
            *self.cites,
            *({"d3bj": DAMPED_D3, "d4": ("caldeweyher2019d4",)}[self.dispersion] if self.dispersion else ()),
        )
