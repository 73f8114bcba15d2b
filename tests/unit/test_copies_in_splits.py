"""Copies in the pool: named, rejected by default, and never on both sides of a split; labels that differ are told."""

import csv
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from quarry.campaign.failure_table import read_failures
from quarry.campaign.failure_table import write_failures as write_failure_rows
from quarry.config.filters import Filters
from quarry.errors import QuarryError
from quarry.models.base import Prediction
from quarry.models.splits import folds_of, held_share, last_share
from quarry.stages import arm_models, evaluation, preflight
from quarry.stages.batch import draw_initial
from quarry.stages.copies import label_difference
from quarry.stages.filtering import Candidate, PoolFilter
from quarry.stages.pool import build_features, build_pool
from quarry.stages.proposal import candidate_rows
from quarry.stages.targets import split, training_data
from quarry.structures import Structure
from quarry.structures.files import read_copies, read_pool
from quarry.structures.labelled import LabelledSet
from support.arms import models_in
from support.campaigns import WATER
from support.stages import configuration, write_dataset, write_failures

FIRSTS, COPIES = 24, 3
"""Every one of the first eight waters is there four times, the others once."""
SIZE = FIRSTS + 8 * COPIES


def copy_of(positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The hydrogens in the other order, turned and moved."""
    return positions[[0, 2, 1]] @ Rotation.random(rng=rng).as_matrix().T + rng.normal(0, 3, 3)


def waters() -> list[np.ndarray]:
    """Shape (3, 3) each; copies come after all firsts."""
    rng = np.random.default_rng(8)
    firsts = [WATER + rng.normal(0, 0.08, (3, 3)) for _ in range(FIRSTS)]
    return firsts + [copy_of(first, rng) for _ in range(COPIES) for first in firsts[:8]]


def settings_of(copies: str, **changes):
    return configuration(**{"model": {"kind": "gpr"}, "filters": {"copies": copies}, **changes})


def build(folder: Path, conf) -> tuple[str, list[dict[str, str]]]:
    """Build pool and features; return the lines and the rows of filtered.csv."""
    names = [str(folder / name) for name in ("structures.h5", "reference.extxyz", "filtered.csv")]
    line = build_pool(conf, folder, None, *names)
    build_features(names[0], names[1], conf.descriptor, str(folder / "features.h5"))
    with open(names[2], newline="") as handle:
        return line, list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """A folder with a pool that keeps its copies."""
    folder = tmp_path_factory.mktemp("kept")
    ase.io.write(folder / "pool.extxyz", [Atoms("OHH", positions) for positions in waters()])
    line, rows = build(folder, settings_of("keep"))
    assert line == (f"pool: {SIZE} structures, 0 duplicates dropped; {8 * COPIES} copies kept ({folder}/filtered.csv)")
    assert [(r["reason"], int(r["number"])) for r in rows] == [("copy_kept", n) for n in range(FIRSTS, SIZE)]
    return folder


class TestPool:
    def test_left_out_by_default(self, tmp_path):
        ase.io.write(tmp_path / "pool.extxyz", [Atoms("OHH", positions) for positions in waters()])
        line, rows = build(tmp_path, settings_of("leave_out"))
        pool = read_pool(tmp_path / "structures.h5")
        assert line == (
            f"pool: {FIRSTS} structures, 0 duplicates dropped; rejected by filters: {8 * COPIES} copies "
            f"({tmp_path}/filtered.csv)"
        )
        assert [r["partner"] for r in rows] == list(pool.ids[:8]) * COPIES
        assert {r["reason"] for r in rows} == {"copy"} and {r["limit"] for r in rows} == {"0.0001"}
        assert all(float(r["value"]) < 1e-5 for r in rows)
        assert {r["label_difference"] for r in rows} == {""}
        for name in ("structures.h5", "features.h5"):
            assert read_copies(tmp_path / name) is None
            with h5py.File(tmp_path / name) as handle:
                assert "copy_of" not in handle, "the same bytes as without the filter"

    def test_too_few_without_copies_is_said_before_any_job(self, tmp_path):
        (tmp_path / "stand_in.py").write_text("def morse(atoms): pass\n")
        ase.io.write(tmp_path / "pool.extxyz", [Atoms("OHH", positions) for positions in waters()])
        conf = settings_of("leave_out", test={"size": 20})
        with pytest.raises(QuarryError, match=r"= 28 is more than the pool's 24 structures \(24 copies rejected\)"):
            preflight.check(conf, tmp_path)

    def test_kept_ones_know_their_first(self, kept):
        expected = [*range(FIRSTS), *list(range(8)) * COPIES]
        for name in ("structures.h5", "features.h5"):
            assert read_copies(kept / name).tolist() == expected

    @settings(max_examples=20, deadline=None)
    @given(cuts=st.lists(st.integers(0, SIZE), max_size=6), seed=st.integers(0, 1000))
    def test_the_order_alone_counts(self, cuts, seed):
        """However the candidates are cut into calls, and with a structure that the pool begins with."""
        positions = waters()
        order = np.random.default_rng(seed).permutation(SIZE)
        structures = [Structure.create([8, 1, 1], positions[n]) for n in order]
        both = []
        for bounds in ([], sorted(cuts)):
            pool_filter = PoolFilter(Filters(), None)
            pool_filter.begin_with(Structure.create([8, 1, 1], positions[0] + 2.0))
            candidates = [Candidate("file", number, s) for number, s in enumerate(structures)]
            for a, b in zip([0, *bounds], [*bounds, SIZE], strict=True):
                pool_filter.add(candidates[a:b])
            both.append(pool_filter)
        one, other = both
        assert one.rejected == other.rejected and list(one.kept.ids) == list(other.kept.ids)
        assert len(one) == FIRSTS and one.kept.ids[0] != structures[0].structure_id

    def test_rows_of_a_table_are_not_compared(self):
        rows = [Structure.of_features(np.array([1.0, x])) for x in (0.0, 1e-6)]
        for copies in ("leave_out", "keep"):
            pool_filter = PoolFilter(Filters(copies=copies), None)
            pool_filter.add(Candidate("table", number, row) for number, row in enumerate(rows))
            assert len(pool_filter) == 2 and pool_filter.group_kept() is None


def sides(groups: np.ndarray, *rows: list[int]) -> bool:
    """Whether no group is on two sides."""
    found = [set(groups[side].tolist()) for side in rows]
    return all(not a & b for n, a in enumerate(found) for b in found[n + 1 :])


class TestSplits:
    @settings(max_examples=200, deadline=None)
    @given(
        groups=st.lists(st.integers(0, 5), min_size=2, max_size=25).map(np.array),
        share=st.floats(0.02, 0.9),
        folds=st.integers(2, 6),
        seed=st.integers(0, 1000),
    )
    def test_copies_stay_on_one_side(self, groups, share, folds, seed):
        n = len(groups)
        order = np.random.default_rng(seed).permutation(n)
        count, folds = min(max(1, round(share * n)), n - 1), min(folds, n)
        if len(np.unique(groups)) == 1:
            for broken in (lambda: held_share(order, count, groups), lambda: folds_of(order, folds, groups)):
                with pytest.raises(QuarryError, match="copies of one structure"):
                    broken()
            return
        held = held_share(order, count, groups)
        rest = np.setdiff1d(order, held)
        assert 1 <= len(held) < n and len(set(held.tolist())) == len(held)
        assert sides(groups, held, rest)
        parts = folds_of(order, folds, groups)
        assert sorted(np.concatenate(parts).tolist()) == list(range(n))
        assert len(parts) == min(folds, len(np.unique(groups))) and all(len(part) for part in parts)
        assert sides(groups, *parts)

    def test_the_share_is_reached(self):
        """Whole groups until there are as many as wanted, and no more groups than that takes."""
        order, groups = np.arange(10), np.array([0, 0, 1, 1, 2, 3, 4, 5, 6, 7])
        assert held_share(order, 3, groups).tolist() == [0, 1, 2, 3]
        assert held_share(order, 2, groups).tolist() == [0, 1]

    @given(n=st.integers(2, 40), folds=st.integers(2, 6), seed=st.integers(0, 1000))
    def test_without_copies_nothing_changes(self, n, folds, seed):
        """Campaigns that have none go on with the splits that they had."""
        order = np.random.default_rng(seed).permutation(n)
        for groups in (None, np.arange(n) * 3):
            assert held_share(order, n // 2, groups).tolist() == order[: n // 2].tolist()
            expected = np.array_split(order, min(folds, n))
            for part, wanted in zip(folds_of(order, min(folds, n), groups), expected, strict=True):
                assert part.tolist() == wanted.tolist()
            assert last_share(n // 2, groups, n).tolist() == list(range(n // 2, n))

    def test_sequence(self):
        groups = np.array([0, 1, 2, 3, 1, 4])
        assert last_share(3, groups, 6).tolist() == [3, 5]
        with pytest.raises(QuarryError, match=r"the last 2 training labels are of copies .*validation.order: random"):
            last_share(2, np.array([0, 1, 1, 0]), 4)
        conf = settings_of("keep", validation={"order": "sequence", "fraction": 0.5})
        learnt, held = split(6, conf, np.random.default_rng(0), groups)
        assert (learnt.tolist(), held.tolist()) == ([0, 1, 2, 4], [3, 5])


class TestCampaign:
    def test_test_set_and_initial_batch(self, kept):
        groups, pool = read_copies(kept / "structures.h5"), read_pool(kept / "structures.h5")
        mixed = 0
        for seed in range(30):
            rows = draw_initial(settings_of("keep", seed=seed), str(kept / "structures.h5"))
            roles = {
                role: [int(pool.index_of([r.structure_id])[0]) for r in rows if r.role == role]
                for role in ("test", "train")
            }
            assert (len(roles["test"]), len(roles["train"])) == (6, 8)
            assert sides(groups, roles["test"], roles["train"])
            mixed += len(set(groups[roles["test"]].tolist())) < 6
        assert mixed, "the seeds do not try what is tested"

    def test_too_few_without_copies_of_the_test_set(self, kept):
        conf = settings_of("keep", test={"size": 40})
        with pytest.raises(QuarryError, match="48 structures without copies of the test set"):
            draw_initial(conf, str(kept / "structures.h5"))

    def test_copies_of_the_test_set_are_no_candidates(self, kept, tmp_path):
        pool, features = read_pool(kept / "structures.h5"), str(kept / "features.h5")
        dataset = write_dataset(tmp_path / "d.h5", pool, {FIRSTS: "test", 9: "test", 1: "train", 2: "train"})
        failures = write_failures(tmp_path / "f.csv", [str(pool.ids[3]), str(pool.ids[4])])
        rows = read_failures(failures)
        rows[0]["role"], rows[1]["role"] = "test", "train"
        write_failure_rows(failures, rows)
        left = set(candidate_rows(features, dataset, failures).tolist())
        copies = lambda first: {first, *(FIRSTS + first + 8 * n for n in range(COPIES))}  # noqa: E731
        assert left == set(range(SIZE)) - copies(0) - {9} - {1, 2, 4} - copies(3)

    def test_without_a_test_set_all_copies_are_candidates(self, kept, tmp_path):
        pool, features = read_pool(kept / "structures.h5"), str(kept / "features.h5")
        dataset = write_dataset(tmp_path / "d.h5", pool, {1: "train"})
        failures = write_failures(tmp_path / "f.csv", [])
        assert candidate_rows(features, dataset, failures).tolist() == [0, *range(2, SIZE)]

    @pytest.mark.parametrize("metric", ["validation", "cross_validation"])
    def test_held_back_labels(self, kept, tmp_path, metric, monkeypatch):
        """No model that predicts a label has learnt a copy of it."""
        pool, features = read_pool(kept / "structures.h5"), str(kept / "features.h5")
        conf = settings_of("keep", stop={"metric": metric, "rrmse": None, "max_iterations": 2}, test={"size": 0})
        labelled = LabelledSet.read(write_dataset(tmp_path / "d.h5", pool, dict.fromkeys(range(SIZE), "train")))
        data = training_data(labelled, "train", features, conf)
        groups = read_copies(features)
        assert data.groups.tolist() == groups.tolist()
        assert data.subset([30, 2]).groups.tolist() == groups[[30, 2]].tolist()
        seen = []

        class Recorder:
            def fit(self, learnt, validation, rng, **more):
                self.learnt = learnt.structures.ids.tolist()

            def predict(self, structures, want):
                seen.append((pool.index_of(self.learnt), pool.index_of(structures.ids)))
                return Prediction({"energy": np.zeros(len(structures))})

        monkeypatch.setattr(arm_models, "make_model", lambda *_: Recorder())
        held, _ = evaluation._held_back(models_in(conf, features), data, Recorder(), metric)
        assert len(seen) == (1 if metric == "validation" else conf.validation.folds)
        assert all(
            len(learnt) + len(predicted) == SIZE and sides(groups, learnt, predicted) for learnt, predicted in seen
        )
        assert sorted(pool.index_of(held.structures.ids)) == sorted(np.concatenate([p for _, p in seen]))

    def test_held_out_share_of_a_network(self, kept, tmp_path, monkeypatch):
        from quarry.models import mlp

        pool, features = read_pool(kept / "structures.h5"), str(kept / "features.h5")
        query = {"strategy": "random", "initial": 8, "batch": {"schedule": "constant", "size": 5}}
        conf = settings_of("keep", model={"kind": "mlp", "held_out": 0.3, "epochs": 1}, query=query)
        labelled = LabelledSet.read(write_dataset(tmp_path / "d.h5", pool, dict.fromkeys(range(SIZE), "train")))
        data = training_data(labelled, "train", features, conf)
        seen = []
        numbers = mlp.MultilayerPerceptron._numbers
        monkeypatch.setattr(
            mlp.MultilayerPerceptron, "_numbers", lambda self, part: (seen.append(part.groups), numbers(self, part))[1]
        )
        models_in(conf, features).make().fit(data, None, np.random.default_rng(0))
        learnt, held = (set(part.tolist()) for part in seen[:2])
        assert learnt and held and not learnt & held


class TestLabels:
    def replay(self, folder: Path, copies: str, energies: np.ndarray):
        positions = waters()
        np.savez(folder / "labels.npz", Z=np.array([8, 1, 1]), R=np.array(positions), E=energies)
        return settings_of(
            copies,
            pool={"source": "file", "files": ["labels.npz"]},
            labeling={"engine": "replay", "file": "labels.npz", "columns": {"energy": "E"}},
        )

    @pytest.mark.parametrize(
        ("copies", "used"), [("leave_out", "the first one's label is used"), ("keep", "both labels")]
    )
    def test_other_labels_are_told(self, tmp_path, copies, used):
        energies = np.concatenate([np.arange(FIRSTS), np.tile(np.arange(8), COPIES)]).astype(float)
        energies[FIRSTS + 1] += 0.21
        energies[FIRSTS + 9] -= 0.1
        energies[FIRSTS + 2] += 5e-4
        line, rows = build(tmp_path, self.replay(tmp_path, copies, energies))
        assert line.splitlines()[1:] == [
            f"pool: 2 copies have other labels than the structure repeated, by up to 0.21 (energy); {used}"
            f"{' are used' if copies == 'keep' else ''} ({tmp_path}/filtered.csv)"
        ]
        found = np.array([float(row["label_difference"]) for row in rows])
        assert found[[1, 9, 2, 0]] == pytest.approx([0.21, 0.1, 5e-4, 0.0])

    def test_equal_labels_are_not(self, tmp_path):
        energies = np.concatenate([np.arange(FIRSTS), np.tile(np.arange(8), COPIES)]).astype(float)
        line, rows = build(tmp_path, self.replay(tmp_path, "leave_out", energies))
        assert "\n" not in line and {row["label_difference"] for row in rows} == {"0"}

    def test_difference(self):
        """Vectors turn with the structure; states and absent orbitals do not."""
        one = {"energy": 1.0, "dipole": [1.0, 0, 0], "forces": [[0, 0, 2.0], [0, 0, 0]], "homo": None}
        other = {"energy": 1.1, "dipole": [0, 0.6, 0.8], "forces": [[0, 0, 0], [2.0, 0, 0]], "homo": None, "gap": 3.0}
        assert label_difference(one, other) == ("energy", pytest.approx(0.1))
        states = {"excitation_energies": [1.0, 2.0]}
        assert label_difference(states, {"excitation_energies": [1.0, 2.5]}) == ("excitation_energies", 0.5)
        assert label_difference(states, {"excitation_energies": [1.0]})[1] == np.inf
        assert label_difference(one, {"homo": -3.0})[1] == np.inf
