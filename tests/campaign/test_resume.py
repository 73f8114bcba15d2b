"""Resume: whatever is deleted, truncated or killed, the same command goes on and pays nothing twice."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from quarry.campaign.campaign import Campaign
from quarry.campaign.invocation import Invocation
from quarry.campaign.manifest import read_manifest
from quarry.campaign.receipts import accounts
from quarry.config import load_configuration
from quarry.errors import QuarryError
from support.campaigns import CampaignFolder, kill_group, stand_in_configuration
from support.resuming import SEED, check_resumed, cuts, outputs_in_order


def two_arms():
    """The campaign: an arm and its control, two iterations each (every job costs a second of start-up)."""
    return stand_in_configuration(control={}, stop={"rrmse": None, "max_iterations": 1})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished campaign and its control arm, and what it holds."""
    configuration = two_arms()
    folder = CampaignFolder.create(tmp_path_factory.mktemp("finished") / "campaign", configuration)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert len(folder.calls()) == len(set(folder.calls())) == len(folder.stored())
    return folder


@pytest.fixture(scope="module")
def unpacked(finished, tmp_path_factory):
    """The same, with every file of its iterations in its place, as while it ran."""
    return finished.copy(tmp_path_factory.mktemp("unpacked") / "campaign").unpack()


# Every prefix of the interesting files takes half an hour; QUARRY_FUZZ_CUTS=1000 runs them all, the suite a sample
# that always holds the cuts in mid-batch, where the obvious loop loses labels (snakemake issue 3862).
CUTS = int(os.environ.get("QUARRY_FUZZ_CUTS", "5"))


def test_prefixes_of_the_outputs(finished, unpacked, tmp_path):
    order = outputs_in_order(unpacked)
    names = [str(p) for p in order]
    mid_batch = [
        next(i for i, n in enumerate(names) if n.startswith(f"results/toy/{arm}/iter_001/labels/"))
        for arm in ("main", "random_0")
    ]
    for cut in sorted({*cuts(len(order), CUTS), *mid_batch}):
        folder = unpacked.copy(tmp_path / f"cut_{cut}")
        for path in order[cut:]:
            (folder.path / path).unlink()
        check_resumed(folder, finished)


def test_prefix_with_the_labels_gone_from_the_store_too(finished, unpacked, tmp_path):
    """What is really lost is computed again, and nothing else."""
    order = outputs_in_order(unpacked)
    labels = [i for i, p in enumerate(order) if p.parent.name == "labels" and "main/iter_001" in str(p)]
    folder = unpacked.copy(tmp_path / "cut")
    lost = set()
    for path in order[labels[1] :]:
        (folder.path / path).unlink()
        if path.parent.name == "labels":
            lost.add(path.stem)
            for stored in (folder.path / "label_store").glob(f"*/??/{path.stem}.json"):
                stored.unlink()
    assert lost
    check_resumed(folder, finished, lost)


