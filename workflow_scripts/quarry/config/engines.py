"""Engines beside PySCF: calculators of ASE, programs of the user's own, finished labels."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from quarry.config.base import Form, Section
from quarry.config.labeling_base import LabelingBase, PlainArguments
from quarry.config.pool import FileSlice, TableGeometry, path_alone
from quarry.config.units import check_name, unit_of

IMPORT_PATH = r"^[\w.]+:\w+$"
ImportPath = Annotated[str, Form(IMPORT_PATH, "must be an import path like package.module:name")]
StateKey = Annotated[
    str,
    Form(
        r"^(info:\w+|[A-Za-z_]\w*(\.\w+)*)$",
        "must be the name of a keyword argument, like charge or dft.charge, or info:NAME of the atoms",
    ),
]


def _expression(text: str) -> str:
    try:
        re.compile(text.encode())
    except re.error as error:
        raise ValueError(f"'{text}' is no regular expression ({error})") from error
    return text


def _name_in_folder(name: str) -> str:
    if not name or PurePath(name).name != name:
        raise ValueError(f"'{name}' must be the name of a file in the scratch folder, without a path")
    return name


def _known_units(units: dict[str, str]) -> dict[str, str]:
    # As we write them: they are part of the method's identity.
    return {name: unit_of(name, unit) for name, unit in units.items()}


PropertyName = Annotated[str, AfterValidator(check_name)]
Units = Annotated[dict[str, str], AfterValidator(_known_units)]
Expression = Annotated[str, AfterValidator(_expression)]
FileName = Annotated[str, AfterValidator(_name_in_folder)]
FailureClass = Literal[
    "scf_not_converged",
    "excitations_not_converged",
    "out_of_memory",
    "out_of_time",
    "invalid_structure",
    "engine_error",
    "lacks_target",
]


class AseLabeling(LabelingBase):
    """Labels from any calculator of ASE."""

    engine: Literal["ase"]
    calculator: ImportPath
    """Import path package.module:Name of a calculator's class, or of a function that returns a calculator."""
    arguments: PlainArguments = {}
    """Keyword arguments of the calculator; part of the method's identity."""
    files: dict[str, str] = {}
    """Keyword arguments that name an input file (a model, a parameter file), relative to the campaign file; what is in the
    files is part of the method's identity."""
    properties: list[Literal["energy", "forces", "dipole"]] = Field(default=["energy", "forces"], min_length=1)
    """What the calculator is asked for."""
    charge_key: StateKey | None = None
    """Where the calculator takes the total charge from: a keyword argument (dots for nested ones: dft.charge),
    info:NAME of the atoms, or initial_charges; null: nowhere, and charged structures are refused."""
    multiplicity_key: StateKey | None = None
    """Where it takes the multiplicity 2S + 1 from: as charge_key, or initial_magnetic_moments (they get 2S); null: nowhere,
    and other structures than singlets are refused."""
    periodic: bool = False
    """Whether the calculator can take periodic structures; those are refused before any job otherwise."""

    def gives(self) -> tuple[str, frozenset[str]]:
        """Return what the calculator is asked for."""
        return "properties", frozenset(self.properties)


class CommandOutput(Section):
    """What is read when the program has ended."""

    file: FileName
    """File in the scratch folder; stdout.txt is what the program printed."""
    format: Literal["json", "extxyz", "engrad"] | None = None
    """json: a dictionary of properties; extxyz: the last frame as ASE reads it; engrad: energy and gradient as ORCA and xtb
    write them; null: parser reads the file."""
    parser: ImportPath | None = None
    """Import path package.module:function of the user's own reader; called with the file's path (pathlib), returns a
    dictionary of properties."""
    keys: dict[PropertyName, str] = {}
    """Names that the file gives its properties, e.g. {energy: "total energy"}; then only these are read. Empty: ours."""
    units: Units = {}
    """Units of the file, e.g. {energy: hartree, gradient: hartree/bohr}; ours (eV, eV/Angstrom, e*Angstrom) where not given.
    engrad has its own."""

    @model_validator(mode="after")
    def _one_reader(self) -> CommandOutput:
        if (self.format is None) == (self.parser is None):
            raise ValueError("give either a format or a parser")
        if self.format == "engrad" and (self.keys or self.units):
            raise ValueError("format: engrad has names and units of its own; remove keys and units")
        return self


