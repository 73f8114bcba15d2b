"""The replay engine: labels from structure files and tables, found by geometry, id or row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.config.engines.replay import ReplayLabeling
from quarry.errors import QuarryError
from quarry.files import canonical_json
from quarry.labeling.engines.registry import make_engine
from quarry.labeling.engines.replay import ReplayEngine
from quarry.structures import Structure, StructureSet
from quarry.structures.frames import write_extxyz
from quarry.structures.geometries import TOLERANCE_A, GeometryIndex
from quarry.structures.labelled import LabelledSet
from support.campaigns import REPOSITORY

HARTREE, BOHR = 27.211386245988, 0.529177210903
"""eV and Angstrom (CODATA 2018)."""
SYMBOLS = ["OHH", "HH", "CHHHH"]
QM9 = REPOSITORY.parent / "shared" / "data" / "qm9_homo_b3lyp_128744.npz"


def replay(base: Path, file: str, columns: dict[str, str], **keys: Any) -> ReplayEngine:
    section = ReplayLabeling.model_validate({"engine": "replay", "file": file, "columns": columns, **keys})
    engine = make_engine(section, base)
    assert isinstance(engine, ReplayEngine)
    assert engine.one_job_per_batch
    return engine


def frames(count: int = 9, seed: int = 0) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    return [Atoms(s := SYMBOLS[i % 3], rng.normal(0, 2, (len(Atoms(s)), 3))) for i in range(count)]


def table(molecules: list[Atoms]) -> dict[str, Any]:
    sizes = [len(atoms) for atoms in molecules]
    return {
        "Z": np.concatenate([atoms.numbers for atoms in molecules]).astype(np.uint8),
        "R": np.concatenate([atoms.positions for atoms in molecules]),
        "offsets": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32),
        "E": np.arange(len(molecules), dtype=float),
        "G": np.arange(3.0 * sum(sizes)).reshape(-1, 3),
        "structure_id": np.array([Structure.from_atoms(a).structure_id for a in molecules], dtype="S20"),
    }


def save(path: Path, data: dict[str, Any]) -> None:
    if path.suffix == ".npz":
        np.savez(path, **data)
    else:
        with h5py.File(path, "w") as handle:
            for name, values in data.items():
                handle.create_dataset(name, data=values)


@pytest.mark.parametrize("name", ["t.npz", "t.h5"])
@pytest.mark.parametrize("match", ["geometry", "id", "row"])
def test_tables_of_molecules_of_all_sizes(name: str, match: str, tmp_path: Path) -> None:
    molecules = frames()
    save(tmp_path / name, table(molecules))
    write(tmp_path / "pool.extxyz", molecules)
    keys = {"match": match, **({"structures": ["pool.extxyz"]} if match == "row" else {})}
    units = {"energy": "hartree", "gradient": "hartree/bohr"}
    engine = replay(tmp_path, name, {"energy": "E", "gradient": "G"}, units=units, **keys)
    engine.check([1])
    first = 0
    for row, atoms in enumerate(molecules):
        result = engine.label(Structure.from_atoms(atoms), 1)
        assert (result.status, result.details) == ("ok", {"row": row})
        assert result.properties["energy"] == pytest.approx(row * HARTREE)
        expected = -np.arange(3.0 * first, 3.0 * (first + len(atoms))).reshape(-1, 3) * HARTREE / BOHR
        assert np.array(result.properties["forces"]) == pytest.approx(expected)
        canonical_json(result.properties)
        first += len(atoms)
    for other in (frames(1, seed=1)[0], molecules[0][[1, 0, 2]]):
        missing = engine.label(Structure.from_atoms(other), 1)
        assert missing.status == "invalid_structure"
        assert "holds no such structure" in missing.message


def test_rows_are_those_of_the_files_before_duplicates_are_dropped(tmp_path: Path) -> None:
    a, b, c = frames(3)
    write(tmp_path / "one.extxyz", [a, a, b])
    write(tmp_path / "two.extxyz", [b, c, c])
    keys: dict[str, Any] = {"match": "row", "structures": ["one.extxyz", {"path": "two.extxyz", "index": "1:2"}]}
    np.savez(tmp_path / "t.npz", homo=[-0.2, -0.2, -0.3, -0.4])
    engine = replay(tmp_path, "t.npz", {"homo": "homo"}, **keys)
    assert [engine.label(Structure.from_atoms(x), 1).properties["homo"] for x in (a, b, c)] == [-0.2, -0.3, -0.4]
    np.savez(tmp_path / "t.npz", homo=[-0.2, -0.21, -0.3, -0.4])
    contradicting = replay(tmp_path, "t.npz", {"homo": "homo"}, **keys).label(Structure.from_atoms(a), 1)
    assert contradicting.status == "engine_error" and "rows 1 and 2" in contradicting.message
    np.savez(tmp_path / "t.npz", homo=[-0.2, -0.3, -0.4])
    with pytest.raises(QuarryError, match=r"4 structures, but t\.npz has 3 rows"):
        replay(tmp_path, "t.npz", {"homo": "homo"}, **keys).check([])


def in_states(charges: list[Any], name: str = "charge") -> list[Atoms]:
    """One geometry, as often as there are charges; each with an energy of its own."""
    found = []
    for row, charge in enumerate(charges):
        atoms = Atoms("HH", [[0, 0, 0], [0, 0, 0.8]])
        atoms.info.update({"E": -1.0 - row} | ({} if charge is None else {name: charge}))
        found.append(atoms)
    return found


def test_rows_that_differ_in_their_charge_alone(tmp_path: Path) -> None:
    states = [
        Structure.from_atoms(in_states([None])[0], charge=q, multiplicity=m) for q, m in ((0, 1), (1, 2), (-1, 2))
    ]
    write(tmp_path / "f.extxyz", in_states([0, 1]))
    np.savez(tmp_path / "t.npz", Z=[1, 1], R=np.array([states[0].positions] * 2), E=[-1.0, -2.0], charge=[0, 1])
    np.savez(tmp_path / "e.npz", E=[-1.0, -2.0])
    for file, keys in (("f.extxyz", {}), ("t.npz", {}), ("e.npz", {"match": "row", "structures": ["f.extxyz"]})):
        engine = replay(tmp_path, file, {"energy": "E"}, **keys)
        found = [engine.label(structure, 1) for structure in states]
        assert [result.properties for result in found] == [{"energy": -1.0}, {"energy": -2.0}, {}], file
        assert found[2].status == "invalid_structure"
        assert found[2].message.endswith(
            "row 1 has this geometry with another charge, multiplicity or cell: here it is charge -1 and multiplicity 2"
        )


def test_rows_of_one_geometry_that_nothing_tells_apart(tmp_path: Path) -> None:
    structure = Structure.from_atoms(in_states([None])[0])
    write(tmp_path / "f.extxyz", in_states([0, 1], "kind"))
    found = replay(tmp_path, "f.extxyz", {"energy": "E"}).label(structure, 1)
    assert (found.status, found.message) == (
        "engine_error",
        "f.extxyz: rows 1 and 2 hold this structure with different values; where they differ in charge or multiplicity, say so "
        "in the file, as charge and multiplicity; or remove one",
    )
    named = in_states([None, None])
    for atoms in named:
        atoms.info["structure_id"] = f"s{structure.structure_id}"
    write(tmp_path / "g.extxyz", named)
    found = replay(tmp_path, "g.extxyz", {"energy": "E"}, match="id").label(structure, 1)
    assert found.status == "engine_error"
    assert found.message.endswith("give each structure an id of its own, or remove one")


@pytest.mark.parametrize("charge", [1e30, -1e300, 9.3e18, 2**63 - 1])
def test_a_charge_that_none_has_is_no_label_of_another(charge: float, tmp_path: Path) -> None:
    structure = Structure.from_atoms(in_states([None])[0])
    write(tmp_path / "f.extxyz", in_states([charge, 0]))
    assert replay(tmp_path, "f.extxyz", {"energy": "E"}).label(structure, 1).properties == {"energy": -2.0}


@pytest.mark.parametrize("charge", [0.5, "plus", 10**400], ids=["half", "word", "huge"])
def test_a_charge_that_nobody_understands_is_no_label(charge: Any, tmp_path: Path) -> None:
    structure = Structure.from_atoms(in_states([None])[0])
    write(tmp_path / "f.extxyz", in_states([charge]))
    assert replay(tmp_path, "f.extxyz", {"energy": "E"}).label(structure, 1).status == "invalid_structure"


def test_one_molecule_in_many_geometries(tmp_path: Path) -> None:
    positions = np.random.default_rng(0).normal(0, 1, (20, 3, 3)).astype(np.float32)
    energies = np.linspace(0, 1, 20)
    np.savez(tmp_path / "t.npz", Z=[8, 1, 1], R=positions, E=energies, F=2 * positions)
    engine = replay(tmp_path, "t.npz", {"energy": "E", "forces": "F"}, units={"energy": "kcal/mol"})
    result = engine.label(Structure.create([8, 1, 1], positions[7].astype(float), charge=-1, multiplicity=2), 1)
    assert result.properties["energy"] == pytest.approx(energies[7] * 0.0433641043)
    assert np.array(result.properties["forces"]) == pytest.approx(2 * positions[7], abs=1e-6)


def test_extxyz_with_results_info_and_states(tmp_path: Path) -> None:
    molecules = frames(3)
    for number, atoms in enumerate(molecules):
        atoms.calc = SinglePointCalculator(atoms, energy=float(number), forces=atoms.positions, dipole=[1, 2, 3])
        atoms.info["homo_eV"] = -float(number)
    cation = molecules[0].copy()
    cation.info.update(charge=1, multiplicity=2, homo_eV=-9.0)
    cation.calc = SinglePointCalculator(cation, energy=11.0, forces=0 * cation.positions, dipole=[0, 0, 0])
    molecules[0].info.update(charge=0, multiplicity=1)
    del molecules[2].info["homo_eV"]
    write(tmp_path / "done.extxyz", [*molecules, cation])
    columns = {"energy": "energy", "forces": "forces", "dipole": "dipole", "homo": "homo_eV"}
    engine = replay(tmp_path, "done.extxyz", columns)
    engine.check([])
    positions = molecules[0].positions
    neutral = engine.label(Structure.create(molecules[0].numbers, positions), 1)
    assert neutral.properties["dipole"] == [1, 2, 3]
    assert np.array(neutral.properties["forces"]) == pytest.approx(positions, abs=1e-6)
    charged = engine.label(Structure.create(molecules[0].numbers, positions, 1, 2), 1)
    assert (neutral.properties["energy"], charged.properties["energy"], charged.properties["homo"]) == (0, 11, -9)
    assert engine.label(Structure.create(molecules[0].numbers, positions, -1, 2), 1).status == "invalid_structure"
    assert engine.label(Structure.from_atoms(molecules[1]), 1).properties["homo"] == -1
    incomplete = engine.label(Structure.from_atoms(molecules[2]), 1)
    assert incomplete.status == "engine_error" and "has no homo_eV" in incomplete.message


def test_the_product_of_a_campaign_can_be_replayed(tmp_path: Path) -> None:
    structures = [Structure.from_atoms(atoms, 0, 1) for atoms in frames(4)]
    given = [{"energy": 0.1 * i, "gap": 5.0 + i, "forces": s.positions.tolist()} for i, s in enumerate(structures)]
    labelled = LabelledSet.from_records(structures, ["train"] * 4, [0] * 4, given)
    labelled.write(tmp_path / "dataset.h5", {})
    write_extxyz(labelled, tmp_path / "dataset.extxyz")
    group = {"numbers": "structures/numbers", "positions": "structures/positions", "offsets": "structures/offsets"}
    of_table = replay(
        tmp_path,
        "dataset.h5",
        {"energy": "properties/energy", "gap": "properties/gap", "forces": "properties/forces"},
        geometry=group,
    )
    of_frames = replay(tmp_path, "dataset.extxyz", {"energy": "energy", "gap": "gap_eV", "forces": "forces"})
    by_id = replay(tmp_path, "dataset.extxyz", {"energy": "energy", "gap": "gap_eV", "forces": "forces"}, match="id")
    for structure, properties in zip(structures, given, strict=True):
        for engine in (of_table, of_frames, by_id):
            found = engine.label(structure, 1).properties
            assert (found["energy"], found["gap"]) == pytest.approx((properties["energy"], properties["gap"]))
            assert np.array(found["forces"]) == pytest.approx(structure.positions, abs=1e-6)


def test_periodic_structures_need_their_cell(tmp_path: Path) -> None:
    crystals = [Atoms("HH", [[0, 0, 0], [0, 0, 1]], cell=size * np.eye(3), pbc=True) for size in (3, 4)]
    for number, atoms in enumerate(crystals):
        atoms.calc = SinglePointCalculator(atoms, energy=float(number))
    write(tmp_path / "done.extxyz", crystals)
    engine = replay(tmp_path, "done.extxyz", {"energy": "energy"})
    assert [engine.label(Structure.from_atoms(a), 1).properties["energy"] for a in crystals] == [0, 1]
    assert engine.label(Structure.create([1, 1], crystals[0].positions), 1).status == "invalid_structure"


def test_values_that_are_missing_are_no_labels(tmp_path: Path) -> None:
    molecules = frames(3)
    np.savez(tmp_path / "t.npz", **(table(molecules) | {"E": np.array([1.0, np.nan, np.inf])}))
    engine = replay(tmp_path, "t.npz", {"energy": "E"})
    assert [engine.label(Structure.from_atoms(a), 1).status for a in molecules] == [
        "ok",
        "engine_error",
        "engine_error",
    ]


@pytest.mark.parametrize(
    ("change", "keys", "reason"),
    [
        ({}, {"columns": {"energy": "U0"}}, "labeling.columns.energy: there is no 'U0'"),
        ({"Z": [1]}, {}, "make no 3 geometries"),
        ({"E": [1.0]}, {}, "do not fit the columns"),
        ({"H": [1.0]}, {"columns": {"energy": "E", "homo": "H"}}, "have different lengths"),
        ({}, {"match": "id", "ids": "key"}, "labeling.ids: there is no 'key'"),
        ({}, {"geometry": {"positions": "xyz"}}, "labeling.geometry.positions: there is no 'xyz'"),
    ],
)
def test_check_refuses_in_one_line(change: dict[str, Any], keys: dict[str, Any], reason: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **(table(frames(3)) | change))
    with pytest.raises(QuarryError, match=r"^labeling\.") as caught:
        replay(tmp_path, "t.npz", **{"columns": {"energy": "E"}, **keys}).check([])
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["t.npz", "t.h5", "t.extxyz"])
def test_damaged_files_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("garbage")
    with pytest.raises(QuarryError, match=r"^labeling\.file"):
        replay(tmp_path, name, {"energy": "E"}).check([])


def test_identity_is_the_content_of_the_file(tmp_path: Path) -> None:
    def identity(file: str = "t.npz", **keys: Any) -> str:
        return canonical_json(replay(tmp_path, file, **{"columns": {"energy": "E"}, **keys}).method_identity())

    np.savez(tmp_path / "t.npz", **table(frames(3)))
    (tmp_path / "copy.npz").write_bytes((tmp_path / "t.npz").read_bytes())
    one = identity()
    assert one == identity("copy.npz", store="elsewhere")
    others = [identity(columns={"homo": "E"}), identity(units={"energy": "hartree"}), identity(match="id")]
    np.savez(tmp_path / "t.npz", **table(frames(4)))
    assert len({one, identity(), *others}) == 5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.3e-6, 1e-3))
def test_geometries_are_found_like_by_comparing_all(seed: int, step: float) -> None:
    """Against brute force, on a grid where many geometries are nearly the same."""
    rng = np.random.default_rng(seed)
    structures = [
        Structure(np.array([8, 1, 1])[:size], step * rng.integers(-2, 3, (size, 3)).astype(float))
        for size in rng.integers(1, 4, 60)
    ]
    index = GeometryIndex.of(StructureSet.from_structures(structures))
    assert len(index) == 60
    for wanted in structures[:20]:
        same = [
            row
            for row, s in enumerate(structures)
            if len(s) == len(wanted) and (np.abs(s.positions - wanted.positions) <= TOLERANCE_A).all()
        ]
        assert index.find(wanted) == same


def test_qm9(tmp_path: Path) -> None:
    """All of QM9 in one job: the file's orbital energies in eV, found by positions as a text file rounds them."""
    if not QM9.is_file():
        pytest.skip("the QM9 table is not here")
    data = {name: values for name, values in np.load(QM9).items() if name in ("Z", "R", "offsets", "homo_hartree")}
    engine = replay(QM9.parent, QM9.name, {"homo": "homo_hartree"}, units={"homo": "hartree"})
    for row in np.random.default_rng(0).choice(len(data["homo_hartree"]), 200, replace=False):
        atoms = slice(data["offsets"][row], data["offsets"][row + 1])
        structure = Structure.create(data["Z"][atoms], np.round(data["R"][atoms].astype(float), 8))
        result = engine.label(structure, 1)
        assert result.details["row"] == row
        assert result.properties["homo"] == pytest.approx(float(data["homo_hartree"][row]) * HARTREE, abs=1e-12)
