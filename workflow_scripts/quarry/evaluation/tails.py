"""Few structures that carry the squared error: an RMSE of heavy tails."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FEW = 0.03
"""Share of the structures: half of the squared error takes about 13 % of them for normal errors, 7 % for Laplace."""
SMALL, MOST = 30, 0.9
"""Of fewer structures than SMALL one carries half by chance (Laplace, n = 10: 39 %); MOST it seldom does (1 %)."""
NAMED = 3


def carriers(errors: NDArray[np.float64], part: float = 0.5) -> NDArray[np.intp]:
    """Return the indices of the fewest structures that carry a part of the squared error, the largest error first.

    errors: shape (n,), or (n, n_quantities), whose squares count in units of each quantity's mean square. Empty if there
    is no error at all.
    """
    squares = _squares(errors)
    if not squares.any():
        return np.zeros(0, dtype=np.intp)
    order = np.argsort(-squares, kind="stable")
    carried = np.cumsum(squares[order])
    return order[: int(np.searchsorted(carried, part * carried[-1] * (1 - 1e-12))) + 1]


def error_share(errors: NDArray[np.float64], chosen: NDArray[np.bool_]) -> float:
    """Return the share of the squared error that the chosen structures carry; errors as in ``carriers``, chosen: shape (n,)."""
    squares = _squares(errors)
    total = float(squares.sum())
    return float(squares[chosen].sum()) / total if total else 0.0


def heavy_tail_warning(errors: NDArray[np.float64], ids: Sequence[str], metric: str = "test") -> str | None:
    """Return a sentence where at most max(1, 3 %) of the structures carry half of the squared error, else None.

    Of fewer than 30 structures one must carry 90 %.

    ids: of the structures, in the order of the errors. metric: test, validation or cross_validation.
    """
    size = len(errors)
    few = carriers(errors, 0.5 if size >= SMALL else MOST)
    if not len(few) or len(few) > max(1, FEW * size):
        return None
    squares = _squares(errors)
    share = squares[few].sum() / squares.sum()
    named = ", ".join(str(ids[i]) for i in few[:NAMED])
    if len(few) > NAMED:
        named += f" and {len(few) - NAMED} more"
    one = len(few) == 1
    return (
        f"{len(few)} of {size} {metric.replace('_', '-')} structures {'carries' if one else 'carry'} "
        f"{100 * share:.0f} % of the squared error: the RMSE is {'that structure' if one else 'those structures'}'"
        f"{'s' if one else ''} ({'id' if one else 'ids'} {named})"
    )


def _squares(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared error of each structure, shape (n,); quantities in units of their mean square."""
    squares = np.square(errors.reshape(len(errors), -1))
    squares = squares[:, squares.any(axis=0)]
    return (squares / squares.mean(axis=0)).sum(axis=1) if squares.size else np.zeros(len(errors))
