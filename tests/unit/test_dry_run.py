"""What a dry run says in words."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from quarry.campaign.campaign import Campaign
from quarry.campaign.dry_run import dry_run_lines
from quarry.config.loading import load_configuration
from quarry.stopping.facts import Facts
from support.dynamics import dynamics
from support.made_up import MadeUp


def campaign(made: MadeUp, ended: bool = False) -> Any:
    return SimpleNamespace(
        paths=made.paths,
        arms=["main"],
        configuration=load_configuration(made.settings, "here"),
        facts=lambda arm, last: [Facts.read(made.paths.facts(arm, t)) for t in range(last + 1)],
        has_stopped=lambda arm, last: ended,
    )


def words(made: MadeUp, ended: bool = False, **jobs: int) -> str:
    return "\n".join(dry_run_lines(campaign(made, ended), jobs))


def test_a_campaign_that_has_not_begun(tmp_path: Path) -> None:
    text = words(MadeUp(tmp_path, max_labels=30), build_pool=1, select_batch=1, all=1, total=3)
    assert "arm main: not begun; the first batch has 6 labels (query.initial and test.size)" in text
    assert "at most 30 labels in all" in text
    assert "2 jobs, no labels among them (build_pool, select_batch)" in text
    assert "not known yet" in text


def test_a_batch_that_is_chosen(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, max_iterations=5)
    made.iteration(0, 4)
    made.batch(1, ["a1", "a2"])
    text = words(made, label_structure=2, merge_labels=1, total=3)
    assert (
        "4 labels in 1 finished iterations; the batch of iteration 1 has 2 labels; at most 5 iterations after" in text
    )
    assert "2 label jobs and 1 others (merge_labels)" in text


def test_a_campaign_without_a_budget_is_said_what_ends_it(tmp_path: Path) -> None:
    """A pool is used up some time; trajectories find new structures for ever."""
    made = MadeUp(tmp_path)
    made.settings["stop"] = {"rrmse": 0.1}
    assert "no budget of labels: it ends by its other stop rules, or with the pool" in words(made, all=1, total=1)
    made.settings["stop"] = {"rrmse": 0.1, "max_core_hours": 3}
    assert "at most about 3 core-hours (stop.max_core_hours)" in words(made, all=1, total=1)
    made.settings = dynamics(stop={"max_iterations": None, "target_rmse": 1e-9})
    text = words(made, all=1, total=1)
    assert (
        "with the pool" not in text and "stop.max_labels, max_iterations or max_core_hours ends it for certain" in text
    )


def test_a_campaign_that_has_ended_has_nothing_unknown(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, max_iterations=1)
    made.iteration(0, 4)
    text = words(made, ended=True, publish_results=1)
    assert "arm main: 4 labels in 1 iterations; it has ended" in text
    assert "not known yet" not in text


def test_damaged_facts_are_named_and_the_rest_is_said(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, max_iterations=5)
    made.iteration(0, 4)
    facts = Path(made.paths.facts("main", 0))
    facts.write_text(facts.read_text()[:-20])
    stand_in = campaign(made)
    stand_in._kept = lambda read, path: read(path)
    stand_in.facts = partial(Campaign.facts, stand_in)
    text = "\n".join(dry_run_lines(stand_in, {"merge_labels": 1, "total": 1}))
    assert f"arm main: {facts}" in text and "1 jobs, no labels among them" in text and "not known yet" in text
