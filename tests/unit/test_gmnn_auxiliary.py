"""The auxiliary model of a potential: a Gaussian process of energies, and what it makes of the potential's predictions."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from quarry.errors import QuarryError
from quarry.models.gmnn import auxiliary
from quarry.models.gmnn.auxiliary import LENGTHS, AuxiliaryProcess
from quarry.models.gmnn.model import GaussianMomentModel
from quarry.models.gmnn.neighbours import Neighbourhoods
from quarry.models.gmnn.training import Examples
from quarry.structures import Structure, StructureSet
from support.potentials import CUTOFF_A, mixed, random_molecule, settings, strained_copper, toy_data, trained

ALL = frozenset({"energy", "forces", "std"})
DATA, UNSEEN = toy_data(60), toy_data(8, seed=5)
HELD = {"held_out": 0.4, "epochs": 3}


def examples(structures, energies, elements) -> Examples:
    numbers = np.searchsorted(elements, structures.numbers)
    return Examples(Neighbourhoods.of(structures, CUTOFF_A), numbers, np.asarray(energies), None, None)


EVERYTHING = frozenset({"energy", "forces", "stress"})


def process(data=DATA, seed=0) -> AuxiliaryProcess:
    energies = data.targets["energy"] - data.targets["energy"].mean()
    elements = np.unique(data.structures.numbers)
    return AuxiliaryProcess.fit(
        examples(data.structures, energies, elements), len(elements), CUTOFF_A, np.random.default_rng(seed)
    )


def said(model, structures, elements, spread_of=frozenset({"energy"})):
    """What a process says of structures."""
    if not isinstance(structures, StructureSet):
        structures = StructureSet.from_structures(structures)
    found = Neighbourhoods.of(structures, CUTOFF_A)
    batch = found.batch(np.arange(len(structures)), CUTOFF_A, torch.float64, torch.device("cpu"))
    own = torch.from_numpy(np.searchsorted(elements, structures.numbers)[batch.atoms])
    return model.said(batch, own, spread_of)[0]


# --- the process


def test_energies_are_those_of_a_gaussian_process_with_the_same_kernel(monkeypatch):
    """Of few atoms all are centres: then the subset of regressors is the whole process. Length and noise: the best of all."""
    # Noises beside which the rounding of the centres' kernel is nothing.
    noises = (1e-6, 1e-4, 1e-2)
    monkeypatch.setattr(auxiliary, "NOISES", noises)
    data = toy_data(30)
    model, elements = process(data), np.unique(data.structures.numbers)
    energies = data.targets["energy"] - data.targets["energy"].mean()
    whole = StructureSet.from_structures([*data.structures, *UNSEEN.structures])
    everything = examples(whole, np.zeros(len(whole)), elements)
    x, own, owners = model._invariants(everything, np.arange(len(whole)))
    x = (x - model.means.numpy()[own]) / model.spreads.numpy()[own][:, None]

    def kernel(length):
        k = np.exp(-((x[:, None] - x) ** 2).sum(axis=2) / (2 * length**2)) * (own[:, None] == own)
        by_structure = np.eye(len(whole))[owners]
        return by_structure.T @ k @ by_structure

    def likelihood(length, noise):
        covariance = kernel(length)[:30, :30]
        covariance += noise * np.trace(covariance) / 30 * np.eye(30)
        prior = energies @ np.linalg.solve(covariance, energies) / 30
        return -15 * np.log(prior) - 0.5 * np.linalg.slogdet(covariance)[1]

    found = [(likelihood(length, noise), length, noise) for length in LENGTHS for noise in noises]
    assert (model.length, model.noise) == max(found)[1:]
    covariance = kernel(model.length)
    known = covariance[:30, :30] + model.noise * np.trace(covariance[:30, :30]) / 30 * np.eye(30)
    expected = covariance[:, :30] @ np.linalg.solve(known, energies)
    np.testing.assert_allclose(said(model, whole, elements)["energy"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("data", [DATA, strained_copper(12, 0)], ids=["molecules", "cells"])
def test_forces_and_stresses_are_derivatives_of_the_energies(data):
    model, elements, step = process(data), np.unique(data.structures.numbers), 1e-4
    at, rng = data.structures.subset(np.arange(4)), np.random.default_rng(1)
    found = said(model, at, elements, spread_of=EVERYTHING)
    along = rng.normal(size=at.positions.shape)
    up, down = (
        said(model, replace(at, positions=at.positions + sign * step * along), elements)["energy"] for sign in (1, -1)
    )
    owners = np.repeat(np.arange(len(at)), np.diff(at.offsets))
    expected = -np.bincount(owners, (found["forces"] * along).sum(axis=1))
    np.testing.assert_allclose((up - down) / (2 * step), expected, rtol=1e-4, atol=1e-7)
    if at.pbc.all():
        strain = rng.normal(size=(3, 3))
        strain = 0.5 * (strain + strain.T)
        moves = [np.eye(3) + sign * step * strain for sign in (1, -1)]
        up, down = (
            said(model, replace(at, positions=at.positions @ move, cells=at.cells @ move), elements)["energy"]
            for move in moves
        )
        volumes = np.abs(np.linalg.det(at.cells))
        expected = (found["stress"] * strain).sum(axis=(1, 2))
        np.testing.assert_allclose((up - down) / (2 * step) / volumes, expected, rtol=1e-4, atol=1e-9)


def test_energies_stay_the_same_for_other_orders_of_atoms_and_turned_structures_and_grow_with_the_structure():
    molecules = [random_molecule([6, 8, 1, 1, 1], seed) for seed in range(12)]
    made, elements = StructureSet.from_structures(molecules), np.array([1, 6, 8])
    energies = np.random.default_rng(0).normal(size=12)
    model = AuxiliaryProcess.fit(examples(made, energies, elements), 3, CUTOFF_A, np.random.default_rng(0))
    one, other = molecules[0], molecules[1]
    order, turn = [1, 4, 0, 3, 2], np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    changed = Structure.create(np.array(one.numbers)[order], (one.positions @ turn + 3.0)[order])
    both = Structure.create([*one.numbers, *other.numbers], np.concatenate([one.positions, other.positions + 50.0]))
    found = said(model, [one, other, changed, both], elements)["energy"]
    assert abs(found[0]) > 1e-3
    np.testing.assert_allclose(found[2], found[0], atol=1e-6)
    np.testing.assert_allclose(found[3], found[0] + found[1], atol=1e-6)


def test_structures_of_all_kinds_and_of_one_atom_can_be_learnt():
    made, elements = StructureSet.from_structures(mixed()), np.array([1, 6, 8, 29])
    model = AuxiliaryProcess.fit(examples(made, np.arange(5.0), elements), 4, CUTOFF_A, np.random.default_rng(0))
    np.testing.assert_allclose(said(model, made, elements)["energy"], np.arange(5.0), atol=1e-3)
    one = made.subset(np.array([1]))
    alone = AuxiliaryProcess.fit(examples(one, [0.0], np.array([6])), 1, CUTOFF_A, np.random.default_rng(0))
    assert said(alone, one, np.array([6]), spread_of=EVERYTHING)["energy"] == 0


def test_centres_are_far_from_each_other_and_bounded(monkeypatch):
    points = np.random.default_rng(0).normal(size=(40, 3))
    chosen = auxiliary._centres(points, 7)
    assert len({tuple(one) for one in chosen.tolist()} & {tuple(one) for one in np.float32(points).tolist()}) == 7
    gaps = np.linalg.norm(points[:, None] - chosen, axis=2).min(axis=1)
    apart = np.linalg.norm(chosen[:, None] - chosen, axis=2)[np.triu_indices(7, 1)]
    assert gaps.max() <= apart.min() + 1e-6  # What is left out is nearer to a centre than any two centres are.
    np.testing.assert_array_equal(auxiliary._centres(points, 50), np.float32(points))
    copies = auxiliary._centres(np.repeat(points[:2], 20, axis=0), 5)
    assert len(copies) == 5 and np.isfinite(copies).all()
    monkeypatch.setattr(auxiliary, "CENTRES", 30)
    assert process().account()["auxiliary_centres"] <= 32
    # Of a large set a random share is looked at, of one structure that is larger than the bound that one.
    monkeypatch.setattr(auxiliary, "ATOMS", 40)
    sizes = np.diff(DATA.structures.offsets)
    rows = auxiliary._share(DATA.structures.offsets, np.random.default_rng(0))
    assert 30 < sizes[rows].sum() <= 40 and (np.diff(rows) > 0).all()
    assert len(auxiliary._share(np.array([0, 100]), np.random.default_rng(0))) == 1
    assert np.isfinite(said(process(), UNSEEN.structures, np.unique(DATA.structures.numbers))["energy"]).all()


# --- of a potential


def test_it_learns_energies_alone_and_says_how_far_the_network_is_off(tmp_path):
    """Predictions are those of a network without it; the deviation is |network - auxiliary|, calibrated."""
    pair, alone = trained(DATA, uncertainty="auxiliary", **HELD), trained(DATA, **HELD)
    found, of_network = (model.predict(UNSEEN.structures, ALL) for model in (pair, alone))
    other = said(pair._auxiliary, UNSEEN.structures, pair.elements, spread_of=EVERYTHING)
    other["energy"] = other["energy"] + pair._baseline.mean(UNSEEN.structures)
    for name in ("energy", "forces"):
        factor = pair.hyperparameters["std_factor" if name == "energy" else "forces_std_factor"]
        np.testing.assert_array_equal(found.mean[name], of_network.mean[name])
        distance = np.abs(of_network.mean[name] - other[name])
        assert distance.max() > 1e-3 and factor not in (None, 1.0)
        np.testing.assert_allclose(found.std[name], factor * distance, rtol=1e-3, atol=1e-4 * distance.max())
    # It learns the same whatever the forces' labels are; the network does not.
    changed = replace(DATA, targets={**DATA.targets, "forces": 1.1 * DATA.targets["forces"]})
    second = trained(changed, uncertainty="auxiliary", **HELD)
    for ours, theirs in zip(pair._auxiliary.weights, second._auxiliary.weights, strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(pair._trained[0].parameters.weights[0], second._trained[0].parameters.weights[0])
    # The same training gives the same file, and the file the same predictions.
    for name in ("first.h5", "second.h5"):
        trained(DATA, uncertainty="auxiliary", **HELD).save(tmp_path / name)
    assert (tmp_path / "first.h5").read_bytes() == (tmp_path / "second.h5").read_bytes()
    read = GaussianMomentModel.load(tmp_path / "first.h5")
    assert read.hyperparameters == pair.hyperparameters
    again = read.predict(UNSEEN.structures, ALL)
    for name in ("energy", "forces"):
        np.testing.assert_array_equal(again.std[name], found.std[name])
    # What labels would tell, and feature maps, are those of the network.
    ours, theirs = (m.features(UNSEEN.structures, "gradient", np.random.default_rng(1)) for m in (pair, alone))
    np.testing.assert_array_equal(ours, theirs)


def test_a_file_without_it_is_refused_in_a_line(tmp_path):
    """As earlier versions wrote it, with two networks."""
    path = tmp_path / "model.h5"
    trained(DATA, uncertainty="auxiliary", **HELD).save(path)
    with h5py.File(path, "a") as handle:
        del handle["auxiliary"]
    with pytest.raises(
        QuarryError, match=r"auxiliary model of version 0, this Quarry reads 1; remove it and start again"
    ):
        GaussianMomentModel.load(path)
    assert settings(uncertainty="auxiliary").networks == 1
