"""Every message about the campaign file, the command line and the folders: the whole line, printed (pytest -rP shows them)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from snakemake.cli import parse_set_resources, parse_set_threads

from quarry.campaign.arguments import check_names, check_resources, check_targets
from quarry.campaign.folders import check_arms, check_folders, check_project
from quarry.campaign.paths import CampaignPaths
from quarry.config.loading import load_configuration
from quarry.errors import QuarryError
from support.campaigns import stand_in_configuration
from support.configurations import WIGNER, changed
from support.messages import the_line


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- the command line

RESOURCES = {
    "label_structure:runtime=02:00:00": "'02:00:00' is no number; write minutes or a time with unit, e.g. 120 or 2h",
    "label_structure:runtime=1-00:00:00": "'1-00:00:00' is no number; write minutes or a time with unit, e.g. 120 or 2h",
    "label_structure:runtime=long": "'long' is no number; write minutes or a time with unit, e.g. 120 or 2h",
    "label_structure:mem_mb=8GB": "'8GB' is no number; write megabytes, e.g. 8000; or mem with a unit, e.g. mem=8GB",
}


@pytest.mark.parametrize("given", RESOURCES)
def test_resources(given):
    with pytest.raises(QuarryError) as caught:
        check_resources("--set-resources", parse_set_resources([given]))
    assert the_line(caught) == f"--set-resources {given}: {RESOURCES[given]}"


def test_threads():
    threads = {rule: {"threads": value} for rule, value in parse_set_threads(["label_structure=many"]).items()}
    with pytest.raises(QuarryError) as caught:
        check_resources("--set-threads", threads)
    assert the_line(caught) == "--set-threads label_structure=many: 'many' is no number; write a whole number, e.g. 4"


def test_good_resources():
    good = ["runtime=120", "runtime=2h", "mem_mb=8000 * attempt", "mem=8GB", "slurm_partition=long", "mem_mb=attempt"]
    for one in good:
        check_resources("--set-resources", parse_set_resources([f"label_structure:{one}"]))


TARGETS = {
    "forcast": "there is no target 'forcast'; did you mean 'forecast'?",
    "xyzzy": "there is no target 'xyzzy'; there are all, forecast",
    "mine.yaml": "'mine.yaml' is no target; a campaign file is given with --configfile mine.yaml",
}


@pytest.mark.parametrize("target", TARGETS)
def test_targets(target):
    check_targets(["forecast", "results/toy/history.csv"], ["all", "forecast"], [])
    with pytest.raises(QuarryError) as caught:
        check_targets(["all", target], ["all", "forecast", "build_pool"], ["all", "forecast"])
    assert the_line(caught) == TARGETS[target]


def test_rules_of_resources():
    with pytest.raises(QuarryError) as caught:
        check_names("--set-resources", ["label_structre"], ["label_structure", "all"])
    assert the_line(caught) == "--set-resources: there is no rule 'label_structre'; did you mean 'label_structure'?"


# --- values in the campaign file

INTEGER = "input should be a valid integer"
NAME = "must be letters, digits, - and _ with a letter or digit first, 100 at most"
ARM = "cannot name an arm: use small letters, digits and _, no digit first, and not main, the campaign itself"
IMPORT = "must be an import path like package.module:name"
STATE = "must be the name of a keyword argument, like charge or dft.charge, or info:NAME of the atoms"
ASE = {"labeling": {"engine": "ase", "calculator": "ase.calculators.emt:EMT"}}
VALUES = {
    "huge whole number": ({"seed": 10**30}, f"seed: 1e+30 is far too large a number (got {10**30})"),
    "huge number in a list": (
        {"model": {"kind": "mlp", "hidden": [10**30]}},
        f"model.hidden.0: 1e+30 is far too large a number (got {10**30})",
    ),
    "huge number in an arm": (
        {"arms": {"other": {"query": {"batch": {"size": 10**30}}}}},
        f"arms.other.query.batch.size: 1e+30 is far too large a number (got {10**30})",
    ),
    "beyond floating point": (
        {"seed": 10**400},
        f"seed: a number of 401 digits is far too large a number (got 1{'0' * 79})",
    ),
    "huge number": ({"stop": {"max_core_hours": 1e300}}, "stop.max_core_hours: 1e+300 is far too large a number (got 1e+300)"),
    "huge multiplicity": ({"pool.multiplicity": 1e300}, f"pool.multiplicity: {INTEGER} (got 1e+300)"),
    "huge multiplicity as text": (
        {"pool.multiplicity": "1e300"},
        f"pool.multiplicity: {INTEGER} (got '1e300'); write a whole number in digits, e.g. 1000",
    ),
    "large multiplicity": (
        {"pool.multiplicity": 10**6},
        "pool.multiplicity: input should be less than or equal to 10000 (got 1000000)",
    ),
    "large charge": ({"pool.charge": -(10**6)}, "pool.charge: input should be greater than or equal to -10000 (got -1000000)"),
    "seconds for minutes": (
        {"resources": {"label": {"walltime_min": 10**9}}},
        "resources.label.walltime_min: input should be less than or equal to 10000000 (got 1000000000)",
    ),
    "time": (
        {"resources": {"label": {"walltime_min": "02:00:00"}}},
        f"resources.label.walltime_min: {INTEGER} (got '02:00:00'); write one plain number",
    ),
    "zero in front": (
        {"seed": "08"},
        f"seed: {INTEGER} (got '08'); YAML reads this as text: write it without the zero in front",
    ),
    "long name": ({"name": "x" * 300}, f"name: {NAME} (got '{'x' * 59} ... 300 characters)"),
    "braces in the name": ({"name": "{arm}"}, f"name: {NAME} (got '{{arm}}')"),
    "path as name": ({"name": "a/b"}, f"name: {NAME} (got 'a/b')"),
    "number as name": ({"name": 7}, "name: input should be text (got 7); put text in quotes"),
    "no as name": (
        {"name": False},
        "name: input should be text (got False); YAML reads yes, no, on and off as True and False: put the text in quotes",
    ),
    "capitals in an arm's name": ({"arms": {"X": {}}}, f"arms: 'X' {ARM}"),
    "braces in an arm's name": ({"arms": {"{arm}": {}}}, f"arms: '{{arm}}' {ARM}"),
    "long name of an arm": (
        {"arms": {"a" * 300: {}}},
        f"arms: '{'a' * 20}...' has 300 characters; an arm's name has 100 at most",
    ),
    "number as an arm's name": ({"arms": {1: {}}}, "arms.1.[key]: input should be text (got 1); put text in quotes"),
    "import path": ({"labeling.function": "toy.springs"}, f"labeling.function: {IMPORT} (got 'toy.springs')"),
    "import path of a calculator": (
        {"labeling": {"engine": "ase", "calculator": "emt"}},
        f"labeling.calculator: {IMPORT} (got 'emt')",
    ),
    "key of a state": ({**ASE, "labeling.charge_key": "total charge"}, f"labeling.charge_key: {STATE} (got 'total charge')"),
    "one file": (
        {"pool.files": "a.xyz"},
        "pool.files: input should be a valid list (got 'a.xyz'); a list of one is written [a.xyz]",
    ),
    "number for a list": (
        {"control": {"seeds": 3}},
        "control.seeds: input should be a valid list (got 3); a list of one is written [3]",
    ),
    "key of a section": ({"max_labels": 50}, "max_labels: unknown key; it belongs to the section stop"),
    "key of a section with kinds": ({"molecule": "a.xyz"}, "molecule: unknown key; it belongs to the section pool"),
    "key of a section inside": ({"length_ps": 3, "uses": {}}, "length_ps: unknown key; it belongs to the section uses.md"),
    "key of a section in another": ({"stop.initial": 3}, "stop.initial: unknown key; it belongs to the section query"),
    "section in a section": (
        {"stop.dataset": {}},
        "stop.dataset: unknown key; it belongs to no section: write it at the left margin",
    ),
    "key of another kind": (
        {"model.epochs": 3},
        "model.epochs: unknown key; it belongs to kind: ani or gmnn or mace or mlp or sevenn",
    ),
    "kind in capitals": (
        {"validation": {"order": "SEQUENCE"}},
        "validation.order: 'SEQUENCE' is not one of 'random' or 'sequence'; did you mean 'sequence'?",
    ),
    "misspelt kind": (
        {"model": {"kind": "gp"}},
        "model.kind: 'gp' is not one of 'gpr', 'mlp', 'kreg', 'gmnn', 'sevenn', 'mace', 'ani', 'package.module:Name'; "
        "did you mean 'gpr'?",
    ),
    "no kind": ({"descriptor": {"k": 1}}, "descriptor: the key 'kind' is missing; it says which kind this is"),
}  # fmt: skip


@pytest.mark.parametrize("case", VALUES)
def test_values(case):
    changes, message = VALUES[case]
    with pytest.raises(QuarryError) as caught:
        load_configuration(changed(stand_in_configuration(), changes), "c.yaml")
    assert the_line(caught) == f"c.yaml: {message}"


def test_no_number_is_too_large_to_be_said():
    """Every number of the schema, with values that overflow in libraries."""
    for section in ("pool", "stop", "test", "query", "validation", "verification", "forecast"):
        for key, value in load_configuration(WIGNER, "c.yaml").model_dump()[section].items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                for huge in (10**40, 1e200, -(10**40)):
                    with pytest.raises(QuarryError, match=rf"{section}\.{key}: "):
                        load_configuration(changed(WIGNER, {f"{section}.{key}": huge}), "c.yaml")


# --- folders


def ask_for_folders(**changes):
    configuration = load_configuration(changed(stand_in_configuration(), changes), "c.yaml")
    paths = CampaignPaths(configuration.name)
    check_arms(configuration, paths)
    check_folders(configuration, paths)


OWN = ("failed", "figures", "forecast", "label_store", "logs", "model", "pool", "receipts", "verification")


@pytest.mark.parametrize("arm", OWN)
def test_arms_are_no_folders_of_the_campaign(here, arm):
    """(A finished campaign's folder is compared with the names in tests/campaign/test_mini_campaigns.py.)"""
    with pytest.raises(QuarryError) as caught:
        ask_for_folders(arms={arm: {}})
    head, _, names = the_line(caught).partition(", and none of ")
    assert head == f"arms.{arm}: a folder of the campaign has this name; give the arm another"
    assert set(OWN) <= set(names.split(", "))


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("results/toy", "labeling.store: results/toy and the results in results/toy lie one inside the other"),
        (
            "results/toy/pool/x",
            "labeling.store: results/toy/pool/x and the results in results/toy lie one inside the other",
        ),
        (".", "labeling.store: . and the results in results/toy lie one inside the other"),
    ],
)
def test_store_and_results(here, store, message):
    with pytest.raises(QuarryError) as caught:
        ask_for_folders(**{"labeling.store": store})
    assert the_line(caught) == f"{message}; name another folder, e.g. label_store"


