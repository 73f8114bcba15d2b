"""Labels from a user-defined program: input files from templates, a command, an output file."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from quarry.config.engines.command import CommandLabeling
from quarry.config.resources import LabelResources
from quarry.errors import QuarryError, reason_of
from quarry.files import sha256_of
from quarry.imports import check_arguments, load
from quarry.labeling.attempts import MACHINE_FAULT
from quarry.labeling.engines.base import EngineResult, status_of
from quarry.labeling.engines.outputs import properties_from
from quarry.labeling.engines.programs import check_program
from quarry.labeling.engines.scratch import problem_of, reserve, scratch_folder
from quarry.labeling.engines.states import State, refuse_untold, untold
from quarry.labeling.engines.templates import OF_COMMAND, OF_INPUT, filled, placeholders, values_of, xyz_text
from quarry.structures import Structure

STDOUT, STDERR, SCRIPT, GEOMETRY = "stdout.txt", "stderr.txt", "command.sh", "structure.xyz"
KILLED = (137, -9)
"""Exit codes of a program that got SIGKILL: from bash, and of bash itself."""
LAST_LINES, LAST_CHARACTERS = 20, 2000
NO_SPACE = "(?i)no space left on device|disk quota exceeded"
"""What programs print, in the words of the C library, when a disk is full that may not be the scratch folder's."""
VERSION_WITHIN_S = 60
PR_SET_PDEATHSIG = 1
GUARD = "trap 'trap \"\" TERM; kill -TERM 0' TERM\n"
"""The shell gets SIGTERM when the engine dies, however that comes about, and passes it to every program of the group."""


