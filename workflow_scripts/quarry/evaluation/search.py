"""How well a model distinguishes structures in the wanted range from the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def in_range(values: NDArray[np.float64], minimum: float, maximum: float) -> NDArray[np.bool_]:
    """Return which values, shape (n,), lie in the open range, shape (n,); NaN does not."""
    return (values > minimum) & (values < maximum)


def classification_rates(
    label: NDArray[np.float64], mean: NDArray[np.float64], minimum: float, maximum: float
) -> dict[str, float | int | None]:
    """Return TPR = TP / P and FPR = FP / N of "predicted in range", and the counts behind them.

    Ghosh et al., arXiv:2408.11191, equation 8, where the numerator of FPR is misprinted as FN. label, mean: shape (n,).
    positives, negatives: structures in range and not; a rate whose denominator is zero is None.
    """
    wanted, predicted = in_range(label, minimum, maximum), in_range(mean, minimum, maximum)
    positives, negatives = int(wanted.sum()), int((~wanted).sum())
    true_positives, false_positives = int((wanted & predicted).sum()), int((~wanted & predicted).sum())
    return {
        "positives": positives,
        "negatives": negatives,
        "true_positives": true_positives,
        "false_positives": false_positives,
        "tpr": true_positives / positives if positives else None,
        "fpr": false_positives / negatives if negatives else None,
    }
