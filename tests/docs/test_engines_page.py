"""The page on engines: every section in it is right, and those that can run here do."""

import re
import shutil

import numpy as np
import pytest
import yaml

from quarry.config import load_configuration
from quarry.labeling.engines.registry import make_engine
from quarry.labeling.engines.templates import OF_INPUT
from quarry.properties import PROPERTIES, answerable
from quarry.structures import Structure
from support.campaigns import REPOSITORY, stand_in_configuration

PAGE = REPOSITORY / "docs" / "engines.md"
TEXT = PAGE.read_text()
SECTIONS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
SECTIONS.append(yaml.safe_load((REPOSITORY / "config" / "engines" / "orca" / "campaign.yaml").read_text()))
OH_ANION = Structure.create([8, 1], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.97]]), charge=-1)


STATES = {"target": "excitations", "spectrum": {"n_states": 3}, "model": {"kind": "kreg"}}


def configuration(section):
    """A campaign that learns what the section's labels have."""
    labeling = section["labeling"]
    names = {**labeling.get("columns", {}), **labeling.get("text", {})}
    target = STATES if "excitation_energies" in names else {"target": "homo"} if "homo" in names else {}
    return load_configuration(stand_in_configuration(**target, **section), PAGE.name)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s["labeling"]["engine"])
def test_sections_are_right(section):
    assert configuration(section).labeling.engine == section["labeling"]["engine"]


def test_every_engine_has_a_section():
    assert {s["labeling"]["engine"] for s in SECTIONS} == {"pyscf", "ase", "command", "replay", "function"}


@pytest.mark.parametrize("needs", ["tblite", "xtb"])
def test_sections_that_can_run_here(needs, tmp_path, monkeypatch):
    if needs == "tblite":
        pytest.importorskip("tblite")
    elif shutil.which(needs) is None:
        pytest.skip(f"the program {needs} is not installed")
    monkeypatch.chdir(tmp_path)
    [section] = [s["labeling"] for s in SECTIONS if needs in str(s) and s["labeling"]["engine"] in ("ase", "command")]
    engine = make_engine(configuration({"labeling": section}).labeling, tmp_path)
    engine.check([1, 8])
    engine.check_states([(-1, 1)])
    result = engine.label(OH_ANION, 1)
    assert result.status == "ok", result.message
    # What xtb 6.5.1 prints for this ion: -4.681611765424 hartree.
    assert result.properties["energy"] / 27.211386245988 == pytest.approx(-4.681611765424, abs=1e-6)


def test_placeholders_of_the_page_are_the_programs():
    table = TEXT.partition("| placeholder |")[2].partition("\n\n")[0]
    rows = "".join(row.split("|")[1] for row in table.splitlines()[2:])
    assert set(re.findall(r"`\$(\w+)`", rows)) == set(OF_INPUT)


def test_properties_of_the_page_are_those_of_the_table():
    table = TEXT.partition("| property |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    numbers = {
        "one number": "scalar",
        "3": "vector",
        "3 x 3, symmetric": "tensor",
        "one for each atom": "per_atom",
        "3 for each atom": "per_atom_vector",
        "one for each excited state": "per_state",
        "one for each state": "per_state",
        "3 for each atom in each state": "per_atom_state_vector",
    }
    rotates = {"no": 0, "as a vector": 1, "as a tensor": 2}
    assert [row[0].strip("`") for row in rows] == answerable()
    for name, unit, count, rotation, frame, meaning in rows:
        entry = PROPERTIES[name.strip("`")]
        assert (unit, numbers[count], rotates[rotation]) == (entry.unit, entry.shape, entry.rank)
        place = "result" if entry.ase else "array" if entry.of_atoms else "info"
        assert frame == f"{place} `{entry.key}`"
        assert entry.meaning in meaning and (f"`{entry.negative}`" in meaning) == bool(entry.negative)
        assert ("periodic" in meaning) == entry.periodic and ("null" in meaning) == entry.optional


def test_tolerances_of_the_page_are_those_of_the_table():
    sentence = TEXT.partition("`snakemake verify` compares ")[2].partition("(`verification")[0]
    numbers = re.findall(r"[\d.]+e-\d+|\d\.\d+", sentence)
    own = [entry for entry in PROPERTIES.values() if isinstance(entry.recomputed, float)]
    assert all(entry.name in sentence for entry in own)
    assert [float(n) for n in numbers] == [e.recomputed for e in own] + [e.rotated for e in own]


def test_linked_files_exist():
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert targets and all((PAGE.parent / target).exists() for target in targets)
