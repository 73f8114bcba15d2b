"""The label store with many records: publishing, the look-up of a batch, folders, and many writers at once.

Records have the size of those of benzene (12 atoms with forces). Cold: after the page cache was dropped (needs root), which
is what a login node sees that has never read this store; a network file system adds one round trip for every record.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from common import machine, print_table

from quarry.files import digest_of
from quarry.labeling.claims import Claims
from quarry.labeling.record import LabelRecord, encode_records
from quarry.labeling.store import LabelStore, method_id_of
from quarry.randomness import generator

METHOD = {"engine": "benchmark", "functional": "B3LYP", "basis": "6-31G*"}
FORK = multiprocessing.get_context("fork")
PROCESSES = 8


def id_of(number: int) -> str:
    """Return the structure id of a made-up structure."""
    return digest_of(["benchmark", number], 20)


def make_record(number: int) -> LabelRecord:
    """Return a record of the usual size with made-up numbers."""
    forces = generator(number, "forces").normal(size=(12, 3)).tolist()
    return LabelRecord(
        structure_id=id_of(number),
        method_id=method_id_of(METHOD),
        method=METHOD,
        status="ok",
        message="",
        properties={"energy": -6317.0 - number * 1e-6, "forces": forces, "homo": -6.7, "lumo": 0.1, "gap": 6.8},
        attempts=[{"name": "plain", "cycles": 12, "converged": True, "wall_s": 30.0, "cpu_s": 29.5}],
        cost={"wall_s": 31.0, "cpu_s": 30.0, "threads": 1, "tasks": 1, "peak_memory_MB": 400.0, "size": {"atoms": 12}},
        origin={"campaign_id": "0123456789abcdef", "campaign": "benchmark", "arm": "main", "iteration": 0},
        host="node1",
        versions={"quarry": "0", "pyscf": "0"},
        finished="2026-11-20T12:00:00+00:00",
    )


def seconds_of(action: Callable[[], object]) -> float:
    """Return the wall time of an action (s)."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def drop_caches() -> bool:
    """Make the next look-up read from the disk; False where that is not permitted."""
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        return False
    return True


def look_up(store: LabelStore, ids: Sequence[str]) -> int:
    """Return how many of the labels are in the store, each read and its checksum compared."""
    return sum(store.get(structure_id) is not None for structure_id in ids)


def publish(store: LabelStore, numbers: Sequence[int], claimed: bool) -> None:
    """Publish records, with or without the claim that a label job takes first."""
    claims = Claims(store.folder, 20.0)
    for number in numbers:
        claim = claims.acquire(id_of(number)) if claimed else None
        store.put(make_record(number))
        if claim is not None:
            claim.release()


def at_once(action: Callable[[int], None]) -> float:
    """Return the wall time (s) until all processes have done their part, started at the same moment."""
    barrier = FORK.Barrier(PROCESSES + 1)

    def work(number: int) -> None:
        barrier.wait()
        action(number)

    processes = [FORK.Process(target=work, args=(n,)) for n in range(PROCESSES)]
    for process in processes:
        process.start()
    barrier.wait()
    start = time.perf_counter()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a process failed")
    return time.perf_counter() - start


def measure(root: Path, records: int, batch: int) -> list[list[object]]:
    """Fill a store and ask it."""
    store = LabelStore(root, method_id_of(METHOD), METHOD)
    rows: list[list[object]] = []

    def add(what: str, count: int, seconds: float, remark: str = "") -> None:
        rows.append([what, f"{count:,}", seconds, 1000 * seconds / count, remark])

    size = len(encode_records([make_record(0)]))
    # Made-up forces take as long as half of a fast write: taken off.
    making = seconds_of(lambda: [make_record(number) for number in range(1000)]) / 1000
    seconds = seconds_of(lambda: publish(store, range(records), claimed=False)) - records * making
    add("publish, one process", records, seconds, f"{size:,} bytes each, synced to disk")
    drawn = generator(1, "look-up").permutation(records)[: 2 * batch]
    present, absent = [id_of(int(n)) for n in drawn[:batch]], [id_of(records + n) for n in range(batch)]
    if drop_caches():
        add("look-up, all there, cold", batch, seconds_of(lambda: look_up(store, present)))
        drop_caches()
        add("look-up, none there, cold", batch, seconds_of(lambda: look_up(store, absent)))
    add("look-up, all there, warm", batch, seconds_of(lambda: look_up(store, [id_of(int(n)) for n in drawn[batch:]])))
    add("look-up, all there, warm, again", batch, seconds_of(lambda: look_up(store, present)))
    add("look-up, none there, warm", batch, seconds_of(lambda: look_up(store, absent)))
    assert look_up(store, present) == batch and look_up(store, absent) == 0
    parts = [range(records + n, records + batch, PROCESSES) for n in range(PROCESSES)]
    add(
        f"arriving at once from {PROCESSES} processes, different labels",
        batch,
        at_once(lambda n: publish(store, parts[n], claimed=False)),
    )
    same = range(records + batch, records + 2 * batch)
    add(
        f"arriving at once from {PROCESSES} processes, all the same labels",
        batch,
        at_once(lambda n: publish(store, same, claimed=False)),
        f"{PROCESSES * batch:,} attempts",
    )
    parts = [range(records + 2 * batch + n, records + 3 * batch, PROCESSES) for n in range(PROCESSES)]
    add(
        f"arriving at once from {PROCESSES} processes, claim, publish, release",
        batch,
        at_once(lambda n: publish(store, parts[n], claimed=True)),
    )
    assert look_up(store, [id_of(n) for n in range(records, records + 3 * batch)]) == 3 * batch
    return rows


def folders(root: Path) -> list[list[object]]:
    """Return the number of entries of the folders below a folder."""
    counts = Counter({folder: len(list(folder.iterdir())) for folder in root.rglob("*") if folder.is_dir()})
    left = sum(1 for path in root.rglob("*") if path.is_file() and ("claims" in path.parts or ".tmp" in path.name))
    return [[len(counts), max(counts.values()), sum(counts.values()) / len(counts), left]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--folder", default=None, help="where to make the store; a temporary folder when not given")
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        root = Path(temporary) / "label_store"
        rows = measure(root, arguments.records, arguments.batch)
        print_table(
            f"Label store with {arguments.records:,} records",
            ["what", "labels", "wall s", "ms per label", "remark"],
            rows,
        )
        print_table(
            "Folders of this store",
            ["folders", "largest (entries)", "mean (entries)", "claims and temporary files left"],
            folders(root),
        )
