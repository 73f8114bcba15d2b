"""Snakemake and its jobs without their imports: two thirds of a small job's work is to import numpy, scikit-learn and PySCF.

A server imports what Snakemake and the scripts import and forks a process for each run and job, with its folder, environment
and streams. A client stands in place of Python; it ends as the process ends, and that with it. Runs all of whose processes are
to be killed at once, or measured, do without it.
"""

from __future__ import annotations

import array
import ast
import atexit
import functools
import importlib
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import suppress
from pathlib import Path

LIBRARY = Path(__file__).parents[2] / "workflow_scripts"
FURTHER = {
    "ase.io.extxyz",
    "pyscf.dft",
    "pyscf.grad",
    "snakemake.cli",
    "snakemake_executor_plugin_cluster_generic",
    "snakemake_executor_plugin_slurm",
    "snakemake_executor_plugin_slurm_jobstep",
}
"""What jobs import beside what stands in the scripts, those of Snakemake in a job of a cluster among them."""
LEFT_OUT = {"quarry.calculator"}
"""Imports torch, whose memory would count for every label: what a label needs is measured, and later ones get that."""

CLIENT = """#!{python} -IS
import array, json, os, signal, socket, sys
if sys.argv[1] != "-m" and not sys.argv[1].endswith(".py"):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
streams = array.array("i", [0, 1, 2])
server.sendmsg([len(request).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
server.sendall(request)
answers = server.makefile()
job = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(job, number))
code = int(answers.readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@functools.cache
def quick_python() -> str:
    """Return the path of a Python that runs scripts and modules in forks of a server, which ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="quarry_jobs_"))
    client, address = folder / "python", str(folder / "socket")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    client.write_text(CLIENT.format(python=sys.executable, address=address))
    client.chmod(0o755)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(LIBRARY)}
    command = [sys.executable, __file__, str(listener.fileno())]
    server = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, pass_fds=[listener.fileno()], start_new_session=True
    )
    listener.close()
    atexit.register(server.wait)
    assert server.stdin is not None
    atexit.register(server.stdin.close)
    return str(client)


def with_forked_jobs() -> list[str]:
    """Return the beginning of a command that runs Snakemake in a process of its own, which may be killed; its jobs are forked."""
    lines = f"import runpy, sys; sys.executable = {quick_python()!r}"
    return [sys.executable, "-c", f"{lines}; runpy.run_module('snakemake', run_name='__main__', alter_sys=True)"]


def imports_of(script: Path) -> set[str]:
    """Return the modules that a script imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def serve(listener: socket.socket) -> None:
    for name in sorted(set.union(FURTHER, *map(imports_of, LIBRARY.glob("*.py"))) - LEFT_OUT):
        importlib.import_module(name)
    sys.path.remove(str(LIBRARY))
    folder = Path(listener.getsockname()).parent
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _look_after(connection, folder / "python")
        connection.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _end_with_parent(folder: Path) -> None:
    os.read(0, 1)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _look_after(connection: socket.socket, client: Path) -> None:
    """Fork the job, tell the client its process and how it ended."""
    head, control, _, _ = connection.recvmsg(8, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    streams = array.array("i", control[0][2])
    size, content = int.from_bytes(head, "big"), b""
    while len(content) < size:
        content += connection.recv(size - len(content))
    job = os.fork()
    if job == 0:
        connection.close()
        _run(*json.loads(content), list(streams), client)
    for stream in streams:
        os.close(stream)
    with suppress(BrokenPipeError):
        connection.sendall(f"{job}\n".encode())
    ended = threading.Event()
    threading.Thread(target=_end_with_client, args=(connection, job, ended), daemon=True).start()
    _, status = os.waitpid(job, 0)
    ended.set()
    with suppress(BrokenPipeError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _end_with_client(connection: socket.socket, job: int, ended: threading.Event) -> None:
    connection.recv(1)
    if not ended.is_set():
        with suppress(ProcessLookupError):
            os.killpg(job, signal.SIGKILL)


def _run(arguments: list[str], folder: str, environment: dict[str, str], streams: list[int], client: Path) -> None:
    code = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.setsid()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if arguments[:2] == ["-m", "snakemake"]:
            sys.executable = str(client)
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            sys.path.insert(0, folder)
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(arguments[0]).parent))
            runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
