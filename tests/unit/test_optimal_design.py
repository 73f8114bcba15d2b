"""Optimal experimental design: the expected change of the output variance against the equations, and of a small network."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from quarry.config import load_configuration
from quarry.config.model_traits import ModelTraits
from quarry.config.models import OwnModel
from quarry.errors import QuarryError
from quarry.models.base import HasInformativeness, Informativeness
from quarry.models.gmnn.features import _by_moving_atoms, _by_weights, _last_layer_slopes, force_sensitivities
from quarry.models.gmnn.neighbours import Neighbourhoods
from quarry.models.optimal_design import Known, Sensitivities
from quarry.models.own import UserModel, own_class
from quarry.structures import StructureSet
from support.campaigns import stand_in_configuration
from support.potentials import SMALL, toy_data, trained

DATA = toy_data(16)
MODEL = trained(DATA, epochs=2)
UNSEEN = toy_data(6, seed=5).structures
BOTH = frozenset({"energy", "forces"})


def by_hand(training, candidates, together=1, loss=0.37):
    """Equations 8 to 14 as they stand: of each structure's outputs (lists of g), the mean change over outputs.

    Equation 14 is the mean over training outputs of the variance before less that after a candidate was added, with the factor
    loss / n_train. together: outputs that are added at once, each of which counts.
    """
    outputs = [g for structure in training for g in structure]
    a = np.zeros((len(outputs[0]), len(outputs[0])))
    for g in outputs:
        a += np.outer(g, g) / loss
    before = np.linalg.inv(a)
    found = []
    for structure in candidates:
        changes = []
        for begin in range(0, len(structure), together):
            more = a.copy()
            for new in structure[begin : begin + together]:
                more += np.outer(new, new) / loss
            after = np.linalg.inv(more)
            change = 0.0
            for g in outputs:
                change += (g @ before @ g - g @ after @ g) / len(outputs)
            changes.append(change * len(outputs) / loss / together)
        found.append(np.mean(changes))
    return np.array(found)


def block(structures, together=1) -> Sensitivities:
    rows = np.concatenate([np.asarray(structure) for structure in structures])
    return Sensitivities(rows, np.array([len(structure) for structure in structures]), together)


def drawn(counts, weights, seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(count, weights)) * np.logspace(0, -2, weights) for count in counts]


@pytest.mark.parametrize(("counts", "together"), [([1] * 14, 1), ([3, 6, 3, 9], 3)], ids=["energies", "forces"])
def test_the_expected_change_is_that_of_a_double_loop_over_the_equations(counts, together):
    training, candidates = drawn(counts, 5, 0), drawn(counts[:3], 5, 1)
    parts = [block(training[:2], together), block(training[2:], together)]
    found = Known(lambda: parts).change([block(candidates, together)])
    assert np.allclose(found.values, by_hand(training, candidates, together), rtol=1e-4)
    assert np.allclose(found.known, by_hand(training, training, together), rtol=1e-4)
    assert (found.values > 0).all() and (found.values < 1).all()


def test_forces_along_the_axes_have_equation_21():
    """Where no component knows of the others, they may be added one by one."""
    training = [np.diag([1.0, 2.0, 3.0]), np.diag([0.5, 0.4, 0.3])]
    candidates = [np.diag([0.2, 0.9, 0.1])]
    found = Known(lambda: [block(training, 3)]).change([block(candidates, 3)])
    assert np.allclose(found.values, by_hand(training, candidates, 1), rtol=1e-6)


def test_with_fewer_outputs_than_weights_the_numerator_ranks():
    """Equation 14 is 1 for all that no label fixes; its numerator tells them apart, and a duplicate has the least."""
    training, other = drawn([1] * 3, 6, 0), drawn([1], 6, 1)[0]
    candidates = [other, 2 * other, training[1]]
    found = Known(lambda: [block(training)]).change([block(candidates)])
    assert found.values[1] == pytest.approx(4 * found.values[0]) and found.values[0] > 1e3
    assert found.values[2] == pytest.approx(1.0, rel=1e-3) and np.allclose(found.known, 1.0, rtol=1e-3)
    assert (found.values / (1 + found.values))[:2] == pytest.approx([1.0, 1.0])


def test_sensitivities_that_are_zero_or_not_finite():
    none = [np.zeros((1, 3))] * 4
    assert not Known(lambda: [block(none)]).change([block(none)]).values.any()
    with pytest.raises(QuarryError, match="sensitivities that are not finite"):
        Known(lambda: [block([np.full((1, 3), np.nan)])]).change([])


def sensitivities(structures, criterion):
    """The derivatives of energies or forces by the last layer's weights: what one weight more changes, in double precision."""
    parameters = MODEL._trained[0].parameters.map(lambda tensor: tensor.double())
    potential = MODEL._potential(torch.device("cpu"), torch.float64)
    elements = np.searchsorted(MODEL.elements, structures.numbers)
    neighbours = Neighbourhoods.of(structures, potential.cutoff_A)
    rows = np.arange(len(structures))
    batch = neighbours.batch(rows, potential.cutoff_A, torch.float64, torch.device("cpu"))
    columns = []
    for weight in range(len(parameters.weights[-1])):
        values = []
        for step in (0.0, 1.0):
            last = parameters.weights[-1].clone()
            last[weight] += step
            moved = replace(parameters, weights=[*parameters.weights[:-1], last])
            result = potential.evaluate(moved, batch, torch.from_numpy(elements))
            values.append((result.energies if criterion == "energy" else -result.gradient).numpy().ravel())
        columns.append(values[1] - values[0])
    found = np.stack(columns, axis=1)
    if criterion == "energy":
        return [row[None] for row in found]
    return np.split(found, 3 * structures.offsets[1:-1])


