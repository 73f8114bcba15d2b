"""Streams depend on the seed and the purpose only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.randomness import generator

PARTS = st.text(st.characters(codec="utf-8", exclude_characters="\x1f"), min_size=1) | st.integers(0, 9)
PURPOSE = st.lists(PARTS, max_size=4)


@given(st.integers(0, 2**40), PURPOSE)
def test_the_same_purpose_gives_the_same_stream_whatever_was_drawn_before(seed, purpose):
    first = generator(seed, *purpose).random(4)
    generator(seed, "something else").random(3)
    np.random.default_rng(seed).random(3)
    assert np.array_equal(generator(seed, *purpose).random(4), first)


@given(st.integers(0, 2**40), PURPOSE, st.integers(0, 2**40), PURPOSE)
def test_another_seed_or_purpose_gives_another_stream(seed, purpose, other_seed, other_purpose):
    same = seed == other_seed and list(map(str, purpose)) == list(map(str, other_purpose))
    equal = np.array_equal(generator(seed, *purpose).random(4), generator(other_seed, *other_purpose).random(4))
    assert equal == same


def test_parts_of_the_purpose_do_not_run_together():
    assert generator(1, "ab", "c").random() != generator(1, "a", "bc").random()
    assert generator(1, "main", 11).random() != generator(1, "main", 1, 1).random()


def test_the_streams_are_those_of_all_earlier_campaigns():
    """A change here would draw other batches for every existing campaign."""
    assert generator(7, "main", 3, "propose").integers(10**9, size=3).tolist() == [156699194, 794089714, 520933171]
    assert generator(0).integers(10**9, size=2).tolist() == [806117135, 407249496]


def test_neighbouring_streams_are_uncorrelated():
    """Of 200 iterations and 4,000 numbers each: correlations of the size that independence gives, 1/sqrt(4000)."""
    streams = np.array([generator(7, "main", t, "propose").standard_normal(4000) for t in range(200)])
    correlations = np.corrcoef(streams)[np.triu_indices(200, 1)]
    assert np.std(correlations) == pytest.approx(1 / np.sqrt(4000), rel=0.05)
    assert np.max(np.abs(correlations)) < 6 / np.sqrt(4000)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="non-negative"):
        generator(-1, "x")
