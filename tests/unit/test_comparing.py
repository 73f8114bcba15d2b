"""The comparison of arms from their files: test structures, columns of the history, words of the end."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from quarry.campaign.campaign import Campaign
from quarry.campaign.closing import closing_message
from quarry.campaign.invocation import Invocation
from quarry.config.loading import load_configuration
from quarry.config.targets import TARGETS
from quarry.errors import QuarryError
from quarry.evaluation.comparison import Comparison
from quarry.models.metrics import mae, maxe, rmse
from quarry.reporting.comparison_plots import plot_savings
from quarry.stages.batch import draw_initial
from quarry.stages.comparing import compare_arms, influences_of_structures
from quarry.stages.results import HISTORY_COLUMNS, write_history
from quarry.stopping.facts import Cost
from support import stages
from support.campaigns import stand_in_configuration
from support.stages import make_facts

N_TEST = 30


def configuration(**changes):
    return stages.configuration(**{"model": {"noise": 1.0e-3}, **changes})


def write_arm(root, arm, level, seed, iterations=4):
    """Facts and predictions of an arm whose errors fall as level * n^-1/2, structures in an order of its own."""
    rng = np.random.default_rng(seed)
    files = {"facts": [], "predictions": []}
    for t in range(iterations):
        n = 10 * (t + 1)
        order = np.random.default_rng(seed).permutation(N_TEST)
        label = np.linspace(0, 1, N_TEST)[order]
        errors = level * n**-0.5 * np.abs(rng.normal(1, 0.2, N_TEST)) * (1 + label)
        folder = root / arm / f"iter_{t:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        found = {"rmse": rmse(errors), "mae": mae(errors), "maxe": maxe(errors)}
        make_facts(t, arm=arm, n_train=n, errors={"test": found}).write(folder / "facts.json")
        Cost(0, 0, 0, 0.0, 0.0, 0.0, 0.0).write(folder / "cost.json")
        with h5py.File(folder / "predictions.h5", "w") as handle:
            handle["test/ids"] = np.array([f"s{i:02d}" for i in order], dtype="S8")
            handle["test/label"], handle["test/mean"] = label, label + errors
        files["facts"].append(str(folder / "facts.json"))
        files["predictions"].append(str(folder / "predictions.h5"))
    return files


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """Main better than three random arms, in the files of a campaign."""
    monkeypatch.chdir(tmp_path)
    settings = configuration(control={"seeds": [0, 1, 2]}, stop={"rrmse": None, "max_iterations": 3})
    campaign = Campaign(settings, tmp_path, Invocation.DRY_RUN)
    root = tmp_path / campaign.paths.root
    arms = [write_arm(root, "main", 0.6, 0), *(write_arm(root, f"random_{k}", 1.0, k + 1) for k in range(3))]
    files = {kind: [path for arm in arms for path in arm[kind]] for kind in ("facts", "predictions")}
    output = str(root / "main/savings.json")
    return campaign, compare_arms(settings, files["facts"], files["predictions"], output), output


class TestCompared:
    def test_three_measures(self, compared):
        _, found, _ = compared
        assert [m.quality for m in found.measures] == ["test RMSE", "test MAE", "largest test error"]
        # The arm needs 0.36 of the labels of random selection, or the 10 of the initial batch.
        for measure in found.measures[:2]:
            last = measure.savings[-1]
            assert measure.savings[0] is None and last.saved == pytest.approx(40 * 0.64, abs=4)
            assert last.verdict == "saved" and last.low < last.saved < last.high <= 30

    def test_columns_of_the_history(self, compared, tmp_path):
        _, found, output = compared
        columns = json.loads(Path(output).read_bytes())["columns"]
        facts = [make_facts(t) for t in range(4)]
        write_history(str(tmp_path / "h.csv"), facts, [Cost(0, 0, 0, 0.0, 0.0, 0.0, 0.0)] * 4, "", columns)
        with open(tmp_path / "h.csv", newline="") as handle:
            rows = list(csv.DictReader(handle))
        for suffix, measure in (("", 0), ("_mae", 1), ("_maxe", 2)):
            last = found.measures[measure].savings[-1]
            assert rows[-1][f"verdict{suffix}"] == last.verdict and rows[0][f"verdict{suffix}"] == ""
            for key, value in (("", last.saved), ("_low", last.low), ("_high", last.high)):
                assert float(rows[-1][f"labels_saved{key}{suffix}"]) == pytest.approx(value)
        assert not [c for c in HISTORY_COLUMNS if c.startswith("labels_saved") and ("share" in c or "std" in c)]

    def test_without_any_error(self, tmp_path):
        """test.size: 0 with stop.metric: test."""
        facts = [make_facts(t, errors={}) for t in range(2)]
        found = Comparison.of([facts], [facts])
        assert found.columns() == found.words == found.to_json()["measures"] == []
        plot_savings(found, TARGETS["energy"], str(tmp_path / "none.svg"))

    def test_file_and_back(self, compared):
        _, found, output = compared
        again = Comparison.from_json(json.loads(Path(output).read_bytes()))
        assert again == found and again.words == found.words

    def test_words_of_the_end(self, compared):
        campaign, found, _ = compared
        text = closing_message(campaign)
        assert all(f"Quarry: {line}" in text for line in found.words)
        write_arm(campaign.base / campaign.paths.root, "main", 0.6, 0, iterations=5)
        assert "labels saved" not in closing_message(campaign), "the comparison is of an earlier run"

    def test_the_figure(self, compared, tmp_path):
        _, found, _ = compared
        plot_savings(found, TARGETS["energy"], str(tmp_path / "one.svg"))
        text = (tmp_path / "one.svg").read_text()
        assert text.count("<path") > 20

    def test_the_test_set_never_makes_the_interval_shorter(self, compared):
        _, found, _ = compared
        without = Comparison.of(*_facts(compared))
        wider = [
            (a.high - a.low) - (b.high - b.low)
            for a, b in zip(found.measures[0].savings[1:], without.measures[0].savings[1:], strict=True)
        ]
        assert all(w > -1e-9 for w in wider)


def _facts(compared):
    from quarry.stopping.facts import Facts

    campaign = compared[0]
    read = [[Facts.read(campaign.paths.facts(arm, t)) for t in range(4)] for arm in campaign.arms]
    return read[:1], read[1:]


class TestInfluences:
    def test_they_are_derivatives_of_the_logarithm_in_one_order_of_structures(self, compared):
        """Against the error with one structure's weight made larger."""
        campaign = compared[0]
        files = {arm: [campaign.paths.iteration("predictions.h5", arm, t) for t in range(4)] for arm in campaign.arms}
        found = influences_of_structures(files, ["main"], campaign.configuration.controls, classes=False)
        with h5py.File(files["random_1"][2]) as handle:
            ids = handle["test/ids"][()]
            errors = np.abs(handle["test/mean"][()] - handle["test/label"][()])
        weights, step = np.ones(N_TEST), 1e-6
        for name, power in (("rmse", 2), ("mae", 1)):
            assert found[name][0][0].shape == (N_TEST, 4)
            for place in (0, 7):
                row = int(np.flatnonzero(ids == b"s%02d" % place)[0])
                more = weights.copy()
                more[row] += step
                size = [np.log(np.average(errors**power, weights=w) ** (1 / power)) for w in (weights, more)]
                wanted = (size[1] - size[0]) / step * N_TEST + 1 / power
                assert found[name][1][1][place, 2] == pytest.approx(wanted, rel=1e-4)

    def test_classes_and_several_quantities(self, tmp_path):
        files = {arm: [str(tmp_path / f"{arm}.h5")] for arm in ("main", "random_0")}
        for (path,) in files.values():
            with h5py.File(path, "w") as handle:
                handle["test/ids"] = np.array([b"a", b"b", b"c", b"d"])
                handle["test/label"], handle["test/mean"] = np.array([0, 1, 1, 2]), np.array([0, 1, 2, 1])
        found = influences_of_structures(files, ["main"], ["random_0"], classes=True)
        assert found["accuracy"][0][0][:, 0].tolist() == [0, 0, 2, 2]

    def test_without_a_test_set(self, tmp_path):
        with h5py.File(tmp_path / "p.h5", "w") as handle:
            handle["validation/ids"] = np.array([b"a"])
        files = {arm: [str(tmp_path / "p.h5")] for arm in ("main", "random_0")}
        assert influences_of_structures(files, ["main"], ["random_0"], classes=False) == {}


