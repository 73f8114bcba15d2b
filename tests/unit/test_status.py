"""``quarry status``: what a campaign does, from files as they lie at any moment. Nothing is ever written."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quarry.command_line.main import main
from quarry.errors import QuarryError
from quarry.status.reading import read_status
from quarry.status.text import status_lines
from support.campaigns import REPOSITORY
from support.made_up import MadeUp

CPU_LIMIT_S = 1.0
DEAD = {"pid": 2**22 + 1, "ticks": "1"}
ELSEWHERE = {"host": "node17", "boot": "another"}


@pytest.fixture
def campaign(tmp_path: Path) -> MadeUp:
    """Two finished iterations of 4 labels; of the third batch of 4 one label is done, one has failed, one is computed."""
    made = MadeUp(tmp_path, max_labels=30, max_core_hours=2.0)
    made.begin_run()
    made.iteration(0, 4, 0.5)
    made.iteration(1, 4, 0.05, reused=3)
    made.batch(2, ["aa1", "ab2", "ac3", "ad4"], predicted_s=120.0)
    made.label("aa1")
    made.fail("ab2")
    made.claim("ac3")
    return made


def words(made: MadeUp) -> str:
    return "\n".join(status_lines(read_status(made.paths)))


def test_a_running_campaign(campaign: MadeUp) -> None:
    campaign.lease()
    before = campaign.state()
    status = read_status(campaign.paths)
    assert campaign.state() == before
    assert (status.state, status.main_process.state) == ("running", "here")
    arm = status.arms[0]
    assert (arm.iteration_now, arm.step) == (2, "labels")
    assert arm.batch is not None
    assert (arm.batch.labels, arm.batch.done, arm.batch.failed, arm.batch.running, arm.batch.waiting) == (4, 2, 1, 1, 1)
    assert [one.rmse for one in arm.iterations] == [0.5, 0.05]
    assert (status.labels, status.max_labels, status.max_core_hours) == (10, 30, 2.0)
    assert status.core_hours == pytest.approx(5 / 3600 + 0.02)
    assert (status.labels_new, status.labels_reused, status.share_reused) == (5, 3, 3 / 8)
    (job,) = status.jobs
    assert (job.what, job.structure_id, job.state, job.iteration) == ("label", "ac3", "running", 2)
    assert job.since
    assert job.elapsed_s is not None
    assert job.elapsed_s < 60
    (failure,) = status.failures
    assert (failure.failure_class, failure.count, failure.last_structure_id) == ("scf_not_converged", 1, "ab2")
    assert failure.last_message == "no end after 50 cycles"
    assert status.expected_end is not None
    assert (status.expected_end.seconds_per_label, status.expected_end.labels_at_once) == (120.0, 2)
    assert status.expected_end.batch is not None
    assert status.expected_end.budget is not None
    assert status.expected_end.batch < status.expected_end.budget
    text = words(campaign)
    assert "RMSE 500 -> 50 meV; rRMSE 0.5" in text
    assert "2 of 4 done, 1 failed, 1 running, 1 waiting" in text
    assert "10 of 30 allowed" in text
    assert "running: label ac3 (main iteration 2)" in text
    assert ".snakemake/log/1.snakemake.log" in text


@pytest.mark.parametrize(
    ("lease", "age_s", "state", "said"),
    [
        (DEAD, 60.0, "broken_off", "was killed"),
        (ELSEWHERE, 5.0, "running_elsewhere", "on node17"),
        (ELSEWHERE, 900.0, "silent", "last heartbeat 15.0 min ago"),
        (None, 0.0, "stopped", "nobody runs it"),
    ],
)
def test_who_runs_it(campaign: MadeUp, lease: dict[str, object] | None, age_s: float, state: str, said: str) -> None:
    if lease is not None:
        campaign.lease(age_s, **lease)
    before = campaign.state()
    assert read_status(campaign.paths).state == state
    assert said in words(campaign).splitlines()[0]
    assert campaign.state() == before


def test_a_finished_campaign_says_why(tmp_path: Path) -> None:
    made = MadeUp(tmp_path)
    made.iteration(0, 4)
    made.iteration(1, 5)
    assert read_status(made.paths).state == "stopped"
    made.finish()
    assert read_status(made.paths).state == "finished"
    assert words(made).startswith("toy: finished: the budget of max_labels = 9 is spent")
    # Another iteration since, as after loosened stop rules: the history is an earlier one's.
    made.iteration(2, 4)
    assert read_status(made.paths).state == "stopped"


def test_a_campaign_of_an_earlier_version_says_what_is_not_known(campaign: MadeUp) -> None:
    Path(campaign.paths.last_run).unlink()
    status = read_status(campaign.paths)
    assert (status.labels, status.max_labels) == (10, None)
    assert "earlier version" in words(campaign)


EARLIER_POOL = {"source": "file", "files": ["pool.extxyz"], "a_key_that_is_gone": 1}
SIZES = {"initial": 3, "batch": {"schedule": "constant", "size": 3}}
UNCERTAINTY, SEQUENCE = {"strategy": "uncertainty_clusters", **SIZES}, {"strategy": "sequence", **SIZES}


@pytest.mark.parametrize(
    ("identity", "files", "step"),
    [
        ({"pool": EARLIER_POOL, "query": UNCERTAINTY, "arms": {}}, (), "scores the pool"),
        ({"pool": EARLIER_POOL, "query": UNCERTAINTY, "arms": {}}, ("scores.h5",), "chooses the batch"),
        ({"pool": EARLIER_POOL, "query": SEQUENCE, "arms": {}}, (), "chooses the batch"),
        ({"pool": EARLIER_POOL, "query": UNCERTAINTY, "arms": {"main": {"query": SEQUENCE}}}, (), "chooses the batch"),
        ({"pool": {"source": "dynamics"}, "query": SEQUENCE, "arms": {}}, (), "makes new structures"),
        ({"pool": {"source": "dynamics"}, "query": UNCERTAINTY, "arms": {}}, ("candidates.h5",), "scores the pool"),
        ({"pool": EARLIER_POOL, "query": {"strategy": "one_that_is_gone", **SIZES}, "arms": {}}, (), "scores the pool"),
        ({}, (), "scores the pool"),
    ],
)
def test_the_step_before_a_batch_is_one_of_this_campaign(
    tmp_path: Path, identity: dict[str, object], files: tuple[str, ...], step: str
) -> None:
    """As its manifest has it, of whichever version: of a fixed pool no structures are made."""
    made = MadeUp(tmp_path)
    made.iteration(0, 4)
    manifest = json.loads(Path(made.paths.manifest).read_text())
    Path(made.paths.manifest).write_text(json.dumps({**manifest, "identity": identity}))
    for file in ("logs/score_pool.log", *files):
        path = Path(made.paths.iteration(file, "main", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert read_status(made.paths).arms[0].step == step


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null", '{"identity": 3}', "\xff\x00"])
@pytest.mark.parametrize(
    "file", ["last_run.json", ".lease.json", "main/iter_001/facts.json", "main/iter_001/cost.json", "main/iter_002/batch.csv",
             "main/history.csv", "main/iter_001/failures.csv"],
)  # fmt: skip
def test_half_written_files_end_nothing(campaign: MadeUp, file: str, content: str) -> None:
    (Path(campaign.paths.root) / file).write_text(content, encoding="latin-1")
    before = campaign.state()
    assert status_lines(read_status(campaign.paths))
    assert campaign.state() == before


@pytest.mark.parametrize(
    "file", ["last_run.json", ".lease.json", "main/iter_001/facts.json", "main/iter_002/batch.csv"]
)
def test_folders_in_place_of_files_end_nothing(campaign: MadeUp, file: str) -> None:
    path = Path(campaign.paths.root) / file
    path.unlink(missing_ok=True)
    path.mkdir()
    assert status_lines(read_status(campaign.paths))


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_manifest_that_is_damaged_is_one_line(
    campaign: MadeUp, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(campaign.paths.manifest).write_text(content)
    with pytest.raises(QuarryError, match=r"campaign\.json is absent or damaged"):
        read_status(campaign.paths)
    assert main(["status", campaign.paths.root]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_gone_of_the_folder_ends_nothing(campaign: MadeUp) -> None:
    shutil.rmtree(campaign.store.parent)
    shutil.rmtree(Path(campaign.paths.root) / "main")
    assert "not begun" in words(campaign)


def test_a_job_in_a_queue_and_one_that_is_no_label(campaign: MadeUp) -> None:
    from base64 import urlsafe_b64encode

    campaign.lease()
    marks = campaign.folder / ".snakemake" / "incomplete"
    marks.mkdir()
    for output, number in (
        ("results/toy/main/iter_002/labels/ad4.json", '"77"'),
        ("results/toy/main/iter_002/scores.h5", "null"),
    ):
        (marks / urlsafe_b64encode(output.encode()).decode()).write_text(f'{{"external_jobid": {number}}}')
    status = read_status(campaign.paths)
    assert {(job.what, job.state, job.batch_system_job) for job in status.jobs} == {
        ("label", "running", ""),
        ("label", "queued", "77"),
        ("score_pool", "running", ""),
    }
    assert "1 jobs wait in the queue" in words(campaign)


def test_json_is_one_object_whose_keys_are_documented(campaign: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json", campaign.paths.root]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    page = (REPOSITORY / "docs" / "status.md").read_text()

    def keys(data: object) -> set[str]:
        if isinstance(data, dict):
            return set(data) | {key for value in data.values() for key in keys(value)}
        return {key for value in data for key in keys(value)} if isinstance(data, list) else set()

    assert {key for key in keys(json.loads(out)) if f"`{key}`" not in page} == set()


def test_ten_thousand_labels_take_less_than_a_second_of_cpu(tmp_path: Path) -> None:
    made = MadeUp(tmp_path, max_labels=20_000)
    made.begin_run()
    for number in range(9):
        made.iteration(number, 1000)
    ids = [f"{k:02x}{k:010x}" for k in range(1000)]
    made.batch(9, ids, predicted_s=60.0)
    for name in ids[:900]:
        made.label(name)
    for name in ids[900:950]:
        made.claim(name)
    code = (
        f"import sys\nfrom quarry.command_line.main import main\nassert main(['status', {made.paths.root!r}]) == 0\n"
        "heavy = {'torch', 'pyscf', 'ase', 'sklearn', 'pandas', 'scipy', 'numpy', 'h5py', 'snakemake'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    environment = {"PYTHONPATH": str(REPOSITORY / "workflow_scripts")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "9900 of 20000 allowed" in done.stdout
    assert "900 of 1000 done, 50 running, 50 waiting" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < CPU_LIMIT_S
