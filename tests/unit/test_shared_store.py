"""Several users on one label store, with the umask of each."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quarry.campaign.folders import check_store
from quarry.errors import QuarryError
from quarry.labeling.claims import Claims
from quarry.labeling.sharing import check_rights
from quarry.labeling.store import LabelStore
from support.stages import METHOD_ID, label_record

FORK = multiprocessing.get_context("fork")
ALICE, BOB, CHEMISTS, OWN = 40001, 40002, 40010, 40020
IDS = [f"{number:02x}" + "0" * 18 for number in range(3)]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user reaches, in which ALICE may write."""
    if os.geteuid() != 0:
        pytest.skip("to be another user needs root")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    os.chown(folder, ALICE, OWN)
    yield folder
    shutil.rmtree(folder)


def as_user(user: int, groups: list[int], umask: int, act: Callable[[], Any]) -> Any:
    """Do something as another user; return what came of it, or the message of its error."""
    answers = FORK.SimpleQueue()

    def be() -> None:
        os.setgroups(groups)
        os.setgid(groups[0])
        os.setuid(user)
        os.umask(umask)
        try:
            answers.put(act())
        except QuarryError as error:
            answers.put(str(error))

    process = FORK.Process(target=be)
    process.start()
    process.join()
    assert process.exitcode == 0
    return answers.get()


def campaign(root: Path, ids: list[str], release: bool = True) -> Callable[[], str]:
    """What a campaign does with a store, from its check before the start on."""

    def act() -> str:
        check_store(str(root), look=True)
        check_rights(root, METHOD_ID)
        check_store(str(root))
        store = LabelStore(root, METHOD_ID, {})
        for structure_id in ids:
            claim = Claims(store.folder, 20.0).acquire(structure_id)
            if claim is None:
                return "held"
            if store.get(structure_id) is None and release:
                store.put(label_record(structure_id, host=str(os.getuid())))
            assert claim.beat()
            claim.release()
        return " ".join(store.get(i).host if store.get(i) else "none" for i in ids)

    return act


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077], ids=oct)
@pytest.mark.parametrize("mode", [0o2775, 0o2770, 0o775, 0o777], ids=oct)
def test_a_folder_that_a_group_can_write_is_shared_whatever_the_umasks(place, umask, mode):
    root = place / "label_store"
    root.mkdir()
    os.chown(root, 0, CHEMISTS)
    root.chmod(mode)
    groups = [OWN, CHEMISTS]
    # Her second label has a claim that was given up, his own second one too.
    assert as_user(ALICE, groups, umask, campaign(root, IDS[:1])) == str(ALICE)
    assert as_user(ALICE, groups, umask, campaign(root, IDS[1:2], release=False)) == "none"
    assert as_user(BOB, [OWN + 1, CHEMISTS], 0o077, campaign(root, IDS)) == f"{ALICE} {BOB} {BOB}"
    assert as_user(ALICE, groups, umask, campaign(root, IDS)) == f"{ALICE} {BOB} {BOB}"
    for path in [p for p in root.rglob("*") if not p.is_symlink()]:
        state = path.stat()
        assert state.st_gid == CHEMISTS, path
        wanted = 0o2770 if path.is_dir() else 0o040
        assert state.st_mode & wanted == wanted, (path, stat.filemode(state.st_mode))
        assert state.st_mode & 0o002 == 0 or mode == 0o777


def test_a_store_that_its_maker_lets_the_group_write_hands_the_group_on(place):
    """Made by Quarry itself, with umask 002."""
    root = place / "label_store"
    assert as_user(ALICE, [CHEMISTS, OWN], 0o002, campaign(root, IDS[:1])) == str(ALICE)
    assert stat.S_IMODE(root.stat().st_mode) == 0o2775
    assert as_user(BOB, [OWN + 1, CHEMISTS], 0o022, campaign(root, IDS[:2])) == f"{ALICE} {BOB}"
    assert {p.stat().st_gid for p in root.rglob("*")} == {CHEMISTS}


@pytest.mark.parametrize(
    ("umask", "shown"), [(0o022, "drwxr-xr-x"), (0o077, "drwx------"), (0o002, "drwxrwsr-x")], ids=["022", "077", "002"]
)
def test_who_may_not_write_is_told_before_the_start(place, umask, shown):
    """BOB is in none of ALICE's groups (and with 002 that is what keeps him out)."""
    root = place / "label_store"
    as_user(ALICE, [OWN], umask, campaign(root, IDS[:1]))
    told = as_user(BOB, [CHEMISTS], 0o022, campaign(root, IDS))
    assert "\n" not in told and told.startswith(
        f"labeling.store: user {BOB} may not write in {root} ({shown} user {ALICE}"
    )
    assert f"chgrp -R GROUP {root} && chmod -R g+rwX {root}" in told and "or name another folder" in told


@pytest.mark.parametrize("deep", ["", "00", "claims", "claims/00", f"00/{IDS[0]}.json", f"claims/00/{IDS[0]}.0.json"])
def test_one_place_that_is_denied_is_enough(place, deep):
    """Made by an earlier version, or by hand."""
    root = place / "label_store"
    as_user(ALICE, [CHEMISTS], 0o002, campaign(root, IDS[:1]))
    (root / METHOD_ID / "claims" / "00" / f"{IDS[0]}.0.json").write_text("{}")
    path = root / METHOD_ID / deep
    path.chmod(0o755 if path.is_dir() else 0o600)
    os.chown(path, ALICE, CHEMISTS)
    told = as_user(BOB, [CHEMISTS], 0o022, campaign(root, IDS))
    verb = "write in" if path.is_dir() else "read"
    assert told.startswith(f"labeling.store: user {BOB} may not {verb} {path} ("), told
    assert f"ask user {ALICE} to run: chmod -R g+rwX {root} && find {root} -type d" in told and "chgrp" not in told


def test_a_folder_for_everybody_as_tmp_makes_no_store_for_everybody(place):
    place.chmod(0o1777)
    root = place / "label_store"
    assert as_user(ALICE, [OWN], 0o022, campaign(root, IDS[:1])) == str(ALICE)
    assert {oct(stat.S_IMODE(p.stat().st_mode)) for p in [root, *root.rglob("*")] if p.is_dir()} == {"0o755"}


def test_rights_of_a_group_that_one_is_not_in_are_not_handed_to_ones_own(place):
    """ALICE owns the folder, but is not in its group: what she makes is her own group's."""
    root = place / "label_store"
    root.mkdir()
    os.chown(root, ALICE, CHEMISTS)
    root.chmod(0o770)
    assert as_user(ALICE, [OWN], 0o077, campaign(root, IDS[:1])) == str(ALICE)
    made = (root / METHOD_ID).stat()
    assert (made.st_gid, stat.S_IMODE(made.st_mode)) == (OWN, 0o700)


def test_other_methods_do_not_matter(place):
    root = place / "label_store"
    as_user(ALICE, [CHEMISTS], 0o002, campaign(root, IDS[:1]))
    other = root / "another_method" / "ab"
    other.mkdir(parents=True)
    other.chmod(0o700)
    assert as_user(BOB, [CHEMISTS], 0o022, campaign(root, IDS[:1])) == str(ALICE)


def test_a_store_that_is_not_there_yet_is_no_obstacle(tmp_path):
    check_rights(tmp_path / "label_store", METHOD_ID)
    check_rights(tmp_path / "label_store")
