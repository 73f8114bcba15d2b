"""The image that the Containerfile describes holds what a campaign needs; no container engine is asked for."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from quarry.config.extras import EXTRAS
from quarry.config.installed import TO_ADD
from support.campaigns import REPOSITORY, CampaignFolder, stand_in_configuration

LINES = (REPOSITORY / "Containerfile").read_text().replace("\\\n", "").splitlines()
PLACE = "/opt/quarry"


def values_of(instruction):
    return [line.removeprefix(instruction).strip() for line in LINES if line.startswith(f"{instruction} ")]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The folder of Quarry in the image, as COPY fills it from a clone."""
    folder = tmp_path_factory.mktemp("image") / "quarry"
    folder.mkdir()
    for copied in values_of("COPY"):
        *sources, target = copied.split()
        if sources[0].startswith("--from"):
            assert sources[1] == target == PLACE, "all of it goes from the stage with the compilers to the image"
            continue
        for source in sources:
            tracked = subprocess.run(
                ["git", "ls-files", source], cwd=REPOSITORY, capture_output=True, text=True, check=True
            ).stdout.split()
            assert tracked, f"{source} is in no clone"
            for file in tracked:
                place = folder / (file if target == "./" else Path(target) / Path(file).relative_to(source))
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / file, place)
    return folder


def test_its_base_has_a_tag():
    bases = {line.split()[0] for line in values_of("FROM")}
    assert len(bases) == 1 and re.fullmatch(r"\S+/python:3\.\d+-[a-z-]+", *bases), "both stages have the same Python"


def test_what_its_environment_is_made_of_is_copied(image):
    """What the recipes of the Makefile, and pip in the project's folder, read."""
    makefile = (image / "Makefile").read_text()
    wanted = re.findall(r"^\$\(STAMP\)(?:-(?:torch|soap))?: (.*)$", makefile, re.MULTILINE)
    assert len(wanted) == 3
    files = {word for line in wanted for word in line.split() if not word.startswith("$")}
    project = tomllib.loads((image / "pyproject.toml").read_text())["project"]
    files |= {project["readme"], "LICENSE"}
    assert files <= {path.name for path in image.iterdir()}


def test_a_campaign_runs_to_its_end_with_what_is_copied(image, tmp_path):
    folder = CampaignFolder.create(tmp_path / "campaign", stand_in_configuration(stop={"rrmse": None, "max_labels": 6}))
    [entry] = values_of("ENTRYPOINT")
    assert re.findall(r'"([^"]+)"', entry) == ["snakemake", "--snakefile", f"{PLACE}/Snakefile"]
    folder.snakefile = image / "Snakefile"
    # A library elsewhere does not stand in for what is absent here.
    folder.environment = {"PYTHONPATH": ""}
    for arguments in (("--cores", "1"), ("dag_pictures",), ("--report", "report.html")):
        outcome = folder.run(*arguments)
        assert outcome.code == 0, outcome.text[-3000:]
    assert (folder.results / "dataset.extxyz").exists() and (folder.results / "figures" / "dag_rules.svg").exists()
    planned = folder.run_as_given("-n", "--cores", "1")
    assert planned.code == 0 and "results/water" in planned.text, "without a campaign file it is the default campaign"


def test_what_a_campaign_lacks_is_said_as_a_build(monkeypatch):
    [told] = [value.partition("=")[2].strip('"') for value in values_of("ENV") if value.startswith(TO_ADD)]
    arguments = [argument.partition("=")[0] for argument in values_of("ARG")]
    assert re.findall(r"--build-arg (\w+)=\{extra\}", told)[0] in arguments
    assert {"EXTRAS", "BUILD", "TORCH_INDEX"} == set(arguments), "the Makefile's own variables, and its targets"
    assert {"torch", "soap"} == {name for name, extra in EXTRAS.items() if extra.has_make_target}
