"""labeling.store may change while jobs of a killed main process still work for the store before: nothing is paid twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from quarry.campaign.job import stores_before
from quarry.campaign.manifest import is_store_of, with_store
from quarry.config import load_configuration
from quarry.errors import QuarryError
from quarry.labeling.claims import Claims
from quarry.labeling.store import LabelStore
from support.campaigns import stand_in_configuration
from support.faults import damage
from support.scripted import METHOD, METHOD_ID, STRUCTURES, A, B, C, D, Desk, seconds_until

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


def moved(desk: Desk) -> Desk:
    """Return the campaign after its store was changed."""
    now = Desk(desk.folder)
    now.store = LabelStore(desk.folder / "another_store", METHOD_ID, METHOD)
    now.earlier, now.output = [desk.store], desk.folder / "now.json"
    return now


def test_a_job_that_works_for_the_store_before_is_waited_for(desk):
    """It ends with the label in hand, so that the others are not computed for both stores."""
    marker = desk.folder / "changed"
    desk.is_current = lambda: not marker.exists()
    job = FORK.Process(target=desk.label, args=({A: lambda: time.sleep(2)}, STRUCTURES[:2]))
    job.start()
    seconds_until(desk.began)
    marker.touch()
    now = moved(desk)
    found = now.label()
    job.join()
    assert job.exitcode == 1
    assert sorted(desk.began()) == sorted([A, B, C, D]) and all(r.ok for r in found)
    assert found[0] == desk.store.get(A) == now.store.get(A), "and it is in the new store too"


def test_a_job_whose_store_is_no_longer_the_campaigns_begins_nothing(desk):
    """Asked when it has the claim; what is known is taken all the same."""
    desk.label(structures=STRUCTURES[:1])
    held = []

    def is_current():
        held.append(Claims(desk.store.folder, 0.2).holder(B))
        return False

    desk.is_current = is_current
    with pytest.raises(QuarryError, match=f"{B}: the campaign has another label store now"):
        desk.label(structures=STRUCTURES[:2])
    assert desk.began() == [A] and held[0] is not None
    assert all(r.ok for r in desk.label(structures=STRUCTURES[:1]))


def test_labels_of_the_store_before_are_not_paid_again(desk):
    desk.label(structures=STRUCTURES[:2])
    now = moved(desk)
    now.label()
    assert desk.began() == [A, B, C, D] and now.store.get(B) == desk.store.get(B)


def test_a_dead_claim_in_the_store_before_holds_nothing(desk):
    """On this host at once; of another host after six heartbeats, also where nobody can touch it any more."""
    for structure_id, changes in ((A, {"ticks": "1"}), (B, {"host": "elsewhere"})):
        claim = Claims(desk.store.folder, 0.2).acquire(structure_id)
        assert claim is not None
        claim.path.write_text(json.dumps({**json.loads(claim.path.read_text()), **changes}))
    before = sorted((desk.store.folder / "claims").rglob("*.json"))
    now = moved(desk)
    began = time.monotonic()
    now.label()
    assert desk.began() == [A, C, D, B] and time.monotonic() - began > 6 * 0.2
    assert sorted((desk.store.folder / "claims").rglob("*.json")) == before, "it takes nothing there"


def test_silence_counts_in_a_store_before_that_cannot_be_written(desk, monkeypatch):
    claim = Claims(desk.store.folder, 0.2).acquire(A)
    assert claim is not None
    claim.path.write_text(json.dumps({**json.loads(claim.path.read_text()), "host": "elsewhere"}))
    utime = os.utime

    def refuse(path, *arguments):
        if Path(path).is_relative_to(desk.store.folder):
            raise OSError(30, "Read-only file system")
        utime(path, *arguments)

    monkeypatch.setattr(os, "utime", refuse)
    moved(desk).label()
    assert sorted(desk.began()) == sorted([A, B, C, D])


def test_a_damaged_record_there_is_left_alone_and_paid_again(desk):
    desk.label(structures=STRUCTURES[:1])
    bad = damage(desk.store.path(A), "truncated")
    moved(desk).label()
    assert desk.began() == [A, A, B, C, D] and desk.store.path(A).read_bytes() == bad


def test_the_manifest_remembers_every_store_that_is_still_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("second")
    manifest = {"method_id": METHOD_ID, "method": METHOD}
    for store in ("first", "gone", "second", str(tmp_path / "first"), "link"):
        manifest = with_store(manifest, store)
    assert manifest["stores"] == ["gone", "first", "second"]
    outside = str(tmp_path.parent / "shared")
    assert with_store(manifest, outside)["stores"] == ["gone", "first", "second", outside]
    settings = stand_in_configuration()

    def before(store: str) -> list[Path]:
        settings["labeling"]["store"] = store
        return [s.folder for s in stores_before(load_configuration(settings, "x"), manifest)]

    path = tmp_path / "campaign.json"
    path.write_text(json.dumps(manifest))
    assert is_store_of(path, tmp_path / "second") and not is_store_of(path, tmp_path / "first")
    back = with_store(manifest, "first")["stores"]
    assert back == ["gone", "second", "first"]
    earlier = {**manifest, "stores": [str(tmp_path / name) for name in ("gone", "first", "second")]}
    assert with_store(earlier, "link")["stores"] == [str(tmp_path / "gone"), str(tmp_path / "first"), "second"]
    for text in ("{}", "[", "[]"):
        path.write_text(text)
        assert is_store_of(path, tmp_path / "first")
    assert is_store_of(tmp_path / "absent", tmp_path / "first")
    assert before("third") == [tmp_path / "first" / METHOD_ID, tmp_path / "second" / METHOD_ID]
    assert before("link") == [tmp_path / "first" / METHOD_ID] == before("second")
    assert stores_before(load_configuration(settings, "x"), {"method_id": METHOD_ID, "method": METHOD}) == []
