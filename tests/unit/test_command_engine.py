"""The command engine: programs of the user's own, what they print and how they fail."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarry.config.resources import LabelResources
from quarry.errors import QuarryError
from quarry.files import canonical_json
from quarry.labeling.engines.command import CommandEngine
from quarry.labeling.engines.templates import OF_INPUT, filled, placeholders
from support.commands import CATION, WATER, command_engines


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CommandEngine]:
    monkeypatch.chdir(tmp_path)
    return command_engines(tmp_path)


def test_templates_and_placeholders(engine: Callable[..., CommandEngine], tmp_path: Path) -> None:
    (tmp_path / "campaign" / "job.inp").write_text(
        "%maxcore $memory_per_task_MB\n%pal nprocs ${tasks}end\n* xyz $charge $multiplicity\n$atoms\n* {$$} $structure_id\n"
    )
    (tmp_path / "campaign" / "answer.json").write_text('{"energy": 1.0}')
    command = "cp job.inp command.sh structure.xyz $base/seen/; echo $$OMP_NUM_THREADS $threads $unpaired $$MINE > $base/seen/out"
    tested = engine(
        command + "; cat answer.json",
        resources=LabelResources(tasks=2, memory_MB=4000),
        input={"job.inp": "job.inp", "answer.json": "answer.json"},
        environment={"MINE": "in $base"},
        memory_fraction=0.5,
        state_in_xyz=False,
    )
    (tmp_path / "campaign" / "seen").mkdir()
    tested.check([])
    tested.check_states([(1, 2)])
    assert tested.label(CATION, 3).status == "ok"
    seen = tmp_path / "campaign" / "seen"
    lines = (seen / "job.inp").read_text().splitlines()
    assert lines[:3] == ["%maxcore 1000", "%pal nprocs 2end", "* xyz 1 2"]
    assert [line.split() for line in lines[3:6]][1] == ["H", "0.000000", "0.757000", "-0.469000"]
    assert lines[6] == f"* {{$}} {CATION.structure_id}"
    assert (seen / "out").read_text().split(maxsplit=3) == ["3", "3", "1", f"in {tmp_path / 'campaign'}\n"]
    assert "charge=1 multiplicity=2" in (seen / "structure.xyz").read_text()
    assert list((tmp_path / "scratch").iterdir()) == []


@given(st.text(st.characters(blacklist_characters="$", blacklist_categories=["Cs"]), max_size=60))
def test_text_without_dollars_is_a_template_of_itself(text: str) -> None:
    assert placeholders(text, OF_INPUT, "x") == set()
    assert filled(text, {}) == text
    assert filled(text.replace("%", "$$"), {}) == text.replace("%", "$")


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        ("echo first; echo the reason >&2; exit 3", "engine_error", "exit code 3: the reason"),
        ("echo only printed; exit 4", "engine_error", "exit code 4: only printed"),
        ("false; echo '{\"energy\": 1.0}'", "engine_error", "exit code 1"),
        ("no_such_program_at_all", "engine_error", "no_such_program_at_all: command not found"),
        ("kill -9 $$$$", "out_of_memory", "was killed"),
        ("bash -c 'kill -9 $$$$'", "out_of_memory", "was killed"),
        ("true", "engine_error", "stdout.txt"),
        ("head -c 3000 /dev/urandom", "engine_error", "stdout.txt"),
        ("echo '[1.0]'", "engine_error", "holds no dictionary but a list"),
        ("echo '{\"energy\": NaN}'", "engine_error", "energy is not finite"),
        ("echo '{\"energy\": null}'", "engine_error", "energy is no real number: None"),
        ('echo \'{"energy": "low"}\'', "engine_error", "energy is no real number: 'low'"),
        ("echo '{\"enthalpy\": 1}'", "engine_error", "unknown properties: enthalpy"),
        ("echo '{}'", "engine_error", "must return a dictionary"),
        ('echo \'{"energy": 1, "forces": [[0, 0, 0]]}\'', "engine_error", "forces has the shape (1, 3)"),
        (
            'echo \'{"energy": 1, "numbers": [8, 1, 1], "positions": [[0,0,0],[0,0,1],[0,0,2]]}\'',
            "engine_error",
            "another geometry",
        ),
    ],
)
def test_failures_are_typed_results_of_one_line(
    command: str, status: str, reason: str, engine: Callable[..., CommandEngine], tmp_path: Path
) -> None:
    result = engine(command).label(WATER, 1)
    assert (result.status, result.properties) == (status, {})
    assert reason in result.message and "\n" not in result.message
    assert isinstance(result.details["exit_code"], int)
    canonical_json(result.details)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_missing_output_file(engine: Callable[..., CommandEngine]) -> None:
    result = engine("echo done", {"file": "result.json", "format": "json"}).label(WATER, 1)
    assert (result.status, result.details["stdout"]) == ("engine_error", "done")
    assert "result.json: the program did not write it" in result.message


def test_last_lines_of_stderr_are_in_the_record(engine: Callable[..., CommandEngine]) -> None:
    result = engine("seq 1 50000 >&2; exit 1").label(WATER, 1)
    assert result.details["stderr"].splitlines() == [str(i) for i in range(49981, 50001)]


def test_success_and_failure_patterns(engine: Callable[..., CommandEngine]) -> None:
    answer = "echo '{\"energy\": 1.0}' > result.json; "
    output = {"file": "result.json", "format": "json"}
    patterns = {"SCF NOT CONVERGED AFTER +[0-9]+": "scf_not_converged", "increase MaxCore": "out_of_memory"}

    def status(program: str) -> tuple[str, str]:
        result = engine(answer + program, output, success="TERMINATED NORMALLY", failure_patterns=patterns).label(
            WATER, 1
        )
        return result.status, result.message

    assert status("echo TERMINATED NORMALLY")[0] == "ok"
    assert status("echo TERMINATED NORMALLY >&2")[0] == "ok"
    assert status("echo TERMINATED")[0] == "engine_error"
    unconverged = status("seq 1 100000; echo SCF NOT CONVERGED AFTER  125 CYCLES; echo TERMINATED NORMALLY")
    assert unconverged[0] == "scf_not_converged" and "AFTER 125" in unconverged[1]
    assert status("echo Please increase MaxCore >&2; exit 9")[0] == "out_of_memory"


def test_scratch_on_the_node(
    engine: Callable[..., CommandEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODE_DISK", str(tmp_path / "disk"))
    (tmp_path / "disk" / "quarry").mkdir(parents=True)
    command = "pwd > $base/where; echo '{\"energy\": 1.0}'; echo log > job.log; "
    tested = engine(command + "exit 1", scratch="$NODE_DISK/quarry", keep=["job.log", "absent"])
    kept = tested.label(WATER, 1).details["kept_in"]
    assert (tmp_path / "campaign" / "where").read_text().startswith(str(tmp_path / "disk" / "quarry"))
    assert [p.name for p in (tmp_path / kept).iterdir()] == ["job.log"]
    assert list((tmp_path / "disk" / "quarry").iterdir()) == []
    with pytest.raises(QuarryError, match="not set on this node"):
        engine(command, scratch="$NO_SUCH_DISK/x").label(WATER, 1)


def test_a_scratch_folder_that_cannot_be_filled(engine: Callable[..., CommandEngine], tmp_path: Path) -> None:
    (tmp_path / "campaign" / "job.inp").write_text("input")
    result = engine("true", input={"x" * 300: "job.inp"}).label(WATER, 1)
    assert result.status == "engine_error" and "File name too long" in result.message


def test_folders_of_killed_jobs_are_removed(engine: Callable[..., CommandEngine], tmp_path: Path) -> None:
    tested = engine("ls $base/../scratch > $base/seen; echo '{\"energy\": 1.0}'")
    old = tmp_path / "scratch" / "quarry-label-killed"
    young, foreign = old.with_name("quarry-label-young"), old.with_name("somebody-elses")
    for folder in (old, young, foreign):
        folder.mkdir(parents=True)
        (folder / ".quarry-lock").touch()
    os.utime(old / ".quarry-lock", (0, 0))
    os.utime(foreign / ".quarry-lock", (0, 0))
    assert tested.label(WATER, 1).status == "ok"
    assert sorted(p.name for p in (tmp_path / "scratch").iterdir()) == ["quarry-label-young", "somebody-elses"]


def test_modules_are_loaded_in_a_login_shell(engine: Callable[..., CommandEngine], tmp_path: Path) -> None:
    """A login shell reads $HOME/.bash_profile; there a stand-in for the command `module`."""
    (tmp_path / ".bash_profile").write_text(
        'module() { [ "$2" = orca/6.0 ] || return 1; export LOADED="$2 $OMP_NUM_THREADS"; }\n'
    )
    home = {"HOME": str(tmp_path)}
    command = "echo '{\"energy\": 1.0}'; echo $$LOADED > $base/loaded"
    assert engine(command, modules=["orca/6.0"], environment=home).label(WATER, 2).status == "ok"
    assert (tmp_path / "campaign" / "loaded").read_text() == "orca/6.0 2\n"
    wrong = engine(command, modules=["orca/7.0"], environment=home).label(WATER, 1)
    assert wrong.status == "engine_error" and "cannot load orca/7.0" in wrong.message
    none = engine(command, modules=["orca/6.0"], environment={"HOME": str(tmp_path / "campaign")}).label(WATER, 1)
    assert none.status == "engine_error" and "there is no command module" in none.message
    engine("orca job.inp", modules=["orca/6.0"]).check([])


def test_versions(engine: Callable[..., CommandEngine]) -> None:
    tested = engine("echo", version="6.0", version_command="echo; echo my program 1.2; echo more")
    assert tested.versions() == {"stated": "6.0", "command": "my program 1.2"}
    assert engine("echo", version_command="no_such_program").versions() == {"command": "unknown"}
    assert engine("echo").versions() == {}


@pytest.mark.parametrize(
    ("launcher", "line"),
    [("mpirun", "mpirun -np 3 --x"), ("srun", "srun --ntasks=3 --cpus-per-task=2 --x"), ("none", "")],
)
def test_launcher(launcher: str, line: str, engine: Callable[..., CommandEngine], tmp_path: Path) -> None:
    for name in ("mpirun", "srun", "program"):
        (tmp_path / name).write_text('#!/bin/sh\necho "$(basename $0) $*" > $SEEN\necho \'{"energy": 1.0}\'\n')
        (tmp_path / name).chmod(stat.S_IRWXU)
    tested = engine(
        "$launcher program",
        resources=LabelResources(tasks=3),
        launcher=launcher,
        launcher_options="--x",
        environment={"PATH": f"{tmp_path}:{os.environ['PATH']}", "SEEN": "$base/seen"},
    )
    tested.check([])
    assert tested.label(WATER, 2).status == "ok"
    assert (tmp_path / "campaign" / "seen").read_text().split() == [*line.split(), "program"]
