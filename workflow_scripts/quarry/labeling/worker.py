"""The engine in a child process, watched by its parent: memory, time, and what is left when it dies.

The child is forked before any numerical library is loaded, so that nothing is imported twice, and ends with its parent.
It labels one structure after another; when it dies a new one takes its place.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import psutil

from quarry.files import canonical_json
from quarry.labeling.engines.base import Engine, EngineResult
from quarry.structures import Structure

FIRST_LOOK_S, LONGEST_LOOK_S = 0.05, 0.5
"""Time between two looks at the engine: short at first, as memory is taken early."""
CHILDREN_FOR_S = 2.0
"""How long a list of the programs that the engine started is used: making it reads every process of the node."""
GRACE_S = 3.0
"""Time that the engine's programs have to end by themselves."""
MEGABYTE = 2**20
"""As Slurm counts it."""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Limits:
    """What one label may use.

    memory_MB: resident memory of the engine and the programs that it starts. end: moment of ``time.monotonic()`` at
    which it is ended. straggler_s: wall time after which it counts as a straggler, if that comes first.
    """

    memory_MB: float = float("inf")
    end: float = float("inf")
    straggler_s: float = float("inf")


@dataclass
class Outcome:
    """What became of one structure: the engine's result and what it cost.

    straggler: ended because it took much longer than predicted.
    """

    result: EngineResult
    wall_s: float
    cpu_s: float
    peak_memory_MB: float
    versions: dict[str, str] = field(default_factory=dict)
    straggler: bool = False