class CommandEngine:
    """Runs ``command`` with bash, for each structure in a new scratch folder.

    The program is a child of this process and in its process group: who ends the group ends the program. Where the engine
    leads the group, as in label jobs, the program also ends when the engine alone is killed.
    """

    name = "command"
    one_job_per_batch = False

    def __init__(
        self, labeling: CommandLabeling, base: str | Path = ".", resources: LabelResources | None = None
    ) -> None:
        """base: folder of the campaign file. resources: what the job has, for placeholders and launcher."""
        self.labeling = labeling
        self.periodic = labeling.periodic
        self.base = Path(base).resolve()
        self.resources = resources or LabelResources()
        self.templates = {name: self.base / path for name, path in labeling.input.items()}
        self._versions: dict[str, str] | None = None

    @classmethod
    def of(cls, labeling: CommandLabeling, base: Path, resources: LabelResources) -> Self:
        """Return the engine of a section (see ``Engine.of``)."""
        return cls(labeling, base, resources)

    def method_identity(self) -> dict[str, Any]:
        """Return command, content of the templates, how the output is read, and the version that the user states.

        Not where and with how many tasks it runs, nor modules and environment: a program that gives other numbers in
        another version needs another ``version``.
        """
        return {
            "engine": self.name,
            "command": self.labeling.command,
            "input": {name: sha256_of(path) for name, path in self.templates.items()},
            "output": self.labeling.output.model_dump(mode="json"),
            "version": self.labeling.version,
        }

    def size(self, structure: Structure) -> dict[str, int]:
        """Return the number of atoms."""
        return {"atoms": len(structure)}

    def versions(self) -> dict[str, str]:
        """Return the version that the user states and the first line that ``version_command`` prints."""
        if self._versions is None:
            stated = {"stated": self.labeling.version} if self.labeling.version else {}
            self._versions = stated | self._printed_version()
        return self._versions

    def _printed_version(self) -> dict[str, str]:
        if not self.labeling.version_command:
            return {}
        printed = ""
        with suppress(OSError, subprocess.SubprocessError):
            printed = subprocess.run(
                [*self._shell(), "-c", self._with_modules(self.labeling.version_command)],
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=VERSION_WITHIN_S,
                env=self._environment(1),
                check=False,
            ).stdout
        lines = [line.strip() for line in printed.splitlines() if line.strip()]
        return {"command": lines[0][:200] if lines else "unknown"}

    def check(self, elements: list[int]) -> None:
        """Raise QuarryError for what can be seen before any job; elements do not matter.

        That is: templates, placeholders, shell syntax, the parser, and a program that is not there.
        """
        settings = self.labeling
        used = self._placeholders()
        if settings.output.parser:
            parser = load(settings.output.parser, "labeling.output.parser")
            check_arguments(parser, (), settings.output.parser, "labeling.output.parser", by_place=1)
        tasks = self.resources.tasks
        if settings.launcher != "none" and "launcher" not in used:
            raise QuarryError(
                f"labeling.launcher is {settings.launcher}, but labeling.command has no $launcher; write it before the program"
            )
        if tasks > 1 and not used & {"launcher", "tasks"}:
            raise QuarryError(
                f"resources.label.tasks = {tasks}, but labeling.command uses neither $launcher nor $tasks; "
                "write one of them there"
            )
        command = self._command(dict.fromkeys(OF_COMMAND, "1") | self._values(1))
        syntax = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
        if syntax.returncode:
            raise QuarryError(f"labeling.command: bash does not understand it: {_last_line(syntax.stderr)}")
        if not settings.modules:
            check_program(command, self._environment(1))

    def check_states(self, states: Iterable[State]) -> None:
        """Raise QuarryError for a charge or multiplicity that neither command nor input files hold."""
        refuse_untold(states, *self._told(), ADVICE)

    def label(self, structure: Structure, threads: int) -> EngineResult:
        """Run the program on one structure; whatever it does ends as a typed result.

        The details of the result hold exit code and the last lines of what the program printed.
        """
        wall, cpu = time.perf_counter(), os.times()
        result = self._refusal(structure)
        if result is None:
            with scratch_folder(self.labeling.scratch) as folder:
                try:
                    result = self._run(folder, structure, threads)
                except MemoryError:
                    result = EngineResult("out_of_memory", message="out of memory while reading the output")
                except OSError as error:
                    result = EngineResult(status_of(error), message=f"in the scratch folder: {error}")
                problem = None if result.status == "ok" else problem_of(folder)
                if problem is not None:
                    # Whatever the program says, and be it that it lacks memory.
                    result = EngineResult(MACHINE_FAULT, message=f"{problem}; {result.message}", details=result.details)
                if result.status != "ok" and self.labeling.keep:
                    self._keep(folder, structure, result)
        result.size = self.size(structure)
        now = os.times()
        result.attempts.append(
            {
                "name": "command",
                "cycles": None,
                "converged": result.status == "ok",
                "wall_s": time.perf_counter() - wall,
                "cpu_s": sum(now[:4]) - sum(cpu[:4]),
            }
        )
        return result

    def _refusal(self, structure: Structure) -> EngineResult | None:
        if any(structure.pbc) and not self.periodic:
            return EngineResult(
                "invalid_structure", message="the structure is periodic, and labeling.periodic is false"
            )
        ignored = untold((structure.charge, structure.multiplicity), *self._told())
        if ignored:
            return EngineResult(
                "invalid_structure", message=f"nobody tells the program the structure's {ignored}; {ADVICE}"
            )
        return None

    def _run(self, folder: Path, structure: Structure, threads: int) -> EngineResult:
        values = values_of(structure) | self._values(threads)
        (folder / GEOMETRY).write_text(xyz_text(structure))
        for name, template in self.templates.items():
            (folder / name).write_text(filled(template.read_text(), values))
        # An engine that leads its process group can end the group when it dies; another's group is not ours to end.
        guarded = os.getpgrp() == os.getpid()
        script = f"(\nset -e -o pipefail\n{self._command(values)}\n) & wait $!"
        (folder / SCRIPT).write_text((GUARD if guarded else "") + self._with_modules(script) + "\n")
        with open(folder / STDOUT, "wb") as out, open(folder / STDERR, "wb") as err:
            # What it has to say about a full disk is written there too.
            reserve(err)
            process = subprocess.Popen(
                [*self._shell(), SCRIPT],
                cwd=folder,
                env=self._environment(threads),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                preexec_fn=_end_with_parent if guarded else None,
            )
            try:
                code = process.wait()
            except BaseException:
                process.kill()
                process.wait()
                raise
        details = _details(folder, code)
        failure = self._failure(folder, code, details)
        if failure is not None:
            return EngineResult(failure[0], message=failure[1], details=details)
        try:
            properties = self._read(folder, structure)
        except Exception as error:
            message = f"the command's output {self.labeling.output.file}: {reason_of(error)}"
            return EngineResult("engine_error", message=message, details=details)
        return EngineResult("ok", properties=properties, details=details)

    def _read(self, folder: Path, structure: Structure) -> dict[str, Any]:
        output = self.labeling.output
        path = folder / output.file
        if not path.is_file():
            raise ValueError("the program did not write it")
        parser = load(output.parser, "labeling.output.parser") if output.parser else None
        return properties_from(path, structure, output.format, parser, output.keys, output.units)

    def _failure(self, folder: Path, code: int, details: dict[str, Any]) -> tuple[str, str] | None:
        """Return failure class and message of a program that has ended, or None if its output may be read."""
        for pattern, failure in self.labeling.failure_patterns.items():
            found = _found(folder, pattern)
            if found is not None:
                return failure, f"the program says '{found}' (exit code {code})"
        last = _last_line(details.get("stderr") or details.get("stdout") or "")
        if code and _found(folder, NO_SPACE) is not None:
            return MACHINE_FAULT, f"a disk of {socket.gethostname()} is full: {last} (exit code {code})"
        if code in KILLED:
            return "out_of_memory", f"the program was killed (exit code {code}), for its memory most likely: {last}"
        if code:
            return "engine_error", f"the command ended with exit code {code}: {last}"
        if self.labeling.success is not None and _found(folder, self.labeling.success) is None:
            return "engine_error", f"the program did not print '{self.labeling.success}': {last}"
        return None

    def _keep(self, folder: Path, structure: Structure, result: EngineResult) -> None:
        target = Path(self.labeling.keep_in) / structure.structure_id
        # Evidence of a failure: a full disk must not make another failure of it.
        with suppress(OSError):
            target.mkdir(parents=True, exist_ok=True)
            for name in self.labeling.keep:
                if (folder / name).is_file():
                    shutil.copyfile(folder / name, target / name)
            result.details["kept_in"] = str(target)

    def _placeholders(self) -> set[str]:
        """Return the placeholders that command and templates use; raises QuarryError for what is wrong with them."""
        used = placeholders(self.labeling.command, OF_COMMAND, "labeling.command")
        for name, value in self.labeling.environment.items():
            used |= placeholders(value, OF_COMMAND, f"labeling.environment.{name}")
        for name, path in self.templates.items():
            try:
                text = path.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise QuarryError(f"labeling.input.{name}: cannot read {path} ({error}); correct it") from error
            used |= placeholders(text, OF_INPUT, f"labeling.input.{name}: {path}")
        return used

    def _told(self) -> tuple[bool, bool]:
        """Return whether the program is told charge and multiplicity."""
        if self.labeling.state_in_xyz:
            return True, True
        used = self._placeholders()
        return "charge" in used, bool(used & {"multiplicity", "unpaired"})

    def _values(self, threads: int) -> dict[str, str]:
        """Return the placeholders that the job fills."""
        tasks = self.resources.tasks
        memory_MB = int(self.resources.memory_MB * self.labeling.memory_fraction)
        return {
            "threads": str(threads),
            "tasks": str(tasks),
            "memory_MB": str(memory_MB),
            "memory_per_task_MB": str(memory_MB // tasks),
            "launcher": launcher_line(self.labeling.launcher, self.labeling.launcher_options, tasks, threads),
            "base": str(self.base),
        }

    def _command(self, values: dict[str, str]) -> str:
        return filled(self.labeling.command, values | {"base": shlex.quote(str(self.base))})

    def _environment(self, threads: int) -> dict[str, str]:
        values = dict.fromkeys(OF_COMMAND, "") | self._values(threads)
        own = {name: filled(value, values) for name, value in self.labeling.environment.items()}
        return {**os.environ, "OMP_NUM_THREADS": str(threads), **own}

    def _shell(self) -> list[str]:
        """A login shell where modules are wanted: their command comes from /etc/profile.d."""
        return ["bash", "-l"] if self.labeling.modules else ["bash"]

    def _with_modules(self, line: str) -> str:
        if not self.labeling.modules:
            return line
        names = shlex.join(self.labeling.modules)
        return (
            "type module >/dev/null 2>&1 || "
            '{ echo "labeling.modules: there is no command module on $(hostname)" >&2; exit 127; }\n'
            f'module load {names} || {{ echo "labeling.modules: cannot load {names} on $(hostname)" >&2; exit 127; }}\n{line}'
        )


ADVICE = (
    "use $charge and $multiplicity (or $unpaired) in labeling.command or an input file, "
    "or set labeling.state_in_xyz if it reads them from structure.xyz"
)


def launcher_line(launcher: str, options: str, tasks: int, threads: int) -> str:
    """Return the start of a command line that runs MPI tasks, with `threads` cores each; empty for 'none'."""
    message = {
        "srun": ["srun", f"--ntasks={tasks}", f"--cpus-per-task={threads}", options],
        "mpirun": ["mpirun", "-np", str(tasks), options],
        "none": [],
    }[launcher]
    return " ".join(word for word in message if word)


def _end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies (Linux). Runs in the child before the shell."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _details(folder: Path, code: int) -> dict[str, Any]:
    details: dict[str, Any] = {"exit_code": code}
    for name in ("stderr", "stdout"):
        lines = _tail(folder / f"{name}.txt")
        if lines:
            details[name] = lines
            break
    return details


def _tail(path: Path) -> str:
    """Return the last lines of a file that a program has written: text or not."""
    with open(path, "rb") as handle:
        handle.seek(0, os.SEEK_END)
        handle.seek(max(0, handle.tell() - LAST_CHARACTERS))
        text = handle.read().decode(errors="replace")
    return "\n".join(text.rstrip().splitlines()[-LAST_LINES:])


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return " ".join(lines[-1].split()) if lines else "it printed nothing"


def _found(folder: Path, pattern: str) -> str | None:
    """Return what a pattern finds in the program's stdout or stderr (of any size), or None."""
    for name in (STDOUT, STDERR):
        if not (folder / name).stat().st_size:
            continue
        with open(folder / name, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
            match = re.search(pattern.encode(), content)
            if match:
                return " ".join(match[0].decode(errors="replace").split())[:200]
    return None
