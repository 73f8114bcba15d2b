"""What goes with a data set: its parts as files, its card, its metadata."""

import json
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from pydantic import ValidationError

from quarry.command_line.main import main
from quarry.config.dataset import DatasetCard
from quarry.csv_tables import write_dicts
from quarry.files import write_json
from quarry.product.describing import WORDS, describe_dataset
from support.data_sets import campaign_of, of_all_kinds

SETTINGS = {
    "title": "Waters and coppers",
    "description": "For tests.",
    "license": "CC-BY-4.0",
    "creators": [{"name": "A. Person", "orcid": "0000-0002-1825-0097", "affiliation": "University"}, {"name": "B"}],
    "cite": "doi:10.1000/1",
}


def described(folder, settings=None):
    identity = {"validation": {"fraction": 0.6}}
    paths = campaign_of(folder, of_all_kinds(), iterations=2, settings=settings, identity=identity)
    describe_dataset(paths, paths.outputs("describe_dataset"))
    return paths


def test_parts_are_files_and_every_label_is_in_one(tmp_path):
    described(tmp_path / "mine")
    parts = {name: ase.io.read(tmp_path / "mine" / f"{name}.extxyz", ":") for name in ("train", "validation", "test")}
    ids = [atoms.info["structure_id"] for frames in parts.values() for atoms in frames]
    whole = [atoms.info["structure_id"] for atoms in ase.io.read(tmp_path / "mine" / "dataset.extxyz", ":")]
    assert sorted(ids) == sorted(whole)
    assert [atoms.info["role"] for atoms in parts["test"]] == ["test"]
    assert sum(atoms.info.get("config_type") == "IsolatedAtom" for atoms in parts["train"]) == 2, "MACE looks there"


def test_card(tmp_path):
    described(tmp_path / "mine", SETTINGS)
    card = (tmp_path / "mine" / "dataset_card.md").read_text()
    for words in (
        "# Waters and coppers\n",
        "For tests. 6 labelled structures",
        "CC-BY-4.0",
        "A. Person (University, https://orcid.org/0000-0002-1825-0097); B",
        "doi:10.1000/1",
        "xc b3lyp",
        "| stress | eV/Angstrom^3 | 3 x 3 numbers | 1 |",
        "1 x net_force (warning)",
        "0.01 eV/A \\| too much",
        "1 out_of_time",
        "End: the budget is spent.",
        "charge -1 with multiplicity 1 (1)",
        "Free atoms as references (config_type=IsolatedAtom): 2.",
    ):
        assert words in card, words
    assert "scf_not_converged" not in card, "it was tried again"
    for name in WORDS:
        if name != "dataset_card.md":
            assert f"| `{name}` |" in card
            assert sha256((tmp_path / "mine" / name).read_bytes()).hexdigest() in card


def test_the_card_names_the_functional_and_the_unit_of_errors_and_the_share_that_validates(tmp_path):
    """The store knows B3LYP as components [[402, 1.0]] and exact_exchange [0, 0, 0], which says that it has none."""
    identity = {"validation": {"fraction": 0.6}, "target": "energy_forces"}
    paths = campaign_of(tmp_path / "mine", of_all_kinds(), iterations=2, identity=identity)
    manifest = json.loads(Path(paths.manifest).read_text())
    resolved = {"components": [[402, 1.0]], "exact_exchange": [0.0, 0.0, 0.0]}
    write_json(paths.manifest, {**manifest, "method": {"engine": "pyscf", "functional": resolved}})
    row = {"metric": "test", "n_test": "50", "rmse": "0.000247193509", "rmse_low": "0.0002069366936", "rmse_high": ""}
    row |= {"r2": "0.9999988705", "forces_rmse": "0.00284683", "stop_reason": "enough"}
    write_dicts(tmp_path / "mine/main/history.csv", list(row), [row, row])
    describe_dataset(paths, paths.outputs("describe_dataset"))
    card = (tmp_path / "mine" / "dataset_card.md").read_text()
    assert "Labels by engine pyscf, basis 6-31g*, xc b3lyp (method fedcba9876543210 of the label store)." in card
    assert "exact_exchange" not in card + (tmp_path / "mine" / "ro-crate-metadata.json").read_text()
    assert "measured by 50 test structures: RMSE of the energy 0.0002472 eV (95 %: 0.000207 to open), " in card
    assert "RMSE of forces 0.002847 eV/Angstrom, R2 0.9999989." in card
    assert "60 % of the training labels, on average" in card


