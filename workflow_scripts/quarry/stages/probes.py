"""Which structures are labelled to forecast the cost of a campaign that has no labels yet."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import numpy as np

from quarry.campaign.batch_table import BatchRow
from quarry.config.campaign import Configuration
from quarry.errors import QuarryError
from quarry.labeling.store import LabelStore
from quarry.randomness import generator
from quarry.stages.batch import draw_initial
from quarry.structures import Structure
from quarry.structures.files import read_pool


def choose_probes(
    configuration: Configuration,
    structures: str,
    store: LabelStore,
    is_given: Callable[[Structure], bool] = lambda structure: False,
) -> list[BatchRow]:
    """Return rows of the first batch, spread over its sizes, whose labels are to show the cost.

    If the store has enough of the batch's labels, they are taken from those, and nothing is computed. is_given: whether the
    user has the label of a structure (``labeling.known``): it costs nothing and shows nothing. Where the whole batch is given,
    structures of the rest of the pool are taken, drawn as a later batch may be.
    """
    rows, wanted = draw_initial(configuration, structures), configuration.forecast.probes
    pool = read_pool(structures)
    places = pool.index_of([row.structure_id for row in rows])
    rows = [row for row, place in zip(rows, places.tolist(), strict=True) if not is_given(pool[place])]
    if not rows:
        drawn = generator(configuration.seed, "forecast", "probes").permutation(len(pool))
        others = (pool[int(i)] for i in drawn)
        rows = [
            BatchRow(s.structure_id, "train", s.structure_id)
            for s in islice((s for s in others if not is_given(s)), wanted)
        ]
    if not rows:
        raise QuarryError("forecast: all labels of the pool are given (labeling.known); there is nothing to pay")
    known = [row for row in rows if store.get(row.structure_id) is not None]
    candidates = known if len(known) >= wanted else rows
    electrons = [pool[int(i)].electrons for i in pool.index_of([row.structure_id for row in candidates])]
    order = np.argsort(electrons, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(wanted, len(order))).round().astype(int))
    return [candidates[order[place]] for place in places]
