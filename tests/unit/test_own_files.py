"""What a start may change: files of the campaign's own folder, and nothing that a path, a link or a copy leads to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quarry.campaign.own_files import OwnFiles
from quarry.errors import QuarryError


@pytest.fixture
def own(tmp_path, monkeypatch) -> OwnFiles:
    """Campaign c with a file of its own; campaign b beside it."""
    monkeypatch.chdir(tmp_path)
    for name in ("b", "c"):
        Path(f"results/{name}/main").mkdir(parents=True)
        Path(f"results/{name}/campaign.json").write_text("{}")
        Path(f"results/{name}/main/data").write_text(name)
    return OwnFiles("results/c")


CHANGES = {
    "move_aside": lambda own, path: own.move_aside(path),
    "remove": lambda own, path: own.remove(path),
    "set_time": lambda own, path: own.set_time(path, 10**18),
    "rename away": lambda own, path: own.rename(path, "results/c/taken"),
    "rename onto": lambda own, path: own.rename("results/c/main/data", path),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("path", ["results/b/main/data", "results/c/../b/main/data", "results/c/link/data", "absolute"])
def test_nothing_outside_is_changed(own, tmp_path, change, path):
    Path("results/c/link").symlink_to("../b/main")
    path = str(tmp_path / "results/b/main/data") if path == "absolute" else path
    before = Path("results/b/main/data").stat()
    with pytest.raises(QuarryError, match="leads out of the campaign's folder results/c") as caught:
        CHANGES[change](own, path)
    assert "\n" not in str(caught.value)
    assert Path("results/b/main/data").read_text() == "b" and Path("results/c/main/data").read_text() == "c"
    after = Path("results/b/main/data").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert sorted(p.name for p in Path("results/b/main").iterdir()) == ["data"]


def test_its_own_files_are(own):
    own.set_time("results/c/main/data", 10**18)
    assert Path("results/c/main/data").stat().st_mtime_ns == 10**18
    assert own.move_aside("results/c/main/data") == Path("results/c/main/data.damaged")
    own.rename("results/c/main/data.damaged", "results/c/data")
    own.remove("results/c/data")
    own.remove("results/c/data")
    assert [p.name for p in own.walk()] == ["campaign.json"]


def test_a_results_folder_that_is_a_link(own):
    Path("results").rename("elsewhere")
    Path("results").symlink_to("elsewhere")
    own.set_time("results/c/main/data", 10**18)
    own.remove("results/c/main/data")
    assert not Path("elsewhere/c/main/data").exists()


def test_of_a_link_only_the_link_is_touched(own):
    link = Path("results/c/main/other")
    link.symlink_to("../../b/main/data")
    before = link.stat().st_mtime_ns
    own.set_time(link, 10**18)
    assert (link.lstat().st_mtime_ns, link.stat().st_mtime_ns) == (10**18, before)
    own.remove(link)
    assert Path("results/b/main/data").exists()


def test_a_hard_link_does_not_change_the_original(own):
    """cp -al"""
    link = Path("results/c/main/other")
    os.link("results/b/main/data", link)
    before = Path("results/b/main/data").stat().st_mtime_ns
    own.set_time(link, 10**18)
    assert link.stat().st_mtime_ns == 10**18 and link.read_text() == "b"
    assert Path("results/b/main/data").stat().st_mtime_ns == before


@pytest.mark.parametrize("target", ["../b/main", "../b/main/data", "../b"])
def test_a_link_into_another_campaign_is_refused(own, target):
    Path("results/c/pool").symlink_to(target)
    with pytest.raises(QuarryError, match=r"results/c/pool is a link into another campaign .*results/b"):
        list(own.walk())


def test_other_links_are_not_followed(own, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/file").touch()
    Path("results/c/pool").symlink_to(tmp_path / "disk")
    Path("results/c/again").symlink_to("main")
    assert {p.name for p in own.walk()} == {"campaign.json", "data"}


def test_a_folder_may_be_skipped(own):
    assert [p.name for p in own.walk(lambda folder: folder.name == "main")] == ["campaign.json"]


def test_the_clock_is_that_of_the_file_system(own, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert own.now_ns() > 10**18
    assert sorted(p.name for p in Path("results/c").iterdir()) == ["campaign.json", "main"]
