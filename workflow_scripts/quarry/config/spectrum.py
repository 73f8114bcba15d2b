"""Absorption spectra by the nuclear-ensemble approach."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from quarry.config.base import Section

TARGET = "excitations"
"""The target that spectra need."""


LEARNT = ("n_states", "equilibrium", "order")
"""Keys of the section that decide what is learnt; the others only how it is shown."""


class Spectrum(Section):
    """Spectra of target excitations: ML-NEA (the whole pool is the ensemble), QC-NEA (labelled structures only), and the
    single-point convolution (B.-X. Xue, M. Barbatti, P. O. Dral, J. Phys. Chem. A 124, 7199 (2020)).
    """

    cites: ClassVar[tuple[str, ...]] = ("xue2020mlnea",)

    n_states: int | None = Field(default=None, gt=0)
    """Lowest excited states that are learnt and make the spectrum; null: excitations.n_states of the PySCF method. Other
    engines need it; a label with fewer states counts as failed."""
    delta_eV: float = Field(default=0.01, gt=0)
    """Broadening of ML-NEA, eV (two standard deviations of each line's Gaussian)."""
    delta_qc_eV: float = Field(default=0.01, gt=0)
    """Broadening of QC-NEA, eV; with some hundred labels 0.05 is smoother."""
    delta_single_point_eV: float = Field(default=0.3, gt=0)
    """Broadening of the single-point convolution, eV."""
    step_eV: float = Field(default=0.002, gt=0)
    """Distance of two points of a spectrum, eV; at most half of the smallest broadening."""
    refractive_index: float = Field(default=1.0, gt=0)
    """Refractive index of the medium."""
    equilibrium: bool | None = None
    """Whether the pool's first structure is the equilibrium geometry. It is then labelled first, is learnt, and gives the
    single-point convolution; it is no member of the ensemble. null: true for a wigner pool, which then begins with it,
    false for other pools."""
    order: Literal["energy", "overlap"] = "energy"
    """Which state is which. energy: ordered by energy in every geometry; overlap: tracked from the first labelled structure
    (let it be the equilibrium) by the overlap of transition densities, which needs excitations.characters. The highest
    states of a label may leave it for others from above: compute one or two more than n_states."""
    experiment: str | None = None
    """Measured spectrum to draw beside: CSV, relative to the campaign file, with a line of names and the columns energy_eV
    or wavelength_nm and sigma_A2 or absorbance (scaled to the height of ML-NEA)."""

    @model_validator(mode="after")
    def _fine_enough(self) -> Spectrum:
        smallest = min(self.delta_eV, self.delta_qc_eV, self.delta_single_point_eV)
        if self.step_eV > smallest / 2:
            raise ValueError(
                f"step_eV = {self.step_eV} leaves lines of {smallest} eV out; make it {smallest / 2:g} or less"
            )
        return self
