"""Forecasts: what is to come, which structures are measured, when it ends."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.campaign.batch_table import BatchRow, write_batch
from quarry.campaign.file_count import files_at_end
from quarry.campaign.paths import CampaignPaths
from quarry.errors import QuarryError
from quarry.labeling.cost_model import CostModel, LabelCost
from quarry.labeling.record import write_records
from quarry.labeling.store import LabelStore
from quarry.stages.batch import draw_initial
from quarry.stages.forecast import Forecast, Seen, _end_s, encode, make_forecast, makespan, schedule
from quarry.stages.forecast_text import duration, forecast_text
from quarry.stages.probes import choose_probes
from quarry.stopping.facts import Cost
from quarry.structures import Structure, StructureSet
from quarry.structures.files import read_pool, write_pool
from support.stages import METHOD_ID, SIZE, configuration, label_record, make_facts, planner

RNG = np.random.default_rng(0)


def query(schedule: str, **batch) -> dict:
    return {"strategy": "random", "initial": 8, "batch": {"schedule": schedule, **batch}}


class TestSchedule:
    """The initial batch is 8 and the test set 6."""

    @pytest.mark.parametrize(
        ("batch", "stop", "expected", "ends_by"),
        [
            (query("constant", size=5), {"max_labels": 30}, [14, 5, 5, 5, 1], "stop.max_labels = 30"),
            (query("constant", size=5), {"max_iterations": 2}, [14, 5, 5], "stop.max_iterations = 2"),
            (query("constant", size=9), {"max_core_hours": 1.0}, [14, 9, 9, 8], "the pool's end"),
            (
                query("doubling", size=2),
                {"max_labels": 36, "max_iterations": 9},
                [14, 2, 4, 8, 8],
                "stop.max_labels = 36",
            ),
            (query("fraction", fraction=0.5), {"max_iterations": 3}, [14, 4, 6, 9], "stop.max_iterations = 3"),
            (query("constant", size=5), {"max_labels": 14}, [14], "stop.max_labels = 14"),
            (query("constant", size=5), {"max_labels": 15, "max_iterations": 1}, [14, 1], "stop.max_labels = 15"),
        ],
    )
    def test_a_fresh_campaign(self, batch, stop, expected, ends_by):
        conf = configuration(query=batch, stop={"rrmse": None, **stop})
        assert schedule(conf, "main", SIZE, None) == (expected, ends_by)

    @pytest.mark.parametrize(
        "batch", [query("constant", size=5), query("doubling", size=2), query("fraction", fraction=0.4)]
    )
    @pytest.mark.parametrize("stop", [{"max_labels": 33}, {"max_iterations": 4}])
    def test_the_rest_of_a_campaign_is_the_tail_of_the_whole(self, batch, stop):
        conf = configuration(query=batch, stop={"rrmse": None, **stop})
        whole, ends_by = schedule(conf, "main", SIZE, None)
        for t in range(len(whole)):
            used = sum(whole[: t + 1])
            facts = make_facts(t, n_train=used - 6, n_labels=used, pool_left=SIZE - used)
            assert schedule(conf, "main", SIZE, facts) == (whole[t + 1 :], ends_by)

    def test_an_arm_has_its_own_batches(self):
        conf = configuration(
            arms={"a": {"query": {"batch": {"schedule": "constant", "size": 2}}}}, stop={"max_labels": 20}
        )
        assert schedule(conf, "a", SIZE, None)[0] == [14, 2, 2, 2]


class TestMakespan:
    @settings(deadline=None)
    @given(st.lists(st.floats(0.1, 10), max_size=7), st.integers(1, 3))
    def test_against_the_best_and_the_bounds(self, jobs, slots):
        found = makespan(jobs, slots)
        assert found >= max([sum(jobs) / slots, *jobs]) - 1e-9
        if jobs:
            best = min(
                max(sum(t for t, s in zip(jobs, places, strict=True) if s == n) for n in range(slots))
                for places in itertools.product(range(slots), repeat=len(jobs))
            )
            assert best - 1e-9 <= found <= 4 / 3 * best + 1e-9

    def test_equal_jobs(self):
        assert makespan([1.0] * 20, 16) == 2.0
        assert makespan([2.0] * 3, 100) == 2.0
        assert makespan([1.0] * 1000, 1) == pytest.approx(1000)

    def test_iterations_wait_for_each_other_and_arms_do_not(self):
        """Two arms of two iterations with four labels of 7 s, and 3 s for the start of each."""
        groups = [[[[n] for n in range(4)]] * 2] * 2
        walls = [[np.full((40, 4), 7.0)] * 2] * 2
        assert _end_s(1, 1, groups, walls)[0] == pytest.approx(2 * 2 * 4 * 10)
        assert _end_s(8, 1, groups, walls)[0] == pytest.approx(20)
        assert _end_s(8, 4, groups, walls)[0] == pytest.approx(2 * 2 * 2 * 10)
        together = [[[[0, 1, 2, 3]]] * 2] * 2
        assert _end_s(8, 1, together, walls)[0] == pytest.approx(2 * (4 * 7 + 3))


@pytest.fixture
def mixed(tmp_path) -> str:
    """Chains of 2 to 21 hydrogen atoms, two of each."""
    chains = [Structure.create([1] * n, RNG.uniform(0, 9, (n, 3)), multiplicity=1 + n % 2) for n in [*range(2, 22)] * 2]
    write_pool(tmp_path / "structures.h5", StructureSet.from_structures(chains))
    return str(tmp_path / "structures.h5")


class TestProbes:
    @pytest.fixture
    def store(self, tmp_path) -> LabelStore:
        return LabelStore(tmp_path / "label_store", METHOD_ID, {})

    def atoms(self, structures) -> dict[str, int]:
        from quarry.structures.files import read_pool

        return {s.structure_id: len(s) for s in read_pool(structures)}

    def test_they_are_of_the_first_batch_and_spread_over_sizes(self, mixed, store):
        rows, atoms = draw_initial(configuration(), mixed), self.atoms(mixed)
        probes = choose_probes(configuration(), mixed, store)
        sizes = [atoms[row.structure_id] for row in probes]
        all_sizes = sorted(atoms[row.structure_id] for row in rows)
        assert len(set(probes)) == 5 and set(probes) <= set(rows)
        assert sizes == sorted(sizes) and (sizes[0], sizes[-1]) == (all_sizes[0], all_sizes[-1])
        assert all_sizes[4] <= sizes[2] <= all_sizes[9]

    def test_what_is_stored_is_enough(self, mixed, store):
        rows = draw_initial(configuration(), mixed)
        for row in rows[3:8]:
            store.put(label_record(row.structure_id))
        assert set(choose_probes(configuration(), mixed, store)) == set(rows[3:8])

    def test_no_more_than_the_batch_has(self, mixed, store):
        conf = configuration(forecast={"probes": 100})
        assert sorted(r.structure_id for r in choose_probes(conf, mixed, store)) == sorted(
            r.structure_id for r in draw_initial(conf, mixed)
        )


class TestForecast:
    def forecast(
        self, folder: Path, monkeypatch, mixed: str, conf, known=9, cores=4, failed=0, is_given=lambda structure: False
    ) -> Forecast:
        """With labels of the first batch that cost 1e-2 atoms^3 s on two cores."""
        monkeypatch.chdir(folder)
        store = LabelStore("label_store", METHOD_ID, {})
        atoms = TestProbes().atoms(mixed)
        paths = CampaignPaths(conf.name)
        structures = Path(paths.structures)
        structures.parent.mkdir(parents=True, exist_ok=True)
        structures.write_bytes(Path(mixed).read_bytes())
        files = []
        for n, row in enumerate(draw_initial(conf, mixed)[: known + failed]):
            size = atoms[row.structure_id]
            cost = {"wall_s": 1e-2 * size**3, "threads": 2, "peak_memory_MB": 100.0, "size": {"atoms": size}}
            record = label_record(
                row.structure_id, cost=cost, status="ok" if n < known else "engine_error", message="bad"
            )
            store.put(record)
            path = folder / f"{row.structure_id}.json"
            write_records(path, [record])
            files.append(str(path))
        several = planner()
        several.resources = conf.resources.label
        return make_forecast(Seen(conf, several, paths, store, is_given=is_given), files, cores)

    def test_of_a_fresh_campaign(self, tmp_path, monkeypatch, mixed):
        conf = configuration(
            stop={"max_labels": 34, "max_core_hours": 0.5}, resources={"label": {"threads": 2, "walltime_min": 1}}
        )
        found = self.forecast(tmp_path, monkeypatch, mixed, conf)
        [arm] = found.arms
        assert arm.batches == [14, 5, 5, 5, 5] and arm.known == 9
        assert found.new == found.jobs == 25 and [len(s) for s in arm.sizes] == [5, 5, 5, 5, 5]
        expected = sum(1e-2 * size**3 for sizes in arm.sizes for size in sizes) * 2 / 3600
        assert found.label_core_hours[0] == pytest.approx(expected, rel=0.05)
        assert found.label_core_hours[0] < found.label_core_hours[1] < 1.1 * expected
        assert found.longest_s[0] == pytest.approx(1e-2 * 21**3, rel=0.05)
        assert found.end_s[1][0] == pytest.approx(expected * 3600 / 2 + 25 * 3.0, rel=0.05)
        ends = [found.end_s[n][0] for n in (1, 4, 16, 64, 256, 1024)]
        assert ends == sorted(ends, reverse=True) and ends[-1] == ends[-2]
        assert found.budget_labels[0] == pytest.approx(0.5 / (expected / 25), rel=0.06)
        assert found.budget_labels[1] <= found.budget_labels[0]
        end = files_at_end(conf, {"main": 5}, 34)
        assert found.files == (end, end + 4 * (5 + 5)), "jobs of two iterations have their files loose"
        text = forecast_text(found, conf, 4)
        for part in (
            "34 in 5 iterations (14, 5, 5, 5 ...) up to stop.max_labels = 34; 9 of them are in the store",
            "25 label jobs, 2 cores each",
            "raise walltime_min",
            "(this run)",
            "not included",
            "buys",
            f"{end} at the end, up to {end + 40} before",
        ):
            assert part in text
        assert max(map(len, text.splitlines())) < 180
        assert json.loads(encode(found))["label_jobs"] == 25

    def test_of_the_rest(self, tmp_path, monkeypatch, mixed):
        conf = configuration(stop={"rrmse": None, "max_labels": 34})
        paths = CampaignPaths(conf.name)
        for t, used in ((0, 14), (1, 19)):
            monkeypatch.chdir(tmp_path)
            make_facts(t, n_train=used - 6, n_labels=used, pool_left=SIZE - used).write(paths.facts("main", t))
            Cost(5, 0, 0, 0.25, 0.25, 0.125, 1.0).write(paths.cost("main", t))
        found = self.forecast(tmp_path, monkeypatch, mixed, conf)
        assert (found.arms[0].batches, found.arms[0].known, found.arms[0].stopped) == ([5, 5, 5], 0, None)
        assert found.files[0] == files_at_end(conf, {"main": 5}, 34), "what is finished counts"
        assert found.spent_core_hours == pytest.approx(0.75) and found.train_core_hours == pytest.approx(3 * 0.125)
        Cost(5, 0, 0, 0.25, 0.25, 0.125, 1.0, pool_core_hours=0.1).write(paths.cost("main", 1))
        assert self.forecast(tmp_path, monkeypatch, mixed, conf).train_core_hours == pytest.approx(3 * 0.025)
        done = configuration(stop={"rrmse": None, "max_labels": 19})
        found = self.forecast(tmp_path, monkeypatch, mixed, done)
        assert found.new == 0 and found.label_core_hours == (0.0, 0.0)
        text = forecast_text(found, done, 4)
        assert "none: it has stopped (the budget of max_labels = 19 is spent" in text

    def test_spent_core_hours_leave_no_label(self, tmp_path, monkeypatch, mixed):
        """Every budget of ``BUDGETS`` ends the schedule, that of core-hours too."""
        conf = configuration(stop={"rrmse": None, "max_core_hours": 0.25})
        monkeypatch.chdir(tmp_path)
        paths = CampaignPaths(conf.name)
        make_facts(0, n_train=8, n_labels=14, pool_left=SIZE - 14).write(paths.facts("main", 0))
        Cost(5, 0, 0, 0.25, 0.25, 0.125, 1.0).write(paths.cost("main", 0))
        found = self.forecast(tmp_path, monkeypatch, mixed, conf)
        assert (found.arms[0].batches, found.arms[0].ends_by) == ([], "stop.max_core_hours = 0.25")
        assert found.new == 0 and found.budget_labels == (0, 0)
        assert "none: it has stopped (the budget of max_core_hours = 0.25 is spent" in forecast_text(found, conf, 4)

    def test_given_labels_are_not_paid(self, tmp_path, monkeypatch, mixed):
        """Of the first batch those that the user has, of later ones as many as the rest of the pool holds."""
        conf = configuration(stop={"rrmse": None, "max_iterations": 99})
        first = [row.structure_id for row in draw_initial(conf, mixed)]
        others = [name for name in read_pool(mixed).ids.tolist() if name not in first]
        # The first nine are in the store, which is asked first.
        given = {first[0], first[10], first[12], *others[:11]}
        found = self.forecast(
            tmp_path, monkeypatch, mixed, conf, is_given=lambda structure: structure.structure_id in given
        )
        [arm] = found.arms
        assert sum(arm.batches) == SIZE and arm.known == 9
        assert arm.given == 2 + 11
        assert found.new == found.jobs == SIZE - 9 - arm.given
        assert len(arm.sizes[0]) == 14 - 9 - 2
        text = forecast_text(found, conf, 4)
        assert f"; {arm.given} of them are given (labeling.known)" in text and "as if structures were drawn" in text
        assert json.loads(encode(found))["labels_given"] == arm.given
        # None are given: no word of them.
        text = forecast_text(self.forecast(tmp_path, monkeypatch, mixed, conf), conf, 4)
        assert "given" not in text

    def test_a_batch_of_sampled_structures_that_is_chosen(self, tmp_path, monkeypatch, mixed):
        """They are in no pool: the batch's own file has them."""
        conf = configuration(stop={"rrmse": None, "max_labels": 19})
        paths = CampaignPaths(conf.name)
        monkeypatch.chdir(tmp_path)
        make_facts(0, n_train=8, n_labels=14, pool_left=None).write(paths.facts("main", 0))
        Cost(5, 0, 0, 0.25, 0.25, 0.125, 1.0).write(paths.cost("main", 0))
        new = [Structure.create([1, 1], np.array([[0.0, 0, 0], [0, 0, 0.7 + 0.01 * n]])) for n in range(5)]
        rows = [BatchRow(one.structure_id, "train", one.structure_id) for one in new]
        Path(paths.iteration("", "main", 1)).mkdir(parents=True)
        write_batch(paths.batch("main", 1), rows)
        write_pool(paths.iteration("batch.h5", "main", 1), StructureSet.from_structures(new))
        found = self.forecast(
            tmp_path, monkeypatch, mixed, conf, is_given=lambda structure: structure.structure_id == new[2].structure_id
        )
        assert (found.arms[0].batches, found.arms[0].sizes, found.arms[0].given) == ([5], [[2.0] * 4], 1)

    def test_arms_share_the_first_batch(self, tmp_path, monkeypatch, mixed):
        conf = configuration(
            arms={"random": {"query": {"strategy": "random"}}}, stop={"rrmse": None, "max_iterations": 1}
        )
        found = self.forecast(tmp_path, monkeypatch, mixed, conf)
        assert [[len(s) for s in arm.sizes] for arm in found.arms] == [[5, 5], [0, 5]]
        assert "labels random" in forecast_text(found, conf, 4)

    def test_too_few_labels_name_the_failures(self, tmp_path, monkeypatch, mixed):
        with pytest.raises(
            QuarryError, match=r"only 4 finished labels, 5 are needed .* \(engine_error: bad\).*iter_000 and"
        ):
            self.forecast(tmp_path, monkeypatch, mixed, configuration(), known=4, failed=2)


def test_durations():
    assert [duration(s) for s in (0.004, 0.25, 90, 600, 7200, 86400 * 3)] == [
        "0.004 s",
        "0.25 s",
        "90.0 s",
        "10.0 min",
        "2.0 h",
        "3.0 d",
    ]


def test_memory_and_time_of_larger_structures_are_not_below_those_measured():
    """A pool's largest structure may be larger than any probe."""
    found = [LabelCost(10.0, 1, 300.0, 10) for _ in range(6)]
    model = CostModel.fit([*found[:-1], replace(found[-1], wall_s=11.0)], 1)
    assert model.wall_s([20.0])[0] > model.wall_s([10.0])[0] and model.memory_MB([20.0])[0] > 300
