"""Merging labels of excited states: they are followed from one geometry on, and a list that lacks some is no label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quarry.campaign.batch_table import BatchRow, write_batch
from quarry.campaign.failure_table import read_failures
from quarry.labeling.record import write_records
from quarry.labeling.transition_orbitals import StateTransitionOrbitals, TransitionOrbitals
from quarry.labeling.wanted import Wanted
from quarry.spectra.states import swap_account
from support.iterations import POOL, Iteration, record

STATES = ("excitation_energies", "oscillator_strengths")
N_STATES = 3
WANTED = Wanted(STATES, N_STATES)


def transition_orbitals(order: tuple[int, ...] = (0, 1, 2)) -> dict:
    """States from the first s function to one of another three, in an order."""
    states = []
    for k in order:
        hole, electron = np.eye(4)[:1], np.eye(4)[k + 1 : k + 2]
        states.append(StateTransitionOrbitals(np.ones(1), np.zeros(1, dtype=int), hole, electron))
    return TransitionOrbitals((0, 0, 0, 0), tuple(states)).to_json()


class Spectral(Iteration):
    """An iteration with labels of excited states."""

    def fill_states(self, orders: dict[int, tuple[int, ...] | None], tests: tuple[int, ...] = ()) -> None:
        """orders: of each pool structure's states; None: a label without characters."""
        self.fill(list(orders), tests=tests)
        for number, order in orders.items():
            self.put(number, order)

    def put(self, number: int, order: tuple[int, ...] | None, n_states: int = N_STATES) -> None:
        energies = [5.0 + k + 0.01 * number for k in range(n_states)]
        states = {"excitation_energies": energies, "oscillator_strengths": [0.1] * n_states}
        plain = record(POOL[number])
        details = {} if order is None else {"characters": transition_orbitals(order)}
        label = replace(plain, properties={**plain.properties, **states}, details=details)
        write_records(self.folder / "labels" / f"{POOL[number].structure_id}.json", [label])

    def next(self) -> Spectral:
        following = Spectral(self.folder.parent, self.number + 1)
        following.previous = self
        return following


@pytest.fixture
def first(tmp_path) -> Spectral:
    return Spectral(tmp_path)


def test_states_are_tracked_from_the_first_training_label(first):
    first.fill_states({7: (1, 0, 2), 3: (0, 1, 2), 5: (2, 0, 1), 9: None}, tests=(7,))
    first.merge(wanted=WANTED)
    data = first.dataset
    assert data.state_reference == {"structure_id": POOL[3].structure_id, "characters": transition_orbitals()}
    # Of structure 5, the third state of the reference is the lowest.
    expected = [[1, 0, 2], [0, 1, 2], [1, 2, 0], [np.nan] * 3]
    assert np.array_equal(data.properties["state_order"], expected, equal_nan=True)
    assert data.properties["state_overlap"][:3] == pytest.approx(np.ones((3, 3)), abs=1e-3)
    assert np.isnan(data.properties["state_overlap"][3]).all()
    assert data.properties["excitation_energies"][2].tolist() == [5.05, 6.05, 7.05], "labels are as they were"
    account = swap_account(data, N_STATES)
    assert (account["labels"], account["swapped"], account["swapped_by_state"]) == (3, 2, [2, 2, 1])


def test_later_iterations_follow_the_same_reference(first):
    first.fill_states({0: (0, 1, 2), 1: (0, 1, 2)})
    first.merge()
    second = first.next()
    second.fill_states({4: (0, 2, 1), 2: (0, 1, 2)})
    second.merge()
    third = second.next()
    third.fill_states({6: (2, 1, 0)})
    third.merge()
    assert third.dataset.state_reference == first.dataset.state_reference
    orders = [[0, 1, 2], [0, 1, 2], [0, 2, 1], [0, 1, 2], [2, 1, 0]]
    assert third.dataset.properties["state_order"].tolist() == orders


def test_the_same_labels_give_the_same_bytes(first):
    first.fill_states({0: (0, 1, 2), 1: (1, 0, 2)})
    first.merge()
    second = first.next()
    second.fill_states({4: (0, 2, 1), 5: None})
    second.merge()
    before = (second.folder / "dataset.h5").read_bytes()
    second.labels = second.labels[::-1]
    second.merge()
    assert (second.folder / "dataset.h5").read_bytes() == before


def test_labels_without_characters_have_no_order(first):
    first.fill_states({0: None, 1: None})
    first.merge(wanted=WANTED)
    data = first.dataset
    assert data.state_reference is None and "state_order" not in data.properties and swap_account(data, 3) == {}


def test_a_reference_that_comes_late_is_that_of_the_later_labels(first):
    """The equilibrium failed, say, and the other labels of the first batch are for the test set."""
    first.fill_states({0: (1, 0, 2), 1: None, 2: (0, 1, 2)}, tests=(0, 2))
    first.merge()
    assert first.dataset.state_reference is None and "state_order" not in first.dataset.properties
    second = first.next()
    second.fill_states({4: (0, 2, 1), 5: (0, 1, 2)})
    second.merge()
    assert second.dataset.state_reference["structure_id"] == POOL[4].structure_id
    assert np.isnan(second.dataset.properties["state_order"][:3]).all()
    assert second.dataset.properties["state_order"][3:].tolist() == [[0, 1, 2], [0, 2, 1]]


def test_a_first_label_that_is_tried_again_is_followed_but_no_reference(first):
    first.fill_states({0: (1, 0, 2), 1: (0, 1, 2), 2: (0, 1, 2)})
    failed = record(POOL[0], "out_of_time")
    write_records(first.folder / "labels" / f"{POOL[0].structure_id}.json", [failed])
    first.merge(0.5)
    assert first.dataset.state_reference["structure_id"] == POOL[1].structure_id
    second = first.next()
    second.fill_states({0: (1, 0, 2)})
    key = f"{POOL[0].structure_id}_r1"
    write_batch(
        second.folder / "batch.csv", [BatchRow(POOL[0].structure_id, "train", key, retry_of=POOL[0].structure_id)]
    )
    path = second.folder / "labels" / f"{POOL[0].structure_id}.json"
    second.labels = [str(path.rename(path.with_name(f"{key}.json")))]
    second.merge()
    assert second.dataset.state_reference == first.dataset.state_reference
    assert second.dataset.properties["state_order"].tolist() == [[0, 1, 2], [0, 1, 2], [1, 0, 2]]


def test_a_label_of_the_store_with_too_few_states_counts_as_failed(first):
    """Another campaign without a spectrum, or with fewer states, has put it there as a good one."""
    first.fill_states({0: (0, 1, 2), 1: (0, 1, 2), 2: (0, 1, 2)})
    first.put(1, None, n_states=2)
    assert first.merge(0.5, WANTED) == "2 labels merged, 1 failed; 2 in all"
    [failure] = read_failures(first.folder / "failures.csv")
    assert (failure["structure_id"], failure["status"]) == (POOL[1].structure_id, "lacks_target")
    assert failure["message"] == "the label has 2 excited states where spectrum.n_states asks for 3"
    assert not np.isnan(first.dataset.properties["excitation_energies"]).any()
    assert first.merge(wanted=Wanted(STATES, 2)) == "3 labels merged, 0 failed; 3 in all"
