"""The schema of the campaign file: editors complete and explain every key by it, and no example is underlined."""

import json

import pytest
import yaml
from jsonschema import Draft202012Validator

from quarry.config.manual import schema
from support.campaigns import REPOSITORY

CONFIG = REPOSITORY / "config"
SCHEMA = json.loads((CONFIG / "schema.json").read_text())
EXAMPLES = sorted(CONFIG.rglob("*.yaml"))


def test_the_file_is_that_of_the_models_and_a_schema():
    assert json.loads(json.dumps(schema())) == SCHEMA
    Draft202012Validator.check_schema(SCHEMA)


def test_every_key_and_every_section_has_a_description():
    sections = {"campaign": SCHEMA, **SCHEMA["$defs"]}
    assert len(sections) > 60
    assert [name for name, section in sections.items() if not section.get("description", "").strip(" .")] == []
    keys = [
        (name, key, node) for name, section in sections.items() for key, node in section.get("properties", {}).items()
    ]
    assert [(name, key) for name, key, node in keys if not node.get("description", "").strip(" .")] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid_and_name_the_schema(path):
    text = path.read_text()
    first = text.splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("=")[2]).resolve() == CONFIG / "schema.json"
    assert [error.message for error in Draft202012Validator(SCHEMA).iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize(
    ("section", "wrong"),
    [
        ("pool", {"source": "wigner", "molecule": "a.xyz", "size": 10, "sise": 3}),
        ("pool", {"source": "other"}),
        ("model", {"kind": "gpr", "epochs": 10}),
        ("query", {"strategy": "randon", "initial": 3, "batch": {"schedule": "constant", "size": 3}}),
        ("stop", None),
    ],
)
def test_mistakes_are_underlined(section, wrong):
    campaign = yaml.safe_load((CONFIG / "config.yaml").read_text())
    campaign[section] = wrong
    if wrong is None:
        del campaign[section]
    assert not Draft202012Validator(SCHEMA).is_valid(campaign)


def test_a_campaign_of_dynamics_may_leave_sections_out():
    campaign = {
        "name": "h2",
        "pool": {"source": "dynamics", "molecule": "a.xyz"},
        "labeling": {"engine": "pyscf", "method": {"xc": "hf", "basis": "sto-3g"}},
    }
    assert Draft202012Validator(SCHEMA).is_valid(campaign)
    file = {"source": "file", "files": ["a.xyz"]}
    assert not Draft202012Validator(SCHEMA).is_valid({**campaign, "pool": file})
    # And single keys of some, which other campaigns must give.
    whole = {"query": {"strategy": "random", "initial": 5, "batch": {"schedule": "constant", "size": 5}}, "stop": {}}
    assert Draft202012Validator(SCHEMA).is_valid({**campaign, "query": {"strategy": "max_min"}})
    assert Draft202012Validator(SCHEMA).is_valid(
        {**campaign, **whole, "target": "energy", "test": {"size": 5}, "pool": file}
    )
    for partial in ({"query": {"strategy": "max_min"}}, {"test": {}}):
        other = {**campaign, **whole, "target": "energy", "test": {"size": 5}, "pool": file, **partial}
        assert not Draft202012Validator(SCHEMA).is_valid(other)
