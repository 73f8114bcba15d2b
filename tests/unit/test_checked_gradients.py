"""Gradients of own uncertainties that a bias cannot follow."""

from __future__ import annotations

import numpy as np
import pytest

from quarry.errors import QuarryError
from quarry.models.base import UncertaintyGradient
from quarry.models.own_checks import checked_gradient
from quarry.structures import Structure, StructureSet


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "must be an UncertaintyGradient, as its uncertainty_gradients promise, not NoneType"),
        (UncertaintyGradient(np.zeros((2, 3))), r"by_positions has shape (2, 3)"),
        (UncertaintyGradient(np.full((4, 3), np.nan)), "by_positions is not finite everywhere"),
        (UncertaintyGradient(np.zeros((4, 3)), np.zeros((2, 3))), "by_strain has shape (2, 3)"),
    ],
)
def test_a_gradient_that_a_bias_cannot_follow_is_named(given, words):
    pair = StructureSet.from_structures(
        [Structure.create([1, 1], np.array([[0, 0, 0], [0, 0, z]])) for z in (0.7, 0.8)]
    )
    with pytest.raises(QuarryError) as refused:
        checked_gradient(given, pair, "model.kind: mine:Model: std_gradient")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    # Molecules have no strain.
    fine = checked_gradient(UncertaintyGradient(np.ones((4, 3)), np.full((2, 3, 3), np.nan)), pair, "")
    np.testing.assert_array_equal(fine.by_strain, np.zeros((2, 3, 3)))
