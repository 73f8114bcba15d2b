"""The many-body tensor representation (MBTR)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from quarry.config.descriptors import (
    ExponentialWeighting,
    InverseSquareWeighting,
    Mbtr,
    MbtrElements,
    MbtrGrid,
    MbtrPairs,
    MbtrTriples,
    UnityWeighting,
)
from quarry.errors import QuarryError
from quarry.structures import StructureSet

BLOCK_NUMBERS = 2_000_000
"""Numbers per work array; bounds the memory beside the result (16 MB each)."""
REACH_SIGMAS = 7.0
"""A Gaussian is followed this far from its centre: what is left out is below 1e-10 of its height."""
Weighting = ExponentialWeighting | InverseSquareWeighting | UnityWeighting


def mbtr(structures: StructureSet, settings: Mbtr, elements: Sequence[int]) -> NDArray[np.float64]:
    """Return the features of structures, shape (n, ``mbtr_width``), the terms k1, k2, k3 one after another.

    H. Huo and M. Rupp, Mach. Learn.: Sci. Technol. 3, 045017 (2022), equation 5: for every combination of elements, the
    sum over its atoms, pairs or triples of a Gaussian around their geometry g (atomic number, inverse distance, cosine
    ...) times their weight w. Order, integration and conventions are those of dscribe 2.1 (L. Himanen et al., Comput.
    Phys. Commun. 247, 106949 (2020)): a point of the grid holds the Gaussian's mean over the interval around it, the
    pairs of elements follow the upper triangle row by row, triples Z1-Z2-Z3 (Z2 in the middle) Z2 by Z2.
    elements: atomic numbers, ascending; all that a pool has, so that its structures have equal features.
    Raises QuarryError for an element that is not in ``elements``, and for two atoms in the same place.
    """
    place = _places(structures, elements)
    features = np.empty((len(structures), mbtr_width(settings, len(elements))))
    start = 0
    for section in _sections(settings):
        stop = start + _channels(section, len(elements)) * section.grid.points
        rows = features[:, start:stop]
        if isinstance(section, MbtrElements):
            _k1(structures, section, elements, place, rows)
        elif isinstance(section, MbtrPairs):
            _k2(structures, section, elements, place, rows)
        else:
            _k3(structures, section, elements, place, rows)
        if not settings.normalize_gaussians:
            rows *= section.grid.sigma * np.sqrt(2.0 * np.pi)
        if settings.normalization == "l2":
            # A term with no pair within reach is zero and stays so.
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(float).tiny)
        elif settings.normalization == "n_atoms":
            rows /= np.maximum(np.diff(structures.offsets), 1)[:, None]
        start = stop
    return features


def check_elements(settings: Mbtr, elements: Sequence[int]) -> None:
    """Raise QuarryError if an atomic number is outside of k1's grid."""
    grid = settings.k1.grid if settings.k1 is not None else None
    if grid is not None and elements and not (grid.minimum <= min(elements) and max(elements) <= grid.maximum):
        raise QuarryError(
            f"descriptor.k1.grid: {grid.minimum} to {grid.maximum} does not hold the pool's elements "
            f"{', '.join(map(str, elements))}; widen it"
        )


def mbtr_width(settings: Mbtr, n_elements: int) -> int:
    """Return the number of features."""
    return sum(_channels(section, n_elements) * section.grid.points for section in _sections(settings))


