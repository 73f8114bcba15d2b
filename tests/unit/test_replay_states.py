"""Excited states from finished data: arrays, joined columns, plain text files; pools larger than their labelled part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from quarry.config import load_configuration
from quarry.config.campaign import Configuration, inputs_of
from quarry.config.engines.replay import ReplayLabeling
from quarry.errors import QuarryError
from quarry.files import canonical_json, sha256_of
from quarry.labeling.engines.replay import ReplayEngine
from quarry.stages.preflight import check
from quarry.structures import Structure

HARTREE = 27.211386245988
"""eV (CODATA 2018)."""
N, STATES = 6, 3


def waters(count: int) -> list[Atoms]:
    base = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
    return [Atoms("OHH", base * (1 + 0.01 * i)) for i in range(count)]


def energies(row: int, state: int) -> float:
    """eV; by formula, different for every structure and state."""
    return 4.0 + 0.5 * state + 0.01 * row


def strengths(row: int, state: int) -> float:
    return 0.1 * state + 0.001 * row


def table(function: Any, n: int = N) -> np.ndarray:
    return np.array([[function(row, state) for state in range(STATES)] for row in range(n)])


E, F = table(energies), table(strengths)
TEXT = {
    "excitation_energies": ["E1.dat", "E2.dat", "E3.dat"],
    "oscillator_strengths": ["f1.dat", "f2.dat", "f3.dat"],
}
BOTH = {"excitation_energies": "E", "oscillator_strengths": "f"}
JOINED = {"excitation_energies": ["E1", "E2", "E3"], "oscillator_strengths": ["f1", "f2", "f3"]}
BY_ROW = {"match": "row", "structures": ["pool.extxyz"]}


def write_text_files(folder: Path, e: np.ndarray = E, f: np.ndarray = F) -> None:
    """One file per state, as MLatom's task has them, and the same with all states in one file."""
    for letter, values in (("E", e), ("f", f)):
        for state in range(STATES):
            np.savetxt(folder / f"{letter}{state + 1}.dat", values[:, state], fmt="%.10f")
        np.savetxt(folder / f"{letter}.txt", values, fmt="%.10f")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "pool.extxyz", waters(N))
    write_text_files(tmp_path)
    return tmp_path


def replay(base: Path, **keys: Any) -> ReplayEngine:
    return ReplayEngine(ReplayLabeling.model_validate({"engine": "replay", **keys}), base)


def check_labels(engine: ReplayEngine, factor: float = 1.0) -> None:
    engine.check([])
    for row, atoms in enumerate(waters(N)):
        result = engine.label(Structure.from_atoms(atoms), 1)
        assert (result.status, result.details) == ("ok", {"row": row})
        assert result.properties["excitation_energies"] == pytest.approx(E[row] * factor, abs=1e-9)
        assert result.properties["oscillator_strengths"] == pytest.approx(F[row], abs=1e-9)
        canonical_json(result.properties)


@pytest.mark.parametrize("columns", [BOTH, JOINED], ids=["arrays", "joined"])
@pytest.mark.parametrize("name", ["t.npz", "t.h5"])
def test_arrays_and_columns_of_tables(folder: Path, name: str, columns: dict[str, Any]) -> None:
    data: dict[str, np.ndarray] = {"E": E, "f": F}
    data |= {f"{letter}{s + 1}": v[:, s] for letter, v in (("E", E), ("f", F)) for s in range(STATES)}
    if name == "t.npz":
        np.savez(folder / name, **data)
    else:
        with h5py.File(folder / name, "w") as handle:
            for key, values in data.items():
                handle.create_dataset(key, data=values)
    check_labels(replay(folder, file=name, columns=columns, **BY_ROW))


