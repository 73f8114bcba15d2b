"""Committees and shallow ensembles of a potential: standard deviations of energies and forces, and their calibration."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from quarry.errors import QuarryError
from quarry.evaluation.calibration import coverage, rank_correlation
from quarry.models.base import STD_OF_ENERGY, TrainingData
from quarry.models.calibration import FEW, Calibration, HeldOut
from quarry.models.gmnn import training
from quarry.models.gmnn.model import GaussianMomentModel
from quarry.models.gmnn.readouts import FLOOR_EV, deviations, said_by, spread_gradient
from quarry.models.gmnn.training import labelled, loss_and_gradient
from quarry.models.splits import lasting_share
from quarry.stages.errors import Evaluated, summary_of
from quarry.stages.results import columns_of, history_rows
from support.potentials import SMALL, settings, strained_copper, toy_data, trained
from support.progress import cost, facts
from support.stages import configuration

COMMITTEE = {"uncertainty": "committee", "members": 3}
SHALLOW = {"uncertainty": "shallow_ensemble", "readouts": 4}
QUERY = {"strategy": "uncertainty", "initial": 8, "batch": {"schedule": "constant", "size": 5}}
ALL = frozenset({"energy", "forces", "std"})
DATA, UNSEEN = toy_data(60), toy_data(8, seed=5)
HELD = {"held_out": 0.4, "epochs": 15}


@pytest.fixture(scope="module")
def committee() -> GaussianMomentModel:
    return trained(DATA, **COMMITTEE, **HELD)


@pytest.fixture(scope="module")
def shallow() -> GaussianMomentModel:
    return trained(DATA, **SHALLOW, **HELD)


def single(model: GaussianMomentModel, member: int) -> GaussianMomentModel:
    """A model of one member alone."""
    alone = GaussianMomentModel(settings(), model.learnt)
    alone.elements, alone._baseline, alone._trained = model.elements, model._baseline, [model._trained[member]]
    return alone


def test_mean_and_standard_deviations_are_those_of_equation_24(committee):
    """With 1 / N_ens, times the factor of the calibration."""
    found = committee.predict(UNSEEN.structures, ALL)
    each = [single(committee, n).predict(UNSEEN.structures, ALL) for n in range(3)]
    for name in ("energy", "forces"):
        values = np.array([one.mean[name] for one in each])
        mean = sum(values) / 3
        assert np.allclose(found.mean[name], mean, atol=1e-6)
        factor = committee._calibrations[name].factor
        wanted = factor * np.sqrt(sum((value - mean) ** 2 for value in values) / 3)
        assert np.allclose(found.std[name], wanted, rtol=1e-3, atol=1e-6) and (wanted > 0).all()
    assert not committee.predict(UNSEEN.structures, frozenset({"energy", "forces"})).std
    assert set(committee.predict(UNSEEN.structures, frozenset({"energy", "std"})).std) == {"energy"}
    assert not each[0].std, "one network has none"


def test_members_trained_one_by_one_are_the_committee(committee, tmp_path):
    committee.save(tmp_path / "whole.h5")
    for number in (2, 0, 1):
        model = GaussianMomentModel(settings(**COMMITTEE, **HELD), tuple(DATA.targets))
        model.fit_member(number, DATA, None, np.random.default_rng(1))
        model.save(tmp_path / f"{number}.h5")
    joined = GaussianMomentModel(settings(**COMMITTEE, **HELD), tuple(DATA.targets))
    joined.join([GaussianMomentModel.load(tmp_path / f"{number}.h5") for number in range(3)])
    joined.save(tmp_path / "joined.h5")
    assert (tmp_path / "joined.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    again = GaussianMomentModel.load(tmp_path / "joined.h5").predict(UNSEEN.structures, ALL)
    assert np.array_equal(again.std["forces"], committee.predict(UNSEEN.structures, ALL).std["forces"])
    with pytest.raises(QuarryError, match=r"^model\.members: these are not 3 members trained on the same data; "):
        joined.join([GaussianMomentModel.load(tmp_path / f"{number}.h5") for number in range(2)])


def test_a_killed_committee_goes_on_and_begins_from_the_last_one(committee, tmp_path):
    """Each member has a folder of its own, and begins from the member of its number."""
    again = GaussianMomentModel(settings(**COMMITTEE, **HELD), tuple(DATA.targets))
    again.fit(DATA, None, np.random.default_rng(1), checkpoint=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000", "001", "002"]
    warm = GaussianMomentModel(settings(**COMMITTEE, **{**HELD, "epochs": 1}), tuple(DATA.targets))
    warm.fit(DATA, None, np.random.default_rng(1), start=committee)
    for one, other in zip(warm._trained, committee._trained, strict=True):
        assert (one.parameters.weights[0] - other.parameters.weights[0]).abs().max() < 0.2
    assert (warm._trained[0].parameters.weights[0] - committee._trained[1].parameters.weights[0]).abs().max() > 1


def test_the_mean_of_a_shallow_ensemble_is_the_network_without_it(shallow):
    plain = trained(DATA, **HELD)
    for one, other in zip(plain._trained[0].parameters.tensors, shallow._trained[0].parameters.tensors, strict=False):
        assert torch.equal(one, other)
    before, found = (model.predict(UNSEEN.structures, ALL) for model in (plain, shallow))
    for name in ("energy", "forces"):
        assert np.array_equal(found.mean[name], before.mean[name])
        assert found.std[name].shape == before.mean[name].shape and (found.std[name] > 0).all()


def test_read_outs_are_networks_with_other_last_layers(shallow, tmp_path):
    """Each one alone, built by hand; energies, forces and stresses have their mean and standard deviation."""
    parameters = shallow._trained[0].parameters
    weights, biases = parameters.spread
    each = []
    for k in range(4):
        alone = single(shallow, 0)
        last = [parameters.weights[-1] + (weights[:, k] - weights.mean(1))[:, None]]
        other = replace(
            parameters,
            weights=[*parameters.weights[:-1], *last],
            biases=[*parameters.biases[:-1], parameters.biases[-1] + biases[k] - biases.mean()],
            spread=[],
        )
        alone._trained = [replace(alone._trained[0], parameters=other)]
        each.append(alone.predict(UNSEEN.structures, ALL).mean)
    found = shallow.predict(UNSEEN.structures, ALL)
    for name in ("energy", "forces"):
        values, factor = np.array([one[name] for one in each]), shallow._calibrations[name].factor
        assert np.allclose(values.mean(axis=0), found.mean[name], atol=1e-4)
        assert np.allclose(factor * values.std(axis=0), found.std[name], rtol=2e-3, atol=1e-5)
    shallow.save(tmp_path / "model.h5")
    again = GaussianMomentModel.load(tmp_path / "model.h5").predict(UNSEEN.structures, ALL)
    assert np.array_equal(again.std["forces"], found.std["forces"])


def test_the_deviations_learn_by_the_likelihood(shallow):
    """Their gradient is that of sg(v)^(1/2) (d^2 / v + ln v) by autograd, with the mean and the trunk constant."""
    potential, (parameters,) = shallow._ready(UNSEEN.structures)
    data = labelled(shallow._examples(UNSEEN), np.arange(8), potential)
    trace = potential.atoms(parameters, data.batch, data.elements)
    errors = potential.energies(parameters, trace) - data.energies
    spread = [part.clone().requires_grad_(True) for part in parameters.spread]
    away = deviations(replace(parameters, spread=spread), trace)
    variance = (away * away).mean(1) + FLOOR_EV**2
    loss = (variance.detach().sqrt() * (errors**2 / variance + variance.log())).mean()
    wanted = torch.autograd.grad(loss, spread)
    found = spread_gradient(parameters, trace, errors)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()))
    both = loss_and_gradient(potential, parameters, data, settings(**SHALLOW), True)[1]
    alone = loss_and_gradient(potential, replace(parameters, spread=[]), data, settings(), True)[1]
    assert all(torch.equal(one, other) for one, other in zip(alone.tensors, both.tensors, strict=False))
    assert len(both.spread) == 2 and not alone.spread


def test_who_asks_for_the_standard_deviation_of_energies_alone_gets_the_same_and_no_others(
    shallow, committee, monkeypatch
):
    """Forces of read-outs, which take most of the time, are then not found."""
    for model in (shallow, committee, trained(DATA, uncertainty="auxiliary", **HELD)):
        whole = model.predict(UNSEEN.structures, ALL | {"stress"})
        with monkeypatch.context() as patch:
            patch.setattr("quarry.models.gmnn.readouts.readout_networks", lambda _: pytest.fail("not asked for"))
            patch.setattr("quarry.models.gmnn.auxiliary.derivatives_of", lambda *_: pytest.fail("not asked for"))
            found = model.predict(UNSEEN.structures, ALL | {"stress", STD_OF_ENERGY})
        assert set(found.std) == {"energy"} and np.array_equal(found.std["energy"], whole.std["energy"])
        assert set(found.mean) == set(whole.mean)
        for name, values in whole.mean.items():
            assert np.array_equal(found.mean[name], values, equal_nan=True)


def test_a_killed_shallow_ensemble_goes_on_and_ends_with_the_same_weights(tmp_path, monkeypatch):
    whole = trained(toy_data(16), **SHALLOW, epochs=4)
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    stopped = GaussianMomentModel(settings(**SHALLOW, epochs=2), whole.learnt)
    stopped.fit(toy_data(16), None, np.random.default_rng(1), checkpoint=tmp_path)
    again = GaussianMomentModel(settings(**SHALLOW, epochs=4), whole.learnt)
    again.fit(toy_data(16), None, np.random.default_rng(1), checkpoint=tmp_path)
    one, other = (model._trained[0].parameters.tensors for model in (whole, again))
    assert len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_read_outs_learn_to_differ_as_much_as_they_err():
    """Without calibration the spread is like the errors of new labels, and tells which of them are large. That of energies is
    somewhat larger: it learns from what single steps say, whose errors are more than those of the averaged network.
    """
    data, unseen = toy_data(80, seed=7), toy_data(60, seed=8)
    kind = {"uncertainty": "shallow_ensemble", "hidden": [32, 32], "calibrate": False}
    first, model = (trained(data, **kind, epochs=epochs) for epochs in (1, 240))
    new, before = (one.predict(unseen.structures, ALL) for one in (model, first))
    assert new.std["energy"].mean() < 0.3 * before.std["energy"].mean()
    for name in ("energy", "forces"):
        off, std = (new.mean[name] - unseen.targets[name]).ravel(), new.std[name].ravel()
        assert 0.5 < np.sqrt(np.mean(std**2) / np.mean(off**2)) < 3
        assert rank_correlation(off, std) > 0.2


def test_neither_order_nor_company_of_structures_changes_a_standard_deviation(shallow, committee, monkeypatch):
    monkeypatch.setattr("quarry.models.gmnn.training.TOGETHER", 4)
    order = np.array([3, 1, 0])
    for model in (shallow, committee):
        whole = model.predict(UNSEEN.structures, ALL).std
        part = model.predict(UNSEEN.structures.subset(order), ALL).std
        assert np.allclose(part["energy"], whole["energy"][order], rtol=1e-2, atol=1e-5)
        atoms = UNSEEN.structures.atoms_of(order)
        assert np.allclose(part["forces"], whole["forces"][atoms], rtol=1e-2, atol=1e-4)


class TestCalibration:
    """The split-conformal factor, of labels that neither training nor earlier iterations saw."""

    @pytest.mark.parametrize("kind", ["committee", "shallow"])
    def test_the_factor_is_that_of_the_held_out_labels_and_is_used_once(self, kind, request):
        model = request.getfixturevalue(kind)
        held = model._held
        assert held.structures == 24 and held.labels["energy"].shape == (24,)
        # The labels that were held out: neither their energies nor their forces are fitted, and each is one of the data.
        assert np.isin(held.labels["energy"], DATA.targets["energy"]).all()
        rows = np.flatnonzero(np.isin(DATA.targets["energy"], held.labels["energy"]))
        structures = DATA.structures.subset(rows)
        found = model.predict(structures, ALL)
        for name in ("energy", "forces"):
            labels = DATA.subset(rows).targets[name]
            factor = model._calibrations[name].factor
            raw = found.std[name] / factor
            again = Calibration.of((found.mean[name] - labels).ravel(), raw.ravel(), 24, FEW)
            assert again.factor == pytest.approx(factor, rel=1e-2), "the spread that it was found from has no factor"
            share = coverage((found.mean[name] - labels).ravel(), found.std[name].ravel(), (0.68,))[0]
            assert 0.65 < share < 0.80
        said = model.hyperparameters
        assert said["std_factor"] == model._calibrations["energy"].factor
        assert (said["calibration_labels"], said["forces_calibration_labels"]) == (24, 24)
        assert said["forces_std_factor"] == model._calibrations["forces"].factor

    def test_without_it_the_spread_is_given_as_it_is(self, shallow):
        plain = trained(DATA, **SHALLOW, **HELD, calibrate=False)
        found, wanted = plain.predict(UNSEEN.structures, ALL), shallow.predict(UNSEEN.structures, ALL)
        for name in ("energy", "forces"):
            assert np.allclose(found.std[name] * shallow._calibrations[name].factor, wanted.std[name])
        assert plain.hyperparameters["std_factor"] is None

    def test_few_held_out_labels_are_said_not_to_calibrate(self):
        model = trained(toy_data(20), **SHALLOW, epochs=2)
        assert model.hyperparameters["std_factor"] is None and model.hyperparameters["calibration_labels"] == 2

    def test_copies_of_a_structure_count_once(self):
        groups = np.arange(len(DATA)) // 3
        model = GaussianMomentModel(settings(**SHALLOW, **HELD), tuple(DATA.targets))
        model.fit(replace(DATA, groups=groups), None, np.random.default_rng(0))
        assert model._held.structures == 8

    def test_members_of_others_meet_the_labels_in_the_same_order(self):
        parts = [
            HeldOut({"energy": np.array([1.0, 2.0])}, {"energy": np.array([[1.0, 3.0], [2.0, 4.0]])}, 2),
            HeldOut({"energy": np.array([5.0])}, {"energy": np.array([[6.0], [7.0]])}, 1),
        ]
        both = HeldOut.joined(parts)
        assert both.structures == 3 and both.outputs["energy"].tolist() == [[1.0, 3.0, 6.0], [2.0, 4.0, 7.0]]
        assert both.calibrations()["energy"].count == 3

    def test_what_calibrates_was_never_learnt_where_training_goes_on(self):
        """With start: last, held-out labels stay so as the training set grows."""
        ids = np.array([f"structure {n}" for n in range(400)])
        few, many = (set(ids[lasting_share(ids[:n], 0.1, 7, None)]) for n in (200, 400))
        assert few == {name for name in many if int(name.split()[1]) < 200} and 25 < len(many) < 60
        groups = np.arange(400) // 4
        held = lasting_share(ids, 0.1, 7, groups)
        assert len(held) == 4 * len(np.unique(groups[held])) > 0
        for n in (2, 3, 5):
            assert (
                0 < len(lasting_share(ids[:n], 1e-9, 7, None)) < n
                and len(lasting_share(ids[:n], 1 - 1e-9, 7, None)) < n
            )
        learnt = {}
        for count in (30, 60):
            model = trained(DATA.subset(np.arange(count)), **SHALLOW, **{**HELD, "epochs": 1}, start="last")
            learnt[count] = set(model._held.labels["energy"])
        assert learnt[30] <= learnt[60]


def test_files_of_an_earlier_version_are_read(tmp_path):
    """Their settings have none of the keys of standard deviations."""
    model = trained(toy_data(12), epochs=2)
    model.save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "a") as handle:
        kept = json.loads(handle.attrs["settings"])
        for key in ("uncertainty", "members", "readouts", "calibrate"):
            del kept[key]
        handle.attrs["settings"] = json.dumps(kept)
        assert "calibration" not in handle and "spread" not in handle and "embedding" in handle
    found = GaussianMomentModel.load(tmp_path / "model.h5").predict(UNSEEN.structures, ALL)
    assert np.array_equal(found.mean["forces"], model.predict(UNSEEN.structures, ALL).mean["forces"])
    assert not found.std


def test_energies_alone():
    data = toy_data(40, forces=False)
    for kind in (COMMITTEE, SHALLOW):
        model = trained(data, **kind, epochs=2)
        found = model.predict(UNSEEN.structures, ALL)
        assert set(found.std) == {"energy"} and "forces" in found.mean, "what was not learnt has no standard deviation"
        assert "forces_std_factor" not in model.hyperparameters


def test_feature_maps_and_informativeness_of_a_committee(committee):
    """Inner products are the mean of the members'; what labels would tell it is the mean of what they would tell them."""
    rng = np.random.default_rng
    last = committee.features(UNSEEN.structures, "last_layer", rng(0)).astype(float)
    members = [single(committee, n) for n in range(3)]
    each = [one.features(UNSEEN.structures, "last_layer", rng(0)).astype(float) for one in members]
    assert np.allclose(last @ last.T, np.mean([m @ m.T for m in each], axis=0), rtol=1e-4)
    for kind in ("gradient", "last_layer_forces", "gradient_forces"):
        maps = [committee.features(UNSEEN.structures, kind, rng(seed)).astype(float) for seed in range(30)]
        wanted = [
            [one.features(UNSEEN.structures, kind, rng(seed)).astype(float) for seed in range(30)] for one in members
        ]
        found = np.mean([m @ m.T for m in maps], axis=0)
        mean = np.mean([[m @ m.T for m in part] for part in wanted], axis=(0, 1))
        scale = np.sqrt(np.outer(np.diag(mean), np.diag(mean)))
        assert np.abs((found - mean) / scale).max() < 0.25
    known, want = DATA.structures.subset(np.arange(30)), frozenset({"energy", "forces"})
    for name, said in committee.informativeness(UNSEEN.structures, known, want).items():
        parts = [one.informativeness(UNSEEN.structures, known, want)[name] for one in members]
        assert np.allclose(said.values, np.mean([part.values for part in parts], axis=0))
        assert np.allclose(said.known, np.mean([part.known for part in parts], axis=0))


