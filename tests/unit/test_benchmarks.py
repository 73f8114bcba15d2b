"""The scripts in benchmarks/ keep up with the library: each can be imported, and the loop that four of them share runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.campaigns import REPOSITORY

FOLDER = REPOSITORY / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))
RUN = """
import numpy as np
from pool_study import Plan, Pool, run
from quarry.config.models import Gpr, Mlp
x = np.random.default_rng(0).normal(size=(60, 3))
plans = (
    (Plan("random", Gpr(length_scale=1.0), [8, 12], 1, 20), ()),
    (Plan("lcmd", Gpr(length_scale=1.0), [8, 12], 1, 20), ()),
    (Plan("uncertainty", Gpr(length_scale=1.0), [8, 12], 1, 20), ()),
    (Plan("vote_entropy", Mlp(kind="mlp", uncertainty="committee", members=2, epochs=2), [8, 12], 1, 20, "class"), "ab"),
)
for plan, classes in plans:
    values = np.sin(x[:, 0]) if not classes else (x[:, 0] > 0).astype(float)
    rows = run(Pool(x, values, classes=tuple(classes)), plan)
    assert [row["n"] for row in rows] == [8, 12], rows
"""


def python(code: str) -> None:
    """Run code as the scripts are run: in their folder, each import of the library by their own help."""
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_script_finds_what_it_imports():
    """In one process, so that torch and PySCF are imported once. `common`, which finds the library, is the first of all.

    Imports within functions are not carried out by importing a script: their names are looked for in their modules.
    """
    pytest.importorskip("pyscf")
    pytest.importorskip("sklearn")
    assert len(SCRIPTS) > 20
    python(f"""
import ast, importlib, common
from pathlib import Path
for name in {SCRIPTS!r}:
    importlib.import_module(name)
    for node in ast.walk(ast.parse(Path(name + ".py").read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("quarry", "support"):
            module = importlib.import_module(node.module)
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, (name, node.module, missing)
""")


def test_the_loop_of_the_studies_runs():
    python(RUN)
