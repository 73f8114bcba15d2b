"""Walks of samplers on given potentials."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from quarry.dynamics.paths import Judgement, Walks, follow
from quarry.dynamics.samplers.base import Origin
from quarry.dynamics.samplers.registry import make_sampler, owner_of
from quarry.dynamics.uncertainty import MEASURES
from quarry.randomness import generator
from quarry.structures import Structure, StructureSet

CU4 = Atoms("Cu4", [[0, 0, 0], [2.6, 0, 0], [1.1, 2.3, 0], [1.1, 0.7, 2.1]])
DIATOMIC = Atoms("N2", [[0, 0, 0], [0, 0, 1.5]])
CHAIN = Atoms("HOOH", [[-0.5, 0.86, 0], [0, 0, 0], [1.45, 0, 0], [1.95, -0.86, 0]])
FACTS = {
    "phase": "query",
    "threshold": 1.0,
    "unit": "eV",
    "uncertainty": "energy",
    "sampler": "relaxation",
    "noun": "walks",
}


def walk(section, model, starts, threshold=np.inf, base=None, modes=None, checkpoint=None, facts=FACTS, limit=1e3):
    """Return what a sampler's walks find, one from each start."""
    sampler = make_sampler(section, Origin(base, modes))
    structures = StructureSet.from_structures([Structure.from_atoms(atoms) for atoms in starts])
    elements = frozenset(structures.numbers.tolist())
    judgement = Judgement(MEASURES["energy"], threshold, limit, section.needs_forces, elements)
    rngs = [generator(5, "walk", k) for k in range(len(starts))]
    walks = Walks(structures, range(len(starts)), rngs, owner=owner_of(section))
    return follow(sampler, model, walks, judgement, facts, checkpoint)
