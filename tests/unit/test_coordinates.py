"""Positions and cells that are larger than any structure: refused in one line with file and frame, by every reader."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from quarry.errors import QuarryError
from quarry.sampling.modes import NormalModes
from quarry.sampling.wigner import sample_wigner
from quarry.structures import Structure
from quarry.structures.files import FileSource, JobInputEntry, read_files, read_job_input, write_job_input
from quarry.structures.structure import LARGEST_A

GOOD = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.8]])


def test_up_to_the_bound_every_step_is_exact() -> None:
    """Structures that differ by one step have different identities, there too."""

    def far(step: int) -> Structure:
        return Structure.create([1], np.array([[LARGEST_A - 1.0 + step * 1e-6, 0.0, 0.0]]))

    assert len({far(step).structure_id for step in range(100)}) == 100
    assert np.array_equal(Structure.create([1], far(7).positions).positions, far(7).positions)
    with pytest.raises(ValueError, match="a position or cell vector of 1e\\+05 Angstrom, beyond 100000"):
        far(2_000_000)


@pytest.mark.parametrize("size", [1.1e5, 1e14, 1e300, -1e7])
@pytest.mark.parametrize("what", ["position", "cell"])
def test_beyond_it_there_is_no_structure(size: float, what: str) -> None:
    positions = GOOD + (size if what == "position" else 0.0)
    cell = np.diag([3.0, 3.0, size if what == "cell" else 3.0])
    with pytest.raises(ValueError, match=r"of \d.*e\+\d+ Angstrom, beyond 100000"):
        Structure.create([1, 1], positions, cell=cell, pbc=(True, True, True))
    if what == "cell":
        Structure.create([1, 1], positions, cell=cell)


def extxyz(path: Path, positions: np.ndarray) -> None:
    write(path, [Atoms("H2", frame) for frame in positions])


def periodic(path: Path, positions: np.ndarray) -> None:
    write(path, [Atoms("H2", GOOD, cell=np.abs(frame).max() * np.eye(3), pbc=True) for frame in positions])


def npz(path: Path, positions: np.ndarray) -> None:
    np.savez(path, Z=[1, 1], R=positions)


def h5(path: Path, positions: np.ndarray) -> None:
    with h5py.File(path, "w") as handle:
        handle["Z"] = np.tile([1, 1], len(positions))
        handle["R"] = positions.reshape(-1, 3)
        handle["offsets"] = 2 * np.arange(len(positions) + 1)


@pytest.mark.parametrize(
    ("name", "make", "where"),
    [
        ("p.extxyz", extxyz, "frame 3 of 4"),
        ("p.traj", extxyz, "frame 3 of 4"),
        ("c.extxyz", periodic, "frame 3 of 4"),
        ("p.npz", npz, "row 3"),
        ("p.h5", h5, "row 3"),
    ],
)
def test_readers_name_file_and_frame(name: str, make: Callable[..., None], where: str, tmp_path: Path) -> None:
    positions = np.stack([GOOD] * 4)
    positions[2, 1, 2] = 1e14
    make(tmp_path / name, positions)
    with pytest.raises(QuarryError) as caught:
        read_files([FileSource(tmp_path / name)], 0, 1)
    message = str(caught.value)
    assert re.search(rf"{re.escape(name)}.*{where}: a position or cell vector of 1e\+14 Angstrom", message)
    assert "\n" not in message and message.endswith("correct the file")


def test_inputs_of_jobs(tmp_path: Path) -> None:
    job_input = tmp_path / "job.extxyz"
    write_job_input(job_input, [JobInputEntry(Structure.create([1, 1], GOOD))])
    job_input.write_text(job_input.read_text().replace("0.800000", "8e13"))
    with pytest.raises(QuarryError, match=r"job\.extxyz: this job input is damaged .*8e\+13 Angstrom"):
        read_job_input(job_input)


def test_normal_modes_and_what_is_drawn_from_them(tmp_path: Path) -> None:
    stretch = np.array([[[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]]]) / np.sqrt(2 * 1.008)
    modes = NormalModes(Structure.create([1, 1], GOOD), np.array([4000.0]), stretch, np.full(2, 1.008), 0.0, {})
    rng = np.random.default_rng(0)
    assert len(sample_wigner(modes, 300.0, 5, rng)) == 5
    with pytest.raises(QuarryError, match=r"^pool: a drawn geometry has .* Angstrom, beyond .*the lowest mode"):
        sample_wigner(replace(modes, frequencies_cm=np.array([1e-9])), 300.0, 5, rng)
    modes.write(tmp_path / "modes.json")
    data = json.loads((tmp_path / "modes.json").read_text())
    data["positions"][1][2] = 1e14
    (tmp_path / "modes.json").write_text(json.dumps(data))
    with pytest.raises(QuarryError, match=r"modes\.json: no normal modes file .*1e\+14 Angstrom"):
        NormalModes.read(tmp_path / "modes.json")


def test_features_are_no_coordinates() -> None:
    """They enter the identity bit by bit, whatever their size."""
    rows = [1e14, 1e14 + 1, 1e300, -1e300, np.nextafter(1e300, 2e300)]
    assert len({Structure.of_features(np.array([x])).structure_id for x in rows}) == len(rows)
