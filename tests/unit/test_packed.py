"""What is packed of finished iterations: no file is lost whatever happens, and everything reads it."""

from __future__ import annotations

import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from quarry.campaign import packed, recovery
from quarry.campaign.own_files import OwnFiles
from quarry.campaign.packed import Folder, pack, packed_record, unpack
from quarry.campaign.state_records import record_path
from quarry.errors import QuarryError
from quarry.labeling.record import encode_records
from support.disk import BATCH, ITERATIONS, Disk, record, structure

FOLDERS = ("labels", "batch", "attempts", "logs", "logs/labels")


@pytest.fixture
def whole(disk) -> Disk:
    """A finished campaign whose iterations have logs, attempts, and records of Snakemake's."""
    for t in range(ITERATIONS):
        for name in ("attempts/a.json", "logs/merge_labels.log", "logs/labels/a.log"):
            disk.at(name, t).parent.mkdir(parents=True, exist_ok=True)
            disk.at(name, t).write_text(f"{name} {t}")
        for path in (disk.label(t), disk.at("dataset.h5", t), disk.at("batch", t)):
            record_path(str(path)).parent.mkdir(parents=True, exist_ok=True)
            record_path(str(path)).write_text(f'{{"rule": "{path.name}"}}')
    return disk


def pack_all(disk: Disk) -> list[str]:
    said: list[str] = []
    disk.recovery.pack(said.append)
    return said


def seen(iteration: Path) -> dict[str, bytes]:
    """What readers find in the folders that are packed, and Snakemake in its records."""
    found = {
        f"{name}/{f}": Folder(iteration / name).read(f) for name in FOLDERS for f in Folder(iteration / name).names()
    }
    for path in (*iteration.glob("*.h5"), iteration / "batch"):
        if record_path(str(path)).exists():
            found[f"record {path.name}"] = record_path(str(path)).read_bytes()
        elif content := packed_record(str(path)):
            found[f"record {path.name}"] = content
    return found


def loose(disk: Disk) -> list[str]:
    files = (p for t in range(ITERATIONS) for n in FOLDERS for p in disk.at(n, t).glob("*") if p.is_file())
    return [path.name for path in (*files, *Path(".snakemake").rglob("*")) if path.is_file()]


