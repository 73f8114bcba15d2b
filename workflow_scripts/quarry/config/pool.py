"""Where the candidates come from."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, cast, get_args

from pydantic import BeforeValidator, Field, model_validator

from quarry.config.base import ImportPath, PlainArguments, Section
from quarry.config.dynamics import Explore, Growth
from quarry.config.methods import PyscfMethod

MOST_CHARGES = 10_000
"""Charges and unpaired electrons beyond this are mistakes."""


class LowModes(Section):
    """Normal modes of low wavenumber. A harmonic potential is a poor picture of them, and so wide that the Wigner
    distribution tears the molecule.
    """

    below_cm: float = Field(default=100.0, gt=0)
    """Modes below this wavenumber are meant, 1/cm."""
    treatment: Literal["raise", "freeze"]
    """raise: sampled as if they had the wavenumber below_cm; freeze: not displaced."""


class FixedPool(Section):
    """A pool that is made once, before the first batch."""

    is_sampled: ClassVar[bool] = False
    """Whether each iteration has candidates of its own."""

    @property
    def initial_pool(self) -> InitialPool | None:
        """The fixed pool from which the test set and iteration 0 come."""
        return cast("InitialPool", self)


class WignerPool(FixedPool):
    """Geometries of one molecule drawn from the harmonic Wigner distribution of its normal modes."""

    source: Literal["wigner"]
    molecule: str | None = None
    """Start geometry (xyz), relative to the campaign file; it is optimised first. In its place: modes_file."""
    modes_file: str | None = None
    """In place of molecule: normal modes that are computed already, the pool/normal_modes.json of an earlier campaign,
    relative to the campaign file. Geometry, charge and multiplicity are those of the file."""
    size: int = Field(gt=0)
    """Number of geometries to draw; with section spectrum the equilibrium geometry stands before them."""
    temperature_K: float = Field(default=300.0, ge=0)
    """Temperature of the Wigner distribution (0 is the ground state)."""
    low_modes: LowModes | None = None
    """What is done with modes of low wavenumber, e.g. {treatment: raise}; null: they are sampled like the others, and those
    below 100 1/cm are named when the pool is built."""
    optimise: bool = True
    """False takes the start geometry as it is. It must be a minimum of geometry_method: a force above 0.05 eV/Angstrom or an
    imaginary mode is refused."""
    charge: int = Field(default=0, ge=-MOST_CHARGES, le=MOST_CHARGES)
    """Total charge."""
    multiplicity: int = Field(default=1, gt=0, le=MOST_CHARGES)
    """Spin multiplicity 2S + 1."""
    charge_key: str | None = None
    """Name under which the molecule's file gives its charge, where names contradict each other or it is an unusual one."""
    multiplicity_key: str | None = None
    """Name under which the file gives its multiplicity 2S + 1."""
    geometry_method: PyscfMethod | None = None
    """Method of the optimisation and Hessian; null: the labels' own (PySCF; of engine ase the Hessian by finite differences of
    forces)."""

    @model_validator(mode="after")
    def _one_origin(self) -> WignerPool:
        if self.modes_file is None:
            if self.molecule is None:
                raise ValueError("the key molecule is missing; give the start geometry, or modes_file")
            return self
        fields = type(self).model_fields
        idle = [key for key in OF_THE_MODES_FILE if getattr(self, key) != fields[key].default]
        if idle:
            raise ValueError(f"the modes_file says all that is in {', '.join(idle)}; remove {' and '.join(idle)}")
        return self


OF_THE_MODES_FILE = (
    *("molecule", "optimise", "geometry_method"),
    *("charge", "multiplicity", "charge_key", "multiplicity_key"),
)
"""Keys that a wigner pool from saved normal modes has no use for."""


class TableGeometry(Section):
    """Names of the geometries in an npz or HDF5 table."""

    numbers: str = "Z"
    """Atomic numbers: shape (n_atoms_total,) with offsets, otherwise (n_atoms,) or (n, n_atoms)."""
    positions: str = "R"
    """Positions in Angstrom: shape (n_atoms_total, 3) with offsets, otherwise (n, n_atoms, 3)."""
    offsets: str = "offsets"
    """Where each structure starts, shape (n + 1,); absent where all have as many atoms."""

    @property
    def names(self) -> tuple[str, str, str]:
        """The three names in their order."""
        return self.numbers, self.positions, self.offsets


