"""The README's commands work, and what is written twice is the same twice."""

import json
import re
import shlex
import subprocess
import tomllib

import numpy as np
import pytest
import yaml

from quarry import __version__
from quarry.command_line.main import main
from quarry.config import load_configuration
from quarry.stopping.own_rules import own_rules
from quarry.stopping.progress import Progress
from support.campaigns import REPOSITORY, SNAKEFILE, WATER, stand_in_configuration
from support.documents import commands_of, link_profiles, make_checkout, run_in
from support.job_processes import quick_python
from support.stages import make_facts

README = (REPOSITORY / "README.md").read_text()
USES = (REPOSITORY / "docs" / "uses.md").read_text()
COMMANDS = commands_of(README + USES)
STATUS = (REPOSITORY / "docs" / "status.md").read_text()
OF_STATUS = [line.split("  #")[0].strip() for line in STATUS.splitlines() if line.startswith("quarry status")]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return make_checkout(tmp_path_factory.mktemp("docs") / "quarry")


def test_every_command_is_known():
    assert len(COMMANDS) >= 12
    assert {shlex.split(c)[0] for c in COMMANDS} == {"make", "snakemake", "quarry"}


@pytest.mark.parametrize("command", [c for c in COMMANDS + OF_STATUS if c.startswith("quarry")])
def test_quarry_commands(command, tmp_path, monkeypatch, capsys):
    """Their options exist; where there is no campaign they say so in one line."""
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[1:]) == 1
    said = capsys.readouterr().err
    assert said.startswith("Quarry: ") and said.count("\n") == 1 and "results" in said


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_make_targets_exist(command, checkout):
    outcome = subprocess.run(
        ["make", "-n", *shlex.split(command)[1:]], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("snakemake") and "--report" not in c])
def test_snakemake_commands(command, checkout):
    """Each as a dry run: the options, files and profiles in it exist and are understood."""
    link_profiles(checkout)
    outcome = run_in(checkout, [*shlex.split(command), "--dry-run"])
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert re.search(r"dry-run|digraph|output_file", outcome.stdout + outcome.stderr)


def test_the_campaign_file_of_the_readme_is_right():
    example = yaml.safe_load(re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1])
    configuration = load_configuration(example, "README.md")
    assert [configuration.arm(name).query.strategy for name in configuration.controls] == ["random"] * 3


