"""What a campaign says when failed labels are tried again after its end, and what is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarry.campaign.campaign import Campaign
from quarry.campaign.closing import closing_message
from quarry.campaign.failure_table import FAILURE_COLUMNS, write_failures
from quarry.campaign.invocation import Invocation
from quarry.campaign.retries import read_requests
from quarry.campaign.retry_failed import retry_failed
from quarry.errors import QuarryError
from quarry.stopping.facts import Cost
from support.stages import configuration, make_facts


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A campaign that ended by its budget of 20 labels in iteration 1, and one of whose labels has failed."""
    monkeypatch.chdir(tmp_path)
    settings = configuration(stop={"rrmse": None, "max_labels": 20, "max_iterations": 9})
    campaign = Campaign(settings, tmp_path, Invocation.RUN)
    for t, labels in enumerate((10, 20)):
        assessed(campaign, t, labels)
    row = dict.fromkeys(FAILURE_COLUMNS, "") | {"structure_id": "a" * 20, "key": "a" * 20, "role": "train"}
    write_failures(campaign.paths.iteration("failures.csv", "main", 0), [])
    write_failures(campaign.paths.iteration("failures.csv", "main", 1), [row])
    return campaign


def assessed(campaign, iteration, labels, **changes):
    make_facts(iteration, n_labels=labels, **changes).write(campaign.paths.facts("main", iteration))
    Cost(0, 0, 0, 0.0, 0.0, 0.0, 0.0).write(campaign.paths.cost("main", iteration))


def retry(campaign, say, write=True):
    return retry_failed(campaign.paths, campaign.arms, campaign.has_stopped, say, write)


def test_the_count_of_the_words_is_that_of_the_data_set(finished):
    assert "max_labels = 20 is spent (20 labels used)" in closing_message(finished)
    assessed(finished, 2, 30)
    message = closing_message(finished)
    assert "30 labels in 3 iterations" in message and "max_labels = 20 is spent (30 labels used)" in message
    assert "20 labels" not in message


def test_the_last_words_name_files_that_are_there(finished):
    """`snakemake frequencies` makes what it needs, and publishes nothing."""
    root = Path(finished.paths.root)
    finished.asked_uses = ["frequencies", "md"]
    for name in ("uses/frequencies.json", "history.csv", "overview.html", "model/model.h5"):
        [line] = closing_message(finished).splitlines()[:1]
        assert name.rpartition("/")[2] not in closing_message(finished) and "arm main: 20 labels" in line
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    assert closing_message(finished).splitlines()[1:] == [
        "Quarry: results in results/toy: history.csv, model/",
        "Quarry: on one page: results/toy/overview.html",
        "Quarry: report: the same command with --report results/toy/report.html",
        "Quarry: frequencies of the result: results/toy/uses/frequencies.json",
    ]


def test_a_rule_that_holds_no_longer_says_when_it_held(finished):
    """With the retries the error has changed; the arm has ended all the same."""
    finished.configuration = configuration(stop={"rrmse": None, "target_rmse": 0.1})
    errors = {"test": {"rmse": 0.05, "rmse_low": 0.05, "rmse_high": 0.05}}
    worse = {"test": {"rmse": 0.5, "rmse_low": 0.5, "rmse_high": 0.5}}
    assessed(finished, 1, 20, errors=errors)
    assessed(finished, 2, 30, errors=worse)
    reason = finished.stop_reason("main", 2)
    assert reason.rule == "target_rmse"
    assert "(so at iteration 1; 30 labels with those tried again since)" in reason.words


def test_what_is_asked_for(finished):
    said: list[str] = []
    assert not retry(finished, said.append, write=False) and not read_requests(finished.paths.retries)
    assert retry(finished, said.append)
    assert said == ["arm main: 1 failed labels go into the batch of iteration 2, which holds nothing else"] * 2
    [request] = read_requests(finished.paths.retries)
    assert (request.iteration, request.only, [label[0] for label in request.labels]) == (2, True, ["a" * 20])
    assert not retry(finished, said.append), "it waits for its retry already"


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 50, b"structure_id,key\na,b\n"])
def test_a_damaged_table_of_failures_is_named_in_one_line(finished, content):
    Path(finished.paths.iteration("failures.csv", "main", 1)).write_bytes(content)
    with pytest.raises(QuarryError, match=r"failures\.csv is damaged; a real run") as caught:
        retry(finished, print, write=False)
    assert "\n" not in str(caught.value)
