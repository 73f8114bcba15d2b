"""Keyword arguments that the user's configuration gives to functions and calculators: what they do not know is refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from quarry.config.engines.ase import AseLabeling
from quarry.config.engines.command import CommandLabeling
from quarry.config.query import Query
from quarry.errors import QuarryError
from quarry.labeling.engines.ase_engine import AseEngine
from quarry.labeling.engines.command import CommandEngine
from quarry.labeling.engines.function import FunctionEngine
from quarry.query.strategies import make_strategy

SOURCE = '''
from ase.calculators.calculator import Calculator, FileIOCalculator


class Told(Calculator):
    """Knows its default parameters, an argument of its own and one that it looks for."""

    implemented_properties = ["energy"]
    default_parameters = {"method": "one", "charge": 0, "multiplicity": 1}

    def __init__(self, cutoff=3.0, **kwargs):
        super().__init__(**kwargs)
        self.damping = self.parameters.get("damping")


class Derived(Told):
    default_parameters = {"solvent": None}

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


class Silent(Calculator):
    implemented_properties = ["energy"]


def made(flavour="plain", **kwargs):
    return Told(method=flavour, **kwargs)


def closed(method="one"):
    return Told(method=method)
'''
WRITES_ALL = """
from ase.calculators.calculator import FileIOCalculator


class WritesAll(FileIOCalculator):
    implemented_properties = ["energy"]
    default_parameters = {"method": "one"}
    _legacy_default_command = "true"

    def write_input(self, atoms, properties=None, system_changes=None):
        with open("input", "w") as handle:
            for key, value in self.parameters.items():
                handle.write(f"{key} {value}")
"""
WRITES_SOME = WRITES_ALL.replace("WritesAll", "WritesSome").replace(
    'for key, value in self.parameters.items():\n                handle.write(f"{key} {value}")',
    'handle.write(self.parameters["method"])',
)
FUNCTIONS = """
def surface(atoms, stiffness=1.0, *, length=0.7):
    return {"energy": 1.0}


def needs(atoms, depth):
    return {"energy": depth}


def anything(atoms, **arguments):
    return {"energy": 1.0}


def nothing():
    return {"energy": 1.0}


class Strategy:
    def __init__(self, weight=1.0):
        self.weight = weight

    def select(self, pool, n, rng):
        return range(n)
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {"my_told": SOURCE, "my_all": WRITES_ALL, "my_some": WRITES_SOME, "my_functions": FUNCTIONS}
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def calculator(name: str, **settings: Any) -> None:
    section = {"engine": "ase", "calculator": name, "properties": ["energy"], **settings}
    AseEngine(AseLabeling.model_validate(section)).check([1])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("my_told:Told", ["method", "cutoff", "damping", "multiplicity"]),
        ("my_told:Derived", ["method", "solvent", "cutoff"]),
        ("my_told:Silent", ["anything"]),
        ("my_told:made", ["flavour", "charge"]),
        ("my_all:WritesAll", ["method", "methd", "anything"]),
        ("my_some:WritesSome", ["method"]),
        ("ase.calculators.lj:LennardJones", ["epsilon", "rc", "smooth"]),
    ],
)
def test_what_a_calculator_knows_and_what_nobody_can_check(name: str, arguments: list[str]) -> None:
    calculator(name, arguments=dict.fromkeys(arguments, 2.0))


