"""A data set divided into training, validation and test labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.errors import QuarryError
from quarry.models.splits import last_share, lasting_share, of_known_elements
from quarry.structures.copies import copy_groups
from quarry.structures.frames import reference_atoms
from quarry.structures.labelled import LabelledSet

TRAIN, VALIDATION, TEST = PARTS = ("train", "validation", "test")
COPY_OF_TEST, LEFT_OUT = "copy_of_test", "left_out"
"""What is in no part: a training label of a copy of a test structure, and labels that ``labeling.leave_out`` names."""


@dataclass(frozen=True)
class SplitRule:
    """How training labels are divided.

    share: of them that validates, 0 to 1. order: random, or sequence (the last ones validate). seed: the campaign's.
    copy_tolerance_A: by how much an atom of a copy may be off, Angstrom.
    """

    share: float = 0.2
    order: str = "random"
    seed: int = 0
    copy_tolerance_A: float = 1e-4

    @staticmethod
    def of_identity(identity: Mapping[str, Any]) -> SplitRule:
        """Return the rule of a campaign by its identity (``Configuration.identity``), in which earlier versions have fewer keys.

        The share is that which its model holds out (``model.held_out``), else ``validation.fraction``.
        """
        validation, model, filters = (identity.get(name) or {} for name in ("validation", "model", "filters"))
        usual = SplitRule()
        return SplitRule(
            share=float(model.get("held_out") or validation.get("fraction", usual.share)),
            order=validation.get("order", usual.order),
            seed=int(identity.get("seed", usual.seed)),
            copy_tolerance_A=float(filters.get("copy_tolerance_A", usual.copy_tolerance_A)),
        )


def split_of(labelled: LabelledSet, rule: SplitRule) -> NDArray[np.str_]:
    """Return the part of each label, shape (n,): train, validation, test, copy_of_test or left_out.

    Test labels are the campaign's. Whether a training label validates depends on its id and the seed alone, so that it stays on
    its side when labels are added; with order sequence, on when it was labelled. Copies are on one side; a structure with an
    element that no other training label has, and a free atom that is a reference, are learnt.
    """
    parts = np.where(labelled.used, labelled.roles, LEFT_OUT).astype("<U12")
    groups = np.arange(len(labelled))
    if labelled.structures.features is None:
        groups, _, _ = copy_groups(list(labelled.structures), rule.copy_tolerance_A)
    parts[(parts == TRAIN) & np.isin(groups, groups[parts == TEST])] = COPY_OF_TEST
    rows = np.setdiff1d(np.flatnonzero(parts == TRAIN), sorted(reference_atoms(labelled)))
    parts[rows[_held(labelled, rows, groups[rows], rule)]] = VALIDATION
    return parts


def _held(
    labelled: LabelledSet, rows: NDArray[np.int64], groups: NDArray[np.int64], rule: SplitRule
) -> NDArray[np.int64]:
    """Return which of the training labels at rows validate. groups: of the rows, equal numbers for copies."""
    if len(np.unique(groups)) < 2:
        return np.zeros(0, dtype=np.int64)
    structures = labelled.structures.subset(rows)
    if rule.order == "sequence":
        try:
            return last_share(max(1, int((1 - rule.share) * len(rows))), groups, len(rows))
        except QuarryError:
            # All of the last ones are copies of earlier ones.
            return np.zeros(0, dtype=np.int64)
    held = lasting_share(structures.ids, rule.share, rule.seed, groups)
    return held if structures.features is not None else of_known_elements(structures, held)
