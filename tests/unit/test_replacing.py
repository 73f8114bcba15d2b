"""A campaign without one good label may be changed: what counts as a good label, and what is set aside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quarry.campaign.batch_table import BatchRow, write_batch
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.replacing import has_label, set_aside
from quarry.config import load_configuration
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.record import LabelRecord, write_records
from quarry.labeling.store import LabelStore, method_id_of
from support.campaigns import stand_in_configuration

METHOD = {"engine": "stand-in"}
ID = "a" * 20
COST = {"wall_s": 1.0, "threads": 1}
GOOD = LabelRecord(ID, method_id_of(METHOD), METHOD, "ok", "", {"energy": 1.0}, [], COST, {}, "h", {}, "now")
FAILED = replace(GOOD, status="engine_error", properties={}, message="no")


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CampaignPaths:
    """A campaign whose only label has failed."""
    monkeypatch.chdir(tmp_path)
    found = CampaignPaths("toy")
    Path(found.label("job0", "main", 0)).parent.mkdir(parents=True)
    write_batch(found.batch("main", 0), [BatchRow(ID, "train", "job0")])
    write_records(found.label("job0", "main", 0), [FAILED])
    LabelLedger(found.failed).put(ID, FAILED)
    for path in (found.manifest, found.lease, found.structures, found.retries):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text("{}")
    return found


def manifest(**changes: Any) -> dict[str, Any]:
    identity = load_configuration(stand_in_configuration(**changes), "campaign.yaml").identity()
    return {"identity": identity, "method_id": method_id_of(METHOD)}


def test_failures_are_no_labels(paths: CampaignPaths) -> None:
    assert not has_label(paths, "store", manifest())
    Path(paths.label("job0", "main", 0)).write_text("damaged")
    assert not has_label(paths, "store", manifest())


def test_one_good_label_of_any_arm(paths: CampaignPaths) -> None:
    label = Path(paths.label("job0", "other", 3))
    label.parent.mkdir(parents=True)
    write_records(label, [FAILED, GOOD])
    assert has_label(paths, "store", manifest())


def test_a_label_in_the_store_whose_job_could_not_say_so(paths: CampaignPaths) -> None:
    LabelStore("store", method_id_of(METHOD), METHOD).put(replace(GOOD, structure_id="b" * 20))
    assert not has_label(paths, "store", manifest()), "nobody of this campaign asked for it"
    LabelStore("store", method_id_of(METHOD), METHOD).put(GOOD)
    assert has_label(paths, "store", manifest())


def test_a_label_that_the_store_refused(paths: CampaignPaths) -> None:
    LabelLedger(paths.failed).put(f"{ID}_r1", GOOD)
    assert has_label(paths, "store", manifest())


def test_a_label_from_which_the_campaign_cannot_learn(paths: CampaignPaths) -> None:
    """Energies alone where forces are learnt too: the target may be changed, and the store keeps the labels."""
    write_records(paths.label("job0", "main", 0), [GOOD])
    assert has_label(paths, "store", manifest())
    both = {"target": "energy_forces", "model": {"kind": "kreg"}}
    assert not has_label(paths, "store", manifest(**both))
    write_records(
        paths.label("job0", "main", 0), [replace(GOOD, properties={"energy": 1.0, "forces": [[0.0] * 3] * 2})]
    )
    assert has_label(paths, "store", manifest(**both))


def test_everything_but_manifest_and_lease_is_set_aside(paths: CampaignPaths) -> None:
    root = Path(paths.root)
    first = set_aside(paths)
    assert first == root / "set_aside" / "1"
    assert {path.name for path in root.iterdir()} == {"campaign.json", ".lease.json", "set_aside"}
    assert {path.name for path in first.iterdir()} == {"campaign.json", "main", "failed", "pool", "retries.json"}
    Path(paths.failed).mkdir()
    second = set_aside(paths)
    assert second == root / "set_aside" / "2" and (second / "failed").is_dir() and (first / "failed").is_dir()