class TestSplits:
    def test_a_split_has_a_draw_of_its_own(self, structures):
        settings = configuration(control={"seeds": [0], "splits": [5, 9]})
        drawn = {arm: draw_initial(settings, structures, arm) for arm in settings.arm_names}
        assert drawn["main"] == drawn["random_0"] == draw_initial(configuration(), structures)
        assert drawn["main_split_5"] == drawn["random_split_5"] == draw_initial(configuration(seed=5), structures)
        assert len({tuple(rows) for rows in drawn.values()}) == 3

    def test_arms(self):
        settings = configuration(control={"seeds": [0], "splits": [5]})
        main, random = settings.arm("main_split_5"), settings.arm("random_split_5")
        assert main.query == settings.query and random.query.strategy == "random"
        assert main.draw == random.draw == main.seed == 5 and settings.arm("random_0").draw == settings.seed
        assert settings.splits == [("main_split_5", "random_split_5")]

    def test_they_end_with_arm_main(self, tmp_path):
        settings = configuration(control={"seeds": [0], "splits": [5]}, stop={"rrmse": None, "max_iterations": 1})
        campaign = Campaign(settings, tmp_path, Invocation.DRY_RUN)
        assert campaign.leader("main_split_5") == campaign.leader("random_split_5") == "main"

    def test_manifests_of_earlier_versions_know_no_draw(self):
        arms = configuration(control={"seeds": [0], "repeats": [8], "splits": [5]}).identity()["arms"]
        assert "draw" not in arms["random_0"] and "draw" not in arms["main_8"] and arms["main_split_5"]["draw"] == 5

    @pytest.mark.parametrize(
        ("control", "words"),
        [
            ({"splits": [5, 5]}, "control.splits: give different"),
            ({"splits": [3]}, "control.splits: 3 is the campaign's own seed"),
        ],
    )
    def test_mistakes(self, control, words):
        with pytest.raises(QuarryError, match=words):
            load_configuration(stand_in_configuration(control=control), "campaign.yaml")