class CommandLabeling(LabelingBase):
    """Labels from a program of the user's own. The engines' page (docs/engines.md) has examples and all placeholders."""

    engine: Literal["command"]
    command: str = Field(min_length=1)
    """Line for bash, run in a scratch folder that holds structure.xyz and the input files. Placeholders: $charge,
    $multiplicity, $unpaired, $threads, $tasks, $memory_MB, $memory_per_task_MB, $structure_id, $launcher, $base (folder of the
    campaign file); the shell's own $ is written $$."""
    input: dict[FileName, str] = {}
    """Input files: name in the scratch folder, and template relative to the campaign file. Placeholders as in command, and
    $atoms (lines: symbol x y z in Angstrom), $xyz (the whole xyz file), $number_of_atoms."""
    output: CommandOutput
    success: Expression | None = None
    """Regular expression that must be in what the program prints (stdout or stderr), else the label is an engine_error."""
    failure_patterns: dict[Expression, FailureClass] = {}
    """Regular expressions in what the program prints, and the failure class that they mean; the first found counts."""
    version: str = ""
    """The program's version, in the user's words; part of the method's identity."""
    version_command: str = ""
    """Line for bash whose first printed line is the program's version, for the record."""
    launcher: Literal["srun", "mpirun", "none"] = "none"
    """What $launcher stands for: a start of resources.label.tasks MPI tasks by srun or mpirun, or nothing."""
    launcher_options: str = ""
    """Options of the launcher, e.g. --mpi=pmi2 for srun, --bind-to none for mpirun."""
    memory_fraction: float = Field(default=0.75, gt=0, le=1)
    """Share of the job's memory that $memory_MB and $memory_per_task_MB tell the program; the rest is for what it takes
    beyond that."""
    modules: list[str] = []
    """Environment modules to load before the command, e.g. [orca/6.0]; the shell is a login shell then."""
    environment: dict[str, str] = {}
    """Environment variables of the command."""
    scratch: str = ""
    """Folder in which each label gets a scratch folder of its own, e.g. $TMPDIR, resolved on the node, where it must be there;
    empty: the system's folder of temporary files."""
    keep: list[FileName] = []
    """Files of the scratch folder to keep when a label fails, in keep_in/<structure id>."""
    keep_in: str = "logs/failed_labels"
    """Folder for these, relative to the working directory."""
    state_in_xyz: bool = False
    """Whether the program reads charge and multiplicity from the second line of structure.xyz; otherwise a pool with other
    structures than neutral singlets is refused unless $charge and $multiplicity (or $unpaired) are used."""
    periodic: bool = False
    """Whether the program takes periodic structures; those are refused before any job otherwise."""

    def gives(self) -> tuple[str, frozenset[str]] | None:
        """Return what is read of the output, where the section says it."""
        if self.output.format == "engrad":
            return "output.format", frozenset({"energy", "forces"})
        return ("output.keys", as_properties(self.output.keys)) if self.output.keys else None


def as_properties(names: Iterable[str]) -> frozenset[str]:
    """Return the properties of a label that come of named numbers: a gradient becomes forces."""
    return frozenset("forces" if name == "gradient" else name for name in names)


PER_ATOM = ("forces", "gradient")
"""Properties with numbers for each atom."""
OF_SEVERAL_NUMBERS = ("excitation_energies", "oscillator_strengths", "dipole")
"""Properties whose numbers may stand in several columns."""
ColumnNames = Annotated[list[str], Field(min_length=1)]
FileNames = Annotated[list[str], Field(min_length=1)]


