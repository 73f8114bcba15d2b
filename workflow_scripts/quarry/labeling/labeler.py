"""One label job: leaf file in, record file out, and the store in between."""

from __future__ import annotations

import resource
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quarry import __version__
from quarry.labeling.engines.base import Engine, EngineResult
from quarry.labeling.record import LabelRecord, write_records
from quarry.labeling.store import LabelStore
from quarry.structures import Structure
from quarry.structures.files import read_leaf


def label_leaf(
    leaf: str | Path,
    output: str | Path,
    engine: Engine,
    method_id: str,
    store: LabelStore,
    origin: dict[str, Any],
    threads: int,
) -> None:
    """Label the structures of a leaf file, each published to the store the moment it is finished.

    A structure that the store already has is not computed. Chemistry never fails the job: it gives a record with a
    failure class.
    """
    records = []
    for structure in read_leaf(leaf):
        record = store.get(structure.structure_id)
        if record is None:
            record = store.put(label_structure(engine, structure, method_id, store.method, origin, threads))
        records.append(record)
    write_records(output, records)


def label_structure(
    engine: Engine,
    structure: Structure,
    method_id: str,
    method: dict[str, Any],
    origin: dict[str, Any],
    threads: int,
) -> LabelRecord:
    """Run the engine on one structure and account for it."""
    wall, cpu = time.monotonic(), _cpu_seconds()
    try:
        result = engine.label(structure, threads)
    except MemoryError:
        result = EngineResult("out_of_memory", message="the engine ran out of memory")
    except Exception as error:
        reason = " ".join(str(error).split())
        result = EngineResult("engine_error", message=f"{type(error).__name__}: {reason}")
    cost = {
        "wall_s": round(time.monotonic() - wall, 3),
        "cpu_s": round(_cpu_seconds() - cpu, 3),
        "threads": threads,
        "peak_memory_MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    return LabelRecord(
        structure_id=structure.structure_id,
        method_id=method_id,
        method=method,
        status=result.status,
        message=result.message,
        properties=result.properties if result.status == "ok" else {},
        attempts=result.attempts,
        cost=cost,
        origin=origin,
        host=socket.gethostname(),
        versions={"quarry": __version__, **engine.versions()},
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
