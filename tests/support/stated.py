"""Reading files that state charge and multiplicity: what is taken, and the line with which they are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quarry.config.pool import FilePool
from quarry.errors import QuarryError
from quarry.stages.pool import state_keys
from quarry.structures.files import FileSource, read_files

O2 = [[0.0, 0.0, 0.0], [0.0, 0.0, 1.2]]


def states(path: Path, names: tuple[str, str, str] = ("Z", "R", "offsets"), index: str = ":", **pool: Any) -> list[Any]:
    """Return (charge, multiplicity) of the structures of a file pool."""
    settings = FilePool.model_validate({"source": "file", "files": [path.name], **pool})
    found = read_files(
        [FileSource(path, index, names)], settings.charge, settings.multiplicity, keys=state_keys(settings)
    )
    return list(zip(found.charges.tolist(), found.multiplicities.tolist(), strict=True))


def refusal(path: Path, names: tuple[str, str, str] = ("Z", "R", "offsets"), index: str = ":", **pool: Any) -> str:
    """Return the line with which a file is refused."""
    with pytest.raises(QuarryError) as caught:
        states(path, names, index, **pool)
    line = str(caught.value)
    assert line.startswith("pool.files: ") and str(path) in line and "\n" not in line
    return line


def xyz(path: Path, comment: str = "", columns: str = "", atoms: tuple[str, str] = ("", ""), frames: int = 3) -> Path:
    """Write pairs of oxygen atoms; columns and atoms: further per-atom columns. Without columns, a plain XYZ file."""
    lines = []
    for number in range(frames):
        described = f"Properties=species:S:1:pos:R:3{columns} " if columns else ""
        lines += ["2", described + comment]
        lines += [f"O 0 0 {z:.3f} {text}" for z, text in zip((0, 1.2 + number / 50), atoms, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path