def test_errors_history_and_coverage(committee):
    """Of the forces too, number by number."""
    conf = configuration(target="energy_forces", model={**SMALL, **COMMITTEE}, descriptor=None, query=QUERY)
    test = toy_data(30, seed=9)
    prediction = committee.predict(test.structures, ALL)
    found = summary_of(Evaluated.of(conf.goal, test, prediction), conf.goal, np.random.default_rng(0))
    for prefix, name in (("", "energy"), ("forces_", "forces")):
        errors, std = (prediction.mean[name] - test.targets[name]).ravel(), prediction.std[name].ravel()
        for level, half in ((68, 0.9945), (95, 1.95996)):
            assert found[f"{prefix}coverage_{level}"] == pytest.approx(np.mean(np.abs(errors) <= half * std), abs=1e-3)
        assert found[f"{prefix}rms_z"] == pytest.approx(np.sqrt(np.mean((errors / std) ** 2)))
    made = [
        facts(t, target="energy_forces", errors={"test": found}, hyperparameters=committee.hyperparameters)
        for t in (0, 1)
    ]
    row = history_rows(made, [cost(), cost()], "")[0]
    assert float(row["forces_coverage_95"]) == pytest.approx(found["forces_coverage_95"])
    assert float(row["forces_std_factor"]) == pytest.approx(committee._calibrations["forces"].factor)
    assert row["calibration"] == row["forces_calibration"] == "by 24 held-out labels"
    without = {key: value for key, value in found.items() if not key.startswith("forces_")}
    plain = [facts(0, target="energy_forces", errors={"test": without})]
    assert not any("forces_coverage" in column or "forces_std" in column for column in columns_of(plain))


def test_said_by_gives_stresses_of_cells():
    cells = strained_copper(12, 0)
    model = trained(cells, **SHALLOW, epochs=2)
    found = model.predict(cells.structures, frozenset({"energy", "forces", "stress", "std"}))
    assert set(found.std) == {"energy", "forces", "stress"} and np.isfinite(found.std["stress"]).all()
    assert np.allclose(found.std["stress"], found.std["stress"].transpose(0, 2, 1))
    potential, (parameters,) = model._ready(cells.structures)
    for _, batch, own in model._batches(cells.structures, potential):
        _, each = said_by(potential, parameters, batch, own, True, frozenset({"energy", "stress"}))
        assert each["stress"].shape == (4, 12, 3, 3) and each["energy"].shape == (4, 12)
    molecules = TrainingData(UNSEEN.structures, {**UNSEEN.targets, "stress": np.full((8, 3, 3), np.nan)})
    model = trained(molecules, **SHALLOW, epochs=1)
    assert np.isnan(model.predict(UNSEEN.structures, frozenset({"stress", "std"})).std["stress"]).all()
