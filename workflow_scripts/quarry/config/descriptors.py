"""Descriptors: what a model sees of a structure."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from quarry.config.base import Section
from quarry.config.baselines import DEFAULT_NETWORK, check_network
from quarry.config.extras import EXTRAS


class DescriptorBase(Section):
    """What all descriptors share."""

    takes_cells: ClassVar[bool] = False
    """Whether it knows periodic structures."""
    has_derivatives: ClassVar[bool] = False
    """Whether its derivatives by the positions are known, so that models of energies have forces."""

    def input_files(self) -> list[str]:
        """Return the files that it reads beside a reference geometry."""
        return []


class InverseDistances(DescriptorBase):
    """r_eq / r of every atom pair, for geometries of one molecule."""

    has_derivatives: ClassVar[bool] = True

    kind: Literal["inverse_distances"]
    reference: str | None = None
    """Equilibrium geometry; null: the optimised one (wigner) or the pool's first structure (file)."""


class CoulombMatrix(DescriptorBase):
    """The sorted Coulomb matrix, for pools of different molecules."""

    cites: ClassVar[tuple[str, ...]] = ("rupp2012coulomb",)

    kind: Literal["coulomb_matrix"]


class MbtrGrid(Section):
    """Points at which a term's distribution is kept. Units: those of the term's geometry, 1/Angstrom for inverse_distance,
    Angstrom for distance, degrees for angle, none for cosine and atomic_number.
    """

    minimum: float
    """First point."""
    maximum: float
    """Last point."""
    points: int = Field(gt=1)
    """Number of points, for each pair (triple) of elements."""
    sigma: float = Field(gt=0)
    """Width of the Gaussians."""

    @model_validator(mode="after")
    def _grows(self) -> MbtrGrid:
        if self.maximum <= self.minimum:
            raise ValueError(f"maximum = {self.maximum} must be greater than minimum = {self.minimum}")
        return self


class UnityWeighting(Section):
    """No weights."""

    function: Literal["unity"]
    """All count the same."""


class ExponentialWeighting(Section):
    """Weights that fall exponentially with the distance."""

    function: Literal["exp"]
    """exp(-decay x), x the distance of a pair or the sum of the three distances of a triple."""
    decay_per_A: float = Field(default=0.5, gt=0)
    """Decay, in 1/Angstrom."""
    threshold: float = Field(default=1e-3, gt=0, lt=1)
    """Pairs or triples of less weight are left out."""


class InverseSquareWeighting(Section):
    """Weights that fall with the squared distance."""

    function: Literal["inverse_square"]
    """1 / r^2 of a pair."""
    cutoff_A: float = Field(gt=0)
    """Pairs further apart (Angstrom) are left out."""


class MbtrElements(Section):
    """k1: how many atoms there are of each element."""

    geometry: Literal["atomic_number"] = "atomic_number"
    grid: MbtrGrid
    """Atomic numbers; it must hold those of the pool."""


class MbtrPairs(Section):
    """k2: distances of the atoms of each pair of elements."""

    geometry: Literal["inverse_distance", "distance"] = "inverse_distance"
    """1/r or r."""
    grid: MbtrGrid = MbtrGrid(minimum=0.0, maximum=1.1, points=200, sigma=0.02)
    """Give one with geometry: distance. 1.1 / Angstrom is a bond of 0.91 Angstrom, shorter than any but that of H2."""
    weighting: Annotated[
        ExponentialWeighting | InverseSquareWeighting | UnityWeighting, Field(discriminator="function")
    ] = ExponentialWeighting(function="exp")

    @model_validator(mode="after")
    def _grid_of_its_own(self) -> MbtrPairs:
        _check_grid(self, "inverse_distance")
        return self


class MbtrTriples(Section):
    """k3: angles at the middle atom of each triple of elements."""

    geometry: Literal["cosine", "angle"] = "cosine"
    """Cosine, or angle in degrees."""
    grid: MbtrGrid = MbtrGrid(minimum=-1.0, maximum=1.0, points=200, sigma=0.09)
    """Give one with geometry: angle."""
    weighting: Annotated[ExponentialWeighting | UnityWeighting, Field(discriminator="function")] = ExponentialWeighting(
        function="exp"
    )

    @model_validator(mode="after")
    def _grid_of_its_own(self) -> MbtrTriples:
        _check_grid(self, "cosine")
        return self


