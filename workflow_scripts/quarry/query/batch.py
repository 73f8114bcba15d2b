"""How many structures an iteration labels."""

from __future__ import annotations

import math

from quarry.config.query import Batch, ConstantBatch, DoublingBatch


def batch_size(batch: Batch, iteration: int, n_train: int) -> int:
    """Return the number of structures to label in ``iteration`` (1, 2, ...).

    constant: N (Ghosh et al., arXiv:2408.11191, equation 2). doubling: 2^(t - 1) N, so that with N_init = N the
    training set has 2^t N structures after iteration t, which is what equation 1 and its learning curves (1k, 2k,
    4k ...) show. fraction: ceil(fraction * n_train), at least 1.
    n_train: size of the training set before this iteration. Raises ValueError for iteration 0, whose size is query.initial.
    """
    if iteration < 1:
        raise ValueError(f"iteration {iteration} has no batch of its own: iteration 0 is query.initial")
    if isinstance(batch, ConstantBatch):
        return batch.size
    if isinstance(batch, DoublingBatch):
        return 2 ** (iteration - 1) * batch.size
    # Rounded first: 0.07 * 100 is 7.000000000000001, which must not become 8.
    return max(1, math.ceil(round(batch.fraction * n_train, 9)))
