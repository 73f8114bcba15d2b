"""``quarry new``: commented campaign files that are valid, and nothing that is there is replaced."""

import json

import pytest
import yaml
from jsonschema import Draft202012Validator

from quarry.command_line.main import main
from quarry.command_line.new import TASKS, campaign_file
from quarry.config import load_configuration
from quarry.stopping.rules import too_few_tested
from support.campaigns import REPOSITORY
from support.new_campaigns import write_structures

SCHEMA = json.loads((REPOSITORY / "config" / "schema.json").read_text())


@pytest.mark.parametrize("task", TASKS)
def test_the_file_is_a_campaign(task, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    molecule = write_structures(tmp_path)[task]
    assert main(["new", "--task", task, "--molecule", molecule, "--to", "mine.yaml"]) == 0
    assert "snakemake -n --configfile mine.yaml" in capsys.readouterr().out
    text = (tmp_path / "mine.yaml").read_text()
    raw = yaml.safe_load(text)
    configuration = load_configuration(raw, "mine.yaml")
    assert too_few_tested(configuration) is None, "no file of ours is warned of"
    assert configuration.name == f"{molecule.partition('.')[0].replace(' ', '_')}_{task}"
    assert Draft202012Validator(SCHEMA).is_valid(raw)
    schema = text.splitlines()[0].partition("$schema=")[2]
    assert (tmp_path / schema).resolve() == REPOSITORY / "config" / "schema.json"
    assert text.count("#") >= 6, "it is commented"


def test_paths_are_relative_to_the_file(tmp_path):
    (tmp_path / "it's here").mkdir()
    text = campaign_file("labels", "a", tmp_path / "it's here" / "a.xyz", tmp_path / "campaigns" / "a.yaml")
    assert yaml.safe_load(text)["labeling"]["file"] == "../it's here/a.xyz"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--molecule", "a.xyz"], "there already"),
        (["--molecule", "no.xyz", "--to", "b.yaml"], "no such file"),
        (["--molecule", "a.xyz", "--to", "no/b.yaml"], "no folder"),
        (["--molecule", ".", "--to", "b.yaml"], "no such file"),
    ],
)
def test_bad_input_is_one_line_and_no_write(more, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.xyz").write_text("1\n\nH 0 0 0\n")
    (tmp_path / "a_potential.yaml").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["new", "--task", "potential", *more]) == 1
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and out == ""
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