def test_a_setting_of_zero_is_said_and_lengths_have_their_unit(tmp_path):
    pool = {"source": "dynamics", "explore": {"pressure_GPa": 0.0, "least_energy_eV_atom": 0, "bias": None, "jobs": 1}}
    paths = campaign_of(tmp_path / "mine", of_all_kinds(), identity={"pool": {**pool, "charge": 0}})
    describe_dataset(paths, paths.outputs("describe_dataset"))
    card = (tmp_path / "mine" / "dataset_card.md").read_text()
    assert "explore.pressure_GPa 0.0; explore.least_energy_eV_atom 0; explore.jobs 1; charge 0." in card or (
        "charge 0; explore.jobs 1; explore.least_energy_eV_atom 0; explore.pressure_GPa 0.0." in card
    )
    with h5py.File(tmp_path / "mine" / "dataset.h5") as handle:
        assert handle["structures/positions"].attrs["unit"] == handle["structures/cells"].attrs["unit"] == "Angstrom"


def test_metadata(tmp_path):
    described(tmp_path / "mine", SETTINGS)
    crate = json.loads((tmp_path / "mine" / "ro-crate-metadata.json").read_text())
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    assert len(entities) == len(crate["@graph"])
    root = entities["./"]
    assert root["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"} and root["license"]["@id"] in entities
    assert {part["@id"] for part in root["hasPart"]} == set(WORDS)
    for part in root["hasPart"]:
        content = (tmp_path / "mine" / part["@id"]).read_bytes()
        assert entities[part["@id"]]["sha256"] == sha256(content).hexdigest()
        assert entities[part["@id"]]["contentSize"] == str(len(content))
    for reference in (*root["creator"], *root["variableMeasured"]):
        assert reference["@id"] in entities
    assert entities["#energy"]["unitText"] == "eV"


@pytest.mark.skipif(find_spec("rocrate") is None, reason="rocrate is not installed (extra test)")
@pytest.mark.parametrize("settings", [None, SETTINGS])
def test_metadata_is_read_by_rocrate(settings, tmp_path):
    from rocrate.rocrate import ROCrate

    described(tmp_path / "mine", settings)
    crate = ROCrate(tmp_path / "mine")
    assert crate.name == (settings or {}).get("title", "Data set of the Quarry campaign mine")
    assert {entity.id for entity in crate.data_entities} == set(WORDS)
    assert crate.version == "1.1"


def test_the_same_campaign_gives_the_same_bytes(tmp_path):
    found = []
    for folder in ("a", "b"):
        paths = described(tmp_path / folder / "mine", SETTINGS)
        found.append([Path(path).read_bytes() for path in paths.outputs("describe_dataset").values()])
    assert found[0] == found[1]


def test_without_a_licence_the_card_says_so(tmp_path, capsys):
    described(tmp_path / "mine")
    assert main(["card", str(tmp_path / "mine")]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "mine" / "dataset_card.md").read_text() and "dataset.license" in printed


def test_a_card_of_an_earlier_end_is_not_printed(tmp_path, capsys):
    paths = described(tmp_path / "mine")
    of_all_kinds().write(paths.iteration("dataset.h5", "main", 2), {})
    assert main(["card", str(tmp_path / "mine")]) == 0
    assert "not finished; took the 6 labels of arm main that are merged (up to iteration 2)" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["history.csv", "dataset.h5"])
def test_a_card_that_was_written_before_the_last_end_is_not_printed(file, tmp_path, capsys):
    """Of the same iteration: labels that were tried again, or another stop rule."""
    paths = described(tmp_path / "mine")
    if file == "history.csv":
        table = Path(paths.arm("main", file))
        table.write_text(table.read_text().replace("the budget is spent", "the target is reached"))
    else:
        of_all_kinds().subset(np.arange(3)).write(paths.iteration(file, "main", 1), {})
    assert main(["card", str(tmp_path / "mine")]) == 0
    printed = capsys.readouterr().out
    assert ("3 labelled structures" if file == "dataset.h5" else "End: the target is reached.") in printed


@pytest.mark.parametrize("name", ["CC-BY-4.0", "CC0-1.0", "ODbL-1.0", "MIT OR Apache-2.0"])
def test_licences(name):
    assert DatasetCard(license=name).license == name


@pytest.mark.parametrize("name", ["", "Creative Commons", "my licence", "CC BY 4.0"])
def test_no_licences(name):
    with pytest.raises(ValidationError, match="SPDX"):
        DatasetCard(license=name)