def test_columns_of_csv_with_a_unit(folder: Path) -> None:
    names = [*JOINED["excitation_energies"], *JOINED["oscillator_strengths"]]
    rows = [",".join(f"{x:.12f}" for x in (*e, *f)) for e, f in zip(E, F, strict=True)]
    (folder / "t.csv").write_text("\n".join([",".join(names), *rows]) + "\n")
    units = {"excitation_energies": "hartree"}
    check_labels(replay(folder, file="t.csv", columns=JOINED, units=units, **BY_ROW), HARTREE)


def test_entries_of_a_structure_file(folder: Path) -> None:
    frames = waters(N)
    for row, atoms in enumerate(frames):
        atoms.info |= {"E": E[row], "f1": F[row, 0], "f23": F[row, 1:]}
    write(folder / "done.extxyz", frames)
    columns = {"excitation_energies": "E", "oscillator_strengths": ["f1", "f23"]}
    check_labels(replay(folder, file="done.extxyz", columns=columns))


def test_text_files(folder: Path) -> None:
    check_labels(replay(folder, text=TEXT, **BY_ROW))
    # A list of one file, a bare name, and files of one and of several columns are the same thing.
    check_labels(replay(folder, text={"excitation_energies": "E.txt", "oscillator_strengths": ["f.txt"]}, **BY_ROW))
    np.savetxt(folder / "E23.txt", E[:, 1:], fmt="%.10f")
    both = TEXT | {"excitation_energies": ["E1.dat", "E23.txt"]}
    check_labels(replay(folder, text=both, **BY_ROW))
    lines = (folder / "E1.dat").read_text().splitlines()
    (folder / "E1.dat").write_text("# first state, eV\n\n" + "   # here\n\n".join(lines) + "\n\n")
    check_labels(replay(folder, text=TEXT, **BY_ROW))
    folders = [f"state_{state}/E.dat" for state in range(STATES)]
    for state, file in enumerate(folders):
        (folder / file).parent.mkdir()
        np.savetxt(folder / file, E[:, state], fmt="%.10f")
    check_labels(replay(folder, text=TEXT | {"excitation_energies": folders}, **BY_ROW))
    units = {"excitation_energies": "hartree"}
    check_labels(replay(folder, text=TEXT, units=units, **BY_ROW), HARTREE)


def test_one_state_is_a_list_of_one(folder: Path) -> None:
    np.savez(folder / "t.npz", E=E[:, 0], f=F[:, 0])
    for keys in (
        {"text": {"excitation_energies": "E1.dat", "oscillator_strengths": "f1.dat"}},
        {"file": "t.npz", "columns": BOTH},
    ):
        found = replay(folder, **keys, **BY_ROW).label(Structure.from_atoms(waters(3)[2]), 1)
        assert found.properties["excitation_energies"] == pytest.approx([energies(2, 0)])
    np.savetxt(folder / "energy.dat", np.arange(N))
    found = replay(folder, text={"energy": "energy.dat"}, **BY_ROW).label(Structure.from_atoms(waters(3)[2]), 1)
    assert found.properties == {"energy": 2.0}