@pytest.mark.parametrize("number", range(2))
def test_random_subsets(finished, tmp_path, number):
    order = outputs_in_order(finished)
    dice = random.Random(SEED + number)
    folder = finished.copy(tmp_path / "subset")
    for path in dice.sample(order, k=dice.randrange(1, len(order) // 2)):
        (folder.path / path).unlink()
    check_resumed(folder, finished)


@pytest.mark.parametrize("number", range(2))
def test_truncated_files(finished, tmp_path, number):
    """Six files cut to half their length each time, the last iteration's gates among them."""
    dice = random.Random(SEED + number)
    folder = finished.copy(tmp_path / "truncated")
    order = outputs_in_order(finished)
    gates = [p for p in order if p.name in ("facts.json", "batch.csv", "dataset.h5", "cost.json", "structures.h5")]
    chosen = {*dice.sample(order, k=4), *dice.sample(gates, k=2)}
    for path in chosen:
        data = (folder.path / path).read_bytes()
        (folder.path / path).write_bytes(data[: len(data) // 2])
    check_resumed(folder, finished)


def test_truncated_record_in_the_store(finished, unpacked, tmp_path):
    """A damaged record in the store is moved aside and computed again, and said so."""
    folder = unpacked.copy(tmp_path / "store")
    label = next(p for p in outputs_in_order(unpacked) if p.parent.name == "labels" and "main/iter_001" in str(p))
    stored = next((folder.path / "label_store").glob(f"*/??/{label.stem}.json"))
    for path in (stored, folder.path / label):
        path.write_bytes(path.read_bytes()[:200])
    for path in (folder.results / "main/iter_001/facts.json", folder.results / "main/iter_001/cost.json"):
        path.unlink()
    check_resumed(folder, finished, {label.stem})
    assert stored.with_name(stored.name + ".damaged").exists()


@pytest.mark.parametrize("whole_group", [True, False], ids=["machine", "main process only"])
def test_kill_9_at_random_moments(tmp_path, whole_group, finished):
    """Killed four times at random moments; no label that was on disk at a restart is computed again."""
    dice = random.Random(SEED)
    configuration = two_arms()
    folder = CampaignFolder.create(tmp_path / "killed", configuration)
    for _ in range(4):
        known, before = folder.stored(), len(folder.calls())
        process = folder.start()
        time.sleep(dice.uniform(3.0, 9.0))
        if whole_group:
            kill_group(process)
        else:
            process.kill()
            process.wait()
        assert not known & set(folder.calls()[before:])
    time.sleep(0 if whole_group else 3)  # orphans of the last kill finish their call
    known, before = folder.stored(), len(folder.calls())
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert not known & set(folder.calls()[before:])
    assert folder.products() == finished.products()
    assert folder.run().nothing_to_do


def test_interrupt(tmp_path, finished):
    """Ctrl-C ends the run; the same command goes on."""
    folder = CampaignFolder.create(tmp_path / "interrupted", two_arms())
    process = folder.start()
    time.sleep(7)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) != 0
    assert not (folder.results / ".lease.json").exists()
    known = folder.stored()
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert len(folder.calls()) == len(set(folder.calls())) and known <= folder.stored()
    assert folder.products() == finished.products()


YEARS_NS = 10 * 365 * 86400 * 10**9


def shift(path: Path, by_ns: int) -> None:
    moment = time.time_ns() + by_ns
    os.utime(path, ns=(moment, moment))


DAMAGES = {
    "removed": lambda path: path.unlink(),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(random.Random(SEED).randbytes(300)),
    "of the future": lambda path: shift(path, YEARS_NS),
    "of long ago": lambda path: shift(path, -YEARS_NS),
}


def one_of_each_kind(results: Path) -> list[Path]:
    """A file of every kind that a campaign leaves: of each rule, of the pool, an iteration or a product, in some arm."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(p for p in results.rglob("*") if p.is_file() and "logs" not in p.parts):
        kind = str(path.relative_to(results))
        for pattern in (r"iter_\d+", r"[0-9a-f]{20}", r"^(main|random_0)\b"):
            kind = re.sub(pattern, "*", kind)
        kinds.setdefault(kind, []).append(path)
    dice = random.Random(SEED)
    return [dice.choice(paths) for paths in kinds.values()]


class Start:
    """What a start does to the files of a campaign before Snakemake looks at them, without Snakemake."""

    def __init__(self, folder: CampaignFolder) -> None:
        settings = yaml.safe_load((folder.path / "campaign.yaml").read_text())
        self.campaign = Campaign(load_configuration(settings, "campaign.yaml"), folder.path, Invocation.RUN)
        self.results = Path(self.campaign.paths.root)
        self.receipts = [path for path in self.results.rglob("receipts") if path.is_dir()]

    def repair(self) -> list[str]:
        said: list[str] = []
        self.campaign.recovery.repair(said.append)
        return said

    def check_times(self) -> None:
        """What is made of its inputs is not older than they are, and nothing is of the future."""
        first = {arm: self.campaign.recovery.count_intact(arm) for arm in self.campaign.arms}
        unread = {"logs", "receipts", "attempts", "failed"}
        # The labels of finished iterations are left out of the graph.
        sealed = [
            self.results / arm / f"iter_{t:03d}" / name
            for arm in first
            for t in range(first[arm])
            for name in ("labels", "batch")
        ]
        for path in (p for p in self.results.rglob("*") if p.is_file() and p.parent not in sealed):
            if not unread & {*path.parts}:
                assert path.stat().st_mtime_ns < time.time_ns() + 10**9, path
        for folder in self.receipts:
            if folder.parent.name[:5] == "iter_" and int(folder.parent.name[5:]) < first[folder.parents[1].name]:
                continue  # left out of the graph
            for account in accounts(folder):
                files = [*account.outputs, *account.inputs, *account.labels]
                if all(path.exists() for path in files) and account.is_true:
                    newest = max((p.stat().st_mtime_ns for p in [*account.inputs, *account.labels]), default=0)
                    assert min(p.stat().st_mtime_ns for p in account.outputs) >= newest, account


UNREAD_FOLDERS = ("labels", "batch", "attempts", "benchmarks")
WRITTEN_ANEW = ("campaign.json", "dataset_settings.json", "last_run.json")
"""The user's manifest, and what a run writes by itself before its first job."""


def state(results: Path) -> dict[Path, tuple[bytes, int]]:
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in results.rglob("*") if p.is_file()}


def restore(results: Path, whole: dict[Path, tuple[bytes, int]]) -> None:
    for path in {p for p in results.rglob("*") if p.is_file()} - whole.keys():
        path.unlink()
    for path, (data, time_ns) in whole.items():
        if not path.exists() or path.stat().st_mtime_ns != time_ns or path.read_bytes() != data:
            path.write_bytes(data)
            os.utime(path, ns=(time_ns, time_ns))


def test_whatever_befalls_one_file_a_start_leaves_what_is_right(finished, tmp_path, monkeypatch):
    """Every kind of file in results, and everything that happens to files. What is left is intact and in order; what is not
    left is made again, labels from the store.
    """
    folder = finished.copy(tmp_path / "campaign").unpack("main")
    monkeypatch.chdir(folder.path)
    start = Start(folder)
    whole = state(start.results)
    assert start.repair() == [] and state(start.results) == whole
    start.check_times()
    for path in one_of_each_kind(start.results):
        for name, damage in DAMAGES.items():
            damage(path)
            case = f"{path} {name}"
            if path.name == "campaign.json":
                with contextlib.suppress(QuarryError):
                    assert (read_manifest(path) is None) == (name == "removed"), case
            start.repair()
            left = state(start.results)
            # Nobody reads these of sealed iterations, and benchmarks never; the manifest is the user's.
            unread = path.name in WRITTEN_ANEW or path.parent.name in UNREAD_FOLDERS
            wrong = [p for p in left if ".damaged" not in p.name and p in whole and left[p][0] != whole[p][0]]
            assert wrong == [] or (unread and wrong == [path]), case
            lost = [p for p in whole if p.parent.name == "labels" and p not in left and p != path]
            assert not lost, case
            start.check_times()
            assert start.repair() == [], f"{case}: a start that follows a start finds nothing damaged"
            assert state(start.results).items() <= left.items(), case
            restore(start.results, whole)


def test_many_things_at_once(finished, tmp_path):
    """Files of ten kinds, each with its damage, and Snakemake's records of half of the jobs; then a run."""
    folder = finished.copy(tmp_path / "campaign")
    dice = random.Random(SEED)
    files = [p for p in one_of_each_kind(folder.results) if p.name != "campaign.json"]
    for path, name in zip(dice.sample(files, k=10), dice.choices(list(DAMAGES), k=10), strict=True):
        DAMAGES[name](path)
    records = sorted(p for p in (folder.path / ".snakemake/metadata").rglob("*") if p.is_file())
    for path in dice.sample(records, k=len(records) // 2):
        DAMAGES[dice.choice(["removed", "half", "empty", "garbage"])](path)
    check_resumed(folder, finished)


COPIES = {
    "cp -a": "cp -a results/toy results/other",
    "cp -r": "cp -r results/toy results/other",
    "mv": "mv results/toy results/other",
    "link": "mv results elsewhere && ln -s elsewhere results && mv results/toy results/other",
    "link of the campaign": "mkdir disk && mv results/toy disk/other && ln -s ../disk/other results/other",
    "hard links": "cp -al results/toy results/other",
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copied_campaign_goes_on_and_leaves_the_original_alone(finished, tmp_path, monkeypatch, how):
    folder = finished.copy(tmp_path / "campaign")
    monkeypatch.chdir(folder.path)
    subprocess.run(COPIES[how], shell=True, check=True)
    original = state(Path("results/toy"))
    folder.configure({**two_arms(), "name": "other"})
    start = Start(folder)
    assert start.repair() == []
    assert [start.campaign.recovery.count_intact(arm) for arm in start.campaign.arms] == [2, 2]
    start.check_times()
    Path("results/other/history.csv").write_text("")
    Path("results/other/main/iter_001/dataset.h5").unlink()
    Path("results/other/main/iter_001/model/model.h5").write_bytes(b"damaged")
    shift(Path("results/other/pool/structures.h5"), YEARS_NS)
    start.repair()
    assert start.campaign.recovery.count_intact("main") == 1
    for path, (data, time_ns) in original.items() if Path("results/toy").exists() else ():
        if how != "hard links" or path.name not in ("history.csv", "model.h5", "structures.h5"):
            assert (path.read_bytes(), path.stat().st_mtime_ns) == (data, time_ns)


def test_a_copy_with_new_times_has_nothing_to_do(finished, tmp_path):
    """In a working directory of its own, without Snakemake's records and without the store."""
    folder = CampaignFolder(tmp_path / "copy")
    folder.path.mkdir()
    subprocess.run(["cp", "-r", finished.path / "results", folder.path], check=True)
    for name in ("campaign.yaml", "pool.extxyz", "stand_in.py"):
        shutil.copy(finished.path / name, folder.path)
    (folder.path / "results/toy").rename(folder.path / "results/other")
    folder.configure({**two_arms(), "name": "other"})
    for table in (folder.path / "results/other").glob("*/iter_*/batch.csv"):
        os.utime(table)  # As if it was copied last: what is packed must not be newer than what was made of it.
    outcome = folder.run("--summary")
    assert outcome.code == 0, outcome.text[-3000:]
    labels = [line for line in outcome.text.splitlines() if "/labels/" in line]
    assert labels and all(line.endswith("\tno update") for line in labels)
    outcome = folder.run()
    assert outcome.nothing_to_do and outcome.code == 0, outcome.text[-3000:]
    assert not folder.calls()
