"""The page on the model in ASE: its code runs, its messages are the program's, and a model of the page on models is one too."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import yaml
from ase import Atoms

from quarry.calculator import QuarryCalculator
from quarry.config.baselines import CalculatorBaseline
from quarry.config.engines.ase import AseLabeling
from quarry.errors import QuarryError
from quarry.labeling.engines.registry import make_engine
from quarry.models.baseline_cache import BaselineCache
from quarry.structures import Structure, StructureSet
from support.campaigns import REPOSITORY
from support.model_folders import published
from support.toys import EQUILIBRIUM, NUMBERS, labelled

TEXT = (REPOSITORY / "docs" / "calculator.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
OWN = re.search(r"```python\n(.*?)```", (REPOSITORY / "docs" / "models.md").read_text(), re.DOTALL)[1]
QUERY = {"strategy": "random", "initial": 8, "batch": {"schedule": "constant", "size": 5}}


def folder_of(path, **keys):
    made = labelled(50, 0)
    forces = made.forces.reshape(50, 3, 3)
    labels = [{"energy": float(e), "forces": f.tolist()} for e, f in zip(made.targets, forces, strict=True)]
    return published(path, list(made.structures), labels, target="energy_forces", **keys)


@pytest.fixture(scope="module")
def water(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    folder_of(root / "results" / "water", model={"kind": "kreg"}, descriptor={"kind": "inverse_distances"})
    return root


def test_its_code_runs(water, monkeypatch, capsys):
    monkeypatch.chdir(water)
    names: dict = {}
    for block in CODE:
        exec(compile(block, "docs/calculator.md", "exec"), names)
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith((" ", "BFGS"))]
    distance, angle = map(float, said[0].split())
    assert distance == pytest.approx(0.96, abs=0.02) and 90 < angle < 120
    frequencies = np.array(said[1].strip("[]").split(), dtype=float)
    assert (np.diff(frequencies) > 0).all() and frequencies[0] > 500 and frequencies[-1] < 6000
    assert float(said[2]) < 5e-3
    assert len(CODE) == 2


def test_its_message_is_the_programs(water):
    atoms = Atoms("SHH", EQUILIBRIUM, calculator=QuarryCalculator(water / "results/water"))
    shown = re.search(r"`(the model has not seen element S; it knows) C, H, O`", TEXT)[1]
    with pytest.raises(QuarryError, match=f"{shown} H, O$"):
        atoms.get_potential_energy()


def test_its_table_has_what_models_give(water):
    table = TEXT.partition("|---|---|\n")[2].partition("\n\n")[0]
    given = QuarryCalculator(water / "results/water/model").implemented_properties
    assert set(given) <= set(re.findall(r"`(\w+)`", table))


def test_it_labels_another_campaign(water):
    section = yaml.safe_load(re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[1])["labeling"]
    engine = make_engine(AseLabeling.model_validate(section), water)
    engine.check([1, 8])
    structure = Structure.create(NUMBERS, EQUILIBRIUM)
    result = engine.label(structure, 1)
    atoms = Atoms(NUMBERS, EQUILIBRIUM, calculator=QuarryCalculator(water / "results/water"))
    assert result.status == "ok" and result.properties["energy"] == pytest.approx(
        atoms.get_potential_energy(), abs=1e-9
    )
    assert engine.method_identity()["files"]["path"]
    beneath = CalculatorBaseline(kind="ase", calculator=section["calculator"], files=section["files"])
    said = BaselineCache(beneath, water).of(StructureSet.from_structures([structure]), derivatives=True)
    assert said["forces"] == pytest.approx(atoms.get_forces(), abs=1e-9)


def test_a_model_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    folder = folder_of(tmp_path / "own", model={"kind": "my_models:Ridge"}, descriptor=None, query=QUERY, base=tmp_path)
    monkeypatch.delitem(sys.modules, "my_models")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(tmp_path)])
    with pytest.raises(QuarryError, match=r"model.kind: cannot import 'my_models:Ridge'"):
        QuarryCalculator(folder)
    atoms = Atoms(NUMBERS, EQUILIBRIUM, calculator=QuarryCalculator(folder, base=tmp_path))
    assert np.abs(atoms.get_forces()).max() < 1.0
    assert atoms.calc.get_property("energy_uncertainty", atoms) > 0
