"""Labels that the user has already: taken as they are, paid by nobody, kept out of the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from pydantic import ValidationError

from quarry.campaign.batch_table import BatchRow
from quarry.config.engines.known import KnownLabels
from quarry.config.engines.replay import ReplayLabeling
from quarry.errors import QuarryError
from quarry.labeling.known import GIVEN, KnownLabelSource
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.record import read_records
from quarry.labeling.store import LabelStore
from quarry.labeling.wanted import Wanted
from quarry.stages.batch import draw_initial, select_batch
from quarry.stages.probes import choose_probes
from support.stages import METHOD_ID, batch_files, configuration, label_record, planner

HARTREE_EV = 27.211386245988


@pytest.fixture
def store(tmp_path) -> LabelStore:
    return LabelStore(tmp_path / "label_store", METHOD_ID, {"engine": "any"})


def write_labels(path: Path, pool, rows: list[int], energies: list[float]) -> None:
    """Labels in hartree, forces of zero."""
    frames = []
    for row, energy in zip(rows, energies, strict=True):
        atoms = Atoms(pool[row].numbers, pool[row].positions)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((len(atoms), 3)))
        frames.append(atoms)
    write(path, frames)


def source_of(folder: Path, **columns: str) -> KnownLabelSource:
    settings = {"file": "mine.extxyz", "columns": columns or {"energy": "energy"}, "units": {"energy": "hartree"}}
    return KnownLabelSource(KnownLabels.model_validate(settings), folder)


def test_a_batch_takes_them_and_asks_for_the_others(tmp_path, structures, pool, store):
    write_labels(tmp_path / "mine.extxyz", pool, [3, 7], [-75.0, -76.0])
    source = source_of(tmp_path)
    source.check()
    rows = [BatchRow(str(pool.ids[n]), "train", str(pool.ids[n])) for n in (7, 5, 3)]
    ledger = LabelLedger(tmp_path / "failed")
    given = lambda structure: source.record(structure, Wanted(("energy",)), store)  # noqa: E731
    line = select_batch(rows, [structures], store, ledger, planner(), batch_files(tmp_path), given)
    assert line == "3 structures, 2 of them labelled already"
    found = {path.stem: read_records(path)[0] for path in (tmp_path / "labels").glob("*.json")}
    assert set(found) == {str(pool.ids[n]) for n in (7, 3)}
    record = found[str(pool.ids[7])]
    assert record.properties["energy"] == pytest.approx(-76.0 * HARTREE_EV, rel=1e-12)
    assert record.method_id == METHOD_ID and record.core_hours == 0 and record.details[GIVEN]["file"] == "mine.extxyz"
    # They are not the store's: other campaigns do not know who made them. The ledger keeps them, should a file be lost.
    assert not list(store.folder.rglob("*.json")) and ledger.get(str(pool.ids[3])) is not None
    assert ledger.failures() == {}


def test_the_store_wins(tmp_path, structures, pool, store):
    write_labels(tmp_path / "mine.extxyz", pool, [3], [-75.0])
    store.put(label_record(str(pool.ids[3])))
    rows = [BatchRow(str(pool.ids[3]), "train", str(pool.ids[3]))]
    ledger, source = LabelLedger(tmp_path / "failed"), source_of(tmp_path)
    given = lambda structure: source.record(structure, Wanted(("energy",)), store)  # noqa: E731
    select_batch(rows, [structures], store, ledger, planner(), batch_files(tmp_path), given)
    assert read_records(tmp_path / "labels" / f"{pool.ids[3]}.json")[0].properties == {"energy": 1.0}


def test_a_label_without_what_the_target_needs_is_computed(tmp_path, pool, store):
    write_labels(tmp_path / "mine.extxyz", pool, [3], [-75.0])
    assert source_of(tmp_path).record(pool[3], Wanted(("energy", "forces")), store) is None
    both = source_of(tmp_path, energy="energy", forces="forces")
    assert both.record(pool[3], Wanted(("energy", "forces")), store) is not None


def test_a_label_that_is_there_twice_with_other_numbers_is_refused(tmp_path, pool, store):
    write_labels(tmp_path / "mine.extxyz", pool, [3, 3], [-75.0, -76.0])
    with pytest.raises(QuarryError, match=r"labeling\.known: mine\.extxyz: structure .*") as caught:
        source_of(tmp_path).record(pool[3], Wanted(("energy",)), store)
    assert "\n" not in str(caught.value)


def test_a_missing_column_is_told_before_any_job(tmp_path, pool):
    write_labels(tmp_path / "mine.extxyz", pool, [3], [-75.0])
    with pytest.raises(QuarryError, match=r"labeling\.known: .*dipole"):
        source_of(tmp_path, dipole="no_such_dipole").check()


def test_a_label_that_failed_before_is_taken_from_them(tmp_path, structures, pool, store):
    """A probe of the forecast may have failed before the user gave the label."""
    write_labels(tmp_path / "mine.extxyz", pool, [3], [-75.0])
    ledger, source, name = LabelLedger(tmp_path / "failed"), source_of(tmp_path), str(pool.ids[3])
    ledger.put(name, label_record(name, status="engine_error", properties={}))
    given = lambda structure: source.record(structure, Wanted(("energy",)), store)  # noqa: E731
    rows = [BatchRow(name, "train", name)]
    select_batch(rows, [structures], store, ledger, planner(), batch_files(tmp_path), given)
    assert read_records(tmp_path / "labels" / f"{name}.json")[0].ok


def test_a_forecast_computes_what_is_not_given(tmp_path, structures, pool, store):
    conf = configuration()
    first = [row.structure_id for row in draw_initial(conf, structures)]
    given = set(first[:10])
    rows = choose_probes(conf, structures, store, lambda structure: structure.structure_id in given)
    assert rows and {row.structure_id for row in rows} <= set(first[10:])
    given = set(first)
    rows = choose_probes(conf, structures, store, lambda structure: structure.structure_id in given)
    assert len(rows) == conf.forecast.probes and not {row.structure_id for row in rows} & given
    with pytest.raises(QuarryError, match="all labels of the pool are given"):
        choose_probes(conf, structures, store, lambda structure: True)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"forces": "F", "gradient": "G"}, "give forces or gradient, not both"),
        ({"energy": ["E1", "E2"]}, "energy: this is one number; give one name"),
        ({"excitation_energies": ["E1", "E1"]}, "a name is there twice"),
    ],
)
def test_columns_are_checked_with_the_configuration_as_those_of_replay(columns, message):
    for section in (KnownLabels, ReplayLabeling):
        with pytest.raises(ValidationError, match=message):
            section.model_validate({"file": "mine.extxyz", "columns": columns} | engine_of(section))


def engine_of(section: type) -> dict[str, str]:
    return {"engine": "replay"} if section is ReplayLabeling else {}
