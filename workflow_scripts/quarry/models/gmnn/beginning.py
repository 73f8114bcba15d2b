"""What a training begins with: labels that are held out, scales of elements, and parameters of an earlier model."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from quarry.config.gmnn import Gmnn
from quarry.models.base import TrainingData
from quarry.models.baselines import CompositionBaseline
from quarry.models.gmnn.potential import Parameters
from quarry.models.gmnn.training import Examples
from quarry.models.splits import lasting_share, of_known_elements, random_share

SMALLEST_SCALE_EV = 1e-3
"""Scale of an element where forces or energies do not vary."""


def held_rows(data: TrainingData, settings: Gmnn, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return which labels early stopping and calibration look at."""
    if len(data) < 2:
        return np.zeros(0, dtype=np.int64)
    if settings.gives_std and settings.start == "last":
        # What calibrates must not have been learnt in an earlier iteration either.
        salt = int(rng.integers(2**63 - 1))
        chosen = lasting_share(data.structures.ids, settings.held_out, salt, data.groups)
    else:
        chosen = random_share(data, settings.held_out, rng)
    return of_known_elements(data.structures, chosen)


def first_scales(learn: Examples, n_elements: int) -> NDArray[np.float64]:
    """Return the first scale of each element (eV): its forces' root mean square times 1 Angstrom; without forces the
    energies' spread about the references, per square root of the atoms.
    """
    if learn.forces is not None:
        squares = (learn.forces**2).mean(axis=1)
        each = np.bincount(learn.elements, squares) / np.bincount(learn.elements)
        return np.maximum(np.sqrt(each), SMALLEST_SCALE_EV)
    sizes = np.diff(learn.neighbourhoods.offsets)
    spread = float(np.sqrt(np.mean(learn.energies**2 / np.maximum(sizes, 1))))
    return np.full(n_elements, max(spread, SMALLEST_SCALE_EV))


def carried_over(
    own: Parameters,
    before: tuple[NDArray[np.int64], CompositionBaseline],
    fresh: Parameters,
    now: tuple[NDArray[np.int64], CompositionBaseline],
) -> Parameters:
    """Return parameters of an earlier training for other elements and references; elements that are new keep ``fresh`` ones.

    before, now: elements (atomic numbers, rising) and atomic references of the earlier training and of this one.
    """
    (old_elements, old_baseline), (elements, baseline) = before, now
    if [w.shape for w in own.weights] != [w.shape for w in fresh.weights]:
        return fresh
    known = np.flatnonzero(np.isin(elements, old_elements))
    mine = torch.from_numpy(np.searchsorted(old_elements, elements[known]))
    theirs = torch.from_numpy(known)
    shape = fresh.embedding.shape[1:]
    table = fresh.embedding.clone().view(len(elements), len(elements), *shape)
    old = own.embedding.view(len(old_elements), len(old_elements), *shape)
    table[theirs[:, None], theirs] = old[mine[:, None], mine]
    scale, shift = fresh.scale.clone(), fresh.shift.clone()
    scale[theirs] = own.scale[mine]
    # The references have changed: what the network adds to them changes by the difference.
    sums = old_baseline.coefficients[mine.numpy()] + own.shift[mine].double().numpy()
    shift[theirs] = torch.from_numpy(sums - baseline.coefficients[known]).float()
    same = [part.shape for part in own.spread] == [part.shape for part in fresh.spread]
    spread = own.spread if same else fresh.spread
    return Parameters(own.weights, own.biases, table.view(fresh.embedding.shape), scale, shift, spread)