def test_linked_files_exist():
    for page in [REPOSITORY / "README.md", *REPOSITORY.glob("*/README.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page}: {target}"


def test_environments_and_lock_have_the_versions_of_pyproject():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    parts = {"": project["dependencies"], "-torch": extras["torch"], "-soap": extras["soap"], "-test": extras["test"]}
    everywhere: dict[str, str] = {}
    for part, dependencies in parts.items():
        wanted = dict(d.split("==") for d in dependencies)
        lines = (REPOSITORY / f"requirements{part}.lock").read_text().splitlines()
        locked = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
        normal = {name.lower().replace("_", "-"): version for name, version in locked.items()}
        assert {name: normal.get(name.lower()) for name in wanted} == wanted, part
        assert all(everywhere.get(name, version) == version for name, version in normal.items()), part
        everywhere |= normal
    # The optional networks are in no lock: two of them cannot be in one environment.
    wanted = dict(d.split("==") for d in [*project["dependencies"], *(d for name in extras for d in extras[name])])
    for file in (REPOSITORY / "envs").glob("*.yaml"):
        dependencies = yaml.safe_load(file.read_text())["dependencies"]
        pins = [d.split("=") for d in dependencies if isinstance(d, str) and "=" in d]
        pins += [d.split("==") for part in dependencies if isinstance(part, dict) for d in part["pip"] if d[0] != "-"]
        for name, version in pins:
            if name != "python":
                assert wanted[name] == version, f"{file.name}: {name}"


def test_how_to_cite_says_what_the_project_says():
    """Keys of CFF 1.2.0 and of Zenodo; version and licence as in the library, and no DOI that does not exist."""
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    known = {"cff-version", "message", "title", "abstract", "type", "authors", "version", "license", "keywords"}
    assert set(cited) <= known and cited["cff-version"] == "1.2.0" and cited["type"] == "software"
    assert (cited["version"], cited["license"]) == (__version__, project["project"]["license"])
    assert cited["authors"] == [{"name": "Quarry developers"}]
    assert "version" not in project["project"] and project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "quarry.__version__"}
    deposit = json.loads((REPOSITORY / ".zenodo.json").read_text())
    same = {
        "title": "title",
        "version": "version",
        "license": "license",
        "keywords": "keywords",
        "description": "abstract",
    }
    assert {key: deposit[key] for key in same} == {key: cited[name] for key, name in same.items()}
    assert deposit["creators"] == cited["authors"] and deposit["upload_type"] == cited["type"]
    assert f"\n## {__version__}" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_the_catalog_says_what_the_default_profile_says():
    usage = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    flags = usage["mandatory-flags"]["flags"].split()
    profile = yaml.safe_load((REPOSITORY / "profiles" / "default" / "config.yaml").read_text())
    assert flags[flags.index("--rerun-triggers") + 1 :][:2] == profile["rerun-triggers"]
    assert flags[flags.index("--scheduler") + 1] == profile["scheduler"]
    assert {"--rerun-incomplete", "--nolock", "--keep-going"} <= set(flags)


def test_the_environment_has_what_installs_quarry():
    """`make setup` builds without looking for anything: the lock has the build system that pyproject.toml asks for."""
    lock = (REPOSITORY / "requirements.lock").read_text()
    wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["build-system"]["requires"]
    name, least = wanted[0].split(">=")
    (version,) = re.findall(rf"^{name}==([0-9]+)", lock, re.MULTILINE)
    assert len(wanted) == 1 and int(version) >= int(least)
    assert "--no-build-isolation -e ." in (REPOSITORY / "Makefile").read_text()


def test_the_stop_rule_of_its_page_stops(tmp_path):
    page = (REPOSITORY / "docs" / "stopping.md").read_text()
    (tmp_path / "my_rules.py").write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    stop = yaml.safe_load(re.search(r"own rule\n.*?```yaml\n(.*?)```", page, re.DOTALL)[1])["stop"]
    configuration = load_configuration(stand_in_configuration(stop=stop), "docs/stopping.md")
    (rule,) = own_rules(configuration, tmp_path)
    finds = [make_facts(t, search={"found": found}) for t, found in enumerate((4, 9, 10))]
    assert [rule.says(Progress(finds[:n], [], configuration)) for n in (1, 2)] == [None, None]
    assert rule.says(Progress(finds, [], configuration)) == "only 1 finds in the last batch"


def test_the_example_of_a_potential_stops_at_its_force_error():
    folder = REPOSITORY / "config" / "campaigns"
    stop = yaml.safe_load((folder / "ethanol_potential.yaml").read_text())["stop"]
    configuration = load_configuration(stand_in_configuration(stop=stop), "ethanol_potential.yaml")
    (rule,) = own_rules(configuration, folder)

    def says(errors):
        return rule.says(Progress([make_facts(0, errors=errors)], [], configuration))

    assert says({"test": {"rmse": 0.01, "forces_rmse": 0.05}}) is None and says({}) is None
    assert says({"test": {"rmse": 0.2, "forces_rmse": 0.04}}) == "the forces' RMSE 0.040 eV/Angstrom is below 0.0434"


def test_every_campaign_file_has_a_right_mind(checkout):
    """Every campaign file passes all checks, those of the chemistry included. A small table stands in for QM9."""
    positions = np.array(WATER)[None] + np.random.default_rng(0).normal(0, 0.05, (3200, 3, 3))
    table = {"Z": np.tile([8, 1, 1], 3200), "R": positions.reshape(-1, 3), "offsets": np.arange(3201) * 3}
    np.savez(checkout / "config/campaigns/qm9.npz", homo_hartree=np.linspace(-0.3, -0.2, 3200), **table)
    for file in sorted((checkout / "config" / "campaigns").glob("*.yaml")):
        command = [quick_python(), "-m", "snakemake", "-s", str(SNAKEFILE), "-n", "--configfile", str(file)]
        outcome = run_in(checkout, command)
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_the_page_on_failures_names_every_class():
    from quarry.campaign.failure_table import REMEDIES
    from quarry.failures import FAILURE_CLASSES

    page = (REPOSITORY / "docs" / "failures.md").read_text()
    assert [name for name in FAILURE_CLASSES if f"`{name}`" not in page] == []
    assert set(REMEDIES) == set(FAILURE_CLASSES)