@pytest.mark.parametrize("criterion", sorted(BOTH))
def test_of_the_network_too(criterion):
    """At the ridge that both have: the last layer of a network is far from well conditioned."""
    found = MODEL.informativeness(UNSEEN, DATA.structures, frozenset({criterion}))[criterion]
    assert isinstance(MODEL, HasInformativeness)
    training = sensitivities(DATA.structures, criterion)
    mean = np.trace(block(training).rows.T @ block(training).rows) / 8
    ridge = [np.sqrt(1e-9 * mean) * np.eye(8)]
    a = np.concatenate([*training, *ridge])
    inverse = np.linalg.inv(a.T @ a)
    for given, structures in ((found.values, UNSEEN), (found.known, DATA.structures)):
        wanted, one_by_one = [], []
        for g in sensitivities(structures, criterion):
            atoms = [g[n : n + 3] for n in range(0, len(g), 3)]
            blocks = [atom @ inverse @ atom.T for atom in atoms]
            wanted.append(np.mean([np.trace(q @ np.linalg.inv(np.eye(len(q)) + q)) / len(q) for q in blocks]))
            one_by_one.append(np.mean([q / (1 + q) for block in blocks for q in np.diag(block)]))
        assert np.allclose(given, wanted, rtol=1e-2)
        assert np.allclose(given, one_by_one, rtol=0.2), "equation 21 is near"


def test_both_ways_to_the_sensitivities_of_forces_agree():
    potential, (parameters,) = MODEL._ready(UNSEEN)
    for rows, batch, own in MODEL._batches(UNSEEN, potential):
        trace = potential.atoms(parameters, batch, own)
        one = _by_weights(potential, parameters, trace)
        other = _by_moving_atoms(potential, trace, 8, partial(_last_layer_slopes, trace))
        assert len(rows) == len(UNSEEN) and torch.allclose(one, other, atol=1e-5)
        assert torch.equal(one, force_sensitivities(potential, parameters, trace))
        wanted = np.concatenate(sensitivities(UNSEEN, "forces"))
        assert np.allclose(one.numpy(), wanted, atol=1e-4 * np.abs(wanted).max())