def test_a_number_that_is_missing_is_a_failed_label(folder: Path) -> None:
    (folder / "E2.dat").write_text("4.5\nnan\n4.5\n4.5\n4.5\n4.5\n")
    engine = replay(folder, text=TEXT, **BY_ROW)
    statuses = [engine.label(Structure.from_atoms(atoms), 1).status for atoms in waters(3)]
    assert statuses == ["ok", "engine_error", "ok"]


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("E2.dat", None, "E2.dat does not exist"),
        ("E2.dat", "4.5\n# text\n4.6 eV\n", "E2.dat, line 3: 'eV' is no number"),
        ("E2.dat", "4.5\n4.6 4.7\n", "E2.dat, line 2: 2 numbers, but 1 in the lines before"),
        ("E2.dat", "# nothing\n\n", "E2.dat holds no numbers"),
        ("E2.dat", "4.5\n" * 5, "labeling.text.excitation_energies: "),
        ("E2.dat", "4.5\n" * 5, "E2.dat has 5; give as many everywhere"),
        ("E2.dat", b"\xff\xfe\x00", "cannot read"),
        ("E3.dat", "4.5 4.6\n" * N, "different numbers of states: {'excitation_energies': 4, 'oscillator_strengths': 3}"),
        ("pool.extxyz", waters(N + 2), "8 structures, but labeling.text (E1.dat ...) has 6 rows; name the structures"),
        ("pool.extxyz", waters(N - 2), "4 structures, but labeling.text (E1.dat ...) has 6 rows"),
    ],
)  # fmt: skip
def test_mistakes_in_text_files_are_one_line(folder: Path, file: str, content: Any, reason: str) -> None:
    if content is None:
        (folder / file).unlink()
    elif isinstance(content, list):
        write(folder / file, content)
    elif isinstance(content, bytes):
        (folder / file).write_bytes(content)
    else:
        (folder / file).write_text(content)
    with pytest.raises(QuarryError, match=r"^labeling\.") as caught:
        replay(folder, text=TEXT, **BY_ROW).check([])
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"excitation_energies": ["E", "E9"]}, "labeling.columns.excitation_energies: there is no 'E9'"),
        ({"excitation_energies": "text"}, "'text' in"),
        (BOTH | {"oscillator_strengths": "short"}, "have different numbers of states"),
    ],
)
def test_mistakes_in_columns_are_one_line(folder: Path, columns: dict[str, Any], reason: str) -> None:
    np.savez(folder / "t.npz", E=E, f=F, short=F[:, :2], text=np.array(["a"] * N))
    with pytest.raises(QuarryError, match=r"^labeling\.columns") as caught:
        replay(folder, file="t.npz", columns=columns, **BY_ROW).check([])
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_identity(folder: Path) -> None:
    """Digests of the text files count, not their names; what was labelled from tables keeps its identity."""
    copied = {name: [f"copy_{file}" for file in files] for name, files in TEXT.items()}
    for files in TEXT.values():
        for file in files:
            (folder / f"copy_{file}").write_bytes((folder / file).read_bytes())
    engine = replay(folder, text=TEXT, **BY_ROW)
    identity = engine.method_identity()
    assert identity["text"]["excitation_energies"][1] == sha256_of(folder / "E2.dat")
    assert identity == replay(folder, text=copied, **BY_ROW).method_identity()
    (folder / "E2.dat").write_text("9.0\n" * N)
    assert identity != engine.method_identity()
    assert identity != replay(folder, text=copied, units={"excitation_energies": "hartree"}, **BY_ROW).method_identity()
    np.savez(folder / "t.npz", E=E, f=F)
    assert replay(folder, file="t.npz", columns=BOTH).method_identity() == {
        "engine": "replay",
        "file": sha256_of(folder / "t.npz"),
        "columns": BOTH,
        "units": {},
        "match": "geometry",
        "geometry": {"numbers": "Z", "positions": "R", "offsets": "offsets"},
        "ids": "structure_id",
        "structures": [],
    }


CAMPAIGN: dict[str, Any] = {
    "name": "spectrum",
    "pool": {"source": "file", "files": ["pool.extxyz"]},
    "target": "excitations",
    "spectrum": {"n_states": STATES},
    "labeling": {"engine": "replay", "text": TEXT, **BY_ROW},
    "descriptor": {"kind": "inverse_distances"},
    "model": {"kind": "kreg"},
    "validation": {"fraction": 0.5},
    "query": {"strategy": "sequence", "initial": 3, "batch": {"schedule": "constant", "size": 1}},
    "test": {"size": 0},
    "stop": {"rrmse": None, "max_labels": N},
}


def load(changes: dict[str, Any] | None = None, **labeling: Any) -> Configuration:
    raw = {**CAMPAIGN, "labeling": {**CAMPAIGN["labeling"], **labeling}, **(changes or {})}
    return load_configuration(raw, "campaign.yaml")


