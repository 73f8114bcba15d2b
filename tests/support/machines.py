"""What differs between machines: threads and kernels of the linear algebra, each in a process of its own.

Both are chosen when the libraries are loaded, so that they cannot be changed in a process that runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

NEEDED_FLAGS = {
    "Nehalem": {"sse4_2"},
    "Sandybridge": {"avx"},
    "Haswell": {"avx2", "fma"},
    "Zen": {"avx2", "fma"},
    "SkylakeX": {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"},
}
"""Kernels of OpenBLAS and what a processor must have for them: with others a program ends by an illegal instruction."""


@dataclass(frozen=True)
class Machine:
    """What stands in for another machine. core_type: of OpenBLAS, None for the processor's own."""

    threads: int = 1
    core_type: str | None = None

    def run(self, module: str, question: Any) -> Any:
        """Run a module that reads JSON from stdin and ends with a line of JSON; return that. Raises RuntimeError if it fails."""
        own = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        kernels = {} if self.core_type is None else {"OPENBLAS_CORETYPE": self.core_type}
        paths = os.pathsep.join([str(ROOT / "workflow_scripts"), str(ROOT / "tests")])
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=json.dumps(question),
            # Threads that wait give way to others: a machine may have fewer cores than threads are asked for.
            env={**own, **threads, **kernels, "OMP_WAIT_POLICY": "passive", "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{self}: {done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])


def core_types(cpuinfo: str | Path = "/proc/cpuinfo") -> list[str]:
    """Return the kernels that this processor can run; none where that cannot be read."""
    try:
        lines = Path(cpuinfo).read_text().splitlines()
    except OSError:
        return []
    flags = set(next((line for line in lines if line.startswith("flags")), "").partition(":")[2].split())
    return [name for name, needed in NEEDED_FLAGS.items() if needed <= flags]


def machines() -> list[Machine]:
    """Return one and two threads, and with one thread the oldest and each other kernel that the processor has."""
    return [Machine(1), Machine(2), *(Machine(1, name) for name in core_types())]