def _one_as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ReplayLabeling(LabelingBase):
    """Labels from a file or table: benchmarks, or finished data."""

    computes: ClassVar[bool] = False

    engine: Literal["replay"]
    file: str | None = None
    """Structure file that ASE reads (extxyz ...), or table (.npz, .h5, .hdf5, .csv), relative to the campaign file; with
    columns. In its place: text."""
    columns: dict[PropertyName, str | ColumnNames] = {}
    """Property and its name in the file, e.g. {homo: homo_hartree}; in a structure file a result, info or array. Of a property
    with several numbers (excitation_energies, oscillator_strengths, dipole) also several names, which are joined:
    {excitation_energies: [E1, E2]}."""
    text: dict[PropertyName, Annotated[FileNames, BeforeValidator(_one_as_list)]] = {}
    """In place of file and columns: property and its files of plain numbers, relative to the campaign file, e.g.
    {excitation_energies: [E1.dat, E2.dat], oscillator_strengths: [f1.dat, f2.dat]}. One line for each structure with one
    number or several, which are joined over the files; # begins a comment, and empty lines do not count. Needs match: row."""
    units: Units = {}
    """Units of the columns, e.g. {homo: hartree}; ours (eV, eV/Angstrom, e*Angstrom) where not given."""
    match: Literal["geometry", "id", "row", "features"] = "geometry"
    """How a structure finds its row. geometry: same atoms in the same order, positions equal to 1e-6 Angstrom; id: Quarry's
    structure ids in the column ids; row: row i belongs to structure i of the files in structures; features: a row of a table
    pool has exactly the same features."""
    geometry: TableGeometry = TableGeometry()
    """Names of the geometries in a table, for match: geometry."""
    ids: str = "structure_id"
    """Name of the structure ids, for match: id."""
    structures: list[Annotated[FileSlice, BeforeValidator(path_alone)]] = []
    """Structure files (or tables of features) whose order the rows have, as in pool.files, for match: row."""
    features: list[str] = []
    """Names of the features of a table pool, as in pool.features: in file for match: features, in structures for match: row."""

    @model_validator(mode="after")
    def _one_way_to_the_numbers(self) -> ReplayLabeling:
        if self.text:
            if self.file is not None or self.columns:
                raise ValueError("give either text, or file and columns")
            if self.match != "row":
                raise ValueError(
                    f"text: plain numbers are found by match: row (with structures: the files of the pool), not {self.match}"
                )
            per_atom = [name for name in PER_ATOM if name in self.text]
            if per_atom:
                raise ValueError(f"text.{per_atom[0]}: numbers for each atom are read from a file, with columns")
        elif self.file is None or not self.columns:
            missing = "columns" if self.file is not None else "file"
            raise ValueError(f"the key {missing} is missing; give file and columns, or text")
        parts = {**self.columns, **self.text}
        for name, names in parts.items():
            several = isinstance(names, list) and len(names) > 1
            if several and name not in OF_SEVERAL_NUMBERS:
                raise ValueError(f"{name}: this is one number; give one name")
            if several and len(set(names)) < len(names):
                raise ValueError(f"{name}: a name is there twice; name each column or file once")
        return self

    @model_validator(mode="after")
    def _rows_of_something(self) -> ReplayLabeling:
        if (self.match == "row") != bool(self.structures):
            raise ValueError("match: row needs the key structures, and the others have no use for it")
        if self.features and self.match not in ("features", "row"):
            raise ValueError(f"match: {self.match} has no use for the key features")
        if self.match == "features" and not self.features:
            raise ValueError("match: features needs the key features, the names of the columns")
        if "forces" in self.columns and "gradient" in self.columns:
            raise ValueError("columns: give forces or gradient, not both")
        return self

    def gives(self) -> tuple[str, frozenset[str]]:
        """Return the properties that are read."""
        return ("columns", as_properties(self.columns)) if self.text == {} else ("text", as_properties(self.text))

    def files(self) -> list[str]:
        """Return every file that is read, as the campaign file names it."""
        own = [name for names in self.text.values() for name in names] if self.file is None else [self.file]
        return [*own, *(part.path for part in self.structures)]
