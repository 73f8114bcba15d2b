"""The function engine: whatever the user's function does ends as a typed result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quarry.config.engines.function import FunctionLabeling
from quarry.errors import QuarryError
from quarry.files import canonical_json
from quarry.labeling.engines import function as function_module
from quarry.labeling.engines.base import EngineResult
from quarry.labeling.engines.function import FunctionEngine
from quarry.labeling.engines.registry import make_engine
from quarry.structures import Structure

LIBRARY = Path(function_module.__file__).parents[3]
H2 = Structure.create([1, 1], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.8]]), charge=1, multiplicity=2)

SOURCE = """
import numpy as np

not_a_function = 3

def spring(atoms, stiffness=1.0, length=0.7):
    vector = atoms.positions[1] - atoms.positions[0]
    distance = np.linalg.norm(vector)
    force = stiffness * (distance - length) * vector / distance
    return {
        "energy": np.float64(0.5 * stiffness * (distance - length) ** 2),
        "forces": np.array([force, -force]),
        "lumo": None,
        "dipole": [float(atoms.info["charge"]), atoms.info["multiplicity"], 0],
    }

def fails(atoms):
    raise KeyError("first\\nsecond")

def exhausted(atoms):
    raise MemoryError

def returns(atoms, what):
    return {
        "list": [1.0],
        "empty": {},
        "nan": {"energy": float("nan")},
        "inf": {"energy": 1.0, "dipole": [0.0, 0.0, np.inf]},
        "unknown": {"energy": 1.0, "entropy": 2.0, "polarity": [1]},
        "shape": {"energy": 1.0, "forces": np.zeros((3, 3))},
        "vector energy": {"energy": [1.0, 2.0]},
        "text": {"energy": "low"},
        "none": {"energy": None},
        "one element": {"energy": np.array([2.5])},
    }[what]
"""


@pytest.fixture(autouse=True)
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_surface.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_surface", raising=False)


def label(name: str, **arguments: Any) -> EngineResult:
    return FunctionEngine(f"my_surface:{name}", arguments).label(H2, 1)


def test_properties_become_plain_numbers() -> None:
    result = label("spring", stiffness=2.0)
    assert result.status == "ok"
    assert result.properties["energy"] == pytest.approx(0.01)
    assert np.array(result.properties["forces"]) == pytest.approx(np.array([[0, 0, 0.2], [0, 0, -0.2]]))
    assert result.properties["dipole"] == [1.0, 2.0, 0.0]
    assert result.properties["lumo"] is None
    assert type(result.properties["energy"]) is float
    canonical_json(result.properties)
    assert [(a["name"], a["converged"]) for a in result.attempts] == [("call", True)]
    assert label("returns", what="one element").properties == {"energy": 2.5}


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("list", "must return a dictionary"),
        ("empty", "must return a dictionary"),
        ("nan", "energy is not finite"),
        ("inf", "dipole is not finite"),
        ("unknown", "unknown properties: entropy, polarity"),
        ("shape", r"forces has the shape (3, 3) instead of (2, 3)"),
        ("vector energy", "energy has the shape (2,)"),
        ("text", "energy is no real number: 'low'"),
        ("none", "energy is no real number: None"),
    ],
)
def test_wrong_answers_are_engine_errors(what: str, reason: str) -> None:
    result = label("returns", what=what)
    assert result.status == "engine_error"
    assert reason in result.message
    assert result.properties == {}


def test_exceptions_are_results_of_one_line() -> None:
    failed, exhausted = label("fails"), label("exhausted")
    assert (failed.status, exhausted.status) == ("engine_error", "out_of_memory")
    assert "KeyError" in failed.message
    assert "\n" not in failed.message
    assert failed.attempts[0]["converged"] is False
    assert label("spring", colour="red").status == "engine_error"


@pytest.mark.parametrize(
    "path", ["no_such_module:spring", "my_surface:no_such_function", "my_surface:not_a_function", "my_surface.deep:x"]
)
def test_check_refuses_what_cannot_be_called(path: str) -> None:
    with pytest.raises(QuarryError, match=r"^labeling\.function: .*'" + path.replace(".", r"\.")) as caught:
        FunctionEngine(path).check([1])
    assert "\n" not in str(caught.value)


def test_check_accepts_a_module_of_the_working_directory() -> None:
    FunctionEngine("my_surface:spring").check([1, 118])


def test_a_file_of_the_working_directory_does_not_hide_a_library(tmp_path: Path) -> None:
    (tmp_path / "wave.py").write_text("raise RuntimeError('the wrong one')\n")
    FunctionEngine("wave:open").check([])


def test_identity_is_path_and_arguments() -> None:
    def identity(function: str, arguments: dict[str, Any]) -> str:
        return canonical_json(FunctionEngine(function, arguments).method_identity())

    one = identity("my_surface:spring", {"a": 1, "b": 2})
    assert one == identity("my_surface:spring", {"b": 2, "a": 1})
    assert one != identity("my_surface:spring", {"a": 1, "b": 3})
    assert one != identity("my_surface:other", {"a": 1, "b": 2})


def test_function_engine_does_not_import_pyscf() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(LIBRARY)!r})\n"
        "from quarry.config.engines.function import FunctionLabeling\n"
        "from quarry.labeling.engines.registry import make_engine\n"
        "from quarry.structures import Structure\n"
        "import numpy as np\n"
        "engine = make_engine(FunctionLabeling(engine='function', function='my_surface:spring'))\n"
        "engine.check([1])\n"
        "assert engine.label(Structure.create([1, 1], np.array([[0, 0, 0], [0, 0, 1.0]])), 1).status == 'ok'\n"
        "sys.exit('pyscf' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_registry() -> None:
    labeling = FunctionLabeling(engine="function", function="my_surface:spring", arguments={"stiffness": 3.0})
    engine = make_engine(labeling)
    assert engine.method_identity() == {
        "engine": "function",
        "function": "my_surface:spring",
        "arguments": {"stiffness": 3.0},
    }
    assert "python" in engine.versions()
