"""Charge and multiplicity in molfiles, databases and files of programs, and files that cannot be read at all."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase import Atoms
from ase.db import connect

from quarry.structures.files import read_files
from quarry.structures.program_files import state_in_text
from support.stated import O2, refusal, states, xyz


def molfile(codes: tuple[int, int] = (0, 0), properties: str = "", fields: str = "", z: float = 1.2) -> str:
    atoms = [f"    0.0000    0.0000{x:10.4f} O   0{code:3d}  0  0" for x, code in zip((0, z), codes, strict=True)]
    head = ["x", "  prog", "", "  2  1  0  0  0  0  0  0  0  0999 V2000"]
    return "\n".join([*head, *atoms, "  1  2  2  0", f"{properties}M  END", f"{fields}$$$$", ""])


class TestMolecules:
    @pytest.mark.parametrize(
        ("text", "state"),
        [
            (molfile((5, 5)), (-2, 1)),
            (molfile((3, 0)), (1, 2)),
            (molfile((3, 5)), (0, 1)),
            (molfile((1, 1), "M  CHG  1   1  -2\n"), (-2, 1)),
            (molfile((0, 0), "M  CHG  2   1  -1   2  -1\n"), (-2, 1)),
            (molfile((0, 0), "", "> <charge>\n2\n\n> <Name>\nabc\n\n"), (2, 1)),
            (molfile((0, 0), "", ">  <CHARGE>  (1)\n-2\n\n> <spin_multiplicity>\n3\n\n"), (-2, 3)),
            (molfile((5, 5), "", "> <charge>\n-2\n\n").replace("\n", "\r\n"), (-2, 1)),
        ],
    )
    def test_what_a_molecule_says(self, tmp_path: Path, text: str, state: tuple[int, int]) -> None:
        for name in ("a.sdf", "a.sdf.gz"):
            data = text.encode()
            (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
            assert states(tmp_path / name, multiplicity=state[1]) == [state]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (molfile((4, 4)), "spin = 2 radical centres"),
            (molfile((4, 0)), "spin = 2, read as multiplicity 2, which 16 electrons cannot have"),
            (molfile((0, 0), "M  RAD  2   1   2   2   2\n"), "spin = 2 radical centres"),
            (molfile((5, 5), "", "> <charge>\n0\n\n"), "charge = -2 or 0"),
            (molfile((5, 5), "", "> <total_charge>\n0\n\n"), "charge = -2 and total_charge = 0"),
            (molfile((0, 0), "", "> <PUBCHEM_TOTAL_CHARGE>\n2\n\n"), "PUBCHEM_TOTAL_CHARGE = 2, which looks like"),
            (molfile().replace("V2000", "V3000"), "molecule 1 is in V3000"),
            (molfile() + molfile() + "junk\n", "molecule 3 is no molfile"),
        ],
    )
    def test_refused(self, tmp_path: Path, text: str, words: str) -> None:
        (tmp_path / "a.sdf").write_text(text)
        assert words in refusal(tmp_path / "a.sdf")

    def test_all_molecules_of_a_file(self, tmp_path: Path) -> None:
        texts = [molfile((5, 5) if n == 7 else (0, 0), z=1.2 + n / 50) for n in range(30)]
        (tmp_path / "a.sdf").write_text("".join(texts))
        assert states(tmp_path / "a.sdf") == [(0, 1)] * 7 + [(-2, 1)] + [(0, 1)] * 22
        assert states(tmp_path / "a.sdf", index="5:8") == [(0, 1), (0, 1), (-2, 1)]
        assert "cannot read" in refusal(tmp_path / "a.sdf", index="30")


class TestDatabases:
    @pytest.mark.parametrize("name", ["a.db", "a.json", "a.sqlite", "a.db3"])
    def test_key_value_pairs_and_data(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        with connect(path, type="json" if name == "a.json" else "db") as database:
            database.write(Atoms("O2", O2), charge=-2, multiplicity=3)
            database.write(Atoms("O2", O2), data={"charge": 2, "note": {"x": 1}})
        assert states(path) == [(-2, 3), (2, 1)]
        with connect(path, type="json" if name == "a.json" else "db") as database:
            database.write(Atoms("O2", O2), my_charge=2)
        assert "1 structure carries my_charge = 2" in refusal(path)

    def test_pairs_that_were_kept_in_a_trajectory(self, tmp_path: Path) -> None:
        atoms = Atoms("O2", O2, info={"key_value_pairs": {"charge": 2}, "data": {"spin": 3}})
        ase.io.write(tmp_path / "a.traj", atoms)
        assert states(tmp_path / "a.traj") == [(2, 3)]


GAUSSIAN = "%chk=a\n# b3lyp/6-31g*\n{route}\n{title}\n\n{state}\nO 0.0 0.0 0.0\nO 0.0 0.0 1.2\n\n"


class TestProgramFiles:
    @pytest.mark.parametrize("title", ["2 1", "charge 2", "a\n2 1\nb"])
    @pytest.mark.parametrize("state", ["0 3", "0,3", " 0  3 ! triplet", "0, 3"])
    def test_the_title_of_a_gaussian_input_is_no_state(self, tmp_path: Path, title: str, state: str) -> None:
        for route in ("", "scf=tight\n"):
            (tmp_path / "a.com").write_text(GAUSSIAN.format(route=route, title=title, state=state))
            assert state_in_text(tmp_path / "a.com") == {"charge": 0, "multiplicity": 3}

    @pytest.mark.parametrize("title", ["2 1", "a\n2 1\nb"])
    @pytest.mark.parametrize("name", ["a.gjf", "a.COM", "a.com.gz"])
    def test_a_gaussian_input_is_read(self, tmp_path: Path, title: str, name: str) -> None:
        text = (
            GAUSSIAN.format(route="", title=title, state="0,3 ! triplet") + "1 2\n2 1\n\n--Link1--\n# geom=allcheck\n\n"
        )
        (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
        assert states(tmp_path / name) == [(0, 3)]
        assert read_files([(tmp_path / name, ":")], 0, 1)[0].numbers.tolist() == [8, 8]

    def test_a_gaussian_input_that_is_not_clear_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.com"
        path.write_text("# b3lyp\n\ntitle\n\nO 0.0 0.0 0.0\n\n")
        assert "there is 'O 0.0 0.0 0.0'" in refusal(path)
        one = GAUSSIAN.format(route="", title="x", state="0 3")
        path.write_text(one + "--Link1--\n" + one)
        assert "several steps (--Link1--) with geometries" in refusal(path)
        path.write_text(one + "--Link1--\n# geom=check\n\nx\n\n0 1\n\n")
        assert "multiplicity = 1 or 3, which is no whole number" in refusal(path)

    @pytest.mark.parametrize(
        ("name", "text", "state"),
        [
            ("a.nwi", "charge -1\ngeometry\n O 0 0 0\n O 0 0 1.2\nend\nscf\n nopen 1\nend\n", {"charge": -1, "uhf": 1}),
            ("a.nwi", "dft\n mult 3\nend\n", {"multiplicity": 3}),
            ("a.out", " CHARGE OF MOLECULE =  -1\n SPIN MULTIPLICITY =  2\n", {"charge": -1, "multiplicity": 2}),
            ("a.nwo", " Charge           :     1\n Spin multiplicity:     2\n", {"charge": 1, "multiplicity": 2}),
            ("a.restart", "  &DFT\n    CHARGE  -1\n    MULTIPLICITY  2\n", {"charge": -1, "multiplicity": 2}),
            ("coord", "$coord\n 0 0 0 o\n$eht charge=1 unpaired=1\n$end\n", {"charge": 1, "uhf": 1}),
            ("a.pwi", "&SYSTEM\n  nat=2, tot_charge = -1.0\n/\n", {"tot_charge": -1.0}),
            ("a.cjson", '{"properties": {"totalCharge": 1, "totalSpinMultiplicity": 2}}', {"charge": 1, "multiplicity": 2}),
            ("a.pdb", f"{'HETATM    1  O   UNK     1':76} O1-\n{'ATOM      2  O   UNK     1':76} O  \n", {"charge": -1}),
        ],
    )  # fmt: skip
    def test_other_programs(self, tmp_path: Path, name: str, text: str, state: dict[str, Any]) -> None:
        (tmp_path / name).write_text(text)
        assert state_in_text(tmp_path / name) == state
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        assert state_in_text(tmp_path / f"{name}.gz") == state


class TestUnreadable:
    def test_frames_that_ase_leaves_out(self, tmp_path: Path) -> None:
        ase.io.write(tmp_path / "a.gro", Atoms("O2", O2))
        text = (tmp_path / "a.gro").read_text()
        assert states(tmp_path / "a.gro") == [(0, 1)]
        (tmp_path / "a.gro").write_text(text + text)
        assert "it holds several frames" in refusal(tmp_path / "a.gro")

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"nothing of the kind"])
    def test_a_table_that_is_none(self, tmp_path: Path, content: bytes) -> None:
        for name in ("a.npz", "a.h5"):
            (tmp_path / name).write_bytes(content)
            assert "cannot read" in refusal(tmp_path / name)

    def test_a_compressed_file_that_is_cut_off(self, tmp_path: Path) -> None:
        whole = gzip.compress(xyz(tmp_path / "a.xyz", frames=200).read_bytes())
        for data in (whole[:-20], whole[: len(whole) // 2], whole[:50] + b"\0" * 40 + whole[90:]):
            (tmp_path / "a.xyz.gz").write_bytes(data)
            assert "it is cut off or damaged" in refusal(tmp_path / "a.xyz.gz")

    def test_more_atoms_than_a_file_can_hold(self, tmp_path: Path) -> None:
        (tmp_path / "a.xyz").write_text("999999999999\n\nO 0 0 0\nO 0 0 1.2\n")
        line = refusal(tmp_path / "a.xyz")
        assert "frame 1 (line 1) says 999999999999 atoms, but the file ends after 2, at line 5" in line

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        for name in ("a.xyz", "a.npz"):
            (tmp_path / name).mkdir()
            assert "is a directory" in refusal(tmp_path / name)
        os.mkfifo(tmp_path / "pipe.xyz")
        assert "is a device or pipe" in refusal(tmp_path / "pipe.xyz")
        assert "does not exist" in refusal(tmp_path / "none.xyz")

    @pytest.mark.parametrize(
        ("name", "text"),
        [("a.txt", "hello"), ("a.traj", "hello"), ("a.traj", ""), ("a.cif", "hello"), ("a.gro", "x"), ("a.json", "{}"),
         ("a.json", "[1"), ("a.db", "hello"), ("a.pdb", ""), ("a.log", "x"), ("a.com", "x"), ("a.cube", "x")],
    )  # fmt: skip
    def test_reasons_are_sentences(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        line = refusal(tmp_path / name)
        assert len(line.partition(str(tmp_path / name))[2].split()) > 5, line
