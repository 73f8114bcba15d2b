"""Where a control arm ends, from the facts of arm main on disk."""

from __future__ import annotations

import pytest

from quarry.campaign.campaign import Campaign
from quarry.campaign.invocation import Invocation
from quarry.campaign.retries import RetryRequest, add_requests
from quarry.errors import QuarryError
from quarry.stopping.facts import Cost
from support.stages import configuration, make_facts


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = configuration(
        control={"seeds": [0], "repeats": [8]}, stop={"rrmse": None, "max_labels": 30, "max_iterations": 2}
    )
    return Campaign(settings, tmp_path, Invocation.DRY_RUN)


def walked(campaign, arm, iterations, **changes):
    for t in range(iterations):
        facts = make_facts(t, **{"n_labels": 18 + 4 * t, "pool_left": 20 - 4 * t, **changes})
        facts.write(campaign.paths.facts(arm, t))
        Cost(0, 0, 0, 0.0, 0.0, 0.0, 0.0).write(campaign.paths.cost(arm, t))


def test_it_goes_on_for_as_long_as_arm_main(campaign):
    walked(campaign, "main", 2)
    walked(campaign, "random_0", 2)
    assert campaign.leader("random_0") == campaign.leader("main_8") == "main" and campaign.leader("main") is None
    assert campaign.stop_reason("main", 1) is campaign.stop_reason("random_0", 1) is None
    walked(campaign, "main", 3)
    walked(campaign, "random_0", 3)
    assert campaign.stop_reason("random_0", 1) is None, "arm main has an iteration more"
    assert campaign.stop_reason("main", 2).rule == "max_iterations"
    assert campaign.stop_reason("random_0", 2).rule == "control"


def test_it_ends_with_arm_main_although_its_own_rules_do_not_hold(campaign):
    """Labels of arm main that failed count as used: it may end earlier than the control arm's own count would say."""
    walked(campaign, "main", 2, n_labels=30)
    walked(campaign, "random_0", 2)
    assert campaign.stop_reason("random_0", 1).rule == "control"


def test_it_ends_when_no_label_is_left_for_it(campaign):
    walked(campaign, "main", 2)
    walked(campaign, "random_0", 2, n_labels=30)
    assert campaign.stop_reason("main", 1) is None
    assert campaign.stop_reason("random_0", 1).rule == "max_labels"


def test_retries_of_arm_main_bring_it_no_batch(campaign):
    """Also when they are finished; a batch that holds more than retries does."""
    walked(campaign, "main", 3)
    walked(campaign, "random_0", 3)
    add_requests(campaign.paths.retries, [RetryRequest("main", 3, (("a", "a", "train"),), only=True)])
    assert campaign.stop_reason("random_0", 2).rule == "control"
    walked(campaign, "main", 4)
    assert campaign.stop_reason("random_0", 2).rule == "control"


def test_facts_that_change_are_read_anew(campaign):
    walked(campaign, "main", 2)
    assert [facts.n_labels for facts in campaign.facts("main", 1)] == [18, 22]
    assert campaign.facts("main", 1)[1] is campaign.facts("main", 1)[1], "and others are not"
    walked(campaign, "main", 2, n_labels=19)
    assert [facts.n_labels for facts in campaign.facts("main", 1)] == [19, 19]
    with open(campaign.paths.facts("main", 1), "w") as handle:
        handle.write("{")
    with pytest.raises(QuarryError, match="a real run moves it aside"):
        campaign.facts("main", 1)
