"""Every message about user-defined code, programs and coordinates: the whole line, printed (pytest -rP shows them)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from quarry.config.loading import load_configuration
from quarry.config.units import BOHR_A
from quarry.errors import QuarryError
from quarry.imports import load
from quarry.labeling.engines.programs import check_program
from quarry.labeling.engines.pyscf_engine import PyscfEngine
from quarry.labeling.engines.registry import make_engine
from quarry.stages.filtering import Candidate, PoolFilter
from quarry.stages.geometry_checks import check_molecule, check_not_bohr, check_not_nm, check_one_place
from quarry.structures import Structure, StructureSet
from support.campaigns import WATER as WATER_A
from support.campaigns import stand_in_configuration
from support.configurations import WIGNER, changed
from support.messages import the_line


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- user-defined code and programs

INSTALL = f"{sys.executable} -m pip install"
IMPORTS = {
    "no_such_package.ase:Calc": (
        "(ModuleNotFoundError: No module named 'no_such_package'); there is no no_such_package.py in {here}; put it there or "
        f"correct its name; if it is a package, install it: {INSTALL} no_such_package"
    ),
    "needs_more_9f3:label": (
        "(ModuleNotFoundError: No module named 'no_such_package'); it needs a package that is not installed: "
        f"{INSTALL} no_such_package"
    ),
    "mien_9f3:label": (
        "(ModuleNotFoundError: No module named 'mien_9f3'); there is no mien_9f3.py in {here}; did you mean 'mine_9f3'?"
    ),
    "mine_9f3:lable": "(AttributeError: module 'mine_9f3' has no attribute 'lable'); did you mean 'mine_9f3:label'?",
    "ase.calculators.emtt:EMT": (
        "(ModuleNotFoundError: No module named 'ase.calculators.emtt'); give package.module:name, importable from {here}"
    ),
}


@pytest.mark.parametrize("path", IMPORTS)
def test_imports(here, path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (here / "needs_more_9f3.py").write_text("import no_such_package\n")
    (here / "mine_9f3.py").write_text("def label(atoms): return {}\n")
    try:
        with pytest.raises(QuarryError) as caught:
            load(path, "labeling.function")
    finally:
        sys.modules.pop("mine_9f3", None)
    assert the_line(caught) == f"labeling.function: cannot import '{path}' {IMPORTS[path].format(here=here)}"


def test_a_mistyped_file_is_looked_for_in_both_folders(here, tmp_path, monkeypatch):
    """The campaign file's first; a package there counts too."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    campaign = tmp_path / "campaign"
    (campaign / "my_models_9f3").mkdir(parents=True)
    (campaign / "my_models_9f3" / "__init__.py").write_text("")
    with pytest.raises(QuarryError) as caught:
        load("my_modles_9f3:Ridge", "model.kind", campaign)
    assert the_line(caught).endswith(
        f"; there is no my_modles_9f3.py in {campaign} or {here}; did you mean 'my_models_9f3'?"
    )
    with pytest.raises(QuarryError) as caught:
        load("quite_other_9f3:Ridge", "model.kind", campaign)
    line = the_line(caught)
    assert line.index(str(campaign)) < line.index(str(here) + ";") < line.index("pip install")


PROGRAMS = {
    "no run bit": (
        b"#!/bin/sh\n",
        0o644,
        "'{path}' may not be executed; run chmod +x {path}, or write the program that reads it before it (python, bash)",
    ),
    "Windows lines": (
        b"#!/bin/sh\r\necho\r\n",
        0o755,
        "the lines of {path} end as on Windows, so that its first line names no program; run sed -i 's/\\r$//' {path}",
    ),
    "interpreter": (
        b"#!/opt/no/python\n",
        0o755,
        "{path} asks in its first line for /opt/no/python, which is not here; correct the line, or write the program before "
        "the script",
    ),
    "interpreter by env": (
        b"#!/usr/bin/env no_python\n",
        0o755,
        "{path} asks in its first line for no_python, which is not here; correct the line, or write the program before the "
        "script",
    ),
    "folder": (None, 0o755, "'{path}' is a folder; give the path of the program in it"),
}


