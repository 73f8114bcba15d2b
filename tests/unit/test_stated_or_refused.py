"""A charge or a multiplicity that tables, comment lines and atoms state is used or refused in one line, never passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from quarry.structures.state_names import meaning_of
from support.stated import O2, refusal, states, xyz


class TestTables:
    def npz(self, folder: Path, n: int = 3, atoms: int = 2, **columns: Any) -> Path:
        r = np.array([[[0.0, 0.0, 1.2 * a + row / 50] for a in range(atoms)] for row in range(n)])
        np.savez(folder / "a.npz", Z=np.full(atoms, 8), R=r, **{k: np.asarray(v) for k, v in columns.items()})
        return folder / "a.npz"

    @pytest.mark.parametrize("name", ["charge", "Multiplicity", "charges", "uhf", "total_spin"])
    @pytest.mark.parametrize("shape", [(4,), (2 * 2 + 3,), (3, 5), (4, 4)])
    def test_a_shape_that_does_not_fit_is_refused(self, tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
        path = self.npz(tmp_path, **{name: np.ones(shape, dtype=int)})
        line = refusal(path)
        assert f"{name} of shape {shape}" in line and "pool." in line
        quantity = "charge" if "charge" in name else "multiplicity"
        assert states(path, **{quantity: 1}), "the configuration's own value settles it"

    def test_one_row_is_a_number_for_each_structure(self, tmp_path: Path) -> None:
        assert states(self.npz(tmp_path, charge=[[0, 2, -2]])) == [(0, 1), (2, 1), (-2, 1)]

    @pytest.mark.parametrize("name", ["charges", "formal_charges", "multiplicities"])
    def test_as_many_atoms_as_rows(self, tmp_path: Path, name: str) -> None:
        path = self.npz(tmp_path, 2, 2, **{name: [1, 1]})
        if name == "multiplicities":
            path = self.npz(tmp_path, 2, 2, **{name: [3, 3]})
        line = refusal(path)
        assert "may hold a number for each structure or for each atom" in line
        quantity = "multiplicity" if "mult" in name else "charge"
        told = states(
            path, **{f"{quantity}_key": name, "multiplicity": 2} if quantity == "charge" else {f"{quantity}_key": name}
        )
        assert told[0] == ((1, 2) if quantity == "charge" else (0, 3))
        assert states(self.npz(tmp_path, 2, 2, **{name: [0, 0]})) == [(0, 1)] * 2
        assert states(self.npz(tmp_path, 2, 2, **{name: [0.4, -0.4]})) == [(0, 1)] * 2, "partial charges"
        # In the singular it is one for each structure.
        assert states(self.npz(tmp_path, 2, 2, charge=[2, -2])) == [(2, 1), (-2, 1)]

    def test_values_of_atoms(self, tmp_path: Path) -> None:
        assert states(self.npz(tmp_path, formal_charges=[[1, 1], [1, -1], [0, 0]])) == [(2, 1), (0, 1), (0, 1)]
        assert states(self.npz(tmp_path, formal_charges=[1, 1])) == [(2, 1)] * 3, "the same atoms throughout"
        assert "initial_magmoms against each other" in refusal(self.npz(tmp_path, initial_magmoms=[[1, -1]] * 3))
        assert "magmoms against each other" in refusal(self.npz(tmp_path, magmoms=[[1.1, -1.1]] * 3))
        assert "charge = 2 (sum), which looks like a charge" in refusal(self.npz(tmp_path, charge=[[1, 1]] * 3))
        for name in ("charges", "q_atoms", "mulliken_charges", "charge"):
            assert states(self.npz(tmp_path, **{name: [[0.6, 0.4]] * 3})) == [(0, 1)] * 3

    def test_values_of_the_atoms_of_different_molecules(self, tmp_path: Path) -> None:
        z, r = [8, 8, 1, 8, 8], np.arange(15.0).reshape(5, 3)
        np.savez(
            tmp_path / "a.npz", Z=z, R=r, offsets=[0, 3, 5], oxidation_states=[1, 0, 0, -1, -1], multiplicity=[1, 1]
        )
        assert states(tmp_path / "a.npz") == [(1, 1), (-2, 1)]

    @pytest.mark.parametrize("charge", [1e30, 9.3e18, -4000])
    def test_a_charge_that_none_can_have(self, tmp_path: Path, charge: float) -> None:
        line = refusal(self.npz(tmp_path, charge=[0, charge, 0]))
        assert f"charge = {charge:g}, which is far too large; correct the file" in line

    def test_texts(self, tmp_path: Path) -> None:
        assert states(self.npz(tmp_path, charge=["0", "2", "-2"])) == [(0, 1), (2, 1), (-2, 1)]
        assert "spin = triplet" in refusal(self.npz(tmp_path, spin=["triplet"] * 3))
        assert "spin_state = triplet" in refusal(self.npz(tmp_path, spin_state=["singlet", "triplet", "singlet"]))
        assert states(self.npz(tmp_path, charge_source=["a", "b", "c"])) == [(0, 1)] * 3

    def hdf5(self, path: Path) -> h5py.File:
        handle = h5py.File(path, "w")
        handle["set/Z"], handle["set/R"] = [8, 8], [[[0, 0, 0], [0, 0, 1.2 + n / 50]] for n in range(3)]
        return handle

    NAMES = ("set/Z", "set/R", "offsets")

    @pytest.mark.parametrize("owner", ["/", "set", "set/R", "set/Z"])
    def test_attributes_of_the_geometries_are_read(self, tmp_path: Path, owner: str) -> None:
        path = tmp_path / "a.h5"
        with self.hdf5(path) as handle:
            handle[owner].attrs.update(total_charge=2, spin=3, comment="from somewhere")
        assert states(path, self.NAMES) == [(2, 3)] * 3
        with self.hdf5(path) as handle:
            handle[owner].attrs["my_charge"] = 2
            handle["set/charge"] = [0, 0, 0]
        assert states(path, self.NAMES) == [(0, 1)] * 3, "a known name says it"
        with self.hdf5(path) as handle:
            handle[owner].attrs["charge"] = [2, 0, 0, 0]
        assert "@charge of shape (4,)" in refusal(path, self.NAMES)

    @pytest.mark.parametrize("name", ["charge", "other/charge", "set/more/charge", "other/x.charge"])
    def test_names_elsewhere_in_the_file_are_refused(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "a.h5"
        owner, _, attribute = name.rpartition(".")
        with self.hdf5(path) as handle:
            if owner:
                handle[owner] = [1.0]
                handle[owner].attrs[attribute] = 2
            else:
                handle[name] = [2, 2, 2]
        shown = f"{owner}/@{attribute}" if owner else name
        assert f"3 structures carry {shown} = 2, which looks like a charge and is not read" in refusal(path, self.NAMES)
        assert states(path, self.NAMES, charge_key=shown) == [(2, 1)] * 3
        assert states(path, self.NAMES, charge=0) == [(0, 1)] * 3

    def test_other_geometries_have_a_charge_of_their_own(self, tmp_path: Path) -> None:
        with self.hdf5(tmp_path / "a.h5") as handle:
            handle["ions/Z"], handle["ions/R"], handle["ions/charge"] = [8, 8], [O2] * 3, [2, 2, 2]
            handle["ions"].attrs["spin"] = 3
        assert states(tmp_path / "a.h5", self.NAMES) == [(0, 1)] * 3
        assert states(tmp_path / "a.h5", ("ions/Z", "ions/R", "o")) == [(2, 3)] * 3


CHARGES = [
    "chrg",
    "q_tot",
    "qTot",
    "my_charge",
    "xtb_charge",
    "charge_e",
    "CHG",
    "molcharge",
    "oxidation_state",
    "net_q",
]
SPINS = ["spinmult", "spinstate", "multip", "NUPDOWN", "nopen", "magnetic_moment", "xtb_uhf", "n_unpaired_e", "Spin2"]


class TestNames:
    @pytest.mark.parametrize("name", [*CHARGES, *SPINS])
    def test_names_that_are_not_known_are_refused(self, tmp_path: Path, name: str) -> None:
        path = xyz(tmp_path / "a.xyz", f"{name}=2")
        what = "charge" if name in CHARGES else "spin"
        assert f"3 structures carry {name} = 2, which looks like a {what} and is not read" in refusal(path)
        quantity = "charge" if name in CHARGES else "multiplicity"
        assert states(path, **{quantity: 1}), "the configuration's own value settles it"
        assert states(xyz(tmp_path / "a.xyz", f"{name}=2 {quantity}={1}")), "a known name says it"
        assert states(xyz(tmp_path / "a.xyz", f"{name}=2.25")) == [(0, 1)] * 3, "a number of another kind"

    @pytest.mark.parametrize(
        "name", ["totalcharge", "netcharge", "SpinMultiplicity", "spinmultiplicity", "TOTALCHARGE"]
    )
    def test_known_names_may_be_glued(self, tmp_path: Path, name: str) -> None:
        told = states(xyz(tmp_path / "a.xyz", f"{name}=3"), multiplicity=2 if "charge" in name.lower() else 1)
        assert told[0][0 if "charge" in name.lower() else 1] == 3

    @pytest.mark.parametrize(
        ("usual", "other"),
        [
            ("n_alpha=8 n_beta=8", "n_alpha=9 n_beta=7"),
            ("num_electrons=16", "num_electrons=15"),
            ("nelec=16", "nelec=18"),
        ],
    )
    def test_counts_of_electrons(self, tmp_path: Path, usual: str, other: str) -> None:
        assert states(xyz(tmp_path / "a.xyz", usual)) == [(0, 1)] * 3
        assert "and is not read" in refusal(xyz(tmp_path / "a.xyz", other))
        assert states(xyz(tmp_path / "a.xyz", other + " charge=0 multiplicity=3")) == [(0, 3)] * 3
        name = other.partition("=")[0]
        assert "counts electrons" in refusal(xyz(tmp_path / "a.xyz", other), multiplicity_key=name)

    def test_a_key_of_unpaired_electrons(self, tmp_path: Path) -> None:
        assert states(xyz(tmp_path / "a.xyz", "NUPDOWN=2"), multiplicity_key="NUPDOWN") == [(0, 3)] * 3

    @pytest.mark.parametrize(
        "name",
        ["mulliken_charges", "multipole", "multiples", "n_multi", "simulation", "spin_energy", "E_spin_orbit", "dipole_charge",
         "charge_model", "recharge", "spin_polarized", "ispin", "exchange", "discharged", "charge_density_max", "result"],
    )  # fmt: skip
    def test_names_of_other_things(self, tmp_path: Path, name: str) -> None:
        assert meaning_of(name) is None
        assert states(xyz(tmp_path / "a.xyz", f"{name}=3")) == [(0, 1)] * 3

    def test_a_text_does_not_hide_the_other_frames(self, tmp_path: Path) -> None:
        text = xyz(tmp_path / "a.xyz", "my_charge=2").read_text()
        (tmp_path / "a.xyz").write_text(text + text.replace("my_charge=2", "my_charge=unknown"))
        assert "3 structures carry my_charge = 2" in refusal(tmp_path / "a.xyz")

    @pytest.mark.parametrize("value", ["triplet", "2+", "dication"])
    def test_words(self, tmp_path: Path, value: str) -> None:
        name = "spin_state" if value == "triplet" else "charge_state"
        assert f"carry {name} = {value}" in refusal(xyz(tmp_path / "a.xyz", f"{name}={value}"))


class TestAtoms:
    @pytest.mark.parametrize(
        "name", ["formal_charges", "formal_charge", "initial_charges", "initial_charge", "oxidation_states"]
    )
    def test_formal_charges_add_up(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "a.extxyz"
        assert states(xyz(path, "", f":{name}:I:1", ("1", "1"))) == [(2, 1)] * 3
        assert states(xyz(path, "charge=0", f":{name}:I:1", ("1", "-1"))) == [(0, 1)] * 3
        contradiction = refusal(xyz(path, "charge=0", f":{name}:I:1", ("1", "1")))
        assert f"carry charge = 0 and {name} = 2 (sum), which contradict each other" in contradiction
        assert states(xyz(path, 'formal_charges="1 1"')) == [(2, 1)] * 3

    def test_other_charges_of_atoms(self, tmp_path: Path) -> None:
        path = tmp_path / "a.extxyz"
        assert "ion_charges = 2 (sum), which looks like a charge" in refusal(
            xyz(path, "", ":ion_charges:I:1", ("1", "1"))
        )
        assert states(path, charge_key="ion_charges") == [(2, 1)] * 3
        assert states(xyz(path, "", ":ion_charges:R:1", ("0.4", "0.6"))) == [(0, 1)] * 3
        # ASE takes a column of this name for a result.
        assert "charges = 2 (sum), of a calculation" in refusal(xyz(path, "", ":charge:I:1", ("1", "1")))
        assert states(xyz(path, "", ":charge:R:1", ("0.4", "-0.38"))) == [(0, 1)] * 3

    def test_start_moments_in_the_singular(self, tmp_path: Path) -> None:
        assert states(xyz(tmp_path / "a.extxyz", "", ":initial_magmom:R:1", ("1", "1"))) == [(0, 3)] * 3

    @pytest.mark.parametrize(
        ("results", "words"),
        [
            ({"magmoms": [1.1, -1.1]}, "magmoms against each other"),
            ({"magmoms": [1.1, -1.1], "magmom": 0.0}, "magmoms against each other"),
            ({"magmoms": [0.7, 0.7]}, "magmoms that sum to 1.4"),
            ({"magmom": 1.4}, "magmom that sum to 1.4"),
            ({"magmom": 2.0}, "magmom = 2, of a calculation"),
        ],
    )
    @pytest.mark.parametrize("ending", ["traj", "json", "db"])
    def test_calculated_moments(self, tmp_path: Path, results: dict[str, Any], words: str, ending: str) -> None:
        atoms = Atoms("O2", O2)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, **results)
        path = tmp_path / f"a.{ending}"
        ase.io.write(path, atoms)
        line = refusal(path)
        assert words in line and "pool.multiplicity" in line
        assert states(path, multiplicity=3) == [(0, 3)]
        atoms.info["multiplicity"] = 1
        ase.io.write(tmp_path / "told.traj", atoms)
        assert states(tmp_path / "told.traj") == [(0, 1)]

    def test_moments_of_a_closed_shell(self, tmp_path: Path) -> None:
        atoms = Atoms("O2", O2)
        atoms.calc = SinglePointCalculator(atoms, magmoms=[1e-4, -2e-4], magmom=0.0, charges=[0.3, -0.31])
        ase.io.write(tmp_path / "a.traj", atoms)
        assert states(tmp_path / "a.traj") == [(0, 1)]


class TestComments:
    @pytest.mark.parametrize(
        "comment",
        ["0 3 -150.1", "0, 3", "0,3", "1 2", "2 1 # a dication", "0 3 energy=-150.1", "charge 2 mult 1", "--chrg 2 --uhf 0",
         "Charge: +2", "multiplicity is 3", "2 unpaired electrons", "spin multiplicity 3", "-2 1 -150.1 0.3",
         "0 3 O2", "O2 triplet", "Q: 2", '{"charge": 2}', "spin=T", "charge/mult=0/3", "state=triplet"],
    )  # fmt: skip
    def test_a_state_beside_the_entries_is_refused(self, tmp_path: Path, comment: str) -> None:
        path = xyz(tmp_path / "a.xyz", comment)
        line = refusal(path, multiplicity=1) if comment == "charge 2 mult 1" else refusal(path)
        assert "3 structures carry" in line and "set pool." in line
        assert states(path, charge=1, multiplicity=2) == [(1, 2)] * 3

    def test_one_of_both_given_in_the_configuration(self, tmp_path: Path) -> None:
        path = xyz(tmp_path / "a.xyz", "charge 2 mult 3")
        assert "set pool.multiplicity" in refusal(path, charge=2)
        assert "set pool.charge" in refusal(path, multiplicity=3)

    @pytest.mark.parametrize("comment", ["charge=2 charge=0", "spin=1 name=x spin=3", "my_charge=1, my_charge=2"])
    def test_a_name_twice(self, tmp_path: Path, comment: str) -> None:
        line = refusal(xyz(tmp_path / "a.xyz", comment))
        assert "in one comment line, which contradict" in line and "pool." in line

    @pytest.mark.parametrize(
        "comment",
        ["0 1", "charge 0 mult 1", "--chrg 0 --uhf 0", "charge=0 charge=0.0", "-150.1", "17 3", "frame 12 of 20", "spin-flip",
         "2 molecules", "0 3 5 7", "12 0.5", "q 3", "i = 3, time = 1.5, E = -3.2", 'name="charge 2" E=1.0'],
    )  # fmt: skip
    def test_comments_of_other_things(self, tmp_path: Path, comment: str) -> None:
        assert states(xyz(tmp_path / "a.xyz", comment)) == [(0, 1)] * 3

    def test_the_frames_of_an_index(self, tmp_path: Path) -> None:
        path = tmp_path / "a.xyz"
        text = xyz(path, "0 1", frames=2).read_text() + xyz(path, "2 1", frames=1).read_text()
        path.write_text(text)
        assert states(path, index=":2") == [(0, 1)] * 2
        assert "the structure carries the comment '2 1'" in refusal(path, index="2")
