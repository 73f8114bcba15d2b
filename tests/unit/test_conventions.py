"""Charge and spin of the user's structures, under the names that people and programs give them."""

from __future__ import annotations

import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from quarry.config import load_configuration
from quarry.config.engines.replay import ReplayLabeling
from quarry.config.pool import FilePool, WignerPool
from quarry.errors import QuarryError
from quarry.labeling.engines.replay import ReplayEngine
from quarry.stages.pool import read_reference, read_start, state_keys
from quarry.stages.preflight import check
from quarry.structures import Structure
from quarry.structures.files import read_files
from quarry.structures.stated import meaning_of
from support.campaigns import stand_in_configuration

N = 4


def frames_with(comment: str = "", columns: str = "", atoms: str = "", n: int = N, symbol: str = "O") -> str:
    """Pairs of atoms, growing apart; columns and atoms: further per-atom columns and what stands in them."""
    lines = []
    for number in range(n):
        lines += ["2", f'Properties=species:S:1:pos:R:3{columns} {comment} pbc="F F F"']
        lines += [
            f"{symbol} 0 0 {z:.3f} {text}"
            for z, text in zip((0, 1.2 + number / 50), atoms.split("|") * 2, strict=False)
        ]
    return "\n".join(lines) + "\n"


def read(tmp_path, text: str, **pool):
    """Return (charge, multiplicity) of the structures of a file pool."""
    (tmp_path / "a.extxyz").write_text(text)
    settings = FilePool.model_validate({"source": "file", "files": ["a.extxyz"], **pool})
    found = read_files(
        [(tmp_path / "a.extxyz", ":")], settings.charge, settings.multiplicity, keys=state_keys(settings)
    )
    return set(zip(found.charges.tolist(), found.multiplicities.tolist(), strict=True))


def refused(tmp_path, text: str, **pool) -> str:
    with pytest.raises(QuarryError) as caught:
        read(tmp_path, text, **pool)
    line = str(caught.value)
    assert line.startswith("pool.files: ") and "a.extxyz" in line and "\n" not in line
    return line


READ = {
    "ours": ("charge=0 multiplicity=3", (0, 3)),
    "MACE": ("total_charge=0 total_spin=3", (0, 3)),
    "MACE, a number with a point": ("total_charge=2.0 total_spin=3.0", (2, 3)),
    "OMol25 and fairchem": ("charge=-2 spin=3", (-2, 3)),
    "all of them": ("charge=0 multiplicity=3 total_charge=0 total_spin=3 spin=3", (0, 3)),
    "in capitals": ("Charge=1 Multiplicity=2", (1, 2)),
    "in one word": ("totalCharge=1 spinMultiplicity=4", (1, 4)),
    "SchNetPack": ("total_charge=0 spin_multiplicity=3", (0, 3)),
    "AIMNet": ("charge=-1 mult=2", (-1, 2)),
    "xtb": ("charge=0 uhf=2", (0, 3)),
    "another key": ("net_charge=1 n_unpaired=1", (1, 2)),
    "nothing": ("name=oxygen", (0, 1)),
    "a zero where no spin is meant": ("charge=0 spin=0", (0, 1)),
    "words of a sentence": ("charge and spin are those of the file", (0, 1)),
}


@pytest.mark.parametrize(("comment", "state"), READ.values(), ids=READ)
def test_read_by_themselves(tmp_path, comment, state):
    assert read(tmp_path, frames_with(comment)) == {state}


@pytest.mark.parametrize(
    ("columns", "atoms", "state"),
    [
        (":initial_magmoms:R:1", "1.0|1.0", (0, 3)),
        (":initial_magmoms:R:1", "-1.01|-0.98", (0, 3)),
        (":initial_magmoms:R:1", "2.1|-0.1", (0, 3)),
        (":initial_charges:R:1", "0.45|0.57", (1, 1)),
        (":initial_charges:R:1:initial_magmoms:R:1", "0.5 1|0.5 0", (1, 2)),
        (":initial_charges:R:1:initial_magmoms:R:1", "0 0|0 0", (0, 1)),
        (":mulliken_charges:R:1:spin_density:R:1", "0.5 1|0.5 1", (0, 1)),
    ],
)
def test_sums_of_per_atom_columns(tmp_path, columns, atoms, state):
    assert read(tmp_path, frames_with("", columns, atoms)) == {state}


