"""Where a key belongs that a section does not have: the nearest section of the campaign that has it."""

import pytest

from quarry.config import load_configuration
from quarry.errors import QuarryError
from support.dynamics import dynamics


def refusal(place: str, value: object) -> str:
    configuration = dynamics(test={"size": 10})
    section = configuration
    *where, key = place.split(".")
    for name in where:
        section = section.setdefault(name, {})
    section[key] = value
    with pytest.raises(QuarryError) as refused:
        load_configuration(configuration, "c.yaml")
    return str(refused.value).partition("unknown key; ")[2]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("pool.trajectories", "it belongs to the section pool.explore"),
        ("trajectories", "it belongs to the section pool.explore or uses.surface_hopping"),
        ("pool.explore.min_new_points", "it belongs to the section stop"),
        ("pool.explore.growth", "it belongs to the section pool"),
        ("pool.explore.strength", "it belongs to the section pool.explore.bias; or did you mean 'length_fs'?"),
        # Not another temperature without a word of this one.
        ("pool.temperature_K", "it belongs to the section pool.explore; or did you mean 'initial_temperature_K'?"),
        ("pool.explore.uses", "it belongs to no section: write it at the left margin"),
        # Of the file that the pool of this campaign is.
        ("pool.files", "it belongs to the section pool.initial"),
        ("stop.nothing_like_it", "known here: rrmse, patience"),
    ],
)
def test_a_key_in_the_wrong_place_is_told_where_it_belongs(place, words):
    assert refusal(place, 3).startswith(words)
