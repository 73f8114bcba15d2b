"""Labelled structures that tests of the data product share: a molecule, an ion, a crystal with a stress, free atoms."""

import numpy as np

from quarry.structures.labelled import LabelledSet
from quarry.structures.structure import Structure

WATER = np.array([[0.0, 0.0, 0.1], [0.0, 0.75, -0.4], [0.0, -0.75, -0.4]])


def structures():
    cell = np.array([[3.71, 0.1, 0.1], [0.1, 3.8, 0.1], [0.1, 0.1, 3.6]])
    crystal = np.array([[0.0, 0.0, 0.0], [0.0, 1.8, 1.8], [1.8, 0.0, 1.8], [1.8, 1.8, 0.0]])
    return [
        Structure.create([8, 1, 1], WATER),
        Structure.create([8, 1], WATER[:2], charge=-1),
        Structure.create([29] * 4, crystal, cell=cell, pbc=[True] * 3),
        Structure.create([8], WATER[:1], multiplicity=3),
        Structure.create([1], WATER[:1], multiplicity=2),
        Structure.create([8, 1], WATER[:2], multiplicity=2),
    ]


def label(structure, rng):
    """Return random numbers as a label's properties; a stress of cells alone."""
    stress = rng.normal(size=(3, 3))
    found = {
        "energy": -2078.0 + rng.normal(),
        "homo": -7.25,
        "dipole": rng.normal(size=3).tolist(),
        "forces": rng.normal(size=(len(structure), 3)).round(8).tolist(),
        "charges": rng.normal(size=len(structure)).round(8).tolist(),
    }
    return found | ({"stress": (stress + stress.T).tolist()} if any(structure.pbc) else {})


def of_all_kinds(**changes):
    """Return the labelled structures of all kinds; the last one is a test structure."""
    rng, chosen = np.random.default_rng(0), structures()
    roles = ["train"] * (len(chosen) - 1) + ["test"]
    labels = [label(structure, rng) for structure in chosen]
    return LabelledSet.from_records(chosen, roles, list(range(len(chosen))), labels, **changes)