def test_text_files_are_inputs_of_the_campaign(folder: Path) -> None:
    names = [path.name for path in inputs_of(load(), folder)]
    assert sorted(names) == sorted(["pool.extxyz", *TEXT["excitation_energies"], *TEXT["oscillator_strengths"]])
    again = Configuration.model_validate(json.loads(load().model_dump_json()))
    assert again == load(), "jobs get the whole configuration, defaults included"
    assert check(again, folder)["inputs"]["E2.dat"] == sha256_of(folder / "E2.dat")


@pytest.mark.parametrize(
    ("labeling", "reason"),
    [
        ({"file": "t.npz", "columns": BOTH}, "give either text, or file and columns"),
        ({"match": "geometry", "structures": []}, "text: plain numbers are found by match: row"),
        ({"text": {"forces": "F.dat"}}, "text.forces: numbers for each atom"),
        ({"text": {"gap": ["a", "b"]}}, "gap: this is one number"),
        ({"text": {"dipole": ["a", "b", "a"]}}, "dipole: a name is there twice"),
        ({"text": {"gop": "a"}}, "'gop' is no property"),
        ({"text": {"gap": []}}, "labeling.text.gap"),
    ],
)
def test_mistakes_of_the_section(labeling: dict[str, Any], reason: str) -> None:
    with pytest.raises(QuarryError) as caught:
        load(**labeling)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labeling", "reason"),
    [
        ({"file": "t.npz"}, "the key columns is missing"),
        ({"columns": BOTH}, "the key file is missing"),
        ({}, "the key file is missing; give file and columns, or text"),
        ({"file": "t.npz", "columns": {"energy": ["a", "b"]}}, "energy: this is one number"),
    ],
)
def test_one_of_two_ways(labeling: dict[str, Any], reason: str) -> None:
    with pytest.raises(QuarryError, match=reason):
        load({"labeling": {"engine": "replay", **labeling}})


LARGE = {"structures": [{"path": "pool.extxyz", "index": f":{N}"}]}
"""Labels of the first structures of a larger pool."""


def test_a_pool_larger_than_its_labelled_part(folder: Path) -> None:
    """The order of the pool and an end at the last label are asked for; then the pool may be of any size."""
    write(folder / "pool.extxyz", waters(20))
    check(load(**LARGE), folder)
    check(load({"stop": {"rrmse": 0.1, "metric": "validation", "max_labels": N - 1}}, **LARGE), folder)
    query = CAMPAIGN["query"]
    for changes in (
        {"stop": {"rrmse": None, "max_labels": N + 1}},
        {"stop": {"rrmse": 0.1, "metric": "validation"}},
        {"query": query | {"strategy": "random"}},
        {"query": query | {"initial_selection": "random"}},
        {"arms": {"other": {"query": {"strategy": "random"}}}},
        {"test": {"size": 2}},
    ):
        with pytest.raises(QuarryError, match=r"no label for structure 7 of the pool's 20; with query\.strategy: seq"):
            check(load(changes, **LARGE), folder)


@pytest.mark.parametrize(
    ("changes", "labeling", "reason"),
    [
        ({"spectrum": {"n_states": 4}}, {}, "3 excited states where spectrum.n_states asks for 4"),
        ({}, {"text": {"excitation_energies": "E.txt"}}, "target excitations needs oscillator_strengths"),
        ({}, {"structures": ["other.extxyz"]}, "no label for structure 1 of the pool's 6"),
    ],
)
def test_labels_that_a_spectrum_cannot_use(
    folder: Path, changes: dict[str, Any], labeling: dict[str, Any], reason: str
) -> None:
    write(folder / "other.extxyz", waters(40)[-N:])
    with pytest.raises(QuarryError) as caught:
        check(load(changes, **labeling), folder)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    check(load({"spectrum": {"n_states": 2}}), folder)