class TestPack:
    def test_many_at_once_are_announced(self, whole, monkeypatch):
        monkeypatch.setattr(recovery, "MANY", ITERATIONS - 1)
        assert pack_all(whole) == [
            f"results/toy: packing {ITERATIONS} finished iterations, once; thousands of labels take minutes"
        ]
        assert pack_all(whole) == []

    def test_one_file_is_left_and_everything_is_read_as_before(self, whole):
        before = [seen(whole.at("", t)) for t in range(ITERATIONS)]
        rest = {
            name: content for name, content in whole.content().items() if Path(name).parent.name.startswith("iter_")
        }
        assert pack_all(whole) == []
        assert set(loose(whole)) == {".snakemake_timestamp"}, (
            "Snakemake removes an empty folder, and batch is an output"
        )
        assert [seen(whole.at("", t)) for t in range(ITERATIONS)] == before and len(before[0]) == 3 + 2 * BATCH + 2
        assert whole.recovery.count_intact("main") == ITERATIONS
        assert rest.items() <= whole.content().items(), "the rest stays"
        with zipfile.ZipFile(whole.at("packed.zip", 0)) as archive:
            label = whole.label(0).relative_to(whole.at("", 0)).as_posix()
            assert archive.testzip() is None and archive.read(label) == before[0][label]

    def test_the_same_files_give_the_same_bytes_and_a_second_time_does_nothing(self, whole, tmp_path):
        shutil.copytree("results", tmp_path / "copy")
        shutil.copytree(".snakemake", tmp_path / "state")
        pack_all(whole)
        first = whole.content()
        assert pack_all(whole) == [] and whole.content() == first
        for folder in ("results", ".snakemake"):
            shutil.rmtree(folder)
        (tmp_path / "copy").rename("results")
        (tmp_path / "state").rename(".snakemake")
        pack_all(whole)
        assert whole.content() == first

    def test_what_lies_there_anew_counts(self, whole):
        pack_all(whole)
        path = whole.at("logs/labels/a.log", 1)
        path.parent.mkdir(parents=True)
        path.write_text("a second time")
        assert Folder(path.parent).read("a.log") == b"a second time"
        pack_all(whole)
        assert not path.exists() and Folder(path.parent).read("a.log") == b"a second time"
        assert Folder(whole.at("attempts", 1)).read("a.json") == b"attempts/a.json 1"

    def test_links_and_litter_stay(self, whole):
        elsewhere = Path("elsewhere").absolute()
        shutil.move(whole.at("logs", 0), elsewhere)
        whole.at("logs", 0).symlink_to(elsewhere)
        whole.at("labels/.a.json.1.tmp", 0).write_text("half")
        assert pack_all(whole) == []
        assert (elsewhere / "merge_labels.log").exists() and whole.at("labels/.a.json.1.tmp", 0).exists()
        assert not whole.label(0).exists()

    def test_a_disk_that_takes_no_archive_ends_no_run(self, whole, monkeypatch):
        before = whole.content()
        monkeypatch.setattr(
            packed, "atomic_path", lambda path: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        [line] = pack_all(whole)
        assert "No space left" in line and "stay as they are" in line and whole.content() == before

    def test_a_member_that_was_not_written_as_it_is_removes_nothing(self, whole, monkeypatch):
        before = whole.content()
        monkeypatch.setattr(zipfile.ZipFile, "read", lambda self, name: b"something else")
        [line] = pack_all(whole)
        assert "was not written as it is" in line and whole.content() == before


class Killed(BaseException):
    """A process that ends in the middle."""


def kill_at(monkeypatch, count: int) -> None:
    """End the process at the n-th change of the disk: a file begun, renamed, removed or dated, a folder removed."""
    left = [count]

    def counting(function):
        def call(*arguments, **settings):
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return function(*arguments, **settings)

        return call

    for owner, name in ((os, "replace"), (os, "utime"), (Path, "unlink"), (Path, "rmdir"), (Path, "write_bytes")):
        monkeypatch.setattr(owner, name, counting(getattr(owner, name)))
    monkeypatch.setattr(zipfile.ZipFile, "writestr", counting(zipfile.ZipFile.writestr))


@pytest.mark.parametrize("direction", ["pack", "unpack"])
def test_a_kill_at_any_step_loses_nothing(whole, tmp_path, monkeypatch, direction):
    iteration, own = whole.at("", 1), OwnFiles(whole.paths.root)
    before = seen(iteration)
    if direction == "unpack":
        pack(iteration, own)
    for folder in (iteration, Path(".snakemake")):
        shutil.copytree(folder, tmp_path / "saved" / folder)
    for owner, name in ((os, "sync"), (os, "fsync")):
        monkeypatch.setattr(owner, name, lambda *arguments: None)
    for step in range(1, 200):
        for folder in (iteration, Path(".snakemake")):
            shutil.rmtree(folder)
            shutil.copytree(tmp_path / "saved" / folder, folder)
        try:
            with pytest.MonkeyPatch.context() as patch:
                kill_at(patch, step)
                (pack if direction == "pack" else unpack)(iteration, own)
            break
        except Killed:
            pass
        assert seen(iteration) == before, step
        assert whole.recovery.count_intact("main") == ITERATIONS
        again = pack if step % 2 else unpack
        again(iteration, own)
        assert seen(iteration) == before and (iteration / "packed.zip").exists() == (again is pack), step
    assert 10 < step < 199 and seen(iteration) == before


class TestUnpack:
    def test_an_iteration_that_is_to_be_made_again_is_unpacked(self, whole):
        before, times = whole.content(), {t: whole.at("batch.csv", t).stat().st_mtime_ns for t in range(ITERATIONS)}
        pack_all(whole)
        whole.at("dataset.h5", 1).unlink()
        assert whole.repair() == []
        whole.check_repaired(1)
        for t in (1, 2):
            assert whole.label(t).stat().st_mtime_ns == whole.job_input(t).stat().st_mtime_ns == times[t], (
                "as if never packed"
            )
            assert not whole.at("packed.zip", t).exists()
        assert whole.at("packed.zip", 0).exists()
        kept = {name: content for name, content in whole.content().items() if "packed.zip" not in name}
        assert {name: content for name, content in kept.items() if "timestamp" not in name}.items() <= before.items()
        assert record_path(str(whole.label(1))).exists() and not record_path(str(whole.label(0))).exists()

    def test_a_name_that_leads_elsewhere_is_not_followed(self, whole):
        with zipfile.ZipFile(whole.at("packed.zip", 0), "w") as archive:
            for name in ("../../evil", "/evil", "dataset.h5", "labels/../../evil"):
                archive.writestr(name, "evil")
        before = whole.content()
        unpack(whole.at("", 0), OwnFiles(whole.paths.root))
        assert whole.content().items() <= before.items() and not list(Path().rglob("evil"))

    def test_a_damaged_member_is_named_the_others_are_put_back(self, whole):
        pack_all(whole)
        archive, label = whole.at("packed.zip", 1), whole.label(1)
        data = bytearray(archive.read_bytes())
        with zipfile.ZipFile(archive) as file:
            entry = file.getinfo(f"labels/{label.name}")
        data[entry.header_offset + 30 + len(entry.filename) + entry.compress_size // 2] ^= 0xFF
        archive.write_bytes(data)
        with pytest.raises(ValueError, match=f"labels/{label.name} is damaged"):
            Folder(label.parent).read(label.name)
        whole.at("dataset.h5", 1).unlink()
        [line] = [line for line in whole.repair() if "packed.zip" in line]
        assert f"labels/{label.name}" in line
        assert not label.exists() and whole.label(1, 1).exists() and whole.at("packed.zip.damaged", 1).exists()


class TestBadLabels:
    """Label files that are not what batch, archive or store say."""

    def store_with(self, *records) -> Path:
        store = Path("label_store/m")
        for one in records:
            place = store / one.structure_id[:2] / f"{one.structure_id}.json"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(encode_records([one]))
        return store

    def repaired(self, whole, store: Path) -> list[str]:
        said: list[str] = []
        whole.recovery.repair(said.append, store)
        return [line for line in said if "/labels/" in line]

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"properties": {"energy": 1.02}}, "differs from the label of"),
            ({"method_id": "other"}, "has a label of method other, not of m"),
            ({"structure_id": "f" * 20}, "has the labels of other structures"),
        ],
    )
    def test_what_somebody_changed_with_a_checksum_of_its_own_is_not_gone_on_with(self, whole, changes, words):
        right = record(structure(1, 0).structure_id)
        store = self.store_with(right)
        whole.label(1).write_bytes(encode_records([replace(right, **changes)]))
        pack_all(whole)
        whole.at("dataset.h5", 1).unlink()
        [line] = self.repaired(whole, store)
        assert words in line and "taken from the store" in line and not whole.label(1).exists()
        assert whole.label(1, 1).exists(), "of which the store knows nothing"

    def test_failed_labels_are_compared_with_nothing(self, whole):
        right = record(structure(1, 0).structure_id)
        whole.label(1).write_bytes(encode_records([replace(right, status="out_of_time", properties={})]))
        whole.at("dataset.h5", 1).unlink()
        assert self.repaired(whole, self.store_with(right)) == []

    def test_a_damaged_file_does_not_beat_the_archive(self, whole):
        content = whole.label(1).read_bytes()
        pack_all(whole)
        for again in (lambda: pack_all(whole), lambda: unpack(whole.at("", 1), OwnFiles(whole.paths.root))):
            whole.label(1).parent.mkdir(exist_ok=True)
            whole.label(1).write_bytes(b"")
            again()
            assert Folder(whole.label(1).parent).read(whole.label(1).name) == content

    def test_an_archive_of_another_campaign_is_not_read_through_a_link(self, whole):
        other = Path("results/other/main/iter_001/packed.zip")
        other.parent.mkdir(parents=True)
        Path("results/other/campaign.json").write_text("{}")
        pack_all(whole)
        whole.at("packed.zip", 1).rename(other)
        whole.at("packed.zip", 1).symlink_to(other.resolve())
        whole.at("dataset.h5", 1).unlink()
        with pytest.raises(QuarryError, match="is a link into another campaign"):
            whole.repair()

    def test_what_a_killed_packing_left_is_removed_when_it_is_old(self, whole):
        new, old = (whole.at(f".packed.zip.1.{name}.tmp", 1) for name in ("new", "old"))
        for path in (new, old):
            path.write_bytes(b"half")
        os.utime(old, (1e9, 1e9))
        pack_all(whole)
        assert new.exists() and not old.exists()


