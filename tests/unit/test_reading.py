"""Files as people write them: names with an @, ids that look like numbers, units in any case, names and lattices counted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from quarry.config.base import energy_in_ev
from quarry.config.engines.command import CommandOutput
from quarry.config.engines.replay import ReplayLabeling
from quarry.config.units import unit_factor, units_of
from quarry.errors import QuarryError
from quarry.labeling.engines.outputs import read_extxyz
from quarry.labeling.engines.replay import ReplayEngine
from quarry.properties import statable
from quarry.structures import Structure
from quarry.structures.files import read_files
from quarry.structures.reading import comment_lines, first_fault, lattices_without_pbc, names_in, texts_of

WATER = np.array([[0.0, 0.0, 0.117], [0.0, 0.757, -0.469], [0.0, -0.757, -0.469]])


def waters(count: int) -> list[Atoms]:
    return [Atoms("OHH", WATER * (1 + 0.01 * n)) for n in range(count)]


@pytest.mark.parametrize("name", ["pool@300K.extxyz", "pool@2.xyz", "a@:1.extxyz", "@.xyz"])
def test_an_at_sign_belongs_to_the_name(name: str, tmp_path: Path) -> None:
    frames = waters(3)
    for number, atoms in enumerate(frames):
        atoms.info["E"] = float(number)
    (tmp_path / "frames.extxyz").unlink(missing_ok=True)
    write(tmp_path / "frames.extxyz", frames)
    path = (tmp_path / "frames.extxyz").rename(tmp_path / name)
    assert len(read_files([(path, ":")], 0, 1)) == 3
    assert list(read_files([(path, "1:")], 0, 1).ids) == [Structure.from_atoms(a).structure_id for a in frames[1:]]
    engine = ReplayEngine(
        ReplayLabeling.model_validate({"engine": "replay", "file": name, "columns": {"energy": "E"}}), tmp_path
    )
    assert engine.label(Structure.from_atoms(frames[2]), 1).properties == {"energy": 2.0}
    assert read_extxyz(path, {"energy": "E"})["E"] == 2.0


def replayed(base: Path, file: str, ids: list[str]) -> list[str]:
    """Return status and energy of structures with these ids."""
    engine = ReplayEngine(
        ReplayLabeling.model_validate({"engine": "replay", "file": file, "columns": {"energy": "E"}, "match": "id"}),
        base,
    )
    structures = waters(len(ids))
    found = []
    for atoms, name in zip(structures, ids, strict=True):
        structure = Structure.from_atoms(atoms)
        structure.__dict__["structure_id"] = name
        found.append(engine.label(structure, 1).properties.get("energy"))
    return found


LIKE_NUMBERS = ["72318893525186926e78", "01234567890123456789", "12345678901234567890", "0x12345678901234567f", "1e400"]


@pytest.mark.parametrize("prefix", ["", "s"])
@pytest.mark.parametrize("file", ["t.extxyz", "t.csv", "t.npz"])
def test_ids_that_look_like_numbers_are_texts(file: str, prefix: str, tmp_path: Path) -> None:
    names = [prefix + name for name in LIKE_NUMBERS]
    if file == "t.extxyz":
        comments = [
            f'Properties=species:S:1:pos:R:3 structure_id={name} E={n}.0 pbc="F F F"' for n, name in enumerate(names)
        ]
        (tmp_path / file).write_text("".join(f"1\n{comment}\nH 0 0 {n}\n" for n, comment in enumerate(comments)))
    elif file == "t.csv":
        (tmp_path / file).write_text("structure_id,E\n" + "".join(f"{name},{n}.0\n" for n, name in enumerate(names)))
    else:
        np.savez(tmp_path / file, structure_id=np.array(names), E=np.arange(float(len(names))))
    assert replayed(tmp_path, file, LIKE_NUMBERS) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert replayed(tmp_path, file, ["1234567890123456789"]) == [None], "no other id is the same number"


def test_ids_of_a_table_that_are_numbers_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", structure_id=np.array([12, 13]), E=np.zeros(2))
    with pytest.raises(
        QuarryError, match=r"labeling.ids: 'structure_id' in .* holds numbers \(int64\); give names as text"
    ):
        replayed(tmp_path, "t.npz", ["12"])


def test_texts_and_comments_of_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text('1\nid=007 "my name"=\'x y\' n="a b"\nH 0 0 0\n2\nid=1e5\nH 0 0 0\nH 0 0 1\n')
    assert texts_of(path, "id") == ["007", "1e5"]
    assert texts_of(path, "n") == ["a b", None] and texts_of(path, "my name") == ["x y", None]
    assert texts_of(path, "d") == [None, None]
    assert len(comment_lines(path)) == len(read(path, index=":")) == 2
    np.savez(tmp_path / "a.npz", x=1)
    assert comment_lines(tmp_path / "a.npz") == [] and first_fault(tmp_path / "a.npz") == ""


def test_lattices_without_pbc(tmp_path: Path) -> None:
    comments = ['Lattice="9 0 0 0 9 0 0 0 9"', 'Lattice="9 0 0 0 9 0 0 0 9" pbc="F F F"', 'pbc="F F F"', "Mylattice=3"]
    (tmp_path / "a.xyz").write_text("".join(f"1\n{comment}\nH 0 0 0\n" for comment in comments))
    frames = read(tmp_path / "a.xyz", index=":")
    assert lattices_without_pbc(tmp_path / "a.xyz") == sum(bool(atoms.pbc.any()) for atoms in frames) == 1


def test_a_file_without_a_fault_has_none(tmp_path: Path) -> None:
    frames = waters(3)
    frames[1].set_array("forces", np.ones((3, 3)))
    frames[2].set_array("fixed", np.array([True, False, True]))
    frames[2].set_array("tag", np.array(["a", "b", "c"]))
    write(tmp_path / "a.extxyz", frames)
    assert first_fault(tmp_path / "a.extxyz") == ""
    (tmp_path / "blank.xyz").write_text("1\n\nH 0 0 0\n\n \n")
    assert first_fault(tmp_path / "blank.xyz") == "" and len(read_files([(tmp_path / "blank.xyz", ":")], 0, 1)) == 1


def test_names_that_frames_have(tmp_path: Path) -> None:
    frames = waters(14)
    assert names_in(frames) == "it has nothing beside the geometries"
    frames[3].info |= {"E": 1.0, "-17.5": True}
    frames[4].set_array("forces", np.zeros((3, 3)))
    message = names_in(frames)
    assert message.startswith(
        "it has 'E' (1 of 14), 'forces' (1 of 14); the comment lines of 1 of 14 frames are bare numbers"
    )
    for number, atoms in enumerate(frames):
        atoms.info[f"k{number:02d}"] = 1
    assert " and 4 more; the comment lines" in names_in(frames)


@pytest.mark.parametrize("change", [str, str.lower, str.upper, str.capitalize, str.title])
def test_units_in_any_case(change: Any) -> None:
    for name in statable():
        for unit, factor in units_of(name).items():
            written = change(unit)
            if written.startswith("M") and written.casefold().startswith("mev"):
                with pytest.raises(ValueError, match=re.escape(f"'{written}' is no unit of {name}")):
                    unit_factor(name, written)
                continue
            assert unit_factor(name, written) == factor
    assert energy_in_ev(f"2 {change('hartree')}") == 2 * unit_factor("energy", "hartree")


def test_the_case_of_a_unit_is_no_other_method(tmp_path: Path) -> None:
    """Units are part of the method's identity, as we write them."""
    (tmp_path / "t.csv").write_text("E\n1\n")

    def identity(unit: str) -> dict[str, Any]:
        section = {"engine": "replay", "file": "t.csv", "columns": {"energy": "E"}, "units": {"energy": unit}}
        return ReplayEngine(ReplayLabeling.model_validate(section), tmp_path).method_identity()

    assert identity("Hartree") == identity("hartree") and identity("HARTREE")["units"] == {"energy": "hartree"}
    output = CommandOutput.model_validate({"file": "a", "format": "json", "units": {"forces": "Hartree/Bohr"}})
    assert output.units == {"forces": "hartree/bohr"}