REFUSED = {
    "two charges": ("charge=0 total_charge=1", "4 structures carry charge = 0 and total_charge = 1, which contradict"),
    "two spins": ("multiplicity=3 spin=1", "carry multiplicity = 3 and spin = 1, which contradict"),
    "2S": ("spin=2", "carry spin = 2, read as multiplicity 2, which 16 electrons cannot have (is it 2S?)"),
    "S": ("total_spin=0.5", "carry total_spin = 0.5, which is no whole number (S?)"),
    "no multiplicity": ("multiplicity=0", "carry multiplicity = 0, which is no multiplicity 2S + 1"),
    "no number": ("spin=triplet", "carry spin = triplet, which is no whole number"),
    "half a charge": ("charge=0.5", "carry charge = 0.5, which is no whole number; correct the file"),
    "looks like a charge": ("dft_charge=-1", "carry dft_charge = -1, which looks like a charge and is not read"),
    "looks like a spin": ("spin_state=3", "carry spin_state = 3, which looks like a spin and is not read"),
    "a letter": ("Q=2", "carry Q = 2, which looks like a charge and is not read; set pool.charge_key"),
    "another letter": ("S=1", "carry S = 1, which looks like a spin"),
    "a calculated moment": ("magmom=2.0", "carry magmom = 2, of a calculation, and nothing says the multiplicity"),
}


