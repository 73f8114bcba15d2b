"""Scratch folders that are full, read-only or absent: a fault of the machine that names the folder, and no structure's."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from quarry.config.engines.ase import AseLabeling
from quarry.labeling.engines import scratch as scratch_module
from quarry.labeling.engines.base import MACHINE_FAULT, MachineFault, status_of
from quarry.labeling.engines.command import CommandEngine
from quarry.labeling.engines.function import FunctionEngine
from quarry.labeling.engines.registry import make_engine
from quarry.labeling.engines.scratch import problem_of, reserve, scratch_folder
from quarry.labeling.worker import Limits, Worker
from support.commands import WATER, command_engines
from support.faults import fill, read_only, small_disk

HOST = socket.gethostname()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CommandEngine]:
    monkeypatch.chdir(tmp_path)
    return command_engines(tmp_path)


class TestFolder:
    def test_an_absent_one_is_not_made(self, tmp_path):
        wanted = tmp_path / "not" / "mounted"
        with (
            pytest.raises(MachineFault, match=f"there is no folder {wanted} on {HOST}; make it there"),
            scratch_folder(str(wanted)),
        ):
            pass
        assert not (tmp_path / "not").exists()

    def test_a_read_only_one(self, tmp_path):
        with read_only(tmp_path / "disk"):
            message = (
                rf"labeling.scratch: cannot make a folder in {tmp_path / 'disk'} on {HOST} \(Read-only file system\)"
            )
            with pytest.raises(MachineFault, match=message), scratch_folder(str(tmp_path / "disk")):
                pass

    def test_one_without_room_for_a_folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "mkdtemp", full)
        message = rf"cannot make a folder in {tmp_path} on {HOST} \(No space left on device\); make room there"
        with pytest.raises(MachineFault, match=message), scratch_folder(str(tmp_path)):
            pass

    def test_no_lock_leaves_no_folder(self, tmp_path, monkeypatch):
        def refuse(path, **_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "touch", refuse)
        with pytest.raises(MachineFault, match=f"{tmp_path} on {HOST}"), scratch_folder(str(tmp_path)):
            pass
        assert list(tmp_path.iterdir()) == []

    def test_the_systems_own_is_never_the_working_directory(self, tmp_path, monkeypatch):
        """Python falls back to it when the others are full."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
        with pytest.raises(MachineFault, match="no folder of temporary files can be written"), scratch_folder():
            pass
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        with scratch_folder() as folder:
            assert folder.parent == tmp_path

    def test_no_folder_of_temporary_files_at_all(self, monkeypatch):
        def none():
            raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

        monkeypatch.setattr(tempfile, "gettempdir", none)
        with pytest.raises(MachineFault, match="the system's folders of temporary files"), scratch_folder():
            pass

    def test_an_error_of_what_is_done_in_it_is_its_own(self, tmp_path):
        with pytest.raises(FileNotFoundError), scratch_folder(str(tmp_path)):
            (tmp_path / "absent").read_text()


class TestProblem:
    def test_none(self, tmp_path):
        assert problem_of(tmp_path) is None and list(tmp_path.iterdir()) == []

    def test_a_full_disk_is_named(self, tmp_path):
        with small_disk(tmp_path / "disk", 512) as disk:
            (disk / "label").mkdir()
            fill(disk)
            assert problem_of(disk / "label") == f"labeling.scratch: {disk} on {HOST}: No space left on device"

    def test_a_folder_that_the_program_removed_is_no_fault_of_the_disk(self, tmp_path):
        assert problem_of(tmp_path / "absent") is None

    def test_reserved_room_is_there_when_the_disk_is_full(self, tmp_path):
        with small_disk(tmp_path / "disk", 512) as disk:
            with open(disk / "file", "wb", buffering=0) as handle:
                reserve(handle)
                assert (disk / "file").stat().st_size == 0
                fill(disk)
                assert handle.write(b"x" * 60_000) == 60_000
            with open(disk / "another", "wb") as handle, pytest.raises(OSError, match="No space left"):
                reserve(handle)

    def test_a_disk_that_cannot_reserve_is_none_the_worse(self, tmp_path, monkeypatch):
        class Library:
            def __init__(self, *_, **__):
                pass

            class fallocate:
                def __new__(cls, *_):
                    return -1

        monkeypatch.setattr(scratch_module.ctypes, "CDLL", Library)
        monkeypatch.setattr(scratch_module.ctypes, "get_errno", lambda: errno.EOPNOTSUPP)
        with open(tmp_path / "file", "wb") as handle:
            reserve(handle)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(errno.ENOSPC, "x"), MACHINE_FAULT),
        (OSError(errno.EDQUOT, "x"), MACHINE_FAULT),
        (OSError(errno.EROFS, "x"), MACHINE_FAULT),
        (OSError(errno.EIO, "x"), MACHINE_FAULT),
        (MachineFault("x"), MACHINE_FAULT),
        (OSError(errno.ENOENT, "x"), "engine_error"),
        (OSError("x"), "engine_error"),
        (ValueError("x"), "engine_error"),
    ],
    ids=repr,
)
def test_which_exceptions_are_the_machines(error, status):
    assert status_of(error) == status
    for chain in ("from", "while"):
        try:
            try:
                raise error
            except Exception as inner:
                if chain == "from":
                    raise RuntimeError("outer") from inner
                raise RuntimeError("outer")  # noqa: B904
        except RuntimeError as outer:
            assert status_of(outer) == status


