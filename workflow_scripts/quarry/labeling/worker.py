"""The engine in a child process, watched by its parent: memory, time, and what is left when it dies.

The child is forked before any numerical library is loaded, so that nothing is imported twice, and ends with its parent.
It labels one structure after another; when it dies a new one takes its place.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from quarry.labeling.channel import Channel, ChannelError, make_line, new_nonce
from quarry.labeling.engine_process import LINE_LOST, MEGABYTE, serve
from quarry.labeling.engines.base import Engine, EngineResult
from quarry.structures import Structure

FIRST_LOOK_S, LONGEST_LOOK_S = 0.05, 0.5
"""Time between two looks at the engine: short at first, as memory is taken early."""
CHILDREN_FOR_S = 2.0
"""How long a list of the programs that the engine started is used: making it reads every process of the node."""
GRACE_S = 3.0
"""Time that the engine's programs have to end by themselves."""
UNBELIEVED = "what came in place of an answer is not the engine's: a forked process or a duplicated descriptor?"


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
        self._channel: Channel | None = None

    def label(self, structure: Structure, limits: Limits, watch: Callable[[float, float], None]) -> Outcome:
        """Label a structure within limits; whatever happens to the engine ends as a typed result.

        watch: called at every look with the wall time (s) and the peak memory (MB) so far; what it raises ends the
        engine and passes.
        """
        if self._process is None or not self._process.is_alive() or not self._line.is_quiet:
            # Not quiet: code of an earlier structure wrote into the line. It must not spoil this one.
            self._start()
        began, peak, pause = time.monotonic(), 0.0, FIRST_LOOK_S
        tree, nonce = _Tree(self._process.pid), new_nonce()
        try:
            self._line.send(nonce, pickle.dumps(structure))
            while (answer := self._answer(nonce, structure)) is None:
                if self._line.poll(pause):
                    continue
                pause = min(pause * 1.5, LONGEST_LOOK_S)
                elapsed = time.monotonic() - began
                peak = max(peak, tree.memory_MB())
                watch(elapsed, peak)
                if not self._process.is_alive() and not self._line.poll(0):
                    # A program that it has started may still hold the other end open.
                    raise EOFError
                over = _beyond(limits, peak, elapsed)
                if over is not None:
                    cpu_s = tree.cpu_s()
                    self.close()
                    late = over.status == "out_of_time" and elapsed > limits.straggler_s
                    return Outcome(over, elapsed, cpu_s, peak, straggler=late)
            peak = max(peak, answer["peak_memory_MB"])
            wall_s = time.monotonic() - began
            return Outcome(answer["result"], wall_s, answer["cpu_s"], peak, answer["versions"])
        except (EOFError, BrokenPipeError, ConnectionResetError):
            # Not by join: it waits without end for a process that has closed its descriptors and lives on.
            _await(lambda: not self._process.is_alive())
            dead = _death(self._process.exitcode, peak)
            self.close()
            return Outcome(dead, time.monotonic() - began, 0.0, peak)
        except ChannelError as error:
            cpu_s = tree.cpu_s()
            self.close()
            spoilt = EngineResult("engine_error", message=f"{UNBELIEVED} ({error})")
            return Outcome(spoilt, time.monotonic() - began, cpu_s, peak)
        except BaseException:
            self.close()
            raise

    @property
    def _line(self) -> Channel:
        assert self._channel is not None
        return self._channel

    def _answer(self, nonce: bytes, structure: Structure) -> dict[str, Any] | None:
        """Return the answer to a request, None while there is none; an answer to another request is dropped.

        Raises EOFError and ChannelError as ``Channel.receive``, the latter also for an answer about another structure.
        """
        while (frame := self._line.receive()) is not None and frame[0] != nonce:
            pass
        if frame is None:
            return None
        try:
            answer: dict[str, Any] = json.loads(frame[1])
            answer["result"] = EngineResult(**answer["result"])
            whose, numbers = answer["structure_id"], (answer["cpu_s"], answer["peak_memory_MB"])
            if not (all(isinstance(n, int | float) for n in numbers) and isinstance(answer["versions"], dict)):
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            # Code of the user's may have changed the library that writes it.
            raise ChannelError(f"it is no answer: {type(error).__name__}") from error
        if whose != structure.structure_id:
            raise ChannelError(f"it is about structure {whose}")
        return answer

    def close(self) -> None:
        """End the child and every program that it has started."""
        if self._process is None:
            return
        process, self._process = self._process, None
        family = []
        with suppress(psutil.Error):
            family = [p for p in psutil.Process(process.pid).children(recursive=True) if not _has_ended(p)]
        if family:
            # Asked first: srun that is killed leaves its tasks running, srun that is asked to end takes them along.
            self._signal(process.pid, family, signal.SIGTERM)
            _await(lambda: all(_has_ended(p) for p in family))
        self._signal(process.pid, family, signal.SIGKILL)
        if process.is_alive():
            process.kill()
        process.join()
        if self._channel is not None:
            self._channel.close()

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
        self._channel, theirs = make_line()
        parent = os.getpid()
        ends = (theirs, self._channel)
        self._process = context.Process(target=serve, args=(ends, parent, self._make_engine, self._threads))
        self._process.start()
        with suppress(ProcessLookupError, PermissionError):
            # Also done by the child: whoever comes first, the group exists before it is needed.
            os.setpgid(self._process.pid, self._process.pid)
        theirs.close()


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
    if exit_code == LINE_LOST or exit_code is None:
        # Alive without the line: it replaced itself by another program.
        return EngineResult(
            "engine_error", message="the engine's code closed or replaced the descriptor of its answers"
        )
    return EngineResult("engine_error", message=f"the engine ended by itself with exit code {exit_code}")


def _await(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, for a while."""
    end = time.monotonic() + GRACE_S
    while not condition() and time.monotonic() < end:
        time.sleep(FIRST_LOOK_S)


def _has_ended(process: psutil.Process) -> bool:
    """Whether a process is gone or waits for nothing but its parent's look at it, for which nobody needs to wait."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


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
