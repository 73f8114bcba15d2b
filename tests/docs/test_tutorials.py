"""The tutorials and the first steps: what they say to type works. What takes long is a dry run here; its output is a real one."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from quarry.command_line.main import main
from quarry.config import load_configuration
from quarry.labeling.engines.registry import make_engine
from quarry.structures import Structure
from support.campaigns import REPOSITORY, WATER
from support.documents import commands_of, files_of, link_profiles, make_checkout, run_in

PAGES = {page.stem: page.read_text() for page in sorted((REPOSITORY / "docs" / "tutorials").glob("*.md"))}
FIRST = (REPOSITORY / "docs" / "first_steps.md").read_text()
PROGRAMS = {"make", "snakemake", "quarry", "cp", ".venv/bin/python", "$EDITOR"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return make_checkout(tmp_path_factory.mktemp("tutorials") / "quarry")


def shaken_waters(count: int) -> np.ndarray:
    return np.array(WATER)[None] + np.random.default_rng(0).normal(0, 0.05, (count, 3, 3))


def write_files(page: str, folder: Path) -> dict[str, str]:
    files = files_of(PAGES[page])
    for name, content in files.items():
        (folder / name).write_text(content)
    return files


def dry_run(checkout: Path, *arguments: str) -> None:
    done = run_in(checkout, ["snakemake", "-n", *arguments])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "dry-run" in done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_each_says_what_to_type_and_has_a_picture(page):
    commands = commands_of(PAGES[page])
    assert any(command.startswith("snakemake -n --configfile") for command in commands)
    for command in commands:
        words = shlex.split(command)
        assert words[0] in PROGRAMS, command
        if "--configfile" in words:
            file = words[words.index("--configfile") + 1]
            # Those in config/ are tried by the test of all campaign files.
            assert (REPOSITORY / file).exists() or file in {*files_of(PAGES[page]), "mine.yaml"}, command
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGES[page])
    assert pictures and all((REPOSITORY / "docs" / "tutorials" / picture).exists() for picture in pictures)


def test_the_first_steps(checkout, monkeypatch):
    commands = commands_of(FIRST)
    assert {shlex.split(command)[0] for command in commands} <= PROGRAMS
    (new,) = [command for command in commands if command.startswith("quarry new")]
    monkeypatch.chdir(checkout)
    assert main(shlex.split(new)[1:]) == 0
    link_profiles(checkout)
    tried = [command for command in commands if "ethanol.yaml" in command and command.startswith("snakemake")]
    assert len(tried) == 5
    # The plain ones are the dry ones without -n.
    for command in {command.replace(" -n", "") for command in tried}:
        dry_run(checkout, *shlex.split(command)[1:])


def test_a_program(checkout, monkeypatch):
    write_files("own_program", checkout)
    made = run_in(checkout, [sys.executable, "make_pool.py"])
    assert made.returncode == 0, made.stderr
    dry_run(checkout, "--configfile", "my_program.yaml")
    atoms = ase.io.read(checkout / "pool.extxyz", 7)
    section = yaml.safe_load((checkout / "my_program.yaml").read_text())
    engine = make_engine(load_configuration(section, "my_program.yaml").labeling, checkout)
    result = engine.label(Structure.from_atoms(atoms), 1)
    assert result.status == "ok", result.message
    bonds = atoms.get_distances(0, [1, 2])
    expected = (0.18 * (1 - np.exp(-2.2 * (bonds - 0.97))) ** 2).sum()
    expected += 0.08 * (np.deg2rad(atoms.get_angle(1, 0, 2)) - 1.82) ** 2
    assert result.properties["energy"] == pytest.approx(27.211386245988 * expected, abs=1e-3)


def test_a_search(checkout):
    """Molecules are written as QM9 has them (exponents as *^, a line of frequencies behind the atoms)."""
    write_files("search", checkout)
    (checkout / "qm9").mkdir()
    for i, positions in enumerate(shaken_waters(1000)):
        properties = " ".join(["0.1"] * 5 + [f"{-0.3 + 0.0001 * i:.4f}"] + ["0.1"] * 9)
        rows = [f"{s}\t{x:.8f}\t{y:.8f}\t{z:.8f}\t-1.0*^-6" for s, (x, y, z) in zip("OHH", positions, strict=True)]
        text = "\n".join(["3", f"gdb {i}\t{properties}", *rows, "1600 3700 3800"])
        (checkout / "qm9" / f"dsgdb9nsd_{i:06d}.xyz").write_text(text)
    made = run_in(checkout, [sys.executable, "make_table.py"])
    assert made.returncode == 0, made.stderr
    with np.load(checkout / "qm9_10k.npz") as table:
        assert table["R"].shape == (3000, 3) and table["offsets"][-1] == 3000 and table["homo_hartree"][10] == -0.299
        assert table["Z"][:3].tolist() == [8, 1, 1]
        assert np.allclose(table["R"][:3], shaken_waters(1000)[0], atol=1e-7)
    dry_run(checkout, "--configfile", "qm9_search.yaml")


def test_labels_that_are_there(checkout, monkeypatch):
    frames = [Atoms("OHH", positions) for positions in shaken_waters(160)]
    for number, frame in enumerate(frames):
        frame.calc = SinglePointCalculator(frame, energy=0.01 * number)
    ase.io.write(checkout / "mine.extxyz", frames)
    monkeypatch.chdir(checkout)
    (new,) = [command for command in commands_of(PAGES["own_labels"]) if command.startswith("quarry new")]
    assert main(shlex.split(new)[1:]) == 0
    written = yaml.safe_load(Path("mine.yaml").read_text())
    shown, wanted = (yaml.safe_load(b) for b in re.findall(r"```yaml\n(.*?)```", PAGES["own_labels"], re.DOTALL)[:2])
    assert all(written[section] == value for section, value in shown.items())
    Path("mine.yaml").write_text(yaml.safe_dump({**written, **wanted}))
    dry_run(checkout, "--configfile", "mine.yaml")


def test_an_equation_of_state(tmp_path, monkeypatch, capsys):
    """Its code, with the labels' own method in the model's place, gives that method's numbers."""
    monkeypatch.setattr("quarry.calculator.QuarryCalculator", lambda path: EMT())
    exec(compile(files_of(PAGES["cells"])["equation_of_state.py"], "equation_of_state.py", "exec"), {})
    constant, modulus = map(float, capsys.readouterr().out.split())
    assert constant == pytest.approx(3.590, abs=0.002) and modulus == pytest.approx(134.0, rel=0.02)
