"""Which frames of trajectories are candidates: near-duplicates, ceilings of energies."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from quarry.config import load_configuration
from quarry.config.dynamics import Explore
from quarry.errors import QuarryError
from quarry.stages.exploring import energy_ceilings_eV
from quarry.stages.sampling import without_near_duplicates
from quarry.stopping.progress import Progress
from quarry.stopping.rules import stop_reason
from quarry.structures import Structure, StructureSet
from quarry.structures.labelled import LabelledSet
from support.dynamics import WATER, dynamics
from support.progress import facts


def rotated(structure, angle=0.7):
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    order = np.array([0, 2, 1])
    return Structure.create(structure.numbers[order], structure.positions[order] @ turn.T + 1.0)


def moved(structure, by):
    positions = structure.positions.copy()
    positions[1, 1] += by
    return Structure.create(structure.numbers, positions)


def test_near_duplicates_are_dropped_however_they_are_turned_and_ordered():
    near, far = rotated(moved(WATER, 0.008)), moved(WATER, 0.06)
    stay, dropped = without_near_duplicates([WATER, near, far, rotated(far)], 0.01)
    assert ([one.structure_id for one in stay], dropped) == ([WATER.structure_id, far.structure_id], 2)
    assert without_near_duplicates([WATER, near, far], 1e-3) == ([WATER, near, far], 0)
    assert without_near_duplicates([WATER, WATER], None) == ([WATER, WATER], 0)
    # Another charge is another structure.
    cation = Structure.create([8, 1, 1], WATER.positions, charge=1, multiplicity=2)
    assert without_near_duplicates([WATER, cation], 0.01)[1] == 0
    cell = bulk("Cu", cubic=True)
    shifted = cell.copy()
    shifted.positions[2] += 0.005
    shifted.translate([0.3, 0.2, 0.1])
    shifted.wrap()
    other = cell.copy()
    other.positions[2] += 0.1
    cells = [Structure.from_atoms(one) for one in (cell, shifted, other)]
    assert without_near_duplicates(cells, 0.01) == ([cells[0], cells[2]], 1)


def test_the_ceiling_of_energies_is_above_the_lowest_label_of_the_same_atoms():
    hydrogen = Structure.create([1, 1], np.array([[0.0, 0, 0], [0, 0, 0.74]]))
    labelled = LabelledSet.from_records(
        [WATER, moved(WATER, 0.1), hydrogen],
        ["train", "test", "train"],
        [0, 0, 0],
        [{"energy": -2000.0}, {"energy": -2001.0}, {"energy": -30.0}],
    )
    cation = Structure.create([8, 1, 1], WATER.positions, charge=1, multiplicity=2)
    asked = StructureSet.from_structures([hydrogen, moved(WATER, 0.3), cation])
    found = energy_ceilings_eV(Explore(max_energy_eV_atom=2.0), labelled, asked)
    np.testing.assert_allclose(found, [-26.0, -1995.0, np.inf])
    assert energy_ceilings_eV(Explore(max_energy_eV_atom=None), labelled, asked) is None


def test_frames_that_are_nearly_the_same_were_met_all_the_same():
    configuration = load_configuration(dynamics(stop={"rrmse": None, "min_new_points": 5}), "campaign.yaml")
    found = {"trajectories": 100, "uncertain": 9, "unphysical": 0, "near_duplicates": 6}
    last = facts(1, pool_left=None, pool_size=3, exploration=found)
    assert stop_reason(Progress([facts(0), last], [], configuration)) is None
    fewer = facts(1, pool_left=None, pool_size=3, exploration={**found, "near_duplicates": 1})
    assert "converged" in str(stop_reason(Progress([facts(0), fewer], [], configuration)).words)


def test_too_small_a_pool_is_named_by_its_key():
    molecule = {"initial": None, "modes_file": "modes.json", "initial_size": 5}
    given = {"source": "wigner", "molecule": "a.xyz", "size": 5}
    for pool, key in ((molecule, "pool.initial_size"), ({"initial": given}, "pool.initial.size")):
        with pytest.raises(QuarryError, match=f"make {key} larger"):
            load_configuration(dynamics(pool=pool), "campaign.yaml")


def test_no_model_without_stress_is_named_for_constant_pressure():
    with pytest.raises(QuarryError, match=r"; use gmnn$"):
        load_configuration(dynamics(explore={"ensemble": "npt"}), "campaign.yaml")
