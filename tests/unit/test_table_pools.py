"""Pools of rows of features, and pools and labels in tables: reading, identity, files, labels and what is refused."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any

import ase.io
import h5py
import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.config import load_configuration
from quarry.descriptors.features_file import read_features
from quarry.errors import QuarryError
from quarry.labeling.engines.registry import make_engine
from quarry.labeling.engines.replay import ReplayEngine
from quarry.labeling.outliers import find_outliers
from quarry.models.registry import load_regression
from quarry.stages.planning import sizes_of
from quarry.stages.pool import build_features, build_pool
from quarry.stages.preflight import check
from quarry.stages.training import train_model
from quarry.structures import Structure, StructureSet
from quarry.structures.files import (
    FileSource,
    JobInputEntry,
    job_input_text,
    read_files,
    read_job_input,
    read_pool,
    write_job_input,
    write_pool,
)
from quarry.structures.frames import write_extxyz
from quarry.structures.labelled import LabelledSet
from quarry.structures.tables import read_feature_rows, read_numbers
from support.arms import models_in

ROWS = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5)


def raw(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "rows",
        "pool": {"source": "table", "files": ["x.csv"], "features": ["x"]},
        "target": "value",
        "labeling": {"engine": "function", "function": "support.rows:sine"},
        "descriptor": {"kind": "table"},
        "query": {"strategy": "random", "initial": 4, "batch": {"schedule": "constant", "size": 1}},
        "test": {"size": 2},
        "stop": {"max_iterations": 2},
    }
    return {**base, **changes}


def configuration(**changes: Any):
    return load_configuration(raw(**changes), "campaign.yaml")


def write_csv(path: Path, **columns: Any) -> None:
    with open(path, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


@pytest.fixture
def folder(tmp_path) -> Path:
    x = np.linspace(0, 6, 13)
    write_csv(tmp_path / "x.csv", name=[f"p{i}" for i in range(13)], x=x, y=np.sin(x))
    np.savez(tmp_path / "x.npz", x=x, more=np.stack([x**2, x**3], axis=1), y=np.sin(x))
    with h5py.File(tmp_path / "x.h5", "w") as handle:
        handle["x"] = x
        handle["group/more"] = np.stack([x**2, x**3], axis=1)
    return tmp_path


class TestRows:
    def test_the_three_formats_hold_the_same(self, folder):
        [(_, of_csv)] = read_feature_rows([("x.csv", folder / "x.csv")], ["x"])
        [(_, of_npz)] = read_feature_rows([("x.npz", folder / "x.npz")], ["x", "more"])
        [(_, of_h5)] = read_feature_rows([("x.h5", folder / "x.h5")], ["x", "group/more"])
        x = np.linspace(0, 6, 13)
        np.testing.assert_array_equal(of_csv, x[:, None])
        np.testing.assert_array_equal(of_npz, np.stack([x, x**2, x**3], axis=1))
        np.testing.assert_array_equal(of_h5, of_npz)

    def test_identity_is_in_every_bit_of_the_features(self):
        ids = {
            Structure.of_features(np.array(row)).structure_id
            for row in ([1.0], [1.0 + 2**-52], [1.0, 0.0], [0.0, 1.0], [-1.0])
        }
        assert len(ids) == 5
        assert (
            Structure.of_features(np.array([0.0])).structure_id == Structure.of_features(np.array([-0.0])).structure_id
        )
        with pytest.raises(ValueError, match="not a finite number"):
            Structure.of_features(np.array([np.nan]))

    @settings(max_examples=20, deadline=None)
    @given(ROWS)
    def test_files_give_the_row_back_to_the_last_bit(self, values):
        row = Structure.of_features(np.array(values))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_job_input(folder / "leaf.extxyz", [JobInputEntry(row)])
            write_pool(folder / "pool.h5", StructureSet.from_structures([row, row]))
            labelled = LabelledSet.from_records([row], ["train"], [0], [{"value": 1 / 3}])
            labelled.write(folder / "dataset.h5", {})
            write_extxyz(labelled, folder / "dataset.extxyz")
            of_job_input = read_job_input(folder / "leaf.extxyz")[0].structure
            of_ase = ase.io.read(folder / "dataset.extxyz")
            of_pool, of_dataset = (
                read_pool(folder / "pool.h5")[1],
                LabelledSet.read(folder / "dataset.h5").structures[0],
            )
        for found in (of_job_input.features, of_pool.features, of_dataset.features, of_ase.info["features"]):
            np.testing.assert_array_equal(found, row.features)
        assert of_job_input.structure_id == row.structure_id
        assert of_ase.info["value"] == 1 / 3 and len(of_ase) == 0

    def test_a_damaged_job_input_is_noticed(self, tmp_path):
        text = job_input_text([JobInputEntry(Structure.of_features(np.array([0.5, 2.0])))])
        (tmp_path / "leaf.extxyz").write_text(text.replace("0.5", "0.25"))
        with pytest.raises(QuarryError, match="does not have the identity"):
            read_job_input(tmp_path / "leaf.extxyz")

    def test_subsets_keep_rows_and_ids(self):
        rows = StructureSet.from_structures(Structure.of_features(np.array([x, -x])) for x in range(6))
        part = rows.subset([4, 1, 4])
        assert part.features.tolist() == [[4, -4], [1, -1], [4, -4]]
        assert [s.structure_id for s in part] == [rows[4].structure_id, rows[1].structure_id, rows[4].structure_id]
        # What a set knows is what the row's own hash says.
        assert part[0].structure_id == Structure.of_features(np.array([4.0, -4.0])).structure_id


class TestStages:
    def test_pool_features_and_a_model(self, folder):
        write_csv(folder / "again.csv", x=[6.0, 7.5])
        c = configuration(pool={"source": "table", "files": ["x.csv", "again.csv"], "features": ["x"]})
        structures, reference, filtered, features = (
            str(folder / n) for n in ("structures.h5", "reference.extxyz", "filtered.csv", "features.h5")
        )
        assert (
            build_pool(c, folder, None, structures, reference, filtered) == "pool: 14 structures, 1 duplicates dropped"
        )
        build_features(structures, reference, c.descriptor, features)
        x = [*np.linspace(0, 6, 13), 7.5]
        np.testing.assert_array_equal(read_features(features)[:, 0], x)
        assert Path(filtered).read_text().splitlines()[1].startswith("again.csv,0,")
        pool = read_pool(structures)
        engine = make_engine(c.labeling, folder, c.resources.label)
        labels = [engine.label(s, 1).properties for s in pool]
        np.testing.assert_allclose([p["value"] for p in labels], np.sin(x), rtol=0, atol=1e-15)
        data = LabelledSet.from_records(list(pool), ["train"] * 14, [0] * 14, labels)
        data.write(folder / "dataset.h5", {})
        train_model(models_in(c, features), str(folder / "dataset.h5"), str(folder / "model.h5"))
        mean = load_regression(folder / "model.h5", "gpr").predict(pool, read_features(features)).mean
        np.testing.assert_allclose(mean, np.sin(x), atol=1e-2)

    def test_an_energy_of_rows_is_learned_and_is_no_outlier(self, folder):
        """What is done by atom elsewhere (baselines, residuals) has no meaning here and is left alone."""
        c = configuration(target="energy")
        rows = [Structure.of_features(np.array([x])) for x in np.linspace(0, 6, 25)]
        labels = [{"energy": float(np.cos(r.features[0])), "forces": np.zeros((0, 3))} for r in rows]
        data = LabelledSet.from_records(rows, ["train"] * 25, [0] * 25, labels)
        assert find_outliers(data, 6.0, 0) == []
        data.write(folder / "dataset.h5", {})
        write_pool(folder / "structures.h5", data.structures)
        write_job_input(folder / "reference.extxyz", [JobInputEntry(rows[0])])
        paths = [
            str(folder / n) for n in ("structures.h5", "reference.extxyz", "features.h5", "dataset.h5", "model.h5")
        ]
        build_features(paths[0], paths[1], c.descriptor, paths[2])
        train_model(models_in(c, paths[2]), paths[3], paths[4])
        predicted = load_regression(paths[4], "gpr").predict(data.structures, read_features(paths[2])).mean
        np.testing.assert_allclose(predicted, np.cos(np.linspace(0, 6, 25)), atol=1e-2)

    def test_a_row_has_the_size_of_one_atom(self, folder):
        """A size of 0 has no logarithm, on which the model of the cost rests."""
        row = Structure.of_features(np.array([0.5]))
        replay = {
            "engine": "replay",
            "file": "x.csv",
            "columns": {"value": "y"},
            "match": "features",
            "features": ["x"],
        }
        for c in (configuration(), configuration(labeling=replay)):
            engine = make_engine(c.labeling, folder, c.resources.label)
            assert engine.size(row) == {"atoms": 1} and sizes_of([row], engine, "atoms") == [1.0]

    def test_near_duplicates_are_left_out_of_rows_too(self, folder):
        c = configuration(filters={"near_duplicates": 0.6})
        outputs = [str(folder / n) for n in ("structures.h5", "reference.extxyz", "filtered.csv")]
        assert build_pool(c, folder, None, *outputs).startswith("pool: 7 structures, 0 duplicates dropped; rejected")


class TestReplay:
    @pytest.mark.parametrize(
        "labeling",
        [
            {"file": "x.csv", "match": "features", "features": ["x"]},
            {"file": "x.npz", "match": "row", "structures": ["x.csv"], "features": ["x"]},
        ],
    )
    def test_labels_of_rows(self, folder, labeling):
        c = configuration(labeling={"engine": "replay", "columns": {"value": "y"}, **labeling})
        engine = make_engine(c.labeling, folder, c.resources.label)
        engine.check([])
        assert engine.label(Structure.of_features(np.array([0.5])), 1).properties == {"value": np.sin(0.5)}
        assert engine.label(Structure.of_features(np.array([0.51])), 1).status == "invalid_structure"

    def test_one_row_with_two_values_is_refused(self, folder):
        write_csv(folder / "twice.csv", x=[1.0, 1.0], y=[2.0, 3.0])
        labeling = {"file": "twice.csv", "match": "features", "features": ["x"]}
        c = configuration(labeling={"engine": "replay", "columns": {"value": "y"}, **labeling})
        outcome = ReplayEngine(c.labeling, folder).label(Structure.of_features(np.array([1.0])), 1)
        assert outcome.status == "engine_error" and "different values" in outcome.message

    def test_a_table_of_other_length_is_refused(self, folder):
        write_csv(folder / "short.csv", y=[2.0, 3.0])
        labeling = {"file": "short.csv", "match": "row", "structures": ["x.csv"], "features": ["x"]}
        c = configuration(labeling={"engine": "replay", "columns": {"value": "y"}, **labeling})
        with pytest.raises(QuarryError, match=r"13 structures, but short\.csv has 2 rows"):
            check(c, folder)


class TestGeometriesInTables:
    """A pool of structures from npz and HDF5, as the replay engine has read its tables before."""

    def test_ragged_and_regular(self, tmp_path):
        frames = [molecule(n) for n in ("H2O", "HCN", "CH4")]
        offsets = np.cumsum([0, *map(len, frames)])
        numbers, positions = np.concatenate([f.numbers for f in frames]), np.concatenate([f.positions for f in frames])
        np.savez(tmp_path / "a.npz", Z=numbers.astype(np.uint8), R=positions, offsets=offsets)
        with h5py.File(tmp_path / "b.h5", "w") as handle:
            handle["charges"], handle["xyz"] = frames[0].numbers, np.stack([frames[0].positions] * 2)
        names = ("charges", "xyz", "offsets")
        files = [FileSource(tmp_path / "a.npz", "1:"), FileSource(tmp_path / "b.h5", "-1", names)]
        found = read_files(files, charge=1, multiplicity=2)
        wanted = [Structure.from_atoms(f, 1, 2) for f in (frames[1], frames[2], frames[0])]
        assert found.ids.tolist() == [s.structure_id for s in wanted]

    @pytest.mark.parametrize(
        ("change", "index", "reason"),
        [
            ({"R": None}, ":", r"pool\.files\.geometry\.positions: there is no 'R'"),
            ({"offsets": [0, 3, 5]}, ":", "make no 2 geometries"),
            ({"Z": [8, 1, 0, 6, 1, 7]}, ":", "an atomic number or a position that is none"),
            ({"R": np.full((6, 3), np.nan)}, ":", "an atomic number or a position that is none"),
            ({"offsets": [0, 0, 6]}, ":", "without atoms"),
            ({"Z": np.array([8.0] * 6)}, ":", "must hold whole numbers"),
            ({}, "9", "index '9' does not fit"),
            ({}, "5:", "holds no structure"),
        ],
    )
    def test_refused_in_one_line(self, tmp_path, change, index, reason):
        arrays = {"Z": np.array([8, 1, 1, 6, 1, 7]), "R": np.eye(6, 3), "offsets": np.array([0, 3, 6])} | change
        np.savez(tmp_path / "a.npz", **{k: np.asarray(v) for k, v in arrays.items() if v is not None})
        with pytest.raises(QuarryError, match=reason) as caught:
            read_files([(tmp_path / "a.npz", index)], 0, 1)
        assert "\n" not in str(caught.value)


REFUSED_BY_CONFIGURATION = [
    ({"descriptor": {"kind": "mbtr"}}, r"descriptor\.kind: mbtr does not fit pool\.source: table"),
    ({"pool": {"source": "file", "files": ["a.xyz"]}}, r"descriptor\.kind: table does not fit pool\.source: file"),
    (
        {"labeling": {"engine": "pyscf", "method": {"xc": "hf", "basis": "sto-3g"}}},
        r"labeling\.engine: pyscf labels structures",
    ),
    ({"filters": {"bonds": "connected"}}, r"filters\.bonds: rows of features"),
    ({"filters": {"min_distance_factor": 0.7}}, r"filters\.min_distance_factor: rows of features"),
    (
        {"labeling": {"engine": "replay", "file": "x.csv", "columns": {"value": "y"}}},
        r"labeling\.match: rows of features",
    ),
    (
        {"labeling": {"engine": "replay", "file": "x.csv", "columns": {"value": "y"}, "match": "features"}},
        "needs the key features",
    ),
    (
        {
            "pool": {"source": "file", "files": ["a.xyz"]},
            "descriptor": {"kind": "coulomb_matrix"},
            "labeling": {
                "engine": "replay",
                "file": "x.csv",
                "columns": {"value": "y"},
                "match": "features",
                "features": ["x"],
            },
        },
        r"labeling\.features: only rows of features",
    ),
    ({"stop": {"target_rmse": "1 kcal/mol"}}, "a value has no unit"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSED_BY_CONFIGURATION)
def test_the_configuration_refuses_in_one_line(change, reason):
    with pytest.raises(QuarryError, match=reason) as caught:
        configuration(**change)
    assert "\n" not in str(caught.value)


REFUSED_BEFORE_ANY_JOB = [
    ("x\n1.0\n", {"features": ["z"]}, r"pool\.features: there is no 'z' in .*x\.csv; it has x"),
    ("x\n1.0\nnan\n", {}, r"'x' in .* is not finite in row 2 \(1 such\)"),
    ("x\n1.0\n2.0\nthree\n", {}, r"'x' in .* holds no number in row 3 \('three'\)"),
    ("x\n1.0\n\n2.0,3.0\n", {}, r"row 2: 2 values for 1 columns"),
    ("x\n", {}, "holds no rows of features"),
    ("", {}, "there is no 'x'"),
    ("x,x\n1,2\n", {}, "two columns of one name"),
    ("x\n1.0\n", {"files": ["x.csv", "wide.npz"]}, r"wide\.npz has 2 features, x\.csv has 1"),
    ("x\n1.0\n", {"files": ["deep.npz"]}, r"has the shape \(2, 2, 2\)"),
    ("x\n1.0\n", {"files": ["none.csv"]}, "none.csv does not exist"),
    ("x\n1.0\n", {"files": ["x.txt"]}, "is no table; known are .npz, .h5, .hdf5, .csv"),
    ("x\n1.0\n", {}, "query.initial \\+ test.size = 6 is more than the pool's 1 structures"),
]


@pytest.mark.parametrize(("text", "change", "reason"), REFUSED_BEFORE_ANY_JOB)
def test_the_checks_before_any_job_refuse_in_one_line(text, change, reason, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    np.savez(tmp_path / "wide.npz", x=np.zeros((3, 2)))
    np.savez(tmp_path / "deep.npz", x=np.zeros((2, 2, 2)))
    c = configuration(pool={"source": "table", "files": ["x.csv"], "features": ["x"], **change})
    with pytest.raises(QuarryError, match=reason) as caught:
        check(c, tmp_path)
    assert "\n" not in str(caught.value)


def test_the_checks_pass_a_right_campaign(folder):
    assert check(configuration(), folder)["inputs"].keys() == {"x.csv"}


class TestNumbersThatPeopleWrite:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("x;y\n1,5;2\n", "its columns are separated by semicolons; write commas between them"),
            (
                "x,y\n1,5,2\n",
                "row 1: 3 values for 2 columns; correct it (a comma separates columns, and numbers have points",
            ),
            ("x,y\n1,2\n1_0,2\n", "holds no number in row 2 ('1_0'); correct the file"),
            ("x,y\n1,2\n-1.0D+01,2\n", "holds no number in row 2 ('-1.0D+01'); correct the file"),
        ],
    )
    def test_a_table_of_features(self, tmp_path: Path, text: str, words: str) -> None:
        (tmp_path / "x.csv").write_text(text)
        with pytest.raises(QuarryError) as caught:
            read_feature_rows([("x.csv", tmp_path / "x.csv")], ["x"])
        assert words in str(caught.value)

    def test_a_text_file(self, tmp_path: Path) -> None:
        (tmp_path / "E.dat").write_text("1.5\n-1.0D+01\n")
        with pytest.raises(
            QuarryError, match=r"E\.dat, line 2: '-1\.0D\+01' is no number; write -1\.0e\+01; correct the file$"
        ):
            read_numbers([tmp_path / "E.dat"], "labeling.text")
