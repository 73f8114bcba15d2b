"""Whatever code of the user's does with processes, descriptors, signals and folders: its answer is this structure's, or none."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from quarry.campaign.preflight import preflight
from quarry.config import load_configuration
from quarry.config.query import Query
from quarry.labeling.engines.function import FunctionEngine
from quarry.labeling.worker import Limits, Outcome, Worker
from quarry.query.strategies import chosen_by, make_strategy
from quarry.structures import Structure
from support.campaigns import REPOSITORY, CampaignFolder, stand_in_configuration

STRUCTURES = [Structure.create([1, 1], [[0, 0, 0], [0, 0, 0.7 + 0.1 * n]]) for n in range(4)]
FIRST = STRUCTURES[0].structure_id

HOSTILE = '''
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path


def energy(atoms):
    return {"energy": float(atoms.positions[1, 2])}


def is_first(atoms):
    return abs(atoms.positions[1, 2] - 0.7) < 1e-6


def sockets():
    """The numbers of this process's sockets, the line's among them."""
    found = []
    for number in range(1000):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                found.append(number)
        except OSError:
            pass
    assert found
    return found


# Nothing that may change an answer.


def forks_and_both_return(atoms):
    os.fork()
    return energy(atoms)


def forked_child_is_first(atoms):
    if os.fork():
        time.sleep(0.2)
    return energy(atoms)


def forked_child_is_late(atoms):
    if not os.fork():
        time.sleep(0.15)
    return energy(atoms)


def forked_child_raises(atoms):
    if not os.fork():
        raise KeyError("child")
    return energy(atoms)


def forked_child_exits(atoms):
    if not os.fork():
        sys.exit(3)
    return energy(atoms)


def forks_in_a_fork(atoms):
    if not os.fork():
        os.setsid()
        os.fork()
    return energy(atoms)


def uses_a_pool(atoms):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return {"energy": sum(pool.map(float, [atoms.positions[1, 2] - 1.0, 1.0]))}


def uses_a_spawned_pool(atoms):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return {"energy": pool.apply(float, [atoms.positions[1, 2]])}


def leaves_a_thread(atoms):
    threading.Thread(target=lambda: [time.sleep(0.3), energy(atoms)]).start()
    return energy(atoms)


def leaves_a_program(atoms):
    subprocess.Popen(["sleep", "20"])
    return energy(atoms)


def changes_the_folder(atoms):
    value = energy(atoms)
    assert Path("hostile.py").exists()
    os.chdir("/")
    return value


def ignores_signals(atoms):
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    return energy(atoms)


def leaves_an_alarm(atoms):
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    time.sleep(0 if is_first(atoms) else 0.1)
    return energy(atoms)


def changes_its_atoms(atoms):
    value = energy(atoms)
    atoms.positions[:] = 99.0
    atoms.numbers[:] = 26
    atoms.info.clear()
    return value


def closes_its_output(atoms):
    sys.stdout.close()
    if is_first(atoms):
        os.close(1)
    return energy(atoms)


# With the first structure, what costs its label or leaves it right.


def parent_goes(atoms):
    if is_first(atoms) and os.fork():
        os._exit(0)
    return energy(atoms)


def calls_exit(atoms):
    if is_first(atoms):
        sys.exit("enough")
    return energy(atoms)


def prints_into_the_line(atoms):
    if is_first(atoms):
        for number in sockets():
            os.dup2(number, 1)
            os.write(1, b"energy 3.0")
    return energy(atoms)


def prints_a_lot_into_the_line(atoms):
    if is_first(atoms):
        for number in sockets():
            os.write(number, b"3.0 " * 100)
    return energy(atoms)


def forked_child_prints_into_the_line(atoms):
    if is_first(atoms) and not os.fork():
        time.sleep(0.1)
        for number in sockets():
            os.write(number, b"energy 3.0")
        os._exit(0)
    time.sleep(0.0 if is_first(atoms) else 0.1)
    return energy(atoms)


def closes_everything(atoms):
    if is_first(atoms):
        os.closerange(3, 1000)
    return energy(atoms)


def puts_a_file_in_the_lines_place(atoms):
    if is_first(atoms):
        file = os.open("taken", os.O_RDWR | os.O_CREAT)
        for number in sockets():
            os.dup2(file, number)
    return energy(atoms)


def replaces_itself(atoms):
    if is_first(atoms):
        os.execvp("sleep", ["sleep", "20"])
    return energy(atoms)


def spoils_the_library_that_writes_answers(atoms):
    import json

    kept = json.dumps
    if is_first(atoms):
        # Once plain data is checked; the answer itself is the second text.
        texts = iter([None, "[1, 2]"])
        json.dumps = lambda *values, **keys: next(texts, None) or kept(*values, **keys)
    return energy(atoms)


def makes_the_line_non_blocking(atoms):
    if is_first(atoms):
        for number in sockets():
            os.set_blocking(number, False)
    return {**energy(atoms), "excitation_energies": [1.0] * 9000}


# Too late.


def answers_after_the_end(atoms):
    if is_first(atoms):
        threading.Thread(target=time.sleep, args=(2,)).start()
        time.sleep(1.0)
    return energy(atoms)
'''
HARMLESS = [
    "forks_and_both_return",
    "forked_child_is_first",
    "forked_child_is_late",
    "forked_child_raises",
    "forked_child_exits",
    "forks_in_a_fork",
    "uses_a_pool",
    "leaves_a_thread",
    "leaves_a_program",
    "changes_the_folder",
    "ignores_signals",
    "leaves_an_alarm",
    "changes_its_atoms",
    "closes_its_output",
    "makes_the_line_non_blocking",
]
COSTLY = {
    "parent_goes": "ended by itself with exit code 0",
    "calls_exit": "called sys.exit('enough')",
    "prints_into_the_line": "a forked process or a duplicated descriptor",
    "spoils_the_library_that_writes_answers": "it is no answer: TypeError",
    "prints_a_lot_into_the_line": "a forked process or a duplicated descriptor",
    "closes_everything": "closed or replaced the descriptor of its answers",
    "puts_a_file_in_the_lines_place": "closed or replaced the descriptor of its answers",
    "replaces_itself": "closed or replaced the descriptor of its answers",
}


@pytest.fixture(autouse=True)
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile.py").write_text(HOSTILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "hostile", raising=False)


def label(function: str, seconds: float = 20.0, between_s: float = 0.0) -> list[Outcome]:
    """Label the structures one after another in one engine, as a job of several structures does."""
    worker = Worker(partial(FunctionEngine, f"hostile:{function}"), 1)
    found = []
    try:
        for structure in STRUCTURES:
            limits = Limits(end=time.monotonic() + seconds)
            found.append(worker.label(structure, limits, lambda elapsed_s, peak_MB: None))
            time.sleep(between_s)
    finally:
        worker.close()
    return found


def check_never_wrong(found: list[Outcome], good: int) -> None:
    """An answer is the structure's own; at least the last `good` structures have one."""
    for structure, outcome in zip(STRUCTURES, found, strict=True):
        if outcome.result.status == "ok":
            assert outcome.result.properties["energy"] == structure.positions[1, 2]
    assert [(o.result.status, o.result.message) for o in found[len(found) - good :]] == [("ok", "")] * good