class TestDamagedArchive:
    @pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
    def test_labels_come_from_the_store_and_nothing_is_made_again(self, whole, share):
        pack_all(whole)
        archive = whole.at("packed.zip", 1)
        data = archive.read_bytes()
        archive.write_bytes(data[: int(share * len(data))])
        assert whole.recovery.count_intact("main") == 1
        store = Path("label_store/m")
        for n in range(BATCH):
            name = structure(1, n).structure_id
            (store / name[:2]).mkdir(parents=True, exist_ok=True)
            (store / name[:2] / f"{name}.json").write_bytes(encode_records([record(name)]))
        said: list[str] = []
        whole.recovery.restore(store, said.append)
        assert len(said) == 1 and f"{BATCH} of {BATCH} label files" in said[0] and "damaged" in said[0]
        assert whole.recovery.count_intact("main") == ITERATIONS and whole.repair() == []
        assert pack_all(whole) == [] and whole.at("packed.zip", 1).exists()

    def test_a_look_says_what_a_start_would_do_and_changes_nothing(self, whole):
        pack_all(whole)
        whole.at("packed.zip", 1).write_bytes(b"")
        before = whole.content()
        said: list[str] = []
        whole.recovery.tell_damaged(said.append)
        assert len(said) == 1 and "iter_001/packed.zip is damaged" in said[0] and whole.content() == before

    def test_without_the_store_the_iteration_is_made_again(self, whole):
        pack_all(whole)
        whole.at("packed.zip", 1).write_bytes(b"")
        said: list[str] = []
        whole.recovery.restore(Path("label_store/m"), said.append)
        assert "0 of 2 label files" in said[0]
        whole.repair()
        assert whole.recovery.count_intact("main") == 1 and not whole.at("dataset.h5", 1).exists()
