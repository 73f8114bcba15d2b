"""``quarry status``, ``card`` and ``export`` on campaigns with a damaged file: one line, or what can be read; never a write."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from quarry.campaign.receipts import write_receipt
from quarry.command_line.main import main
from quarry.status.reading import read_status
from quarry.status.text import status_lines
from quarry.structures.labelled import LabelledSet
from support.data_sets import campaign_of, of_all_kinds
from support.made_up import MadeUp

LONGEST_S = 20


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """A look that waits for a pipe fails."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(LONGEST_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def other_columns(path: Path) -> None:
    path.write_text("\n".join(["a,b,c", *path.read_text().splitlines()[1:]]) + "\n")


def longer_rows(path: Path) -> None:
    path.write_text("\n".join(f"{line},1,2,3" for line in path.read_text().splitlines()) + "\n")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xff" * 200)


TABLES = [other_columns, longer_rows, cut]
FILES: dict[str, list[Callable[[Path], None]]] = {
    "campaign.json": [],
    "dataset_settings.json": [],
    "dataset_card.md": [],
    "main/history.csv": TABLES,
    "main/iter_001/audit.csv": TABLES,
    "main/iter_001/failures.csv": TABLES,
    "main/iter_001/dataset.h5": [cut],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished campaign, whose data set is described."""
    from quarry.product.describing import describe_dataset

    place = tmp_path_factory.mktemp("whole") / "mine"
    paths = campaign_of(place, of_all_kinds(), iterations=2, settings={"license": "CC-BY-4.0"})
    describe_dataset(paths, paths.outputs("describe_dataset"))
    return place


def state(place: Path) -> dict[str, Any]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_mode) for path in [place, *place.rglob("*")]}


def look(place: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Look at a campaign by each subcommand: one line on standard error and nothing else, or an answer; and no write."""
    before, answers = state(place), {}
    target = place.parent / "a.h5"
    for command in (["status"], ["card"], ["export", "--format", "hdf5", "--to", str(target)]):
        code = main([command[0], str(place), *command[1:]])
        out, err = capsys.readouterr()
        if code:
            assert (out, err.count("\n")) == ("", 1)
            assert err.startswith("Quarry: ")
            assert not target.exists()
        else:
            assert err == ""
        answers[command[0]] = out
    assert state(place) == before
    return answers


@pytest.mark.parametrize(
    ("file", "damage"),
    [(file, damage) for file, more in FILES.items() for damage in [pipe, folder, garbage, *more]],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_damaged_file(
    file: str, damage: Callable[[Path], None], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path(shutil.copytree(whole, tmp_path / "mine"))
    damage(place / file)
    answers = look(place, capsys)
    if file != "campaign.json":
        assert "wrote 6 of them" in answers["export"]


def without(name: str) -> Callable[[h5py.File], None]:
    return lambda handle: handle.__delitem__(name)


def replaced(name: str, value: Any) -> Callable[[h5py.File], None]:
    def act(handle: h5py.File) -> None:
        new = handle[name][:-1] if value is None else value
        del handle[name]
        handle[name] = new

    return act


@pytest.mark.parametrize(
    "damage",
    [
        *map(without, ["roles", "structures", "structures/pbc", "properties"]),
        *(replaced(name, None) for name in ["roles", "iterations", "properties/energy", "properties/forces"]),
        *(replaced(f"structures/{name}", None) for name in ["ids", "offsets", "numbers", "positions", "charges"]),
        *(replaced(name, b"text") for name in ["roles", "properties/energy", "structures/offsets", "structures/ids"]),
        replaced("properties/energy", 3.0),
    ],
)
def test_a_data_set_whose_arrays_do_not_belong_together_is_passed_over(
    damage: Callable[[h5py.File], None], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path(shutil.copytree(whole, tmp_path / "mine"))
    with h5py.File(place / "main/iter_001/dataset.h5", "a") as handle:
        damage(handle)
    with pytest.raises((ValueError, OSError)):
        LabelledSet.read(place / "main/iter_001/dataset.h5")
    assert "is damaged and was passed over; wrote 6 of them" in look(place, capsys)["export"]


def test_labels_that_are_not_what_was_written_are_not_handed_on(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path(shutil.copytree(whole, tmp_path / "mine"))
    path = place / "main/iter_001/dataset.h5"
    write_receipt(path.parent / "receipts" / "merge_labels.json", "merge_labels", [str(path)], {})
    assert "passed over" not in look(place, capsys)["export"]
    (tmp_path / "a.h5").unlink()
    with h5py.File(path, "a") as handle:
        handle["properties/energy"][0] += 1.0
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns - 10**10
    os.utime(path, ns=times)
    assert f"{path} is damaged and was passed over" in look(place, capsys)["export"]
    (tmp_path / "a.h5").unlink()
    # Newer than its receipt: its own checksum tells.
    os.utime(path)
    assert f"{path} is damaged and was passed over" in look(place, capsys)["export"]
    (tmp_path / "a.h5").unlink()
    # Merged again at this moment.
    of_all_kinds().subset(np.array([0, 1])).write(path, {"method_id": "fedcba9876543210"})
    assert "wrote 2 of them" in look(place, capsys)["export"]


def places(section: dict[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in section.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from places(value, (*before, key))


@pytest.mark.parametrize("value", [None, "x", [3], {"a": 1}, True], ids=str)
def test_a_manifest_with_a_value_of_another_kind(
    value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = {"validation": {"fraction": 0.2}, "filters": {"copy_tolerance_A": 1e-4}, "model": {"kind": "gpr"}}
    paths = campaign_of(tmp_path / "mine", of_all_kinds(), identity=sections)
    whole = json.loads(Path(paths.manifest).read_text())
    answered = 0
    for *sections_of_key, key in places(whole):
        changed = json.loads(json.dumps(whole))
        section = changed
        for name in sections_of_key:
            section = section[name]
        section[key] = value
        Path(paths.manifest).write_text(json.dumps(changed))
        for command in ("card", "status"):
            code = main([command, paths.root])
            out, err = capsys.readouterr()
            answered += code == 0
            assert (out, err.count("\n")) == ("", 1) if code else err == ""
    assert answered


def test_what_is_known_of_the_settings_of_another_version_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"license": "CC-BY-4.0", "newer": 1, "cite": 3, "title": "Waters"}
    campaign_of(tmp_path / "mine", of_all_kinds(), settings=settings)
    assert main(["card", str(tmp_path / "mine")]) == 0
    out = capsys.readouterr().out
    assert "| licence | CC-BY-4.0 |" in out and out.startswith("# Waters\n")
    assert "| cite |" not in out


NUMBERS = ("labels_new", "labels_reused", "campaign_label_core_hours", "train_core_hours")


@pytest.mark.parametrize("value", [None, "x", [], {}, True])
@pytest.mark.parametrize(
    ("file", "keys"),
    [
        ("main/iter_001/cost.json", NUMBERS),
        ("last_run.json", ("targets", "arms", "label_cores", "model_cores", "cores", "jobs", "max_labels", "max_core_hours",
                           "max_iterations", "store", "working_directory", "log", "started", "end")),
    ],
)  # fmt: skip
def test_status_of_values_of_another_kind(file: str, keys: tuple[str, ...], value: Any, tmp_path: Path) -> None:
    made = MadeUp(tmp_path, max_labels=30)
    made.begin_run()
    made.lease()
    for number in range(3):
        made.iteration(number, 4)
    path = Path(made.paths.root, file)
    content = json.loads(path.read_text())
    for key in keys:
        path.write_text(json.dumps({**content, key: value}))
        assert status_lines(read_status(made.paths))


@pytest.mark.parametrize("more", ["\n", '"abc', "a\0b", "x,y"])
def test_status_of_a_table_of_failures_that_is_cut_off(more: str, tmp_path: Path) -> None:
    made = MadeUp(tmp_path)
    made.iteration(0, 4)
    made.iteration(1, 4)
    table = Path(made.paths.iteration("failures.csv", "main", 1))
    table.write_text("structure_id,status,iteration,message\nab2,out_of_time,1,late\n" + more)
    (failure,) = read_status(made.paths).failures
    assert (failure.failure_class, failure.count, failure.last_iteration) == ("out_of_time", 1, 1)