UNWRITABLE = {
    "results": "the results folder results/toy cannot be written ({why}); correct its permissions, or start in another folder "
    "(--directory)",
    "label_store": "labeling.store: label_store cannot be written ({why}); correct its permissions, or name another folder",
    ".snakemake": "Snakemake's folder .snakemake cannot be written ({why}); start in another folder, or name one with "
    "--directory",
}


@pytest.mark.parametrize("folder", UNWRITABLE)
def test_a_file_in_place_of_a_folder(here, folder):
    (here / folder).touch()
    with pytest.raises(QuarryError) as caught:
        ask_for_folders()
    assert the_line(caught) == UNWRITABLE[folder].format(why=f"{here / folder} is a file")


@pytest.mark.parametrize("folder", ["results", ".snakemake"])
def test_a_folder_without_permission(here, folder, monkeypatch):
    """(Of the label store, tests of sharing ask.)"""
    (here / folder).mkdir()
    # Not by chmod: root may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode, **how: Path(path).name != folder)
    with pytest.raises(QuarryError) as caught:
        ask_for_folders()
    assert the_line(caught) == UNWRITABLE[folder].format(why="Permission denied")


def test_a_look_leaves_nothing(here):
    ask_for_folders(**{"labeling.store": "{arm}/b é"})
    assert not list(here.iterdir())


def test_folder_of_the_project():
    check_project(Path("/home/é b/quarry"))
    with pytest.raises(QuarryError) as caught:
        check_project(Path("/home/{me}/quarry"))
    assert the_line(caught) == (
        "the project's folder /home/{me}/quarry has braces in its name, which Snakemake takes for wildcards; give it another "
        "name"
    )
