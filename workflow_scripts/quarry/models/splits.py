"""Splits that keep copies of one structure on one side."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from quarry.errors import QuarryError
from quarry.models.base import TrainingData
from quarry.structures import StructureSet
from quarry.structures.compositions import unfamiliar

ALL_COPIES = (
    "validation: all {n} training labels are of copies of one structure, so that none can validate the others; raise "
    "query.initial, or set filters.copies: leave_out"
)


def held_share(order: NDArray[np.int64], count: int, groups: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return which entries validate: the first ``count`` of an order, with all that are of their groups, shape (m,).

    order: a permutation of n entries. groups: shape (n,), equal numbers stay on one side; None: each entry is its own. A
    group that would leave nothing to learn from is passed over. Raises QuarryError if there is one group only.
    """
    if groups is None or len(np.unique(groups)) == len(groups):
        return order[:count]
    if len(np.unique(groups)) == 1:
        raise QuarryError(ALL_COPIES.format(n=len(groups)))
    held: list[int] = []
    for members in _groups_in(order, groups):
        if len(held) >= count:
            break
        if len(held) + len(members) < len(order):
            held += members
    return np.array(held, dtype=np.int64)


def random_share(data: TrainingData, share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return which labels are held out, ascending, shape (m,): a ``share`` (0 to 1) at random, at least one of two.

    Copies stay on one side. Raises QuarryError as ``held_share``.
    """
    held = max(1, round(share * len(data))) if len(data) > 1 else 0
    return np.sort(held_share(rng.permutation(len(data)), held, data.groups))


def of_known_elements(structures: StructureSet, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which of the ``chosen`` structures have no element that the others lack: a potential must learn every one."""
    rest = structures.subset(np.setdiff1d(np.arange(len(structures)), chosen))
    return chosen[~unfamiliar(rest, structures.subset(chosen), compositions=False)]


def lasting_share(
    ids: NDArray[np.str_], share: float, salt: int, groups: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Return which entries validate, shape (m,): some ``share`` (0 to 1) of them, of each the same whatever others there are.

    ids: of the entries, shape (n,); a digest of id and salt decides. groups: as in ``held_share``, the entry with the smallest
    digest decides. At least one entry of two, and never all.
    """
    digests = np.array([int(hashlib.sha256(f"{salt}:{name}".encode()).hexdigest()[:13], 16) / 16**13 for name in ids])
    if groups is not None:
        least = {group: digests[groups == group].min() for group in np.unique(groups)}
        digests = np.array([least[group] for group in groups])
    order = np.argsort(digests, kind="stable")
    limit = np.clip(share, digests[order[0]], np.nextafter(digests[order[-1]], 0.0))
    return np.flatnonzero(digests <= limit)


def last_share(learnt: int, groups: NDArray[np.int64] | None, n: int) -> NDArray[np.int64]:
    """Return which of n entries in sequence validate: those after the first ``learnt``, but no copies of these, shape (m,).

    groups: as in ``held_share``. Raises QuarryError if none is left.
    """
    rest = np.arange(learnt, n)
    if groups is None or not len(rest):
        return rest
    rest = rest[~np.isin(groups[rest], groups[:learnt])]
    if not len(rest):
        raise QuarryError(ALL_COPIES.format(n=n) if len(np.unique(groups)) == 1 else NO_NEW.format(n=n - learnt))
    return rest


NO_NEW = (
    "validation: the last {n} training labels are of copies of structures before them, so that none can validate; set "
    "validation.order: random, or filters.copies: leave_out"
)


def folds_of(order: NDArray[np.int64], count: int, groups: NDArray[np.int64] | None) -> list[NDArray[np.int64]]:
    """Return an order cut into ``count`` folds of about equal size, or fewer where there are fewer groups.

    order, groups: as in ``held_share``. Raises QuarryError if there is one group only, of several entries.
    """
    if groups is None or len(np.unique(groups)) == len(groups):
        return list(np.array_split(order, count))
    parts = _groups_in(order, groups)
    if len(parts) == 1:
        raise QuarryError(ALL_COPIES.format(n=len(groups)))
    folds: list[list[int]] = [[] for _ in range(min(count, len(parts)))]
    for members in parts:
        # The first of the smallest: every fold gets a group before one gets two.
        min(folds, key=len).extend(members)
    return [np.array(fold, dtype=np.int64) for fold in folds]


def _groups_in(order: NDArray[np.int64], groups: NDArray[np.int64]) -> list[list[int]]:
    """Return the members of each group, groups and members as they come in an order."""
    members: dict[int, list[int]] = {}
    for entry in order.tolist():
        members.setdefault(int(groups[entry]), []).append(entry)
    return list(members.values())
