"""The table of what jobs are predicted to take, as the rules read it."""

from __future__ import annotations

import pytest

from quarry.campaign.planned import PlannedJob, memory_MB, planned_jobs, walltime_min, write_planned


def test_round_trip_and_resources(tmp_path):
    table = tmp_path / "planned.csv"
    jobs = [PlannedJob("a", 3, 12.5, 7, 900), PlannedJob("b", 1, 2.0), PlannedJob("c", 1)]
    write_planned(table, jobs)
    assert list(planned_jobs(table).values()) == jobs
    assert [memory_MB(table, job, 2000) for job in "abcd"] == [900, 2000, 2000, 2000]
    assert [walltime_min(table, job, 60) for job in "abcd"] == [7, 60, 60, 60]


@pytest.mark.parametrize("text", ["", "job\na\n", "job,structures,predicted_s,walltime_min,memory_MB\na,x,1,2,3\n"])
def test_without_a_table_the_configuration_holds(tmp_path, text):
    table = tmp_path / "planned.csv"
    assert memory_MB(table, "a", 2000) == 2000
    table.write_text(text)
    assert memory_MB(table, "a", 2000) == 2000


def test_a_rewritten_table_is_read_again(tmp_path):
    table = tmp_path / "planned.csv"
    for memory in (700, 8000):
        write_planned(table, [PlannedJob("a", 1, 1.0, 5, memory)])
        assert memory_MB(table, "a", 2000) == memory