def mbtr_within_reach(settings: Mbtr, n_elements: int, features: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which structures have pairs or triples that count, shape (n,); k1 says which atoms there are, not where.

    features: shape (n, ``mbtr_width``).
    """
    of_atoms = 0 if settings.k1 is None else _channels(settings.k1, n_elements) * settings.k1.grid.points
    return np.asarray(features[:, of_atoms:].any(axis=1))


def _sections(settings: Mbtr) -> list[MbtrElements | MbtrPairs | MbtrTriples]:
    return [section for section in (settings.k1, settings.k2, settings.k3) if section is not None]


def _channels(section: MbtrElements | MbtrPairs | MbtrTriples, n: int) -> int:
    if isinstance(section, MbtrElements):
        return n
    pairs = n * (n + 1) // 2
    return pairs if isinstance(section, MbtrPairs) else n * pairs


def _places(structures: StructureSet, elements: Sequence[int]) -> NDArray[np.int64]:
    """Return the place of every atom's element in ``elements``, shape (n_atoms_total,)."""
    known = np.asarray(elements, dtype=np.int64)
    place = np.searchsorted(known, structures.numbers)
    wrong = (place == len(known)) | (known[np.minimum(place, len(known) - 1)] != structures.numbers)
    if wrong.any():
        number = structures.numbers[int(np.argmax(wrong))]
        raise QuarryError(f"descriptor.kind: mbtr was made ready for the elements {list(elements)}, not for {number}")
    return place


def _pair_place(first: NDArray[np.int64], second: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return the place of unordered pairs of elements in the upper triangle."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    return high + low * n - low * (low + 1) // 2


def _k1(
    structures: StructureSet,
    section: MbtrElements,
    elements: Sequence[int],
    place: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    grid, n = section.grid, len(elements)
    owner = np.repeat(np.arange(len(structures)), np.diff(structures.offsets))
    counts = np.bincount(owner * n + place, minlength=len(structures) * n).reshape(-1, n)
    curves = np.zeros((n, grid.points))
    _smear(grid, np.arange(n), np.asarray(elements, dtype=float), np.ones(n), curves)
    out[:] = (counts[:, :, None] * curves).reshape(len(structures), -1)


def _k2(
    structures: StructureSet,
    section: MbtrPairs,
    elements: Sequence[int],
    place: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    for n_atoms, group in _by_size(structures):
        first, second = np.triu_indices(n_atoms, 1)
        for rows, atoms in _blocks(structures, group, n_atoms, len(first), out.shape[1], section.grid):
            kinds = place[atoms]
            channel = _pair_place(kinds[:, first], kinds[:, second], len(elements))
            distances = _distances(structures, rows, atoms, first, second)
            weights = _weights(section.weighting, distances)
            values = 1.0 / distances if section.geometry == "inverse_distance" else distances
            _sum_up(section.grid, channel, values, weights, rows, out)


def _k3(
    structures: StructureSet,
    section: MbtrTriples,
    elements: Sequence[int],
    place: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    n = len(elements)
    for n_atoms, group in _by_size(structures):
        low, high = np.triu_indices(n_atoms, 1)
        # Every atom in the middle of every pair of the others.
        middle = np.repeat(np.arange(n_atoms), len(low))
        first, last = np.tile(low, n_atoms), np.tile(high, n_atoms)
        proper = (middle != first) & (middle != last)
        first, middle, last = first[proper], middle[proper], last[proper]
        for rows, atoms in _blocks(structures, group, n_atoms, len(first), out.shape[1], section.grid):
            kinds = place[atoms]
            channel = _pair_place(kinds[:, first], kinds[:, last], n) + kinds[:, middle] * (n * (n + 1) // 2)
            side = partial(_distances, structures, rows, atoms)
            a, b, c = side(middle, first), side(middle, last), side(first, last)
            cosines = np.clip((a * a + b * b - c * c) / (2.0 * a * b), -1.0, 1.0)
            values = cosines if section.geometry == "cosine" else np.degrees(np.arccos(cosines))
            _sum_up(section.grid, channel, values, _weights(section.weighting, a + b + c), rows, out)


def _by_size(structures: StructureSet) -> list[tuple[int, NDArray[np.int64]]]:
    """Return (number of atoms, rows) of the structures, so that those of one size are computed together."""
    sizes = np.diff(structures.offsets)
    return [(int(size), np.flatnonzero(sizes == size)) for size in np.unique(sizes)]


def _blocks(
    structures: StructureSet, group: NDArray[np.int64], n_atoms: int, n_terms: int, width: int, grid: MbtrGrid
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return (rows, their atoms of shape (n_rows, n_atoms)) in blocks whose work arrays have a bounded size."""
    count = max(1, BLOCK_NUMBERS // max(1, width, n_terms * (_window(grid) + 1)))
    blocks = [group[start : start + count] for start in range(0, len(group), count)]
    return [(rows, structures.offsets[rows][:, None] + np.arange(n_atoms)) for rows in blocks]


def _distances(
    structures: StructureSet,
    rows: NDArray[np.int64],
    atoms: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
) -> NDArray[np.float64]:
    positions = structures.positions[atoms]
    distances = np.linalg.norm(positions[:, first] - positions[:, second], axis=2)
    if not np.all(distances > 0):
        bad = rows[int(np.argmax(np.any(~(distances > 0), axis=1)))]
        raise QuarryError(f"pool: structure {structures.ids[bad]} has two atoms in the same place; remove it")
    return distances


def _weights(weighting: Weighting, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights; 0 for what is left out. x: Angstrom."""
    if isinstance(weighting, ExponentialWeighting):
        weights = np.exp(-weighting.decay_per_A * x)
        weights[weights < weighting.threshold] = 0.0
        return weights
    if isinstance(weighting, InverseSquareWeighting):
        return np.where(x <= weighting.cutoff_A, 1.0 / x**2, 0.0)
    return np.ones_like(x)


def _sum_up(
    grid: MbtrGrid,
    channel: NDArray[np.int64],
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    rows: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    """Set rows of out to the sums of the Gaussians of their pairs or triples, arrays of shape (n_rows, n_terms)."""
    n_channels = out.shape[1] // grid.points
    cell = channel + n_channels * np.arange(len(rows))[:, None]
    counted = weights > 0
    sums = np.zeros((len(rows) * n_channels, grid.points))
    _smear(grid, cell[counted], values[counted], weights[counted], sums)
    out[rows] = sums.reshape(len(rows), -1)


def _window(grid: MbtrGrid) -> int:
    """Return over how many points a Gaussian reaches at most."""
    step = (grid.maximum - grid.minimum) / (grid.points - 1)
    return min(grid.points, 2 * int(np.ceil(REACH_SIGMAS * grid.sigma / step)) + 2)


def _smear(
    grid: MbtrGrid,
    cell: NDArray[np.int64],
    centres: NDArray[np.float64],
    weights: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Add to row ``cell`` of sums each Gaussian's mean over the interval around every point, times its weight."""
    step = (grid.maximum - grid.minimum) / (grid.points - 1)
    window = _window(grid)
    first = np.rint((centres - grid.minimum) / step - 0.5 * (window - 1))
    first = np.clip(first, 0, grid.points - window).astype(np.int64)
    left = grid.minimum + (first - 0.5) * step - centres
    edges = (left[:, None] + step * np.arange(window + 1)) / (grid.sigma * np.sqrt(2.0))
    areas = np.diff(erf(edges), axis=1)
    areas *= (0.5 / step * weights)[:, None]
    where = (cell * grid.points + first)[:, None] + np.arange(window)
    sums += np.bincount(where.ravel(), weights=areas.ravel(), minlength=sums.size).reshape(sums.shape)
