"""Which job labels what: grouping, order, walltime and memory, and what is known already."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.campaign.batch_table import BatchRow, jobs_of, read_batch
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.planned import PlannedJob
from quarry.campaign.recovery import _job_input_is_intact
from quarry.config.methods import PyscfMethod
from quarry.errors import QuarryError
from quarry.labeling.cost_model import CostModel, LabelCost
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.record import read_records, write_records
from quarry.labeling.store import LabelStore
from quarry.stages.batch import draw_initial, select_batch
from quarry.stages.planning import Planner, balanced_groups, read_costs, sizes_of
from quarry.structures import Structure, StructureSet
from quarry.structures.files import read_job_input, write_pool
from support.molecules import bent_water, method
from support.stages import METHOD_ID, batch_files, configuration, label_record, planner


def costs(seconds: float = 100.0, n: int = 12, atoms: int = 3, **changes) -> dict[str, LabelCost]:
    """Labels of one size with 10 % of scatter."""
    rng = np.random.default_rng(0)
    walls = seconds * np.exp(0.1 * rng.standard_normal(n))
    cost = LabelCost(1.0, 1, 200.0, atoms)
    return {f"s{i}": replace(cost, wall_s=float(wall), **changes) for i, wall in enumerate(walls)}


def chain(n: int, spacing: float = 1.0) -> Structure:
    return Structure.create([1] * n, np.arange(n)[:, None] * np.array([[spacing, 0, 0]]), multiplicity=1 + n % 2)


def rows_of(structures: list[Structure], **changes) -> list[BatchRow]:
    return [BatchRow(s.structure_id, "train", s.structure_id, **changes) for s in structures]


class TestGroups:
    @given(st.lists(st.floats(0.1, 100), max_size=30), st.integers(1, 6))
    def test_every_index_once_and_no_group_too_large(self, lengths, largest):
        count = -(-len(lengths) // largest)
        groups = balanced_groups(lengths, count, largest)
        assert sorted(itertools.chain(*groups)) == list(range(len(lengths)))
        assert len(groups) == count and all(len(group) <= largest for group in groups)

    @settings(deadline=None)
    @given(st.lists(st.floats(0.1, 10), min_size=1, max_size=8), st.integers(1, 4))
    def test_the_longest_is_within_grahams_bound_of_the_best(self, lengths, count):
        """LPT is never beyond 4/3 - 1/(3 m) of the optimum (Graham 1969), which brute force finds."""
        longest = max(sum(lengths[i] for i in group) for group in balanced_groups(lengths, count, len(lengths)))
        best = (
            min(
                max(sum(t for t, place in zip(lengths, places, strict=True) if place == n) for n in range(count))
                for places in itertools.product(range(count), repeat=len(lengths))
            )
            if count ** len(lengths) <= 5000
            else None
        )
        if best is not None:
            assert longest <= (4 / 3 - 1 / (3 * count)) * best + 1e-9


class TestJobs:
    def test_one_structure_per_job(self):
        structures = [chain(n) for n in (2, 4, 3)]
        plans = planner().plan(rows_of(structures), structures, {})
        assert [p.planned for p in plans] == [PlannedJob(s.structure_id, 1) for s in structures]
        assert [p.rows[0] for p in plans] == rows_of(structures)
        assert [e.predicted_s for p in plans for e in p.entries] == [None] * 3

    def test_several_per_job_are_balanced_and_the_longest_comes_first(self):
        structures = [chain(n) for n in range(2, 14)]
        plans = planner(structures_per_job=4, costs=costs()).plan(rows_of(structures), structures, {})
        assert [p.planned.structures for p in plans] == [4, 4, 4]
        assert [p.planned.job[:6] for p in plans] == ["j0000_", "j0001_", "j0002_"]
        lengths = [p.length for p in plans]
        assert lengths == sorted(lengths, reverse=True) and lengths[0] < 1.5 * lengths[-1]
        for plan in plans:
            assert [row.key for row in plan.rows] == [entry.key for entry in plan.entries]
            assert {row.job for row in plan.rows} == {plan.planned.job}

    def test_known_ones_are_a_job_of_their_own(self):
        structures = [chain(n) for n in range(2, 12)]
        rows = rows_of(structures)
        known = {rows[n].key: label_record(rows[n].structure_id) for n in (1, 4, 5)}
        plans = planner(structures_per_job=3).plan(rows, structures, known)
        assert sorted(len(p.rows) for p in plans[:-1]) == [2, 2, 3]
        assert {row.key for row in plans[-1].rows} == set(known) and plans[-1].planned.job.startswith("known_")

    def test_the_name_of_a_job_tells_what_is_in_it(self):
        structures = [chain(n) for n in range(2, 12)]
        rows = rows_of(structures)
        several = planner(structures_per_job=5)
        before = {p.planned.job: [r.key for r in p.rows] for p in several.plan(rows, structures, {})}
        known = {rows[0].key: label_record(rows[0].structure_id)}
        after = {p.planned.job: [r.key for r in p.rows] for p in several.plan(rows, structures, known)}
        assert all(before[job] == after[job] for job in before.keys() & after.keys())
        assert before != after

    def test_auto_makes_jobs_of_twenty_minutes(self):
        """At 100 s a label, 12 fill 1200 s: 60 labels are 5 jobs, give or take the fit's error."""
        structures = [Structure.create([1, 1, 1], np.diag([1.0, 2.0, n + 3.0]), 1) for n in range(60)]
        plans = planner(structures_per_job="auto", costs=costs()).plan(rows_of(structures), structures, {})
        assert len(plans) in (5, 6)
        assert all(900 < p.planned.predicted_s < 1300 for p in plans)

    @pytest.mark.parametrize("seconds", [None, 1300.0])
    def test_auto_takes_one_without_a_model_or_where_one_is_long_enough(self, seconds):
        structures = [chain(3, 1 + n / 10) for n in range(8)]
        found = costs(seconds) if seconds else {}
        plans = planner(structures_per_job="auto", costs=found).plan(rows_of(structures), structures, {})
        assert [p.planned.job for p in plans] == [s.structure_id for s in structures]

    def test_an_engine_that_wants_one_job_gets_one(self):
        several = planner()
        several.engine.one_job_per_batch = True
        structures = [chain(n) for n in range(2, 9)]
        [plan] = several.plan(rows_of(structures), structures, {})
        assert len(plan.rows) == 7

    def test_a_retry_has_a_job_of_its_own_with_no_less_than_configured(self):
        structures = [chain(n) for n in (2, 3, 4, 5)]
        rows = rows_of(structures)
        rows[2] = replace(rows[2], retry_of=rows[2].structure_id)
        plans = planner(iteration=1, structures_per_job=3, costs=costs(1.0)).plan(rows, structures, {})
        assert [len(p.rows) for p in plans] == [3, 1]
        [retry] = plans[1:]
        assert retry.planned.job == rows[2].structure_id + "_r1" == retry.entries[0].key
        assert (retry.planned.walltime_min, retry.planned.memory_MB) == (60, 2000)
        assert retry.entries[0].predicted_s is None
        assert plans[0].planned.walltime_min < 60