@pytest.mark.parametrize(("comment", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_with_count_and_value(tmp_path, comment, words):
    line = refused(tmp_path, frames_with(comment))
    assert words in line and f"pool.{'charge' if 'charge' in words else 'multiplicity'}" in line


@pytest.mark.parametrize(
    ("columns", "atoms", "words"),
    [
        (":initial_magmoms:R:1", "1|-1", "initial_magmoms against each other"),
        (":initial_magmoms:R:1", "2|-1", "initial_magmoms against each other"),
        (":initial_magmoms:R:1", "0.7|0.7", "initial_magmoms that sum to 1.4, which is no whole number"),
        (":initial_magmoms:R:1", "1|0", "read as multiplicity 2, which 16 electrons cannot have"),
        (":initial_magmoms:R:3", "0 0 1|0 0 1", "no collinear moments"),
        (":initial_charges:R:1", "0.2|0.2", "initial_charges that sum to 0.4"),
        (":charges:R:1", "0.5|0.5", "charges = 1 (sum), of a calculation"),
        (":magmoms:R:1", "1|1", "magmoms = 2 (sum), of a calculation"),
    ],
)
def test_per_atom_columns_that_say_nothing_clear_are_refused(tmp_path, columns, atoms, words):
    text = frames_with("", columns, atoms)
    assert words in refused(tmp_path, text)
    # The configuration may say what is meant, and another name as well.
    assert read(tmp_path, text, charge=0, multiplicity=3) == {(0, 3)}
    said = frames_with("charge=0 multiplicity=3", columns, atoms)
    if "read as" in words:
        assert "carry multiplicity = 3 and initial_magmoms = 1 (sum), which contradict" in refused(tmp_path, said)
    else:
        assert read(tmp_path, said) == {(0, 3)}


def test_a_few_of_many_are_found(tmp_path):
    text = frames_with("charge=0 spin=3", n=5) + frames_with("charge=0 spin=2", n=3) + frames_with("charge=0", n=2)
    assert "3 structures carry spin = 2" in refused(tmp_path, text)
    assert read(tmp_path, text.replace("spin=2", "spin=1")) == {(0, 3), (0, 1)}
    # Zeros in a file with other spins: S or 2S.
    assert "3 structures carry spin = 0, which is no multiplicity" in refused(
        tmp_path, text.replace("spin=2", "spin=0")
    )


class TestComments:
    @pytest.mark.parametrize(("comment", "is_state"), [("0 3", True), ("1 2", True), ("0 1", False), ("17 3", False)])
    def test_charge_and_multiplicity_alone(self, tmp_path, comment, is_state):
        text = "".join(f"2\n{comment}\nO 0 0 0\nO 0 0 {1.2 + n / 50}\n" for n in range(3))
        if is_state:
            assert f"3 structures carry the comment '{comment}'" in refused(tmp_path, text)
            assert read(tmp_path, text, charge=1, multiplicity=2) == {(1, 2)}
        else:
            assert read(tmp_path, text) == {(0, 1)}

    def test_numbers_that_count_frames_are_no_states(self, tmp_path):
        text = "".join(f"2\n0 {n}\nO 0 0 0\nO 0 0 {1.2 + n / 50}\n" for n in (3, 5))
        assert read(tmp_path, text) == {(0, 1)}


class TestKeys:
    def test_they_win(self, tmp_path):
        text = frames_with("charge=0 total_charge=1 spin=1 target_spin=4")
        assert read(tmp_path, text, charge_key="total_charge", multiplicity_key="target_spin") == {(1, 4)}

    def test_names_with_a_meaning_of_their_own_keep_it(self, tmp_path):
        assert read(tmp_path, frames_with("uhf=2 spin=1"), multiplicity_key="uhf") == {(0, 3)}
        assert read(tmp_path, frames_with("magmom=2.0"), multiplicity_key="magmom") == {(0, 3)}
        text = frames_with("spin=1", ":initial_magmoms:R:1", "1|1")
        assert read(tmp_path, text, multiplicity_key="initial_magmoms") == {(0, 3)}

    def test_a_name_that_is_not_there(self, tmp_path):
        line = refused(tmp_path, frames_with("Charge=1 spin=2"), charge_key="chrg")
        assert "4 of 4 structures have no 'chrg' (pool.charge_key), there are Charge, spin" in line

    def test_a_name_that_some_lack(self, tmp_path):
        text = frames_with("foo=3", n=3) + frames_with("", n=2)
        assert "2 of 5 structures have no 'foo'" in refused(tmp_path, text, multiplicity_key="foo")
        assert read(tmp_path, text, multiplicity_key="foo", multiplicity=5) == {(0, 3), (0, 5)}

    @pytest.mark.parametrize("pool", [{"multiplicity": 3}, {"multiplicity_key": "mult"}])
    def test_a_spin_that_is_2s_gives_way(self, tmp_path, pool):
        assert read(tmp_path, frames_with("spin=2 mult=3" if "multiplicity_key" in pool else "spin=2"), **pool) == {
            (0, 3)
        }

    def test_a_number_given_in_the_configuration_settles_what_is_not_read(self, tmp_path):
        text = frames_with("Q=1 S=1")
        assert read(tmp_path, text, charge=0, multiplicity=1) == {(0, 1)}

    def test_default_values_are_no_statement(self, tmp_path):
        assert "Q = 1" in refused(tmp_path, frames_with("Q=1"), multiplicity=2)


@pytest.mark.parametrize(
    "name",
    ["mulliken_charge", "charge_transfer", "spin_squared", "spin_contamination", "spin_orbit_coupling_cm", "nspin", "energy",
     "config_type", "charges_kind", "multipole", "Squality", "quality", "structure_id", "discharge"],
)  # fmt: skip
def test_other_names_are_let_alone(tmp_path, name):
    assert meaning_of(name) is None
    assert read(tmp_path, frames_with(f"{name}=3")) == {(0, 1)}


def test_numbers_of_another_kind_are_let_alone(tmp_path):
    assert read(tmp_path, frames_with("Q=0.25 S=187.5 dft_charge=0 spin_value=1000")) == {(0, 1)}


class TestPeriodic:
    def crystals(self, **columns):
        found = []
        for number in range(3):
            atoms = Atoms("Fe2", [[0, 0, 0], [1.4, 1.4, 1.4]], cell=np.eye(3) * (2.8 + number / 50), pbc=True)
            for name, values in columns.items():
                atoms.set_array(name, np.array(values))
            found.append(atoms)
        return found

    def test_start_moments_are_no_multiplicity(self, tmp_path):
        ase.io.write(tmp_path / "fe.extxyz", self.crystals(initial_magmoms=[2.5, 2.5]))
        with pytest.raises(QuarryError, match=r"3 structures carry initial_magmoms in a periodic structure"):
            read_files([(tmp_path / "fe.extxyz", ":")], 0, 1)

    def test_calculated_moments_are_of_no_concern(self, tmp_path):
        frames = self.crystals()
        for atoms in frames:
            atoms.calc = SinglePointCalculator(atoms, magmoms=[2.0, 2.0], magmom=4.0, energy=-1.0)
        ase.io.write(tmp_path / "fe.extxyz", frames)
        assert read_files([(tmp_path / "fe.extxyz", ":")], 0, 1).multiplicities.tolist() == [1] * 3


class TestElsewhere:
    def test_the_molecule_of_a_wigner_pool(self, tmp_path):
        (tmp_path / "m.xyz").write_text(frames_with("total_charge=0 total_spin=3", n=1))
        wigner = {"source": "wigner", "molecule": "m.xyz", "size": 5}
        assert read_start(WignerPool.model_validate(wigner), tmp_path).multiplicity == 3
        with pytest.raises(QuarryError, match=r"pool\.multiplicity = 1, but m\.xyz says multiplicity 3"):
            read_start(WignerPool.model_validate({**wigner, "multiplicity": 1}), tmp_path)
        (tmp_path / "m.xyz").write_text(frames_with("Q=2", n=1))
        with pytest.raises(
            QuarryError, match=r"pool\.molecule: .*m\.xyz: the structure carries Q = 2, which looks like"
        ):
            read_start(WignerPool.model_validate(wigner), tmp_path)
        assert read_start(WignerPool.model_validate({**wigner, "charge_key": "Q"}), tmp_path).charge == 2

    def test_a_reference_is_a_geometry(self, tmp_path):
        (tmp_path / "r.xyz").write_text(frames_with("charge=0 total_charge=1 Q=7 spin=2", n=1))
        settings = stand_in_configuration(descriptor={"kind": "inverse_distances", "reference": "r.xyz"})
        assert read_reference(load_configuration(settings, "c.yaml"), tmp_path).charge == 0

    @pytest.mark.parametrize(
        ("comments", "row"), [(("charge=0 spin=1", "charge=0 spin=3"), 1), (("total_spin=3", "total_spin=1"), 0)]
    )
    def test_labels_are_those_of_the_state(self, tmp_path, comments, row):
        """One geometry, two states: by geometry and by row."""
        frames = [frames_with(f"{comment} E={n}.0", n=1) for n, comment in enumerate(comments)]
        (tmp_path / "l.extxyz").write_text("".join(frames))
        np.savez(tmp_path / "e.npz", E=np.array([0.0, 1.0]))
        triplet = Structure.create([8, 8], np.array([[0, 0, 0], [0, 0, 1.2]]), multiplicity=3)
        for settings in (
            {"file": "l.extxyz"},
            {"file": "e.npz", "match": "row", "structures": [{"path": "l.extxyz"}]},
        ):
            labeling = ReplayLabeling.model_validate({"engine": "replay", "columns": {"energy": "E"}, **settings})
            engine = ReplayEngine(labeling, tmp_path)
            assert engine.label(triplet, 1).properties["energy"] == row
            quintet = Structure.create([8, 8], triplet.positions, multiplicity=5)
            assert engine.label(quintet, 1).status == "invalid_structure"

    def test_labels_in_a_table_are_those_of_the_state(self, tmp_path):
        r = np.array([[[0, 0, 0], [0, 0, 1.2]]] * 2)
        np.savez(tmp_path / "a.npz", Z=[8, 8], R=r, E=[0.0, 1.0], multiplicity=[1, 3])
        engine = ReplayEngine(ReplayLabeling(engine="replay", file="a.npz", columns={"energy": "E"}), tmp_path)
        for row, multiplicity in enumerate((1, 3)):
            assert engine.label(Structure.create([8, 8], r[0], 0, multiplicity), 1).properties["energy"] == row

    def test_before_any_job(self, tmp_path):
        settings = stand_in_configuration()
        (tmp_path / "pool.extxyz").write_text(frames_with("spin=2", n=60))
        configuration = load_configuration(settings, "c.yaml")
        with pytest.raises(QuarryError, match="60 structures carry spin = 2"):
            check(configuration, tmp_path)

    def test_the_checks_know_what_was_given(self):
        """They get the configuration as it was written: a default that is given is more than a default."""
        settings = stand_in_configuration()
        given = load_configuration({**settings, "pool": {**settings["pool"], "charge": 0}}, "c.yaml")
        sent = json.loads(json.dumps(given.model_dump(mode="json", exclude_unset=True)))
        again = type(given).model_validate(sent)
        assert again == given and state_keys(again.pool).settled == {"charge"}
        assert state_keys(load_configuration(settings, "c.yaml").pool).settled == set()


class TestFoundByAttack:
    """Names and comments that were passed over, so that ions became neutral molecules."""

    @pytest.mark.parametrize("comment", ["charges=-2", "total_charges=-2", "spins=3", "multiplicities=3"])
    def test_plurals_are_read(self, tmp_path, comment):
        path = tmp_path / "a.extxyz"
        path.write_text(f"2\nProperties=species:S:1:pos:R:3 {comment}\nO 0 0 0\nO 0 0 1.2\n")
        found = read_files([(path, ":")], 0, 1)
        assert (found.charges[0], found.multiplicities[0]) == ((-2, 1) if "charge" in comment else (0, 3))

    @pytest.mark.parametrize("comments", [["charge: -2 multiplicity: 1"] * 2, ["-2 1", "-2 1", "0 1", "0 1"]])
    def test_comments_that_say_a_state_are_refused(self, tmp_path, comments):
        path = tmp_path / "a.xyz"
        path.write_text("".join(f"2\n{comment}\nO 0 0 0\nO 0 0 1.2{n}\n" for n, comment in enumerate(comments)))
        with pytest.raises(QuarryError, match="looks like charge and multiplicity and is not read"):
            read_files([(path, ":")], 0, 1)

    def test_a_charge_of_a_database_is_the_stored_one(self, tmp_path):
        from ase.db import connect

        connect(tmp_path / "a.db").write(Atoms("O2", [(0, 0, 0), (0, 0, 1.2)]), charge=-2)
        assert read_files([(tmp_path / "a.db", ":")], 0, 1).charges[0] == -2


@pytest.mark.parametrize("ids", [["a", "b", "c"], ["a"]])
def test_ids_and_labels_of_different_lengths_are_refused(tmp_path, ids):
    np.savez(tmp_path / "labels.npz", names=np.array(ids), E=np.array([1.0, 2.0]))
    labeling = {"engine": "replay", "file": "labels.npz", "match": "id", "ids": "names", "columns": {"energy": "E"}}
    with pytest.raises(QuarryError, match=r"^labeling\.ids: .*names"):
        ReplayEngine(ReplayLabeling.model_validate(labeling), tmp_path).label(
            Structure.create([1], np.zeros((1, 3)), multiplicity=2), 1
        )