@pytest.mark.parametrize(
    ("name", "argument", "remedy"),
    [
        ("my_told:Told", "methd", "did you mean 'method'?"),
        ("my_told:Derived", "solvnt", "did you mean 'solvent'?"),
        ("my_told:Derived", "xyz", "it takes method, charge, multiplicity, solvent, cutoff"),
        ("my_told:made", "chrge", "did you mean 'charge'?"),
        ("my_told:closed", "methd", "did you mean 'method'?"),
        ("my_some:WritesSome", "methd", "did you mean 'method'?"),
        ("ase.calculators.emt:EMT", "asap_cutof", "did you mean 'asap_cutoff'?"),
        ("ase.calculators.lj:LennardJones", "sigmaa", "did you mean 'sigma'?"),
        ("ase.calculators.mopac:MOPAC", "methd", "did you mean 'method'?"),
    ],
)
def test_what_a_calculator_would_ignore_in_silence(name: str, argument: str, remedy: str) -> None:
    with pytest.raises(
        QuarryError, match=rf"^labeling\.arguments: {re.escape(name)} has no argument '{argument}'; "
    ) as caught:
        calculator(name, arguments={argument: 2.0})
    assert remedy in str(caught.value) and "\n" not in str(caught.value)


def test_the_charge_of_tblite_and_its_method() -> None:
    """`methd: GFN1-xTB` gave energies of GFN2, 20 eV away, under the name of the other."""
    pytest.importorskip("tblite")
    calculator("tblite.ase:TBLite", arguments={"method": "GFN1-xTB", "verbosity": 0}, charge_key="charge")
    with pytest.raises(QuarryError, match="did you mean 'method'"):
        calculator("tblite.ase:TBLite", arguments={"methd": "GFN1-xTB"})


def test_keys_of_charge_multiplicity_and_files_are_arguments_too(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    calculator("my_told:Told", charge_key="charge", multiplicity_key="initial_magnetic_moments")
    calculator("my_told:Told", charge_key="info:q", files={"method": "model"})
    for settings in ({"charge_key": "chrge"}, {"multiplicity_key": "multi.plicity"}, {"files": {"modle": "model"}}):
        [key] = settings
        with pytest.raises(QuarryError, match=rf"^labeling\.{key}: my_told:Told has no argument"):
            calculator("my_told:Told", **settings)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("surface", {"stifness": 2.0}, "labeling.arguments: {} has no argument 'stifness'; did you mean 'stiffness'?"),
        ("surface", {"xyz": 2.0}, "labeling.arguments: {} has no argument 'xyz'; it takes stiffness, length"),
        ("surface", {"atoms": 2.0}, "labeling.arguments: {} has no argument 'atoms'; it takes stiffness, length"),
        ("anything", {"atoms": 2.0}, "labeling.arguments: {} gets its 'atoms' from Quarry; remove it"),
        ("needs", {}, "labeling.arguments: {} needs the argument 'depth'; give it"),
        ("nothing", {}, "labeling: {} takes no argument by place; it is called with 1"),
    ],
)
def test_functions(function: str, arguments: dict[str, Any], message: str) -> None:
    path = f"my_functions:{function}"
    with pytest.raises(QuarryError) as caught:
        FunctionEngine(path, arguments).check([1])
    assert str(caught.value) == message.format(path)


def test_functions_that_take_their_arguments() -> None:
    FunctionEngine("my_functions:surface", {"stiffness": 1.0, "length": 2.0}).check([1])
    FunctionEngine("my_functions:needs", {"depth": 1.0}).check([1])
    FunctionEngine("my_functions:anything", {"whatever": 1.0}).check([1])
    FunctionEngine("math:hypot").check([1])


def test_user_defined_strategies_and_parsers() -> None:
    query = {"strategy": "my_functions:Strategy", "initial": 2, "batch": {"schedule": "constant", "size": 2}}
    make_strategy(Query.model_validate({**query, "arguments": {"weight": 2.0}}))
    with pytest.raises(QuarryError, match=r"^query\.arguments: .* has no argument 'wieght'; did you mean 'weight'"):
        make_strategy(Query.model_validate({**query, "arguments": {"wieght": 2.0}}))
    output = {"file": "stdout.txt", "parser": "my_functions:nothing"}
    command = CommandLabeling.model_validate({"engine": "command", "command": "true", "output": output})
    with pytest.raises(QuarryError, match=r"^labeling\.output: my_functions:nothing takes no argument by place"):
        CommandEngine(command).check([1])
