"""From where on a frame is too uncertain: thresholds that are found, and conformal bounds."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from quarry.config.dynamics import Explore
from quarry.dynamics.uncertainty import MEASURES, conformal_factor, informativeness_of, outlier_threshold
from quarry.errors import QuarryError
from quarry.models.base import Informativeness, Prediction
from quarry.stages.exploring import threshold_of
from quarry.structures import Structure, StructureSet
from support.dynamics import WATER, EmtModel
from support.progress import facts


def test_thresholds_are_those_of_the_first_model_or_of_each():
    structures = StructureSet.from_structures(
        Structure.from_atoms(Atoms("Cu2", [[0, 0, 0], [0, 0, length]])) for length in (2.2, 2.3, 2.25, 2.6)
    )
    measure, model = MEASURES["energy"], EmtModel()
    now = outlier_threshold(np.array([2.2, 2.3, 2.25, 2.6]))
    first, each, given = (Explore(threshold=threshold) for threshold in ("first", "each", "30 meV"))
    earlier = [facts(0), facts(1, exploration={"threshold": 7.0}), facts(2, exploration={"threshold": 9.0})]
    assert threshold_of(first, [facts(0)], model, measure, structures) == pytest.approx(now)
    assert threshold_of(first, earlier, model, measure, structures) == 7.0
    assert threshold_of(each, earlier, model, measure, structures) == pytest.approx(now)
    assert threshold_of(given, earlier, model, measure, structures) == pytest.approx(0.03)
    with pytest.raises(QuarryError, match="no label of the test set"):
        threshold_of(first, [facts(0)], model, measure, structures.subset([]))


@pytest.mark.parametrize(
    ("uncertainty", "least", "expected"),
    [
        # Of three atoms on average; the threshold that is found is 14.6.
        ("energy", {"least_energy_eV_atom": 10.0}, 30.0),
        ("energy", {"least_energy_eV_atom": 1.0, "least_force_eV_A": 90.0}, None),
        ("energy", {"least_energy_eV_atom": 0.0}, None),
        ("forces", {"least_force_eV_A": 20.0, "least_energy_eV_atom": 10.0}, 20.0),
    ],
)
def test_a_threshold_that_is_found_is_not_below_the_least_one(uncertainty, least, expected):
    lengths = ((2.2, 2), (2.3, 2), (2.25, 4), (2.6, 4))
    structures = StructureSet.from_structures(
        Structure.from_atoms(Atoms(f"Cu{n}", [[0, 0, k * length] for k in range(n)])) for length, n in lengths
    )
    measure = MEASURES["energy"]
    found = outlier_threshold(measure.of(EmtModel(), structures, EmtModel().predict(structures, measure.wants)))
    settings = [Explore(threshold=name, uncertainty=uncertainty, **least) for name in ("first", "each")]
    for one in settings:
        assert threshold_of(one, [facts(0)], EmtModel(), measure, structures) == pytest.approx(expected or found)
    # A threshold that is given, or was found earlier, is what it is.
    given = Explore(threshold="1 meV", uncertainty="energy", **least)
    assert threshold_of(given, [facts(0)], EmtModel(), measure, structures) == pytest.approx(1e-3)
    earlier = [facts(0), facts(1, exploration={"threshold": 0.5})]
    assert threshold_of(settings[0], earlier, EmtModel(), measure, structures) == 0.5


def test_conformal_bounds_hold_for_their_share_of_further_errors():
    """The share of 95 % is that of an average over sets, whatever the errors' distribution."""
    rng, kept = np.random.default_rng(0), []
    for _ in range(400):
        std = rng.lognormal(0, 1, 60)
        errors = np.abs(rng.standard_t(3, 60)) * std
        factor = conformal_factor(errors[:30], std[:30])
        kept.append((errors[30:] <= factor * std[30:]).mean())
    # Of 30 scores the 30th: 30 / 31.
    assert np.mean(kept) == pytest.approx(30 / 31, abs=0.01)


def test_a_conformal_factor_is_a_score_by_its_rank():
    values = np.arange(1.0, 20.0)
    assert conformal_factor(values * np.arange(1.0, 20.0), values) == pytest.approx(19.0)
    assert conformal_factor(np.arange(1.0, 101.0), np.ones(100)) == pytest.approx(96.0)
    # An error that is not known says nothing.
    assert conformal_factor(np.array([np.nan, *np.arange(1.0, 20.0)]), np.ones(20)) == pytest.approx(19.0)
    for errors, std, words in (
        (np.ones(18), np.ones(18), "18 labels of the test set are too few"),
        (np.ones(19), np.zeros(19), "would be inf"),
        (np.zeros(19), np.ones(19), "would be 0"),
    ):
        with pytest.raises(QuarryError, match=words) as refused:
            conformal_factor(errors, std)
        assert "\n" not in str(refused.value)


def test_a_calibrated_uncertainty_is_a_bound_of_its_own_kind_of_error():
    """Of forces: the largest error of the force on an atom over the largest standard deviation."""
    pairs = StructureSet.from_structures([WATER] * 19)
    std, errors = np.full((57, 3), 0.1), np.zeros((57, 3))
    errors[0::3, 1] = np.arange(1.0, 20.0)
    energies = np.linspace(-1, 1, 19)
    said = Prediction({"energy": energies, "forces": errors}, {"energy": np.full(19, 0.5), "forces": std})

    class Says:
        def predict(self, structures, want):
            return said

    labels = {"energy": np.zeros(19), "forces": np.zeros((57, 3))}
    measure, factor = MEASURES["forces"].calibrated(Says(), pairs, labels)
    assert factor == pytest.approx(19.0 / (0.1 * np.sqrt(3)))
    np.testing.assert_allclose(measure.of(Says(), pairs, said), 19.0)
    assert measure.unit == "eV/Angstrom"
    of_energies, factor = MEASURES["energy"].calibrated(Says(), pairs, labels)
    assert factor == pytest.approx(2.0)
    np.testing.assert_allclose(of_energies.of(Says(), pairs, said), 1.0)


def test_informativeness_is_that_of_all_criteria_over_the_mean_of_the_labels_that_are_there():
    class Says:
        def informativeness(self, structures, known, want):
            assert want == {"energy", "forces"}
            return {
                "energy": Informativeness(np.array([0.1, 0.4]), np.array([0.1, 0.2, 0.3])),
                "forces": Informativeness(np.array([2.0, 0.5]), np.array([1.0, 1.0, 2.5])),
            }

    pair = StructureSet.from_structures([WATER, WATER])
    measure = informativeness_of(pair, frozenset({"energy", "forces"}))
    # Sums (QS3 with beta = 1): 2.1 and 0.9; of those that are there 1.1, 1.2 and 2.8, with the mean 1.7.
    np.testing.assert_allclose(measure.of(Says(), pair, None), [2.1 / 1.7, 0.9 / 1.7])
