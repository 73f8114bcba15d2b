"""Uses of campaigns of several electronic states: the ground state's where a label says no energy and forces beside them."""

import numpy as np
import pytest

from quarry.campaign.uses import check_use
from quarry.config import load_configuration
from quarry.errors import QuarryError
from quarry.stages import uses
from quarry.structures.labelled import LabelledSet
from quarry.uses.reference import LabelCalculator, structure_of, with_ground_state
from support.campaigns import stand_in_configuration
from support.model_folders import labels_of, waters
from support.stages import configuration


def states_of(structure):
    """Two states that lie apart, and nothing else."""
    label = labels_of([structure], "energy", "forces")[0]
    forces = np.array(label["forces"])
    return {
        "state_energies": [label["energy"], label["energy"] + 1.0],
        "state_forces": np.stack([forces, 2 * forces], axis=1).tolist(),
    }


def test_uses_begin_with_the_lowest_ground_state(tmp_path):
    structures = waters(8)
    LabelledSet.from_records(structures, ["train"] * 8, [0] * 8, [states_of(s) for s in structures]).write(
        tmp_path / "dataset.h5", {}
    )
    potential = uses.Potential(configuration(), tmp_path, tmp_path / "dataset.h5", None)
    lowest = min(structures, key=lambda s: labels_of([s], "energy")[0]["energy"])
    assert np.allclose(potential.start().positions, lowest.positions)


def test_a_reference_of_states_alone_is_the_ground_state():
    (structure,) = waters(1)
    (plain,) = labels_of([structure], "energy", "forces")
    atoms = structure.to_atoms()
    atoms.calc = LabelCalculator(lambda asked: [with_ground_state(states_of(s)) for s in asked])
    assert structure_of(atoms).structure_id == structure.structure_id
    assert atoms.get_potential_energy() == plain["energy"]
    assert np.array_equal(atoms.get_forces(), plain["forces"])


def test_energies_that_a_label_says_are_kept():
    label = {"energy": -1.0, "state_energies": [-2.0, 0.0]}
    assert with_ground_state(label) == label


@pytest.mark.parametrize(("state", "refused"), [(2, False), (3, True)])
@pytest.mark.parametrize(
    "states",
    [
        {"active_space": {"electrons": 2, "orbitals": 2, "n_states": 3, "reference": "x.xyz"}},
        {"method": {"xc": "hf", "basis": "sto-3g", "excitations": {"n_states": 2, "forces": True}}},
    ],
)
def test_an_initial_state_that_labels_lack_is_refused_before_any_job(states, state, refused):
    made = load_configuration(
        stand_in_configuration(
            target="state_energies_forces",
            model={"kind": "kreg"},
            labeling={"engine": "pyscf", "method": {"xc": "hf", "basis": "sto-3g"}, **states},
            uses={"surface_hopping": {"initial_state": state}},
        ),
        "toy.yaml",
    )
    if not refused:
        check_use(made, "surface_hopping")
        return
    with pytest.raises(QuarryError, match="initial_state = 3: the labels have 3 states"):
        check_use(made, "surface_hopping")
