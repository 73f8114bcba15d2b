"""What is doubtful about labels and predictions, in sentences: a reader must not have to find it in the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.stopping.facts import ratio_at_most

SAME_FEATURES = 1e-9
"""Features that differ by less than this, relative to their largest range, are the same."""

CONTRADICTION = 1e-3
"""Labels of the same features that differ by more than this share of the labels' standard deviation contradict each other."""

EXCITATION_FLOOR_EV = 0.1
"""Excitation energies below this are no excitations of a molecule, but another solution of the ground state, or a state that
is degenerate with it."""


def contradictory_duplicates(
    targets: NDArray[np.float64],
    features: NDArray[np.floating] | None = None,
    copies: NDArray[np.int64] | None = None,
) -> str | None:
    """Return a sentence if structures that are the same to the descriptor, or copies, have other labels, else None.

    targets: shape (n,) or (n, n_targets), in one unit. copies: shape (n,), equal numbers for copies of one structure.
    features: shape (n, d), where there are no copies: equal ones say which structures are the same.
    """
    values = targets.reshape(len(targets), -1)
    spread = values.std(axis=0)
    if len(values) < 2 or not spread.any():
        return None
    if copies is None:
        assert features is not None
        scale = float(np.ptp(features, axis=0).max(initial=0.0)) or 1.0
        keys = np.round((features - features.min(axis=0, initial=0.0)) / (scale * SAME_FEATURES)).astype(np.int64)
        _, groups = np.unique([hash(row.tobytes()) for row in keys], return_inverse=True)
    else:
        _, groups = np.unique(copies, return_inverse=True)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    gaps = np.maximum.reduceat(values[order], starts) - np.minimum.reduceat(values[order], starts)
    bad = (gaps > CONTRADICTION * spread).any(axis=1)
    if not bad.any():
        return None
    count = int(np.bincount(groups)[bad].sum())
    return (
        f"{count} training labels contradict each other: they are of {int(bad.sum())} structures that are the same to the "
        f"descriptor, and differ by up to {gaps[bad].max():.3g}"
    )


def constant_targets(targets: NDArray[np.float64]) -> str | None:
    """Return a sentence if all labels are one number, else None. targets: shape (n,), n > 1 to say anything."""
    if targets.ndim != 1 or len(targets) < 2 or np.ptp(targets) > 1e-12 * np.abs(targets).max():
        return None
    return f"all {len(targets)} training labels are the same ({targets[0]:.6g}): there is nothing to learn"


def no_better_than_the_mean(metric: str, errors: Mapping[str, Any]) -> str | None:
    """Return a sentence if RMSE / std may well be 1 or more, else None.

    metric: test, validation or cross_validation. errors: its dictionary, as ``Facts.errors`` holds it.
    """
    ratio, high = errors.get("rmse_over_std"), ratio_at_most(errors)
    if ratio is None or (high is not None and high < 1):
        return None
    if high is None:
        return (
            f"{errors.get('n', 'the')} {metric.replace('_', '-')} structures are too few to tell whether the model is "
            "better than the mean of the labels"
        )
    interval = f"up to {high:.2g}"
    return (
        f"the model is not better than the mean of the labels for all that the {metric.replace('_', '-')} error tells: its "
        f"RMSE is {ratio:.2g} of their std ({interval})"
    )


def low_excitations(energies: NDArray[np.float64], ids: NDArray[np.str_]) -> str | None:
    """Return a sentence if labels have excitation energies too low to be true, else None.

    energies: eV, shape (n, n_states), NaN for a state that is not there. ids: of the structures, shape (n,).
    """
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero((energies < EXCITATION_FLOOR_EV).any(axis=1))
    if not len(bad):
        return None
    lowest = float(np.nanmin(energies))
    return (
        f"{len(bad)} labels have an excitation energy below {EXCITATION_FLOOR_EV} eV (lowest {lowest:.3g} eV, first structure "
        f"{ids[bad[0]]}): a degenerate or unstable ground state, not an excitation"
    )
