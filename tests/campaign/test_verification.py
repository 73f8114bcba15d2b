"""`snakemake verify` and `snakemake check_rotations` on finished campaigns, right and wrong."""

import csv
from dataclasses import replace

import pytest

from quarry.labeling.record import encode_records, read_records
from support.campaigns import CampaignFolder, stand_in_configuration

LOPSIDED = '''"""An engine that knows which way is x."""

import stand_in


def label(atoms):
    answer = stand_in.morse(atoms)
    return {**answer, "energy": answer["energy"] + 0.01 * atoms.positions[0, 0]}
'''
ONE_ITERATION = {"stop": {"rrmse": None, "max_labels": 6}, "verification": {"sample": 4, "displaced": 1}}


@pytest.fixture(scope="module")
def verified(tmp_path_factory):
    """A campaign of six labels, run and verified by one command."""
    folder = CampaignFolder.create(
        tmp_path_factory.mktemp("verified") / "campaign", stand_in_configuration(**ONE_ITERATION)
    )
    outcome = folder.run("verify")
    assert outcome.code == 0, outcome.text[-3000:]
    return folder, outcome


def table_of(folder, name):
    with open(folder.results / "verification" / f"{name}.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def test_verify(verified):
    """Four labels are computed again, agree, and are not computed once more; the product and the store do not change."""
    folder, outcome = verified
    assert "Quarry: verify: 4 of 4 labels agree (24 values compared)" in outcome.lines
    calls = folder.calls()
    assert (
        "Quarry: verify: 1 of 1 forces agree with the energies of displaced copies (1 values compared)" in outcome.lines
    )
    assert len(calls) == 6 + 4 + 2 and len(folder.stored()) == 6
    table = table_of(folder, "verify")
    assert len({row["structure_id"] for row in table if row["quantity"] != "energy_slope"} & set(calls[6:])) == 4
    assert {row["verdict"] for row in table} == {"agrees"}
    again = folder.run("verify")
    assert again.code == 0 and "Quarry: verify: 4 of 4 labels agree (24 values compared)" in again.lines
    assert folder.calls() == calls
    assert "label" not in folder.run("-n").text, "the campaign itself has nothing to label"


def test_falsified_record(verified, tmp_path):
    """An energy changed in the store, with a right checksum, is found by a sample that holds it; other seeds draw anew."""
    folder = verified[0].copy(tmp_path / "falsified")
    label = sorted((folder.path / "label_store").glob("*/??/*.json"))[2]
    (record,) = read_records(label)
    wrong = replace(record, properties={**record.properties, "energy": record.properties["energy"] + 1e-3})
    label.write_bytes(encode_records([wrong]))
    command = ("verify", "--config", "verification={sample: 9, seed: 1, displaced: 0}")
    outcome = folder.run(*command)
    assert outcome.code != 0
    (line,) = [x for x in outcome.lines if "do not agree" in x]
    assert line.startswith(
        f"Quarry: verify: 1 of 6 labels do not agree; the worst: {record.structure_id} energy in the store"
    )
    assert f"{wrong.properties['energy']!r}, computed again {record.properties['energy']!r} eV" in line
    assert "Traceback" not in outcome.text
    bad = [row for row in table_of(folder, "verify") if row["verdict"] != "agrees"]
    assert [(row["structure_id"], row["source"], row["quantity"]) for row in bad] == [
        (record.structure_id, "store", "energy")
    ]
    assert float(bad[0]["difference"]) == pytest.approx(1e-3)
    assert len(folder.calls()) == 6 + 4 + 2 + 6, "another seed draws and computes its own sample"
    label.write_bytes(encode_records([record]))
    outcome = folder.run(*command)
    assert outcome.code == 0 and "Quarry: verify: 6 of 6 labels agree (36 values compared)" in outcome.lines
    assert folder.calls()[18:] == [record.structure_id], "only what did not agree is computed again"


def test_engine_that_is_not_invariant(verified, tmp_path):
    """Rotated copies of good labels agree; those of an engine that knows a direction do not, and nothing is stored."""
    folder = verified[0].copy(tmp_path / "rotated")
    outcome = folder.run("check_rotations")
    assert outcome.code == 0, outcome.text[-3000:]
    assert "Quarry: check_rotations: 3 of 3 labels agree (9 values compared)" in outcome.lines
    assert len(folder.stored()) == 6
    (folder.path / "lopsided.py").write_text(LOPSIDED)
    labeling = {"engine": "function", "function": "lopsided:label", "retries": 0}
    folder.configure(stand_in_configuration(name="lopsided", labeling=labeling, **ONE_ITERATION))
    outcome = folder.run("check_rotations")
    assert outcome.code != 0
    (line,) = [x for x in outcome.lines if "do not agree" in x]
    assert line.startswith("Quarry: check_rotations: 3 of 3 labels do not agree; the worst: ")
    assert {row["quantity"] for row in table_of(folder, "check_rotations") if row["verdict"] == "differs"} == {"energy"}


def test_labels_left_out_of_a_finished_campaign_and_back(verified, tmp_path):
    """The last iteration is trained again without them; they stay paid and counted, and nothing is labelled."""
    folder = verified[0].copy(tmp_path / "left_out")
    calls, before = folder.calls(), folder.products()
    with open(folder.results / "main/iter_000/batch.csv", newline="") as handle:
        ids = [row["structure_id"] for row in csv.DictReader(handle)]
    (folder.path / "bad.txt").write_text(f"# wrong\n{ids[-1]}\n")
    settings = stand_in_configuration(**ONE_ITERATION)
    folder.configure({**settings, "labeling": {**settings["labeling"], "leave_out": "bad.txt"}})
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert any("1 labels are rejected, 0 before" in line for line in outcome.lines)
    with open(folder.results / "history.csv", newline="") as handle:
        last = list(csv.DictReader(handle))[-1]
    assert (last["labels_left_out"], last["n_labels"]) == ("1", "6")
    assert "left_out" in (folder.results / "audit.csv").read_text()
    assert f"s{ids[-1]}" not in (folder.results / "dataset.extxyz").read_text()
    (folder.path / "bad.txt").write_text("0" * 20 + "\n")
    refused = folder.run("-n")
    assert refused.code != 0 and any("1 of 1 ids are not in the pool" in line for line in refused.lines)
    folder.configure(settings)
    outcome = folder.run()
    assert outcome.code == 0 and folder.calls() == calls
    after = folder.products()
    assert {name: after[name] for name in before if "history" not in name} == {
        n: b for n, b in before.items() if "history" not in n
    }
