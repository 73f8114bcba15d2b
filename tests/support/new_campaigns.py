"""Campaign files that ``quarry new`` writes."""

import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from quarry.command_line.new import TASKS
from support.campaigns import REPOSITORY

OF_MANY = ("search", "labels", "program")
"""Tasks that want many structures."""


def write_structures(folder):
    """Write one molecule, and a file of distorted copies with energies; return the file for each task."""
    atoms = ase.io.read(REPOSITORY / "config" / "molecules" / "formaldehyde.xyz")
    rng, frames = np.random.default_rng(0), []
    for number in range(60):
        frame = atoms.copy()
        frame.positions += 0.03 * rng.normal(size=frame.positions.shape)
        frame.calc = SinglePointCalculator(frame, energy=0.01 * number)
        frames.append(frame)
    ase.io.write(folder / "my molecule.xyz", atoms)
    ase.io.write(folder / "many.extxyz", frames)
    return {task: "many.extxyz" if task in OF_MANY else "my molecule.xyz" for task in TASKS}
