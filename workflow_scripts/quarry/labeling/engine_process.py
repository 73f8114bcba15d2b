"""What runs in the engine's process: requests from the line, the engine's answer to each back into it."""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from quarry.errors import reason_of
from quarry.files import canonical_json
from quarry.labeling.channel import Channel, ChannelError
from quarry.labeling.engines.answers import plain_properties
from quarry.labeling.engines.base import Engine, EngineResult, status_of
from quarry.processes import only_this_process
from quarry.structures import Structure

MEGABYTE = 2**20
"""As Slurm counts it."""
PR_SET_PDEATHSIG = 1
LINE_LOST = 97
"""Exit code of an engine that can no longer answer: code of the user's closed or replaced the line's descriptor."""


def serve(ends: tuple[Channel, Channel], parent: int, make_engine: Callable[[], Engine], threads: int) -> None:
    """Label what comes through the line until it closes. Runs in the child of the label job.

    ends: the engine's and the job's end of the line. parent: number of the job's process. threads: of the engine.
    """
    line, theirs = ends
    theirs.close()
    with suppress(PermissionError):
        os.setpgid(0, 0)
    # A parent that is killed cannot end its child; the kernel does it instead (Linux).
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A process that the engine's code starts by "spawn" runs the main module again: this job's script, which would wait
    # for the very label that it is part of.
    sys.modules["__main__"] = types.ModuleType("__main__")
    with only_this_process():
        engine = make_engine()
    while True:
        try:
            nonce, content = _next_request(line)
        except EOFError:
            return
        except ChannelError:
            os._exit(LINE_LOST)
        structure: Structure = pickle.loads(content)
        structure_id, before = structure.structure_id, _cpu_seconds()
        with only_this_process(), _surroundings_kept():
            result = _call(engine, structure, threads)
            if not result.size:
                with suppress(Exception):
                    result.size = engine.size(structure)
            versions = engine.versions()
        answer = {
            "structure_id": structure_id,
            "result": asdict(result),
            "cpu_s": _cpu_seconds() - before,
            "peak_memory_MB": _peak_memory_MB(),
            "versions": versions,
        }
        try:
            line.send(nonce, canonical_json(answer).encode())
        except ChannelError:
            os._exit(LINE_LOST)


def _next_request(line: Channel) -> tuple[bytes, bytes]:
    while (frame := line.receive()) is None:
        line.poll(None)
    return frame


@contextmanager
def _surroundings_kept() -> Iterator[None]:
    """Put back the working directory, signal handlers and alarms: what the code did for one structure is over with it."""
    folder = Path.cwd()
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 0)
        os.chdir(folder)
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _call(engine: Engine, structure: Structure, threads: int) -> EngineResult:
    try:
        return _checked(engine.label(structure, threads), len(structure))
    except MemoryError:
        return EngineResult("out_of_memory", message="the engine ran out of memory")
    except SystemExit as error:
        return EngineResult("engine_error", message=f"the engine's code called sys.exit({error.code!r:.100})")
    except Exception as error:
        return EngineResult(status_of(error), message=reason_of(error, named=True))


def _checked(result: EngineResult, n_atoms: int) -> EngineResult:
    """Return the result; what is no plain data, or a label whose numbers are none, is no label, whatever the engine says."""
    try:
        canonical_json([result.properties, result.attempts, result.details, result.size])
    except (TypeError, ValueError) as error:
        return EngineResult("engine_error", message=f"the engine's answer cannot be written down: {error}")
    if result.status != "ok":
        return result
    if not result.properties:
        return EngineResult("engine_error", result.properties, result.attempts, "the engine gave no property")
    try:
        result.properties = plain_properties(result.properties, n_atoms)
    except ValueError as error:
        return EngineResult("engine_error", attempts=result.attempts, message=f"the engine {error}")
    return result


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _peak_memory_MB() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return max(own.ru_maxrss, children.ru_maxrss) * 1024 / MEGABYTE
