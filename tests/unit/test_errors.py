"""What a message says of an error of a library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quarry.config.engines.command import CommandLabeling
from quarry.config.query import Query
from quarry.errors import LONGEST, QuarryError, reason_of
from quarry.labeling.engines.command import CommandEngine
from quarry.labeling.engines.function import FunctionEngine
from quarry.query.strategies import make_strategy
from quarry.structures import Structure

HYDROGEN = Structure.create([1, 1], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.8]]))


@pytest.mark.parametrize(
    ("error", "plain", "named"),
    [
        (AssertionError(), "AssertionError", "AssertionError"),
        (EOFError(), "EOFError", "EOFError"),
        (KeyError("energy"), "KeyError: 'energy'", "KeyError: 'energy'"),
        (KeyError("no such thing"), "KeyError: 'no such thing'", "KeyError: 'no such thing'"),
        (ValueError("x"), "ValueError: x", "ValueError: x"),
        (ValueError(" two\n\nlines "), "two lines", "ValueError: two lines"),
        (TypeError("a b"), "a b", "TypeError: a b"),
        (ValueError("ab " * 1000), f"{('ab ' * 1000)[:LONGEST]} ...", f"ValueError: {('ab ' * 1000)[:LONGEST]} ..."),
    ],
)
def test_words(error: Exception, plain: str, named: str) -> None:
    assert (reason_of(error), reason_of(error, named=True)) == (plain, named)


SOURCE = """
def fails(atoms):
    assert False


def parses(path):
    return {}["energy"]


class Strategy:
    def __init__(self):
        raise EOFError
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_errors.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return "own_errors"


def test_code_of_the_user_that_gives_no_reason(module: str) -> None:
    assert FunctionEngine(f"{module}:fails").label(HYDROGEN, 1).message == f"{module}:fails: AssertionError"
    output = {"file": "out", "parser": f"{module}:parses"}
    section = {"engine": "command", "command": "touch out", "output": output}
    found = CommandEngine(CommandLabeling.model_validate(section)).label(HYDROGEN, 1)
    assert (found.status, found.message) == ("engine_error", "the command's output out: KeyError: 'energy'")
    query = {"strategy": f"{module}:Strategy", "initial": 2, "batch": {"schedule": "constant", "size": 2}}
    with pytest.raises(QuarryError, match=r"query\.arguments \(EOFError\); correct them$"):
        make_strategy(Query.model_validate(query))
