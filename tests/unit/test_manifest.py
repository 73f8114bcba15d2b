"""The manifest: results are never continued by another configuration, and the message says what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quarry import __version__
from quarry.campaign.manifest import (
    MANIFEST_FORMAT,
    compare,
    differences,
    is_store_of,
    joined,
    make_manifest,
    read_manifest,
    save,
    shown,
    with_store,
)
from quarry.config import load_configuration
from quarry.errors import QuarryError
from support.campaigns import stand_in_configuration

RANDOM = {"random": {"query": {"strategy": "random"}}}
METHOD = {"engine": "function", "function": "stand_in:morse", "arguments": {"version": 1}}


def manifest(inputs: dict[str, str] | None = None, method: dict[str, Any] | None = None, **changes: Any) -> dict:
    identity = load_configuration(stand_in_configuration(**changes), "campaign.yaml").identity()
    return make_manifest(identity, inputs or {"pool.extxyz": "aa"}, method or METHOD, "0123")


def from_disk(tmp_path, found: dict) -> dict:
    save(tmp_path / "campaign.json", found)
    read = read_manifest(tmp_path / "campaign.json")
    assert read is not None
    return read


def difference(tmp_path, old: dict, new: dict) -> str:
    """The message of the comparison, empty if there is none."""
    try:
        compare(tmp_path / "campaign.json", from_disk(tmp_path, old), new)
    except QuarryError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


def test_round_trip(tmp_path):
    found = manifest()
    assert from_disk(tmp_path, found) == found


def test_every_campaign_has_its_own_id():
    assert manifest()["campaign_id"] != manifest()["campaign_id"]


def test_the_same_configuration_goes_on(tmp_path):
    assert difference(tmp_path, manifest(arms=RANDOM), manifest(arms=RANDOM)) == ""


def test_changed_stop_rules_and_resources_go_on(tmp_path):
    later = manifest(stop={"rrmse": 0.2, "max_labels": 30}, resources={"label": {"threads": 4}})
    assert difference(tmp_path, manifest(), later) == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 4}, "seed (3 there, 4 now)"),
        ({"target": "gap"}, 'target ("energy" there, "gap" now)'),
        ({"test": {"size": 4}}, "test.size (3 there, 4 now)"),
        ({"descriptor": {"kind": "coulomb_matrix"}}, 'descriptor.kind ("inverse_distances" there,'),
        ({"model": {"noise": 0.5}}, "model.noise (null there, 0.5 now)"),
        ({"stop": {"max_iterations": 2, "metric": "validation"}}, 'stop.metric ("test" there, "validation" now)'),
        (
            {"pool": {"source": "file", "files": ["b.extxyz"]}},
            'pool.files.0.path ("pool.extxyz" there, "b.extxyz" now)',
        ),
        (
            {
                "query": {
                    "strategy": "uncertainty_clusters",
                    "initial": 3,
                    "batch": {"schedule": "fraction", "fraction": 0.5},
                }
            },
            "query.batch.fraction (absent there, 0.5 now)",
        ),
    ],
)
def test_what_differs_is_named_with_both_values(tmp_path, changes, words):
    if changes.get("stop", {}).get("metric") == "validation":
        changes = {
            **changes,
            "query": {"strategy": "random", "initial": 10, "batch": {"schedule": "constant", "size": 3}},
        }
    message = difference(tmp_path, manifest(), manifest(**changes))
    assert words in message
    assert message.startswith(f"{tmp_path} was made by another configuration: ")
    assert "give this campaign another name, or put the configuration back" in message


def test_another_content_of_an_input(tmp_path):
    message = difference(tmp_path, manifest(), manifest(inputs={"pool.extxyz": "bb"}))
    assert "content of pool.extxyz;" in message


def test_another_resolved_method(tmp_path):
    """The nickname of a functional may resolve differently in another version."""
    message = difference(tmp_path, manifest(), manifest(method={**METHOD, "arguments": {"version": 2}}))
    assert "resolved method arguments.version (1 there, 2 now)" in message


def test_many_differences_are_counted(tmp_path):
    changes = {"seed": 4, "target": "gap", "test": {"size": 4}, "model": {"noise": 0.5, "criterion": "likelihood"}}
    message = difference(tmp_path, manifest(), manifest(inputs={"pool.extxyz": "bb"}, **changes))
    assert message.count("there,") == 4 and "and 2 more" in message


def test_a_key_that_means_nothing_any_more_is_no_difference(tmp_path):
    """A campaign of an earlier version, whose models had a number of restarts, goes on."""
    old, new = manifest(), manifest()
    old["identity"]["model"]["restarts"] = 2
    old["identity"]["arms"] = {"a": {"model": {"restarts": 5, "noise": 0.1}}}
    new["identity"]["arms"] = {"a": {"model": {"noise": 0.1}}}
    assert difference(tmp_path, old, new) == ""


class TestArms:
    def test_a_further_arm_may_be_added(self, tmp_path):
        later = {**RANDOM, "other": {"seed": 9}}
        assert difference(tmp_path, manifest(arms=RANDOM), manifest(arms=later)) == ""

    def test_the_first_arm_may_be_added(self, tmp_path):
        assert difference(tmp_path, manifest(), manifest(arms=RANDOM)) == ""

    def test_an_arm_may_be_left_out_and_is_not_forgotten(self, tmp_path):
        assert difference(tmp_path, manifest(arms=RANDOM), manifest()) == ""
        kept = joined(manifest(arms=RANDOM), manifest())
        assert (
            kept["identity"]
            == joined(manifest(), manifest(arms=RANDOM))["identity"]
            == manifest(arms=RANDOM)["identity"]
        )

    def test_a_changed_value_of_an_arm_is_refused(self, tmp_path):
        later = {"random": {"query": {"strategy": "clusters"}}}
        message = difference(tmp_path, manifest(arms=RANDOM), manifest(arms=later))
        assert 'arms.random.query.strategy ("random" there, "clusters" now)' in message

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (RANDOM, {"random": {"query": {"strategy": "random", "batch": {"size": 9}}}}),
            ({"a": {"model": {"noise": 0.5}}}, {"a": {"model": {"noise": 0.5, "criterion": "likelihood"}}}),
        ],
    )
    def test_a_new_key_of_an_arm_that_is_there_is_refused(self, tmp_path, before, after):
        assert "arms." in difference(tmp_path, manifest(arms=before), manifest(arms=after))


class TestFile:
    def test_no_manifest(self, tmp_path):
        assert read_manifest(tmp_path / "campaign.json") is None

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", "{}", '{"identity": {}}', "\xff"])
    def test_a_damaged_manifest_is_one_line(self, tmp_path, text):
        (tmp_path / "campaign.json").write_text(text, encoding="latin-1")
        with pytest.raises(QuarryError, match=r"campaign\.json: the campaign's manifest is damaged") as caught:
            read_manifest(tmp_path / "campaign.json")
        assert "\n" not in str(caught.value) and "backup" in str(caught.value)

    def test_every_truncation_is_seen(self, tmp_path):
        save(tmp_path / "campaign.json", manifest())
        whole = (tmp_path / "campaign.json").read_bytes()
        assert json.loads(whole)["format"] == 1
        for length in range(0, len(whole) - 1, 7):
            (tmp_path / "campaign.json").write_bytes(whole[:length])
            with pytest.raises(QuarryError, match="damaged"):
                read_manifest(tmp_path / "campaign.json")


class TestManifestOfAnEarlierVersion:
    """It lacks a key that this version knows."""

    def check(self, tmp_path, old, **changes):
        configuration = load_configuration(stand_in_configuration(**changes), "campaign.yaml")
        new = make_manifest(configuration.identity(), {"pool.extxyz": "aa"}, METHOD, "0123")
        compare(tmp_path / "campaign.json", from_disk(tmp_path, old), new, configuration.identity(with_defaults=False))

    def test_a_key_at_its_default_goes_on(self, tmp_path):
        old = manifest()
        del old["identity"]["filters"]
        self.check(tmp_path, old)

    def test_a_key_that_is_given_does_not(self, tmp_path):
        old = manifest()
        del old["identity"]["filters"]
        with pytest.raises(QuarryError, match="filters"):
            self.check(tmp_path, old, filters={"near_duplicates": 0.1})


class TestStores:
    def test_the_last_one_is_in_use(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        found = with_store(with_store({"name": "a"}, "one"), tmp_path.parent / "two")
        assert found == {"name": "a", "stores": ["one", str(tmp_path.parent / "two")]}
        again = with_store(found, tmp_path / "one")
        assert again["stores"] == [str(tmp_path.parent / "two"), "one"], "a store that is used again is the last one"
        save("campaign.json", again)
        assert is_store_of("campaign.json", tmp_path / "one") and is_store_of("campaign.json", Path("one"))
        assert not is_store_of("campaign.json", tmp_path.parent / "two")

    @pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"stores": []}'])
    def test_a_manifest_that_says_nothing_takes_no_store_away(self, tmp_path, text):
        if text is not None:
            (tmp_path / "campaign.json").write_text(text)
        assert is_store_of(tmp_path / "campaign.json", tmp_path / "store")


def test_four_differences_are_shown_and_the_others_counted():
    assert shown(list("abcd")) == "a; b; c; d"
    assert shown(list("abcde")) == "a; b; c; d and 1 more"


def test_an_empty_section_is_a_difference(tmp_path):
    old, new = manifest(), manifest()
    old["identity"]["labeling"] = {**old["identity"]["labeling"], "arguments": {"fail": ["a"]}}
    new["identity"]["labeling"] = {**new["identity"]["labeling"], "arguments": {}}
    assert "arguments" in difference(tmp_path, old, new)


def test_a_retired_key_hides_no_difference_behind_it():
    old, new = manifest(), manifest(seed=4)
    old["identity"]["model"]["restarts"] = 10
    [found] = differences(old, new)
    assert found.startswith("seed ") and "restarts" not in found


def test_who_made_it_stands_in_it():
    found = manifest()
    assert found["quarry"] == __version__ and found["format"] == MANIFEST_FORMAT and found["created"].startswith("20")