def _check_grid(section: MbtrPairs | MbtrTriples, usual: str) -> None:
    if section.geometry != usual and "grid" not in section.model_fields_set:
        raise ValueError(f"geometry: {section.geometry} needs a grid of its own; the usual one is for {usual}")


class Mbtr(DescriptorBase):
    """Many-body tensor representation, for pools of different molecules: smeared distributions of distances and angles, for
    each combination of elements. Terms, grids and weights of k2 and k3 are those of the published QM9, AA and OE62 studies
    (A. Stuke et al., J. Chem. Phys. 150, 204121 (2019); K. Ghosh's code), which used k2 alone.
    """

    cites: ClassVar[tuple[str, ...]] = ("huo2022mbtr",)

    kind: Literal["mbtr"]
    k1: MbtrElements | None = None
    k2: MbtrPairs | None = MbtrPairs()
    k3: MbtrTriples | None = None
    normalize_gaussians: bool = True
    """true: each Gaussian has the area 1 (times its weight), else the height 1."""
    normalization: Literal["none", "l2", "n_atoms"] = "none"
    """Of each term of a structure: none, to the Euclidean length 1, or divided by the number of atoms."""

    @model_validator(mode="after")
    def _some_term(self) -> Mbtr:
        if self.k1 is None and self.k2 is None and self.k3 is None:
            raise ValueError("give at least one of k1, k2, k3")
        return self


class Soap(DescriptorBase):
    """Smooth overlap of atomic positions, for pools of different molecules and of periodic structures (through the library
    dscribe).
    """

    cites: ClassVar[tuple[str, ...]] = ("bartok2013soap", "himanen2020dscribe")

    takes_cells: ClassVar[bool] = True

    kind: Literal["soap"]
    cutoff_A: float = Field(default=5.0, gt=1)
    """Radius of an atom's neighbourhood, in Angstrom."""
    radial_functions: int = Field(default=6, gt=0)
    """Radial basis functions (n_max)."""
    angular_momentum: int = Field(default=4, ge=0)
    """Highest angular momentum of the spherical harmonics (l_max)."""
    sigma_A: float = Field(default=0.5, gt=0)
    """Width of the atoms' Gaussians, in Angstrom."""
    average: Literal["inner", "outer"] = "inner"
    """inner: the atoms' expansion coefficients are averaged before they are multiplied; outer: their power spectra are."""

    @property
    def extras(self) -> dict[str, str]:
        """Optional dependencies that it needs, by the key that asks for each."""
        return {"kind": "soap"}


class Pretrained(DescriptorBase):
    """Features of the atoms in a trained network's last layer, pooled, for pools of molecules and of periodic structures. The
    network was trained on others' data and is not trained further.
    """

    takes_cells: ClassVar[bool] = True

    kind: Literal["pretrained"]
    network: Literal["sevenn", "mace"] = "sevenn"
    """Package of the network: sevenn (pip install sevenn==0.13.0) or mace (pip install mace-torch==0.3.16, which cannot be in
    one environment with sevenn)."""
    model: str = DEFAULT_NETWORK
    """Name of a network that comes with sevenn (7net-0, 7net-0_22may2024, 7net-l3i5), or a file, relative to the campaign
    file. Reading a file runs code in it: use none that you do not trust."""
    pooling: Literal["mean", "sum", "elements"] = "mean"
    """What becomes of the atoms' features: their mean, their sum, or a sum for each element of the pool."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs; auto: a GPU where there is one."""

    @model_validator(mode="after")
    def _has_network(self) -> Pretrained:
        check_network(self.network, self.model)
        return self

    @property
    def extras(self) -> dict[str, str]:
        """Optional dependencies that it needs, by the key that asks for each."""
        return {"network": self.network}

    def input_files(self) -> list[str]:
        """Return the files that it reads."""
        return EXTRAS[self.network].files([self.model])


class TableFeatures(DescriptorBase):
    """The features of a pool of rows (pool.source: table), as they are."""

    kind: Literal["table"]


Descriptor = Annotated[
    InverseDistances | CoulombMatrix | Mbtr | Soap | Pretrained | TableFeatures, Field(discriminator="kind")
]

KINDS_FOR_CELLS = tuple(
    str(get_args(kind.model_fields["kind"].annotation)[0])
    for kind in get_args(get_args(Descriptor)[0])
    if kind.takes_cells
)
"""The kinds of descriptor that know periodic structures."""