class FileSlice(Section):
    """One structure file."""

    path: str
    """Anything that ase.io.read reads, or an npz or HDF5 table (.npz, .h5, .hdf5), relative to the campaign file."""
    index: str = ":"
    """ASE index, e.g. ':100', '::10', '-1'."""
    geometry: TableGeometry = TableGeometry()
    """Names in a table."""


def path_alone(value: Any) -> Any:
    """Return a file slice for a bare path."""
    return {"path": value} if isinstance(value, str) else value


PathOrSlice = Annotated[FileSlice, BeforeValidator(path_alone, json_schema_input_type=str | FileSlice)]
"""A structure file, as a bare path or with what to take of it."""


class FilePool(FixedPool):
    """Structures from files."""

    source: Literal["file"]
    files: list[PathOrSlice] = Field(min_length=1)
    """Paths, or {path, index}; structures keep charge and multiplicity that their file gives."""
    charge: int = Field(default=0, ge=-MOST_CHARGES, le=MOST_CHARGES)
    """Total charge of structures whose file gives none."""
    multiplicity: int = Field(default=1, gt=0, le=MOST_CHARGES)
    """Spin multiplicity of structures whose file gives none."""
    charge_key: str | None = None
    """Name (of an info entry, a per-atom column that is summed, or a column of a table) under which the files give the charge;
    it wins over all others. null: charge, total_charge and other usual names, and the sum of initial_charges."""
    multiplicity_key: str | None = None
    """Name under which the files give the multiplicity 2S + 1. null: multiplicity, total_spin, spin (all 2S + 1) and other usual
    names, uhf (2S), and the sum of initial_magmoms where these are parallel. magmom and initial_magmoms are 2S."""


class TablePool(FixedPool):
    """Rows of features instead of structures, with descriptor.kind: table. Their labels come from labeling.engine function
    (the function finds the row in atoms.info["features"]) or replay.
    """

    source: Literal["table"]
    files: list[str] = Field(min_length=1)
    """Tables (.csv with a first line of names, .npz, .h5, .hdf5), relative to the campaign file; their rows one file after
    another."""
    features: list[str] = Field(min_length=1)
    """Names of the columns; in npz and HDF5 a column may be an array of shape (n, k)."""


class SamplerPool(Section):
    """Candidates that a user-defined sampler makes anew for every iteration, from the last model. The samplers' page
    (docs/samplers.md) has an example.
    """

    is_sampled: ClassVar[bool] = True
    free_keys: ClassVar[tuple[str, ...]] = ("time_limit_s",)
    """Keys that are no part of the campaign's identity."""

    source: Literal["sampler"]
    sampler: ImportPath
    """Import path package.module:Name of a class, importable from the campaign file's folder or the working directory. Its method
    sample(model, labelled, iteration, rng) returns ASE atoms."""
    arguments: PlainArguments = {}
    """Keyword arguments of the class."""
    time_limit_s: float = Field(default=3600.0, gt=0)
    """Seconds that sample and initial may take at most; may be changed at any time."""
    initial: Annotated[WignerPool | FilePool, Field(discriminator="source")] | None = None
    """Where the test set and the structures of iteration 0 come from: a wigner or file pool. null: the sampler's own method
    initial(rng)."""
    charge: int = Field(default=0, ge=-MOST_CHARGES, le=MOST_CHARGES)
    """Total charge of sampled structures whose atoms.info gives none."""
    multiplicity: int = Field(default=1, gt=0, le=MOST_CHARGES)
    """Spin multiplicity 2S + 1 of sampled structures whose atoms.info gives none."""

    @property
    def initial_pool(self) -> InitialPool | None:
        """The fixed pool from which the test set and iteration 0 come; None: they come from the sampler itself."""
        return self.initial