class TestConfiguration:
    @pytest.mark.parametrize("value", [0, -1, 2.5, "many"])
    def test_structures_per_job(self, value):
        with pytest.raises(QuarryError, match=r"labeling\.structures_per_job: .* is not one of 'auto'") as caught:
            planner(structures_per_job=value)
        assert "constrained" not in str(caught.value) and "\n" not in str(caught.value)


class TestResources:
    def test_right_sized_after_iteration_0_only(self):
        structures = [chain(3)]
        for iteration, right_size in ((0, True), (1, False)):
            [plan] = planner(iteration, costs(), right_size=right_size).plan(rows_of(structures), structures, {})
            assert plan.planned.predicted_s == pytest.approx(100, rel=0.1)
            assert plan.planned.walltime_min is plan.planned.memory_MB is None
        [plan] = planner(1, costs()).plan(rows_of(structures), structures, {})
        # 2 x about 120 s (95 %) and 120 s for the start; 2 x about 210 MB and 300 MB for the job.
        assert plan.planned.walltime_min in (6, 7)
        assert 690 <= plan.planned.memory_MB <= 760

    def test_the_fit_wins_over_the_configuration(self):
        [plan] = planner(1, costs(36000.0, memory_MB=9000.0)).plan(rows_of([chain(3)]), [chain(3)], {})
        assert plan.planned.walltime_min > 2 * 600 and plan.planned.memory_MB > 18000

    def test_there_is_a_floor(self):
        [plan] = planner(1, costs(0.1, memory_MB=20.0)).plan(rows_of([chain(3)]), [chain(3)], {})
        assert (plan.planned.walltime_min, plan.planned.memory_MB) == (5, 600)

    def test_the_factor_multiplies(self):
        found = [
            planner(1, costs(3600.0, memory_MB=4000.0), safety_factor=f).plan(rows_of([chain(3)]), [chain(3)], {})[0]
            for f in (1.0, 3.0)
        ]
        first, third = (p.planned for p in found)
        assert (third.walltime_min - 2) / (first.walltime_min - 2) == pytest.approx(3, rel=0.02)
        assert (third.memory_MB - 300) / (first.memory_MB - 300) == pytest.approx(3, rel=0.02)

    def test_the_cores_that_labels_really_had(self):
        """With set-threads in a profile, or fewer cores than threads, the configuration's number is not what runs."""
        found = costs(100.0, cores=4) | {"x": LabelCost(1.0, 1, 200.0, 3)}
        [plan] = planner(1, found).plan(rows_of([chain(3)]), [chain(3)], {})
        assert plan.planned.predicted_s == pytest.approx(100, rel=0.1)
        assert planner().cores == 1

    def test_records_of_the_batch_itself_count(self):
        """Probes and other campaigns' labels tell the cost in iteration 0."""
        structures = [chain(n) for n in range(2, 10)]
        rows = rows_of(structures)
        known = {
            row.key: label_record(
                row.structure_id, cost={"wall_s": 0.01 * len(s) ** 3, "threads": 1, "peak_memory_MB": 100.0}
            )
            for row, s in zip(rows[:6], structures, strict=False)
        }
        plans = planner().plan(rows, structures, known)
        assert plans[-1].planned.predicted_s == pytest.approx(7.29, rel=0.1)