@pytest.mark.parametrize("by_name", [False, True], ids=["path", "name"])
@pytest.mark.parametrize("case", PROGRAMS)
def test_programs(tmp_path, case, by_name):
    content, mode, message = PROGRAMS[case]
    path = tmp_path / "program_9f3"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    path.chmod(mode)
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:{tmp_path}"}
    with pytest.raises(QuarryError) as caught:
        check_program(f"A=1 {path.name if by_name else path} input", environment)
    assert the_line(caught) == "labeling.command: " + message.format(path=path)


def test_good_programs(tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    (folder / "run.sh").write_text("#!/usr/bin/env bash\n")
    (folder / "run.sh").chmod(0o755)
    for command in (f"'{folder}'/run.sh x", "echo 1", "if true; then x; fi", "python x.py", "'odd name' x"):
        check_program(command, os.environ)
    with pytest.raises(QuarryError, match=r"there is no program '.*/a b/walk.sh' here"):
        check_program(f"'{folder}'/walk.sh x", os.environ)


# --- coordinates


def waters(scale=1.0, count=20):
    rng = np.random.default_rng(0)
    return [Structure.create([8, 1, 1], scale * (WATER_A + rng.normal(0, 0.04, (3, 3)))) for _ in range(count)]


def configured(**changes):
    return load_configuration(changed(stand_in_configuration(), changes), "c.yaml")


def one_place(structures, configuration=None, engine=None):
    configuration = configuration or configured(filters={"min_distance_factor": None})
    check_one_place(
        configuration, engine or make_engine(configuration.labeling, Path()), StructureSet.from_structures(structures)
    )


def test_atoms_in_one_place():
    double = Structure.create([8, 1, 1], [[0, 0, 0], [0.9, 0.3, 0], [0.9, 0.3, 0.001]])
    with pytest.raises(QuarryError) as caught:
        one_place([*waters(count=3), double])
    assert the_line(caught) == (
        "pool: atoms 2 and 3 of structure 4 of 4 are in one place (0.001 Angstrom apart; 1 of 4 structures have such atoms); "
        "correct the file, or leave such structures out with filters.min_distance_factor: 0.5"
    )


def test_atoms_in_one_place_of_the_molecule_whose_vibrations_are_drawn_from():
    """It passes no filter: its Hessian would be a job that fails."""
    double = Structure.create([8, 1, 1], [[0, 0, 0], [0, 0, 0], [0.9, 0.3, 0]])
    with pytest.raises(QuarryError) as caught:
        one_place([double], load_configuration(WIGNER, "c.yaml"))
    molecule = WIGNER["pool"]["molecule"]
    assert the_line(caught) == (
        f"pool.molecule: atoms 1 and 2 of {molecule} are in one place (0.000 Angstrom apart); correct the file"
    )


def test_atoms_in_one_place_of_a_cell():
    cell = Structure.create([10], [[0, 0, 0]], 0, 1, np.diag([3.0, 3.0, 0.005]), (True, True, True))
    with pytest.raises(QuarryError, match="atoms 1 and 1 of structure 1 of 1 are in one place"):
        one_place([cell])


def test_an_engine_says_how_near_atoms_may_be():
    near = Structure.create([1, 1], [[0, 0, 0], [0, 0, 0.08]])
    one_place([near])
    with pytest.raises(QuarryError, match=r"0\.080 Angstrom apart"):
        one_place([near], engine=PyscfEngine(load_configuration(WIGNER, "c.yaml").labeling.method))


def test_nm():
    configuration = configured()
    pool_filter = PoolFilter(configuration.pool_filters, None)
    pool_filter.add(Candidate("pool.xyz", number, structure) for number, structure in enumerate(waters(0.1)))
    with pytest.raises(QuarryError) as caught:
        check_not_nm(pool_filter)
    assert the_line(caught) == (
        "pool: the coordinates look like nm (in 20 of 20 structures atoms are ten times closer than bonds are long); Angstrom "
        "is needed: multiply them by 10"
    )
    torn = PoolFilter(configuration.pool_filters, None)
    torn.add(Candidate("pool.xyz", number, structure) for number, structure in enumerate(waters(0.4)))
    check_not_nm(torn)
    check_not_nm(PoolFilter(configuration.pool_filters, None))


APART = [*WATER_A, *(WATER_A + np.array([0, 18.0, 0]))]


@pytest.mark.parametrize(
    ("numbers", "positions", "words"),
    [
        ([18], [[0, 0, 0]], "is a single atom, which has no vibrations; give"),
        ([8, 1, 1], 0.1 * WATER_A, "look like nm (atoms are ten times closer than bonds are long)"),
        ([8, 1, 1] * 2, APART, "has 2 pieces that are 16.5 Angstrom apart"),
    ],
)
def test_a_molecule_without_vibrations_of_its_own(numbers, positions, words):
    """Its Hessian would be a job that fails, or noise."""
    with pytest.raises(QuarryError) as caught:
        check_molecule(load_configuration(WIGNER, "c.yaml").pool, Structure.create(numbers, positions))
    line = the_line(caught)
    assert line.startswith(f"pool.molecule: {WIGNER['pool']['molecule']} ") or "coordinates of" in line
    assert words in line


def test_molecules_and_complexes_that_have_vibrations():
    pool = load_configuration(WIGNER, "c.yaml").pool
    dimer = [*WATER_A, *(WATER_A + np.array([0, 5.0, 0]))]
    argon = ([18, 18], [[0, 0, 0], [0, 0, 3.8]])
    for numbers, positions in (
        ([8, 1, 1], WATER_A),
        ([8, 1, 1] * 2, dimer),
        ([1, 1], [[0, 0, 0], [0, 0, 0.74]]),
        argon,
    ):
        check_molecule(pool, Structure.create(numbers, positions))
    # What file of modes says was computed, and nothing is drawn from the molecule.
    other = pool.model_copy(update={"molecule": None, "modes_file": "modes.json"})
    check_molecule(other, Structure.create([8, 1, 1] * 2, APART))


def bohr(structures, **changes):
    check_not_bohr(configured(**changes), StructureSet.from_structures(structures))


def test_bohr():
    with pytest.raises(QuarryError) as caught:
        bohr(waters(1 / BOHR_A))
    assert the_line(caught) == (
        "pool: the coordinates look like bohr (typical nearest atoms are 1.84 times the sum of their covalent radii apart, and "
        "none are nearer than 1.70 times); Angstrom is needed: multiply them by 0.529177, or set filters.bond_factor above "
        "1.84 if molecules are meant to be so stretched"
    )
    bohr(waters(1 / BOHR_A), filters={"bond_factor": 1.9})


def test_molecules_of_ase_in_bohr_and_angstrom():
    from ase.build import molecule

    for name in ("CH3CH2OH", "C6H6", "NH3", "SiH4", "CH3SH", "LiF", "C2H4", "H2CO", "CH3Cl"):
        atoms = molecule(name)
        bohr([Structure.create(atoms.numbers, atoms.positions)])
        if len(atoms) > 2:
            with pytest.raises(QuarryError, match="look like bohr"):
                bohr([Structure.create(atoms.numbers, atoms.positions / BOHR_A)])


STRETCHED = {
    "dissociation": [Structure.create([8, 1, 1], WATER_A * scale) for scale in np.linspace(0.9, 5, 30)],
    "only far parts": [Structure.create([8, 1, 1], WATER_A * scale) for scale in np.linspace(1.5, 4, 30)],
    "one atom far away": [
        Structure.create([8, 1, 1], WATER_A + np.array([[0, 0, 0], [0, x, 0], [0, 0, 0]])) for x in range(2, 9)
    ],
    "two atoms": [Structure.create([7, 7], [[0, 0, 0], [0, 0, 2.07]])],
    "hydrogen": [Structure.create([1] * 6, [[0, 0, 1.4 * i] for i in range(6)])],
    "noble gas": [Structure.create([18] * 4, 3.76 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]))],
    "one atom": [Structure.create([6], [[0, 0, 0]])],
}


@pytest.mark.parametrize("case", STRETCHED)
def test_stretched_molecules_are_believed(case):
    bohr(STRETCHED[case])
