"""The page on dynamics says the defaults that the program has."""

import re

import yaml

from quarry.config import load_configuration
from quarry.config.dynamics import DEFAULTS
from support.campaigns import REPOSITORY

PAGE = (REPOSITORY / "docs" / "dynamics.md").read_text()


def test_the_shortest_campaign_has_the_defaults_of_the_table():
    block = re.search("```yaml\n(name: water\n.*?)```", PAGE, re.DOTALL)
    assert block is not None
    assert len(block[1].splitlines()) == 3
    configuration = load_configuration(yaml.safe_load(block[1]), "the page")
    rows = dict(re.findall(r"^\| `(\w+)` \| `(.*)` \|$", PAGE, re.MULTILINE))
    said = {key: yaml.safe_load(value) for key, value in rows.items()}
    assert said == DEFAULTS
    explore = configuration.pool.explore
    assert (explore.trajectories, explore.length_fs, explore.time_step_fs) == (100, 1000.0, 0.5)
    assert (explore.temperature_K, explore.ensemble) == ([300.0, 300.0], "nve")
    assert (explore.uncertainty, explore.threshold) == ("energy", "first")
    assert configuration.pool.initial_pool.temperature_K == 500.0
    assert (configuration.pool.grows_by.points, configuration.pool.grows_by.gain) == (5, 0.1)
    assert configuration.model.has_auxiliary


def test_whole_campaigns_of_the_page_are_valid():
    blocks = re.findall("```yaml\n(name: .*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        configuration = load_configuration(yaml.safe_load(block), "the page")
        assert configuration.pool.source == "dynamics"