def test_it_does_not_depend_on_orientation_or_order():
    turn = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    rotated = StructureSet.from_structures([replace(s, positions=s.positions @ turn.T + 0.5) for s in UNSEEN])
    order = np.random.default_rng(0).permutation(len(DATA))
    found = MODEL.informativeness(UNSEEN, DATA.structures, BOTH)
    other = MODEL.informativeness(rotated, DATA.structures.subset(order), BOTH)
    for name in BOTH:
        assert np.allclose(other[name].values, found[name].values, rtol=2e-2)
        assert np.allclose(other[name].known, found[name].known[order], rtol=2e-2)


def test_duplicates_of_training_structures_have_the_least():
    known = DATA.structures.subset(np.arange(6))
    candidates = UNSEEN.joined(known)
    found = MODEL.informativeness(candidates, known, frozenset({"energy"}))["energy"]
    assert found.values[len(UNSEEN) :].max() < found.values[: len(UNSEEN)].min()
    assert np.allclose(found.values[len(UNSEEN) :], found.known) and (found.known <= 1.0).all()


GMNN = {"model": SMALL, "target": "energy_forces", "descriptor": None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategy": "oed_energy"}, "oed_energy needs a model that says how much a label of energy would tell it"),
        (
            {**GMNN, "target": "energy", "strategy": "oed_forces"},
            r"oed_forces needs forces among what is learnt \(here target: energy\); these fit: .*oed_energy",
        ),
        ({**GMNN, "strategy": "oed_energy", "beta": 2.0}, "query.beta: the strategy oed_energy has no such setting"),
        ({**GMNN, "strategy": "oed_total", "beta": 0.0}, "query.beta.*greater than 0"),
        (
            {**GMNN, "strategy": "oed_energy", "stop": {"uninformative": {"std": 0.1}}},
            "stop.uninformative: query.strategy: oed_energy does not look at standard deviations",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_any_job(changes, words):
    own = {name: changes[name] for name in ("strategy", "beta") if name in changes}
    rest = {name: value for name, value in changes.items() if name not in own}
    query = {"initial": 8, "batch": {"schedule": "fraction", "fraction": 0.1}, **own}
    with pytest.raises(QuarryError, match=words) as caught:
        load_configuration(stand_in_configuration(**rest, query=query), "campaign.yaml")
    assert "\n" not in str(caught.value)


def test_what_fits_is_accepted():
    for strategy in ("oed_energy", "oed_forces", "oed_total"):
        query = {"strategy": strategy, "initial": 8, "batch": {"schedule": "fraction", "fraction": 0.1}}
        stop = {"uninformative": {"informativeness": 1.0, "share_informative": 0.05}}
        made = load_configuration(stand_in_configuration(**GMNN, query=query, stop=stop), "campaign.yaml")
        assert made.query.needs_scores and not made.query.reads_features


class TestModelsOfTheUsersOwn:
    MODULE = """
from quarry.config.model_traits import ModelTraits

class Silent:
    traits = ModelTraits(learns=["energy"], informativeness=["energy"])
    def fit(self, data, validation, rng, start=None, checkpoint=None): ...
    def predict(self, structures, want): ...
    def save(self, path): ...
    @classmethod
    def load(cls, path): ...
"""

    def test_the_method_must_be_there(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "silent_model.py").write_text(self.MODULE)
        with pytest.raises(QuarryError, match="has no method informativeness"):
            own_class(OwnModel(kind="silent_model:Silent"), tmp_path)
        assert ModelTraits(informativeness=["energy"]).informativeness == ("energy",)

    def test_what_it_says_is_checked(self):
        class Model:
            def informativeness(self, structures, known, want):
                return {"energy": Informativeness(np.ones(len(structures)), np.ones(3))}

        model = UserModel(OwnModel(kind="some_model:Model"), Model())
        assert model.informativeness(UNSEEN, UNSEEN.subset([0, 1, 2]), frozenset({"energy"}))["energy"].known.sum() == 3
        with pytest.raises(QuarryError, match="informativeness must give 6 values of energy and 6 known"):
            model.informativeness(UNSEEN, UNSEEN, frozenset({"energy"}))
        with pytest.raises(QuarryError, match=r"of forces .*got nothing"):
            model.informativeness(UNSEEN, UNSEEN, frozenset({"forces"}))
