"""A new engine is a file with its section, a file with its class (here one file for both) and one line in the registry."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from quarry.config import Configuration, load_configuration
from quarry.config.campaign import inputs_of
from quarry.config.engines.registry import ENGINES, Paths, sections
from quarry.config.manual import manual
from quarry.errors import QuarryError
from quarry.labeling.engines.registry import make_engine
from quarry.stages.preflight import check
from support.campaigns import stand_in_configuration
from support.molecules import bent_water

NEW_FILE = '''
from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from quarry.config.engines.base import LabelingBase
from quarry.config.resources import LabelResources
from quarry.labeling.engines.base import EngineResult
from quarry.structures import Structure


class SpringLabeling(LabelingBase):
    """Labels from springs between all atoms."""

    starts_mpi_tasks: ClassVar[bool] = True
    free_keys: ClassVar[tuple[str, ...]] = ("greeting",)

    engine: Literal["springs"]
    constants: str
    """File with the springs' constant, eV/Angstrom^2."""
    greeting: str = ""

    def gives(self) -> tuple[str, frozenset[str]]:
        return "constants", frozenset({"energy"})

    def input_files(self) -> list[str]:
        return [self.constants]


class SpringEngine:
    name = "springs"
    periodic = False
    one_job_per_batch = False

    def __init__(self, constant: float) -> None:
        self.constant = constant

    @classmethod
    def of(cls, labeling: SpringLabeling, base: Path, resources: LabelResources) -> Self:
        return cls(float((base / labeling.constants).read_text()))

    def method_identity(self) -> dict[str, Any]:
        return {"engine": self.name, "constant": self.constant}

    def check(self, elements: list[int]) -> None:
        pass

    def size(self, structure: Structure) -> dict[str, int]:
        return {"atoms": len(structure)}

    def versions(self) -> dict[str, str]:
        return {}

    def label(self, structure: Structure, threads: int) -> EngineResult:
        lengths = np.linalg.norm(structure.positions[:, None] - structure.positions, axis=2)
        return EngineResult("ok", {"energy": self.constant * float((lengths**2).sum()) / 4})
'''


@pytest.fixture
def springs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The section of a campaign with the new engine, which stands in the registry for this test."""
    (tmp_path / "springs.py").write_text(NEW_FILE)
    (tmp_path / "constants.txt").write_text("2.0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "springs", raising=False)
    # A message made before the engine is there may keep nothing of the registry.
    with pytest.raises(QuarryError, match="treads: unknown key"):
        load({"engine": "function", "function": "stand_in:morse", "treads": 1})
    monkeypatch.setitem(ENGINES, "springs", Paths("springs:SpringLabeling", "springs:SpringEngine"))
    Configuration.model_rebuild(force=True)
    yield {"engine": "springs", "constants": "constants.txt"}
    monkeypatch.undo()
    Configuration.model_rebuild(force=True)


def load(labeling: dict[str, Any], **changes: Any) -> Configuration:
    pool = {"source": "file", "files": ["pool.xyz"]}
    return load_configuration({**stand_in_configuration(pool=pool, **changes), "labeling": labeling}, "campaign.yaml")


def test_a_new_engine_is_configured_checked_and_labels(springs: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    water = bent_water()
    frames = [Atoms(water.numbers, water.positions + rng.normal(0, 0.05, (3, 3))) for _ in range(40)]
    write(tmp_path / "pool.xyz", frames, format="extxyz")
    configuration = load({**springs, "greeting": "hello"}, resources={"label": {"tasks": 2}})
    assert (
        "greeting" not in configuration.identity()["labeling"] and "store" not in configuration.identity()["labeling"]
    )
    assert configuration.identity()["labeling"]["engine"] == "springs"
    assert tmp_path / "constants.txt" in inputs_of(configuration, tmp_path)

    found = check(configuration, tmp_path)
    assert found["method"] == {"engine": "springs", "constant": 2.0} and "constants.txt" in found["inputs"]
    label = make_engine(configuration.labeling, tmp_path).label(water, 1)
    lengths = np.linalg.norm(water.positions[:, None] - water.positions, axis=2)
    assert label.properties["energy"] == pytest.approx(2.0 * (lengths[np.triu_indices(3)] ** 2).sum() / 2)
    assert "`labeling` with `engine: springs`" in manual() and "eV/Angstrom^2" in manual()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "dipole"}, r"labeling\.constants: target dipole needs dipole, but labels have only energy"),
        ({"labeling": {"greetings": "x"}}, r"labeling\.greetings: unknown key; did you mean 'greeting'"),
        ({"labeling": {"engine": "spring"}}, r"'spring' is not one of .*'springs'"),
    ],
)
def test_its_section_answers_for_it(springs: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(QuarryError, match=message):
        load({**springs, **changes.pop("labeling", {})}, **changes)


@pytest.mark.parametrize("name", ENGINES)
def test_the_table_names_what_there_is(name: str) -> None:
    section = sections()[name]
    assert section.model_fields["engine"].annotation is not None and name in str(
        section.model_fields["engine"].annotation
    )
    assert set(section.free_keys) <= set(section.model_fields)
    assert section.takes_periodic is not None or "periodic" in section.model_fields