class TestCommands:
    def test_a_program_that_fills_its_scratch_folder(self, engine, tmp_path):
        """What it wrote to stderr is shown; a kill in the end is no lack of memory, its own words no failure class."""
        with small_disk(tmp_path / "disk", 2048) as disk:
            for end in ("exit 3", "kill -9 $$$$", "true"):
                tested = engine(
                    f"cat /dev/zero > big || true; echo {'x' * 4096} > more || true; {end}",
                    scratch=str(disk),
                    failure_patterns={"write error": "scf_not_converged"},
                )
                result = tested.label(WATER, 1)
                assert result.status == MACHINE_FAULT and result.properties == {}
                assert f"labeling.scratch: {disk} on {HOST}: No space left on device" in result.message
                assert "printed nothing" not in result.message and "\n" not in result.message
                assert "No space left on device" in result.details["stderr"]
                assert list(disk.iterdir()) == []

    def test_a_label_that_was_made_on_a_full_disk_is_a_label(self, engine, tmp_path):
        with small_disk(tmp_path / "disk", 2048) as disk:
            tested = engine("echo '{\"energy\": 1.0}'; cat /dev/zero > big || true", scratch=str(disk))
            assert tested.label(WATER, 1).status == "ok"

    def test_a_full_scratch_folder_starts_no_program(self, engine, tmp_path):
        with small_disk(tmp_path / "disk", 128) as disk:
            with open(disk / "filler", "wb") as handle:
                handle.write(b"x" * 80_000)
            result = engine("touch $base/started", scratch=str(disk)).label(WATER, 1)
            assert result.status == MACHINE_FAULT and str(disk) in result.message
        assert not (tmp_path / "campaign" / "started").exists()

    def test_a_full_disk_elsewhere_by_the_programs_words(self, engine):
        result = engine("echo 'forrtl: No space left on device' >&2; exit 28").label(WATER, 1)
        assert result.status == MACHINE_FAULT
        assert result.message == f"a disk of {HOST} is full: forrtl: No space left on device (exit code 28)"
        assert engine("echo 'Disk quota exceeded'; exit 1").label(WATER, 1).status == MACHINE_FAULT
        assert engine("echo 'Disk quota exceeded'; kill -9 $$$$").label(WATER, 1).status == MACHINE_FAULT
        assert engine("echo 'No space left on device' >&2; echo '{\"energy\": 1.0}'").label(WATER, 1).status == "ok"
        users = {"No space left": "engine_error"}
        assert (
            engine("echo 'No space left on device'; exit 1", failure_patterns=users).label(WATER, 1).status
            == "engine_error"
        )

    @pytest.mark.parametrize("scratch", ["/no/such/folder", "$NO_SUCH_VARIABLE_ON_THIS_NODE/x"])
    def test_an_absent_scratch_folder_through_the_engines_process(self, engine, scratch):
        worker = Worker(lambda: engine("true", scratch=scratch), 1)
        try:
            outcome = worker.label(WATER, Limits(), lambda elapsed_s, peak_MB: None)
        finally:
            worker.close()
        assert outcome.result.status == MACHINE_FAULT and "labeling.scratch" in outcome.result.message
        assert scratch.partition("/x")[0] in outcome.result.message

    def test_stderr_is_as_long_as_before(self, engine):
        result = engine("seq 1 200000 >&2; wc -c < stderr.txt; exit 1").label(WATER, 1)
        assert result.details["stderr"].splitlines()[-1] == "200000"
        assert engine("printf '' >&2; exit 4").label(WATER, 1).message.endswith("it printed nothing")


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_functions_and_calculators_on_a_full_disk(tmp_path, monkeypatch):
    result = FunctionEngine(f"{__name__}:full").label(WATER, 1)
    assert result.status == MACHINE_FAULT and "No space left on device" in result.message
    section = AseLabeling.model_validate(
        {"engine": "ase", "calculator": "ase.calculators.emt:EMT", "properties": ["energy"]}
    )
    calculators = make_engine(section, tmp_path)
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    result = calculators.label(WATER, 1)
    assert result.status == MACHINE_FAULT and "labeling.scratch" in result.message