class TestSizes:
    def test_the_engine_is_asked_once_for_each_composition(self):
        calls = []

        class Engine:
            def size(self, structure):
                calls.append(structure)
                return {"atoms": len(structure), "basis_functions": 7 * len(structure)}

        structures = [chain(2), chain(2, 1.5), chain(3), chain(2, 2.0)]
        assert sizes_of(structures, Engine(), "basis_functions") == [14, 14, 21, 14]
        assert len(calls) == 2
        assert sizes_of(structures, Engine(), "atoms") == [2, 2, 3, 2] and len(calls) == 2

    def test_pyscf(self):
        """6-31G* of water: 18 functions (19 Cartesian ones minus none, with spherical d 18)."""
        from quarry.labeling.engines.pyscf_engine import PyscfEngine

        engine = PyscfEngine(method(basis="6-31g*"))
        assert isinstance(engine.method, PyscfMethod)
        assert sizes_of([bent_water()], engine, "basis_functions") == [18]


class TestCosts:
    def test_those_of_earlier_iterations_of_the_arm(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        paths = CampaignPaths("toy")
        structures = [chain(n) for n in range(2, 8)]
        Path(paths.pool).mkdir(parents=True)
        write_pool(paths.structures, StructureSet.from_structures(structures))

        def write(t: int, n: int, **changes) -> None:
            structure_id = structures[n].structure_id
            path = Path(paths.label(structure_id, "main", t))
            path.parent.mkdir(parents=True, exist_ok=True)
            cost = {"wall_s": 1.0 + t, "threads": 2, "tasks": 3, "peak_memory_MB": 5.0, **changes.pop("cost", {})}
            write_records(path, [label_record(structure_id, cost=cost, **changes)])

        write(0, 0)
        write(0, 1, cost={"size": {"atoms": 3, "basis_functions": 30}})
        write(0, 2, status="out_of_time")
        write(1, 0)
        write(2, 3)
        Path(paths.label("damaged", "main", 0)).write_text("[{")
        found = read_costs(paths, "main", 2)
        assert found == {
            structures[0].structure_id: LabelCost(2.0, 6, 5.0, 2),
            structures[1].structure_id: LabelCost(1.0, 6, 5.0, 3, 30),
        }

    def test_not_too_many(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("quarry.stages.planning.MOST_RECORDS", 10)
        folder = Path(CampaignPaths("toy").iteration("labels", "main", 0))
        folder.mkdir(parents=True)
        cost = {"wall_s": 1.0, "threads": 1, "size": {"atoms": 2}}
        for n in range(35):
            (folder / f"{n:02d}.json").write_text(json.dumps([{"structure_id": str(n), "status": "ok", "cost": cost}]))
        found = sorted(map(int, read_costs(CampaignPaths("toy"), "main", 1)))
        assert found == list(range(0, 35, 4))


class TestSelectBatch:
    """Several structures per job through the files."""

    @pytest.fixture
    def store(self, tmp_path) -> LabelStore:
        return LabelStore(tmp_path / "label_store", METHOD_ID, {})

    def select(self, folder: Path, rows, structures, store, chosen: Planner) -> list[BatchRow]:
        select_batch(rows, [structures], store, LabelLedger(folder / "failed"), chosen, batch_files(folder))
        return list(read_batch(folder / "batch.csv"))

    def up_to_date(self, folder: Path) -> set[str]:
        """Jobs that Snakemake will not submit."""
        job_inputs = {p.stem: p.stat().st_mtime_ns for p in (folder / "batch").glob("*.extxyz")}
        labels = {p.stem: p.stat().st_mtime_ns for p in (folder / "labels").glob("*.json")}
        return {job for job, written in job_inputs.items() if labels.get(job, 0) >= written}

    def test_nothing_is_lost_or_computed_twice_when_the_batch_is_written_again(self, tmp_path, structures, store):
        """A job had finished with a failure in it, another was killed half-way, one label could not be published."""
        rows = draw_initial(configuration(), structures)
        several = planner(structures_per_job=4)
        first = self.select(tmp_path, rows, structures, store, several)
        assert [(r.structure_id, r.role) for r in first] == [(r.structure_id, r.role) for r in rows]
        done, half, *_ = jobs_of(first)
        members = {job: [e.key for e in read_job_input(tmp_path / "batch" / f"{job}.extxyz")] for job in jobs_of(first)}
        bad, unpublished, *good = members[done]
        failure = label_record(bad, status="engine_error")
        write_records(tmp_path / "labels" / f"{done}.json", [failure, *(label_record(i) for i in [unpublished, *good])])
        LabelLedger(tmp_path / "failed").put(bad, failure)
        for key in [*good, members[half][0]]:
            store.put(label_record(key))
        os.utime(tmp_path / "labels" / f"{done}.json", (1, 1))
        again = self.select(tmp_path, rows, structures, store, several)
        jobs = jobs_of(again)
        [known] = [job for job in jobs if job.startswith("known")]
        assert {r.key for r in again if r.job == known} == {bad, unpublished, *good, members[half][0]}
        assert self.up_to_date(tmp_path) == {known}
        records = read_records(tmp_path / "labels" / f"{known}.json")
        assert [r.structure_id for r in records] == [r.key for r in again if r.job == known]
        assert {r.structure_id: r.status for r in records}[bad] == "engine_error"
        assert sorted(r.key for r in again) == sorted(r.key for r in rows)
        job_inputs = {p.stem for p in (tmp_path / "batch").glob("*.extxyz")}
        assert set(jobs) <= job_inputs

    def test_a_failed_label_does_not_count_as_its_own_retry(self, tmp_path, structures, store):
        rows = draw_initial(configuration(), structures)[:4]
        failed = label_record(rows[0].structure_id, status="out_of_time")
        LabelLedger(tmp_path / "failed").put(rows[0].key, failed)
        (tmp_path / "labels").mkdir()
        write_records(tmp_path / "labels" / "j0000_00000000.json", [failed])
        rows[0] = replace(rows[0], retry_of=rows[0].structure_id)
        found = self.select(tmp_path, rows, structures, store, planner(structures_per_job=2))
        assert found[0].job == rows[0].key
        assert not self.up_to_date(tmp_path)

    def test_all_known(self, tmp_path, structures, store):
        rows = draw_initial(configuration(), structures)
        for row in rows:
            store.put(label_record(row.structure_id))
        found = self.select(tmp_path, rows, structures, store, planner(structures_per_job="auto"))
        assert self.up_to_date(tmp_path) == set(jobs_of(found))

    def test_longer_jobs_have_larger_inputs(self, tmp_path, store):
        """Snakemake's greedy scheduler starts those first. Two heavy atoms cost more than five light ones here."""

        class Engine:
            one_job_per_batch = False

            def size(self, structure):
                return {"basis_functions": int((structure.numbers**2).sum())}

        rng = np.random.default_rng(3)
        pool = [
            Structure.create(numbers, rng.uniform(0, 9, (len(numbers), 3)))
            for numbers in ([9, 9], [1] * 6, [1, 1], [8, 1, 1], [9, 1], [1] * 12, [16, 1, 1], [9, 9])
        ]
        write_pool(tmp_path / "pool.h5", StructureSet.from_structures(pool))
        known = costs(atoms=2, basis_functions=2) | {"x": LabelCost(10000.0, 1, 200.0, 9, 40)}
        chosen = planner(costs=known)
        chosen.engine = Engine()
        self.select(tmp_path, rows_of(pool), str(tmp_path / "pool.h5"), store, chosen)
        model = CostModel.fit(known.values(), 1)
        seconds = {s.structure_id: model.wall_s([(s.numbers**2).sum()])[0] for s in pool}
        size = {key: (tmp_path / "batch" / f"{key}.extxyz").stat().st_size for key in seconds}
        for one, other in itertools.combinations(seconds, 2):
            if seconds[one] > 1.01 * seconds[other]:
                assert size[one] > size[other]
        assert max(size.values()) < 1000

    def test_an_input_cut_between_two_structures_is_noticed_at_a_start(self, tmp_path, structures, store):
        self.select(
            tmp_path, draw_initial(configuration(), structures), structures, store, planner(structures_per_job=3)
        )
        job_input = max((tmp_path / "batch").iterdir(), key=lambda path: path.stat().st_size)
        assert _job_input_is_intact(job_input)
        text = job_input.read_text()
        blocks = len(read_job_input(job_input))
        lines = text.splitlines(keepends=True)
        for kept in range(1, len(lines)):
            job_input.write_text("".join(lines[:kept]))
            assert not _job_input_is_intact(job_input), f"{kept} of {len(lines)} lines of {blocks} structures"
        job_input.write_text(text + lines[0])
        assert not _job_input_is_intact(job_input)
