"""A committee's members after a crash: what is whole stays, what is missing or damaged is trained again, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarry.campaign.batch_table import BatchRow, write_batch
from quarry.campaign.loop import ArmPlan, outputs_of
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.receipts import write_receipt
from quarry.campaign.recovery import Recovery
from quarry.labeling.record import LabelRecord, write_records
from quarry.stopping.facts import Cost
from support.stages import make_facts
from support.stub_files import write_stub

COST = {"wall_s": 1.0, "cpu_s": 1.0, "threads": 1, "host": "here"}
PATHS = CampaignPaths("toy")
RULES = {
    "merge_labels": ["dataset.h5", "failures.csv", "outliers.csv", "audit.csv"],
    **{f"train_member_{n:03d}": [f"model/members/{n:03d}.h5"] for n in range(3)},
    "train_model": ["model/model.h5"],
    "evaluate_model": ["predictions.h5", "metrics.json"],
    "assess_iteration": ["facts.json", "cost.json"],
}


def at(name: str) -> Path:
    return Path(PATHS.iteration(name, "main", 0))


@pytest.fixture
def recovery(tmp_path, monkeypatch) -> Recovery:
    """A finished iteration 0 with a committee of three."""
    monkeypatch.chdir(tmp_path)
    at("batch").mkdir(parents=True)
    write_batch(at("batch.csv"), [BatchRow("a" * 20, "train", "job")])
    at("labels").mkdir()
    cost = {"wall_s": 1.0, "cpu_s": 1.0, "threads": 1, "peak_memory_MB": 1.0}
    record = LabelRecord("a" * 20, "m", {}, "ok", "", {"energy": 1.0}, [], cost, {}, "here", {}, "now")
    write_records(at("labels/job.json"), [record])
    for name in ("batch.h5", "planned.csv", "reused.csv", *(n for names in RULES.values() for n in names)):
        write_stub(at(name), name)
    make_facts(0).write(at("facts.json"))
    Cost(1, 0, 0, 0.0, 0.0, 0.0, 0.0).write(at("cost.json"))
    for rule, names in RULES.items():
        write_receipt(at(f"receipts/{rule}.json"), rule, [str(at(n)) for n in names], COST)
    return Recovery(PATHS, {"main": ArmPlan(members=3)})


def left() -> list[str]:
    return sorted(str(p.relative_to(at(""))) for p in at("model").rglob("*.h5"))


MEMBERS = [f"model/members/{n:03d}.h5" for n in range(3)]


def test_a_whole_committee_is_left_alone(recovery):
    said: list[str] = []
    recovery.repair(said.append)
    assert not said and recovery.count_intact("main") == 1 and left() == [*MEMBERS, "model/model.h5"]


@pytest.mark.parametrize("how", ["missing", "truncated"])
@pytest.mark.parametrize("member", [0, 1, 2])
def test_one_member_is_trained_again_and_the_others_stay(recovery, member, how):
    path = at(MEMBERS[member])
    path.unlink() if how == "missing" else path.write_text("x")
    assert recovery.count_intact("main") == 0
    recovery.repair(lambda line: None)
    assert left() == [m for m in MEMBERS if m != MEMBERS[member]]
    assert at("dataset.h5").exists() and not at("facts.json").exists() and not at("metrics.json").exists()


def test_a_damaged_receipt_takes_its_member_only(recovery):
    at("receipts/train_member_001.json").write_text("{")
    recovery.repair(lambda line: None)
    assert left() == [MEMBERS[0], MEMBERS[2]]


def test_members_of_a_lost_data_set_are_trained_again(recovery):
    at("dataset.h5").unlink()
    recovery.repair(lambda line: None)
    assert left() == []


def test_models_that_one_job_trains_have_no_such_stage():
    without, with_members = (PATHS.stages("main", 0, ArmPlan(proposed=False, members=m)) for m in (0, 2))
    assert [s for s in with_members if s not in without] == [
        [str(at("model/members/000.h5")), str(at("model/members/001.h5"))]
    ]
    assert PATHS.outputs("train_member") == {"member": PATHS.iteration("model/members/{member}.h5")}
    assert outputs_of("train_member_012") == ["model/members/012.h5"] and outputs_of("train_model") == [
        "model/model.h5"
    ]
