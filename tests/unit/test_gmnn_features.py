"""Random-projected feature maps of energies and forces against the derivatives by all weights and biases, by autograd."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from quarry.models.gmnn.atomic_network import BIAS
from quarry.models.gmnn.neighbours import Neighbourhoods
from quarry.structures import StructureSet
from support.potentials import toy_data, trained

DATA = toy_data(16)
MODEL = trained(DATA, epochs=2)
UNSEEN = toy_data(5, seed=3).structures
DIMENSION, SEEDS = 512, 40
SWISH = 1.6765324703310907


def gradients(structures: StructureSet, layers: str) -> np.ndarray:
    """The energies' derivatives by weights and biases, shape (n, p), in double precision. layers: gradient or last_layer."""
    parameters = MODEL._trained[0].parameters.map(lambda tensor: tensor.double())
    potential = MODEL._potential(torch.device("cpu"), torch.float64)
    elements = torch.from_numpy(np.searchsorted(MODEL.elements, structures.numbers))
    found = Neighbourhoods.of(structures, potential.cutoff_A)
    batch = found.batch(np.arange(len(structures)), potential.cutoff_A, torch.float64, torch.device("cpu"))
    tensors = [tensor.clone().requires_grad_(True) for tensor in (*parameters.weights, *parameters.biases)]
    count = len(parameters.weights)
    a = potential.atoms(parameters, batch, elements).passed.inputs[0]
    for layer in range(count):
        z = a @ tensors[layer] / tensors[layer].shape[0] ** 0.5 + BIAS * tensors[count + layer]
        a = SWISH * z * torch.sigmoid(z)
    energies = torch.zeros(len(structures), dtype=torch.float64)
    energies = energies.index_add(0, batch.owners, parameters.scale[elements] * z[:, 0])
    wanted = tensors if layers == "gradient" else tensors[count - 1 : count]
    rows = [torch.autograd.grad(energy, wanted, retain_graph=True) for energy in energies]
    return np.array([torch.cat([slope.ravel() for slope in row]).numpy() for row in rows])


def force_gradients(structures: StructureSet, layers: str) -> list[np.ndarray]:
    """The forces' derivatives, of each structure an array of shape (3 n_atoms, p), by moving atoms by a little."""
    step, result = 1e-4, []
    for structure in structures:
        moved = []
        for coordinate in range(3 * len(structure)):
            for sign in (1, -1):
                positions = structure.positions.copy()
                positions.ravel()[coordinate] += sign * step
                moved.append(replace(structure, positions=positions))
        both = gradients(StructureSet.from_structures(moved), layers)
        result.append((both[1::2] - both[0::2]) / (2 * step))
    return result


def kernels(kind: str) -> np.ndarray:
    """The inner products of the maps of several seeds, shape (seeds, n, n)."""
    maps = [MODEL.features(UNSEEN, kind, np.random.default_rng(seed)).astype(float) for seed in range(SEEDS)]
    assert maps[0].shape == (len(UNSEEN), DIMENSION) and not np.allclose(maps[0], maps[1])
    assert np.array_equal(maps[0], MODEL.features(UNSEEN, kind, np.random.default_rng(0)))
    return np.array([m @ m.T for m in maps])


def expected(kind: str) -> np.ndarray:
    if kind == "gradient":
        rows = gradients(UNSEEN, "gradient")
        return rows @ rows.T
    parts = force_gradients(UNSEEN, kind.removesuffix("_forces"))
    return np.array([[np.sum((one @ other.T) ** 2) for other in parts] for one in parts])


@pytest.mark.parametrize("kind", ["gradient", "last_layer_forces", "gradient_forces"])
def test_inner_products_are_those_of_all_derivatives(kind):
    """On the average over projections, and one projection to 3 / sqrt(512) of the norms (the standard deviation of a product of
    two projections each); the forces' gradients are projected twice.
    """
    found, wanted = kernels(kind), expected(kind)
    norms = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
    single = np.sqrt(np.mean(((found - wanted) / norms) ** 2))
    assert single < (1 if kind != "gradient_forces" else 2) * 3 / np.sqrt(DIMENSION)
    assert np.allclose(found.mean(axis=0) / norms, wanted / norms, atol=4 * single / np.sqrt(SEEDS))
    assert np.linalg.norm(found.mean(axis=0) / norms - wanted / norms) < 0.2 * np.linalg.norm(wanted / norms)


@pytest.mark.parametrize("kind", ["gradient", "last_layer_forces", "gradient_forces"])
def test_maps_do_not_depend_on_orientation_or_on_what_is_asked_with_them(kind, monkeypatch):
    turn = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    turned = StructureSet.from_structures([replace(s, positions=s.positions @ turn.T + 0.5) for s in UNSEEN])
    found = MODEL.features(UNSEEN, kind, np.random.default_rng(0))
    assert np.allclose(MODEL.features(turned, kind, np.random.default_rng(0)), found, atol=1e-3 * np.abs(found).max())
    monkeypatch.setattr("quarry.models.gmnn.training.TOGETHER", 4)
    assert np.allclose(MODEL.features(UNSEEN, kind, np.random.default_rng(0)), found, atol=1e-4 * np.abs(found).max())