@pytest.mark.parametrize("function", HARMLESS)
def test_what_must_not_touch_an_answer(function: str) -> None:
    check_never_wrong(label(function), good=4)


@pytest.mark.parametrize("function", COSTLY)
def test_what_costs_a_label_costs_no_other(function: str) -> None:
    began = time.monotonic()
    found = label(function)
    check_never_wrong(found, good=3)
    assert found[0].result.status == "engine_error" and COSTLY[function] in found[0].result.message
    assert "\n" not in found[0].result.message and time.monotonic() - began < 10
    assert not Path("taken").exists() or not Path("taken").read_bytes(), "no answer into another file"


@pytest.mark.parametrize("between_s", [0.0, 0.2])
def test_a_forked_child_that_writes_late_spoils_at_most_what_is_asked_then(between_s: float) -> None:
    """Into the line while it is quiet: the engine is started anew, and nothing is lost."""
    found = label("forked_child_prints_into_the_line", between_s=between_s)
    check_never_wrong(found, good=2 if between_s == 0 else 4)


def test_an_answer_after_the_end_is_nobodys() -> None:
    found = label("answers_after_the_end", seconds=0.5)
    assert found[0].result.status == "out_of_time"
    check_never_wrong(found, good=3)


def test_a_process_that_is_spawned_does_not_run_the_job_again(tmp_path: Path) -> None:
    """The scripts of jobs have no guard ``if __name__ == "__main__"``; a spawned process would run them once more."""
    script = tmp_path / "job.py"
    script.write_text(
        "from functools import partial\n"
        "from quarry.labeling.engines.function import FunctionEngine\n"
        "from quarry.labeling.worker import Limits, Worker\n"
        "from quarry.structures import Structure\n"
        "open('runs', 'a').write('x')\n"
        "worker = Worker(partial(FunctionEngine, 'hostile:uses_a_spawned_pool'), 1)\n"
        "structure = Structure.create([1, 1], [[0, 0, 0], [0, 0, 0.75]])\n"
        "print(worker.label(structure, Limits(), lambda a, b: None).result)\n"
        "worker.close()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow_scripts")}
    printed = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert "0.75" in printed.stdout and (tmp_path / "runs").read_text() == "x"


LOUD = """
import atexit
import os

os.write(1, b"a banner of the library")
os.fork()
atexit.register(os.write, 1, b"and its farewell")


def energy(atoms):
    return {"energy": 1.0}
"""


def test_the_checks_before_a_run_have_a_line_of_their_own(tmp_path: Path) -> None:
    """What the user's module prints past Python, and a fork of it, are not taken for the answer."""
    CampaignFolder.create(tmp_path)
    (tmp_path / "loud.py").write_text(LOUD)
    labeling = {"engine": "function", "function": "loud:energy"}
    configuration = load_configuration(stand_in_configuration(labeling=labeling), "campaign.yaml")
    found = preflight(configuration, tmp_path)
    assert found["method"]["function"] == "loud:energy"


def test_a_strategy_that_forks_proposes_once(tmp_path: Path) -> None:
    (tmp_path / "hostile.py").write_text(
        "import os\n\n\nclass Forks:\n    def select(self, pool, n, rng):\n        os.fork()\n        return range(n)\n"
    )
    query = {"strategy": "hostile:Forks", "initial": 2, "batch": {"schedule": "constant", "size": 2}}
    strategy = make_strategy(Query.model_validate(query))
    with open("chosen", "ab", buffering=0) as handle:
        chosen_by(strategy, "hostile:Forks", range(5), 2, np.random.default_rng(0))
        handle.write(b"x")
        time.sleep(0.2)
    assert Path("chosen").read_bytes() == b"x"
