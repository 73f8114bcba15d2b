"""Labels from a user-defined program."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from quarry.config.base import ImportPath, Section
from quarry.config.engines.base import LabelingBase
from quarry.config.units import PropertyName, Units
from quarry.failures import FailureClass
from quarry.properties import given_by


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


Expression = Annotated[str, AfterValidator(_expression)]
FileName = Annotated[str, AfterValidator(_name_in_folder)]


class CommandOutput(Section):
    """What is read when the program has ended."""

    file: FileName
    """File in the scratch folder; stdout.txt is what the program printed."""
    format: Literal["json", "extxyz", "engrad"] | None = None
    """json: a dictionary of properties; extxyz: the last frame as ASE reads it; engrad: energy and gradient as ORCA and xtb
    write them; null: parser reads the file."""
    parser: ImportPath | None = None
    """Import path package.module:function of a user-defined reader; called with the file's path (pathlib), returns a
    dictionary of properties."""
    keys: dict[PropertyName, str] = {}
    """Names that the file gives its properties, e.g. {energy: "total energy"}; then only these are read. Empty: ours."""
    units: Units = {}
    """Units of the file, e.g. {energy: hartree, gradient: hartree/bohr}; ours (docs/engines.md) where not given.
    engrad has its own."""

    @model_validator(mode="after")
    def _one_reader(self) -> CommandOutput:
        if (self.format is None) == (self.parser is None):
            raise ValueError("give either a format or a parser")
        if self.format == "engrad" and (self.keys or self.units):
            raise ValueError("format: engrad has names and units of its own; remove keys and units")
        return self


class CommandLabeling(LabelingBase):
    """Labels from a user-defined program. The engines' page (docs/engines.md) has examples and all placeholders."""

    takes_periodic: ClassVar[bool | None] = None
    starts_mpi_tasks: ClassVar[bool] = True
    free_keys: ClassVar[tuple[str, ...]] = (
        *("launcher", "launcher_options", "memory_fraction", "version_command", "modules", "environment"),
        *("scratch", "keep", "keep_in"),
    )

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
        return ("output.keys", given_by(self.output.keys)) if self.output.keys else None

    def input_files(self) -> list[str]:
        """Return the templates of the program's input files."""
        return list(self.input.values())

    def written_folders(self) -> dict[str, str]:
        """Return where files of failed labels are kept."""
        return {"keep_in": self.keep_in} if self.keep else {}