class Worker:
    """Labels structures in a child process."""

    def __init__(self, make_engine: Callable[[], Engine], threads: int) -> None:
        """make_engine: called in the child, so that the parent loads no chemistry."""
        self._make_engine = make_engine
        self._threads = threads
        self._process: Any = None
        self._connection: Connection | None = None

    def label(self, structure: Structure, limits: Limits, watch: Callable[[float, float], None]) -> Outcome:
        """Label a structure within limits; whatever happens to the engine ends as a typed result.

        watch: called at every look with the wall time (s) and the peak memory (MB) so far; what it raises ends the
        engine and passes.
        """
        if self._process is None or not self._process.is_alive():
            self._start()
        assert self._connection is not None
        began, peak, pause = time.monotonic(), 0.0, FIRST_LOOK_S
        tree = _Tree(self._process.pid)
        try:
            self._connection.send(structure)
            while not self._connection.poll(pause):
                pause = min(pause * 1.5, LONGEST_LOOK_S)
                elapsed = time.monotonic() - began
                peak = max(peak, tree.memory_MB())
                watch(elapsed, peak)
                if not self._process.is_alive() and not self._connection.poll():
                    # A program that it has started may still hold the other end open.
                    raise EOFError
                over = _beyond(limits, peak, elapsed)
                if over is not None:
                    cpu_s = tree.cpu_s()
                    self.close()
                    late = over.status == "out_of_time" and elapsed > limits.straggler_s
                    return Outcome(over, elapsed, cpu_s, peak, straggler=late)
            result, cpu_s, own_peak, versions = self._connection.recv()
            return Outcome(result, time.monotonic() - began, cpu_s, max(peak, own_peak), versions)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join(GRACE_S)
            dead = _death(self._process.exitcode, peak)
            self.close()
            return Outcome(dead, time.monotonic() - began, 0.0, peak)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the child and every program that it has started."""
        if self._process is None:
            return
        process, self._process = self._process, None
        family = []
        with suppress(psutil.Error):
            family = psutil.Process(process.pid).children(recursive=True)
        if family:
            # Asked first: srun that is killed leaves its tasks running, srun that is asked to end takes them along.
            self._signal(process.pid, family, signal.SIGTERM)
            psutil.wait_procs(family, timeout=GRACE_S)
        self._signal(process.pid, family, signal.SIGKILL)
        if process.is_alive():
            process.kill()
        process.join()
        if self._connection is not None:
            self._connection.close()

    def _signal(self, group: int, family: list[psutil.Process], number: int) -> None:
        # The group first: it may still be starting programs.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
        for relative in family:
            with suppress(psutil.Error):
                relative.send_signal(number)

    def _start(self) -> None:
        self.close()
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        parent = os.getpid()
        self._process = context.Process(target=_serve, args=(theirs, parent, self._make_engine, self._threads))
        self._process.start()
        with suppress(ProcessLookupError, PermissionError):
            # Also done by the child: whoever comes first, the group exists before it is needed.
            os.setpgid(self._process.pid, self._process.pid)
        theirs.close()


def _serve(connection: Connection, parent: int, make_engine: Callable[[], Engine], threads: int) -> None:
    """Label what comes through the connection until it closes. Runs in the child."""
    with suppress(PermissionError):
        os.setpgid(0, 0)
    # A parent that is killed cannot end its child; the kernel does it instead (Linux).
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    engine = make_engine()
    while True:
        try:
            structure = connection.recv()
        except EOFError:
            return
        before = _cpu_seconds()
        result = _call(engine, structure, threads)
        if not result.size:
            with suppress(Exception):
                result.size = engine.size(structure)
        connection.send((result, _cpu_seconds() - before, _peak_memory_MB(), engine.versions()))


def _call(engine: Engine, structure: Structure, threads: int) -> EngineResult:
    try:
        return _checked(engine.label(structure, threads))
    except MemoryError:
        return EngineResult("out_of_memory", message="the engine ran out of memory")
    except Exception as error:
        reason = " ".join(str(error).split())
        return EngineResult("engine_error", message=f"{type(error).__name__}: {reason}")


def _checked(result: EngineResult) -> EngineResult:
    """Return the result; a number that is not finite or no plain data is no label, whatever the engine says."""
    try:
        canonical_json([result.properties, result.attempts, result.details, result.size])
    except (TypeError, ValueError) as error:
        return EngineResult("engine_error", message=f"the engine's answer cannot be written down: {error}")
    if result.status == "ok" and not result.properties:
        return EngineResult("engine_error", result.properties, result.attempts, "the engine gave no property")
    return result


def _beyond(limits: Limits, peak_MB: float, elapsed_s: float) -> EngineResult | None:
    """Return the failure of an engine that is beyond a limit."""
    if peak_MB > limits.memory_MB:
        return EngineResult(
            "out_of_memory", message=f"ended at {peak_MB:.0f} MB, above its limit of {limits.memory_MB:.0f} MB"
        )
    if elapsed_s > limits.straggler_s:
        return EngineResult(
            "out_of_time", message=f"a straggler: ended after {elapsed_s:.0f} s, the limit by its predicted time"
        )
    if time.monotonic() > limits.end:
        return EngineResult(
            "out_of_time", message=f"ended after {elapsed_s:.0f} s, shortly before the job's time limit"
        )
    return None


def _death(exit_code: int | None, peak_MB: float) -> EngineResult:
    """Return the failure of an engine that died by itself or was killed by somebody else."""
    if exit_code == -signal.SIGKILL:
        return EngineResult("out_of_memory", message=f"killed by the system (last seen with {peak_MB:.0f} MB)")
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        return EngineResult("engine_error", message=f"the engine died of {name} (last seen with {peak_MB:.0f} MB)")
    return EngineResult("engine_error", message=f"the engine ended by itself with exit code {exit_code}")


class _Tree:
    """The engine and the programs that it has started."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._members: list[psutil.Process] = [self._root]
        self._known = float("-inf")

    def memory_MB(self) -> float:
        """Return the resident memory of all, in MB."""
        now = time.monotonic()
        if now - self._known > CHILDREN_FOR_S:
            with suppress(psutil.Error):
                self._members = [self._root, *self._root.children(recursive=True)]
            self._known = now
        total = 0
        for member in self._members:
            with suppress(psutil.Error):
                total += member.memory_info().rss
        return total / MEGABYTE

    def cpu_s(self) -> float:
        """Return the CPU time of all so far."""
        total = 0.0
        for member in self._members:
            with suppress(psutil.Error):
                times = member.cpu_times()
                total += times.user + times.system
        return total


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _peak_memory_MB() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return max(own.ru_maxrss, children.ru_maxrss) * 1024 / MEGABYTE