class DynamicsPool(Section):
    """Candidates that trajectories on the last model's potential find, anew for every iteration. Needs a model that predicts
    forces. Sections target, model, query, test and stop may be left out, and single keys of the last three (docs/dynamics.md).
    """

    cites: ClassVar[tuple[str, ...]] = ("hou2024al",)

    is_sampled: ClassVar[bool] = True

    source: Literal["dynamics"]
    molecule: str | None = None
    """Start geometry (xyz), relative to the campaign file; it is optimised, and its normal modes are computed. In its place:
    modes_file or initial."""
    modes_file: str | None = None
    """Normal modes that are computed already, the pool/normal_modes.json of an earlier campaign."""
    initial: Annotated[WignerPool | FilePool, Field(discriminator="source")] | None = None
    """In place of molecule: the whole pool that the test set and iteration 0 come from, e.g. {source: file, files: [...]}."""
    initial_temperature_K: float = Field(default=500.0, ge=0)
    """Temperature of the Wigner distribution of the initial data, kelvin."""
    initial_size: int = Field(default=200, gt=0)
    """Geometries that are drawn for the test set and iteration 0."""
    charge: int = Field(default=0, ge=-MOST_CHARGES, le=MOST_CHARGES)
    """Total charge of the molecule."""
    multiplicity: int = Field(default=1, gt=0, le=MOST_CHARGES)
    """Spin multiplicity 2S + 1 of the molecule."""
    geometry_method: PyscfMethod | None = None
    """Method of the optimisation and Hessian, a cheaper one perhaps; null: the labels' own (PySCF; of engine ase the Hessian by
    finite differences of forces)."""
    growth: Growth | None = Growth()
    """Whether initial data grow before trajectories are run; null, and without normal modes: they start from iteration 0."""
    explore: Explore = Explore()

    @model_validator(mode="after")
    def _one_origin(self) -> DynamicsPool:
        given = [name for name in ("molecule", "modes_file", "initial") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of molecule, modes_file and initial, not {' and '.join(given) if given else 'none of them'}"
            )
        _ = self.initial_pool
        if not self.has_modes and self.explore.starts == "wigner":
            raise ValueError("explore.starts: wigner needs normal modes, and initial has none; set labelled")
        sampler = self.explore.sampler
        if not self.has_modes and sampler is not None and sampler.needs_modes:
            raise ValueError(f"explore.sampler: {sampler.noun} need normal modes, and initial has none; give molecule")
        if not self.has_modes and self.growth is not None and "growth" in self.model_fields_set:
            raise ValueError("growth: it draws geometries from normal modes, and initial has none; set null")
        return self

    def input_files(self) -> list[str]:
        """Return the files that the sampler starts from."""
        return [] if self.explore.sampler is None else self.explore.sampler.input_files()

    @property
    def grows_by(self) -> Growth | None:
        """How the initial data grow; None where they do not, or there are no normal modes to draw from."""
        return self.growth if self.has_modes else None

    @property
    def has_modes(self) -> bool:
        """Whether there are normal modes to draw from."""
        return isinstance(self.initial_pool, WignerPool)

    @property
    def starts(self) -> Literal["wigner", "labelled"]:
        """Where trajectories begin."""
        return self.explore.starts or ("wigner" if self.has_modes else "labelled")

    @property
    def initial_pool(self) -> InitialPool | None:
        """The fixed pool from which the test set and iteration 0 come."""
        if self.initial is not None:
            return self.initial
        keys = ("molecule", "geometry_method", "charge", "multiplicity") if self.modes_file is None else ("modes_file",)
        return WignerPool(
            source="wigner",
            size=self.initial_size,
            temperature_K=self.initial_temperature_K,
            **{key: getattr(self, key) for key in keys},
        )


InitialPool = WignerPool | FilePool | TablePool
Pool = Annotated[WignerPool | FilePool | TablePool | SamplerPool | DynamicsPool, Field(discriminator="source")]
SAMPLED_SOURCES = frozenset(
    source
    for pool in get_args(get_args(Pool)[0])
    if pool.is_sampled
    for source in get_args(pool.model_fields["source"].annotation)
)
"""What ``pool.source`` says of campaigns whose candidates are made anew in each iteration."""


def files_of(pool: InitialPool | None) -> list[str]:
    """Return the files that a pool is made from."""
    if pool is None:
        return []
    if isinstance(pool, WignerPool):
        return [name for name in (pool.molecule, pool.modes_file) if name is not None]
    return [part if isinstance(part, str) else part.path for part in pool.files]


def needs_geometry_method(pool: InitialPool | None) -> bool:
    """Return whether an optimisation and a Hessian are due whose method the pool does not name."""
    return isinstance(pool, WignerPool) and pool.modes_file is None and pool.geometry_method is None
