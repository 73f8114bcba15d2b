"""Where the candidates come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from quarry.config.base import Section
from quarry.config.methods import PyscfMethod


class WignerPool(Section):
    """Geometries of one molecule drawn from the harmonic Wigner distribution of its normal modes."""

    source: Literal["wigner"]
    molecule: str
    """Start geometry (xyz), relative to the campaign file; it is optimised first."""
    size: int = Field(gt=0)
    """Number of geometries to draw."""
    temperature_K: float = Field(default=300.0, ge=0)
    """Temperature of the Wigner distribution (0 is the ground state)."""
    charge: int = 0
    """Total charge."""
    multiplicity: int = Field(default=1, gt=0)
    """Spin multiplicity 2S + 1."""
    geometry_method: PyscfMethod | None = None
    """Method of the optimisation and Hessian; null: the labels' own method (PySCF)."""


class FileSlice(Section):
    """One structure file."""

    path: str
    """Anything that ase.io.read reads, relative to the campaign file."""
    index: str = ":"
    """ASE index, e.g. ':100', '::10', '-1'."""


def path_alone(value: Any) -> Any:
    """Return a file slice for a bare path."""
    return {"path": value} if isinstance(value, str) else value


class FilePool(Section):
    """Structures from files."""

    source: Literal["file"]
    files: list[Annotated[FileSlice, BeforeValidator(path_alone)]] = Field(min_length=1)
    """Paths, or {path, index}; structures keep charge and multiplicity that their file gives."""
    charge: int = 0
    """Total charge of structures whose file gives none."""
    multiplicity: int = Field(default=1, gt=0)
    """Spin multiplicity of structures whose file gives none."""


Pool = Annotated[WignerPool | FilePool, Field(discriminator="source")]
