"""What every script does around its library call."""

import json
import os
from types import SimpleNamespace

import pytest
from threadpoolctl import threadpool_limits

from quarry.campaign.job import THREAD_VARIABLES, job
from quarry.campaign.receipts import read_receipts
from quarry.errors import QuarryError


@pytest.fixture
def snakemake(tmp_path, monkeypatch):
    for variable in (*THREAD_VARIABLES, "OMP_WAIT_POLICY", "PYSCF_MAX_MEMORY"):
        monkeypatch.setenv(variable, "")
    monkeypatch.chdir(tmp_path)
    # The libraries' threads are given back: three for two busy cores make small matrices of later tests take minutes.
    with threadpool_limits():
        yield SimpleNamespace(
            rule="train_model",
            threads=3,
            resources={"mem_mb": 2000},
            log=["results/toy/main/iter_000/logs/train.log"],
            input=[],
            output=["results/toy/main/iter_000/model/model.h5"],
        )


def test_threads_and_memory_reach_the_libraries(snakemake):
    with job(snakemake, receipt=False):
        assert {os.environ[v] for v in THREAD_VARIABLES} == {"3"}
        assert os.environ["PYSCF_MAX_MEMORY"] == "1500"
    with job(snakemake, threads=1, receipt=False):
        assert os.environ["OMP_NUM_THREADS"] == "1", "the configuration's threads, whatever Snakemake had to spare"


def test_receipt_accounts_for_the_output(snakemake, tmp_path):
    with job(snakemake):
        (tmp_path / "results/toy/main/iter_000/model").mkdir()
        (tmp_path / snakemake.output[0]).write_bytes(b"model")
    [receipt] = read_receipts(tmp_path / "results/toy/main/iter_000/receipts")
    assert receipt["outputs"]["model/model.h5"]["bytes"] == 5
    assert receipt["cost"]["threads"] == 3
    assert json.dumps(receipt)


def test_a_mistake_is_one_line_and_no_receipt(snakemake, tmp_path):
    with pytest.raises(SystemExit) as end, job(snakemake):
        raise QuarryError("this is wrong; change that")
    assert end.value.code == "Quarry: train_model: this is wrong; change that"
    assert not (tmp_path / "results/toy/main/iter_000/receipts").exists()


def test_an_accident_leaves_its_traceback_in_the_log(snakemake, tmp_path):
    with pytest.raises(SystemExit) as end, job(snakemake):
        raise ZeroDivisionError("oh")
    assert "\n" not in str(end.value.code) and snakemake.log[0] in str(end.value.code)
    assert "Traceback" in (tmp_path / snakemake.log[0]).read_text()


def test_an_interrupt_is_no_traceback(snakemake, tmp_path):
    """A terminal sends it to the jobs as well: each would fill the screen."""
    with pytest.raises(SystemExit) as end, job(snakemake):
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert (tmp_path / snakemake.log[0]).read_text() == "interrupted\n"
