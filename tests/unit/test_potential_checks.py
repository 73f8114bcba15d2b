"""What a potential needs of labels and pool is asked before any job."""

from __future__ import annotations

import numpy as np
import pytest

from quarry.config import load_configuration
from quarry.errors import QuarryError
from quarry.stages.potential_checks import check_potentials
from quarry.structures import Structure, StructureSet
from support.campaigns import stand_in_configuration
from support.potentials import random_molecule, small_cell

QUERY = {"strategy": "random", "initial": 8, "batch": {"schedule": "constant", "size": 5}}
ALL = ["energy", "forces", "stress"]


def configured(target, **sections):
    sections = {"model": {"kind": "gmnn", "cutoff_A": 3.0}, "query": QUERY, **sections}
    return load_configuration(stand_in_configuration(target=target, **sections), "campaign.yaml")


def far(distance: float) -> Structure:
    return Structure.create([1, 8], np.array([[0, 0, 0], [0, 0, distance]]))


def check(configuration, *structures: Structure) -> None:
    check_potentials(configuration, StructureSet.from_structures(structures))


def test_a_cutoff_of_no_neighbours_is_refused():
    check(configured("energy"), far(4.0), far(2.9))
    check(configured("energy"), small_cell())
    with pytest.raises(QuarryError, match=r"model.cutoff_A: in none of the 2 structures .* nearer than 3 Angstrom"):
        check(configured("energy"), far(4.0), far(3.1))
    other = configured("energy", arms={"short": {"model": {"cutoff_A": 0.6}}})
    with pytest.raises(QuarryError, match=r"^arms.short.model.cutoff_A: in none of the 1 structures"):
        check(other, random_molecule([6, 8, 1], 1))
    check(configured("energy", model={"kind": "gpr"}), far(50.0))


def test_stresses_of_no_cells_are_refused():
    check(configured(ALL), small_cell(), far(1.0))
    with pytest.raises(QuarryError, match=r"needs stresses, but no structure of the pool is periodic .* remove stress"):
        check(configured(ALL), far(1.0))


@pytest.mark.parametrize(
    ("labeling", "key", "lacking"),
    [
        ({"engine": "pyscf", "method": {"xc": "pbe", "basis": "sto-3g"}}, "labeling.method", "stress"),
        (
            {"engine": "ase", "calculator": "a.b:C", "properties": ["energy"]},
            "labeling.properties",
            "forces and stress",
        ),
    ],
)
def test_labels_that_have_none_are_refused_with_the_configuration(labeling, key, lacking):
    with pytest.raises(
        QuarryError, match=rf"{key}: target energy_forces\+stress needs {lacking}, but labels have only"
    ):
        configured(ALL, labeling=labeling)
