"""One test per fault of a disk that a campaign must survive; docs/faults.md is the table."""

from __future__ import annotations

import contextlib
import shutil
import tempfile

import pytest

from quarry.structures import Structure
from support.campaigns import CampaignFolder, stand_in_configuration
from support.faults import SHARED_MEMORY, fill, read_only, small_disk
from support.label_desk import IDS, STRUCTURES, LabelDesk, check_right, wait_until

A = IDS[0]


def test_full_disk_before_a_label(folder):
    """Nothing is paid for that could not be written down."""
    with small_disk(folder / "disk", 256) as disk:
        desk = LabelDesk(folder, store=disk / "label_store")
        filler = disk / "filler"
        with open(filler, "wb", buffering=0) as handle, pytest.raises(OSError, match="No space"):
            while True:
                handle.write(b"x" * 4096)
        ended = desk.run()
        assert ended.code == 1 and "StoreError: label store" in ended.text and "No space left on device" in ended.text
        assert desk.calls("began") == []
        filler.unlink()
        assert desk.run().code == 0
        check_right(desk)


def test_full_disk_while_a_label_is_computed(folder):
    """The label is paid for: the campaign has it although the store cannot take it."""
    with small_disk(folder / "disk", 256) as disk:
        desk = LabelDesk(folder, store=disk / "label_store")
        desk.function, desk.arguments = "fills_the_disk", {"file": str(disk / "filler")}
        ended = desk.run(STRUCTURES[:1])
        assert (
            ended.code == 0 and "No space left on device" in ended.text and "kept in the campaign alone" in ended.text
        )
        [record] = desk.records()
        assert record.ok and desk.store().get(A) is None


def test_full_disk_of_the_results(folder):
    with small_disk(folder / "disk", 128) as disk:
        desk = LabelDesk(folder, results=disk / "results")
        (disk / "results" / "attempts").mkdir(parents=True)
        desk.function, desk.arguments = "fills_the_disk", {"file": str(disk / "filler")}
        # So many that their file needs more than the block that the last attempt has freed.
        many = [Structure.create([1, 1], [[0, 0, 0], [0, 0, 0.8 + 0.1 * n]]) for n in range(16)]
        ended = desk.run(many)
        assert ended.code == 1 and "No space left on device" in ended.text
        calls = desk.calls()
        assert calls and all(desk.store().get(i) is not None for i in calls)
        (disk / "filler").unlink()
        desk.function, desk.arguments = "plain", {}
        assert desk.run(many).code == 0 and all(r.ok for r in desk.records())
        assert len(desk.calls()) == len(set(desk.calls())) == 16


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_results_that_cannot_be_written_end_no_running_calculation(folder, how):
    """The heartbeat's bookkeeping waits, the labels go into the store; each is computed once."""
    with small_disk(folder / "disk", 128) as disk:
        desk = LabelDesk(folder, results=disk / "results")
        (disk / "results" / "attempts").mkdir(parents=True)
        desk.labeling["heartbeat_s"] = 0.2
        desk.arguments = {"seconds": 1.0}
        job = desk.start()
        wait_until(lambda: desk.calls("began"))
        with read_only(disk / "results") if how == "read-only" else contextlib.nullcontext():
            filler = fill(disk)
            ended = job.wait()
        filler.unlink()
        message = "Read-only file system" if how == "read-only" else "No space left on device"
        assert ended.text.count(f"attempts cannot be written ({message})") == 1
        assert desk.calls("began") == desk.calls() == IDS and all(desk.store().get(i) is not None for i in IDS)
        assert ended.code == 0 or f"job.json cannot be written ({message})" in ended.text
        assert desk.run().code == 0
        check_right(desk)


def test_full_scratch_folder(folder):
    """A fault of the machine: named, tried again, no mark against any structure."""
    with small_disk(folder / "disk", 512) as disk:
        desk = LabelDesk(folder)
        command = "cat $$FILL > big; echo '{\"energy\": 1.0}' > answer.json"
        desk.labeling = {
            **{"engine": "command", "command": command, "output": {"file": "answer.json", "format": "json"}},
            **{"scratch": str(disk), "environment": {"FILL": "/dev/zero"}, "retries": 0, "heartbeat_s": 0.3},
        }
        for _ in range(3):
            ended = desk.run()
            assert ended.code == 1 and f"(machine_fault: labeling.scratch: {disk} on " in ended.text
            assert "cat: write error: No space left on device" in ended.text
        assert not (desk.results / "failed").exists()
        desk.labeling["environment"] = {"FILL": "/dev/null"}
        assert desk.run().code == 0 and desk.statuses() == ["ok"] * 4


def test_read_only_store(desk):
    assert desk.run(STRUCTURES[:1]).code == 0
    with read_only(desk.root):
        ended = desk.run()
        assert ended.code == 1 and "StoreError: label store" in ended.text and "Read-only file system" in ended.text
        assert desk.calls("began") == [A], "nothing is paid for that cannot be published"
        assert desk.run(STRUCTURES[:1], job="again").code == 0, "what is there can be read"
    assert desk.run().code == 0
    check_right(desk)


def test_store_on_another_file_system(folder):
    if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == folder.stat().st_dev:
        pytest.skip("no second file system here")
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as elsewhere:
        settings = stand_in_configuration(stop={"max_labels": 6})
        settings["labeling"]["store"] = f"{elsewhere}/label_store"
        campaign = CampaignFolder.create(folder / "campaign", settings)
        assert campaign.run().code == 0
        assert len(campaign.calls()) == len(set(campaign.calls())) == 6
        shutil.rmtree(campaign.path / "results")
        outcome = campaign.run()
        assert outcome.code == 0 and len(campaign.calls()) == 6, "all labels come from the store"
