"""The command ``quarry``: what its subcommands have in common."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from quarry.command_line.main import SUBCOMMANDS, main
from support.campaigns import REPOSITORY

HEAVY = {"torch", "pyscf", "ase", "sklearn", "pandas", "scipy", "h5py", "snakemake", "matplotlib"}


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_a_subcommand_says_in_one_line_what_it_does(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    words = str(import_module(f"quarry.command_line.{name}").__doc__).partition("\n")[0]
    assert end.value.code == 0
    assert " ".join(words.split()) in " ".join(capsys.readouterr().out.split())


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import contextlib, json, sys\nfrom quarry.command_line.main import main\n"
        "with contextlib.suppress(SystemExit):\n    main(['--help'])\n"
        "print('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    environment = {"PYTHONPATH": str(REPOSITORY / "workflow_scripts"), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert not HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("folder", ["absent", "empty", "results"])
def test_a_folder_without_a_campaign_is_one_line(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "results" / "water").mkdir(parents=True)
    (tmp_path / "results" / "water" / "campaign.json").write_text("{}")
    assert main(["status", folder]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"Quarry: {folder}")
    assert err.count("\n") == 1
    if folder == "results":
        assert "water" in err


def test_without_a_folder_and_without_results_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["status"]) == 1
    assert capsys.readouterr().err.startswith("Quarry: no campaign in ")


@pytest.mark.parametrize("more", [["status"], ["card"], ["export", "--format", "table", "--to", "a.csv"]])
@pytest.mark.parametrize("folder", ["a" * 300, "mine"])
def test_what_cannot_be_read_is_one_line(
    folder: str, more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "campaign.json").mkdir(parents=True)
    assert main([more[0], folder, *more[1:]]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and err.startswith("Quarry: ") and folder in err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["campaign.json", "mine"]
