"""Recovery of what no receipt vouches for, of products, of probes, and of a copied campaign."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from quarry.campaign.loop import UNREAD, ArmPlan
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.receipts import write_receipt
from quarry.campaign.recovery import Recovery
from quarry.files import digest_of
from support.disk import COST, ITERATIONS, RULES, STAGE_FILES, write_iteration
from support.stub_files import write_stub


@pytest.mark.parametrize("name", ["structures.h5", "features.h5", "filtered.csv"])
def test_without_receipts_the_format_tells_what_is_whole(disk, name):
    pool = Path(disk.paths.pool)
    for stub in ("structures.h5", "features.h5", "filtered.csv"):
        write_stub(pool / stub, stub)
    assert disk.repair() == []
    path = pool / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    [line] = disk.repair()
    assert line.startswith(f"{path} has no receipt: moved aside to {name}.damaged")
    assert len(list(pool.iterdir())) == 3


@pytest.mark.parametrize("iteration", range(ITERATIONS))
@pytest.mark.parametrize("name", [name for name in STAGE_FILES if name not in UNREAD])
def test_without_receipts_a_truncated_file_ends_the_count(disk, iteration, name):
    """Receipts gone and a data set cut off: a traceback at every start."""
    if iteration == 0 and name in ("scores.h5", "proposal.csv"):
        pytest.skip("iteration 0 has none")
    for receipt in disk.at("receipts", iteration).iterdir():
        receipt.unlink()
    path = disk.at(name, iteration)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert disk.recovery.count_intact("main") == iteration
    disk.repair()
    assert not path.exists()
    disk.check_repaired(iteration)


@pytest.mark.parametrize("iteration", [1, ITERATIONS - 1])
@pytest.mark.parametrize("name", sorted(UNREAD))
def test_a_truncated_file_that_no_rule_reads_goes_alone(disk, iteration, name):
    """What the query said of a batch: nothing that was made after it is made again, but for the facts that look at it."""
    for receipt in disk.at("receipts", iteration).iterdir():
        receipt.unlink()
    path = disk.at(name, iteration)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert disk.recovery.count_intact("main") == iteration
    disk.repair()
    assert not path.exists() and disk.recovery.count_intact("main") == iteration
    gone = {name for name in STAGE_FILES if not disk.at(name, iteration).exists()}
    assert gone == {path.name, "facts.json", "cost.json"}


@pytest.mark.parametrize("name", ["history.csv", "main/history.csv", "figures/parity.svg"])
def test_a_product_without_a_receipt_is_made_again(disk, name):
    path = Path(disk.paths.root) / name
    write_stub(path, name)
    [line] = disk.repair()
    assert "has no receipt: moved aside" in line and not path.exists()


def test_probes_and_recomputed_labels_are_looked_at_too(disk):
    write_iteration(disk.paths, "forecast", 0)
    recomputed = Path(disk.paths.recomputed("verify", 1, 0))
    write_stub(recomputed, "label")
    assert disk.repair() == []
    recomputed.write_text("[")
    table = Path(disk.paths.batch("forecast", 0))
    table.write_text("damaged")
    assert len(disk.repair()) == 2
    assert not recomputed.exists() and not table.exists()


def test_a_product_of_other_inputs_is_made_again_whatever_its_time(disk):
    """A run broke off before the products; a copy made all times new."""
    root = Path(disk.paths.root)
    product, facts = root / "main/history.csv", [str(disk.at("facts.json", t)) for t in range(ITERATIONS)]
    write_stub(product, "history")
    write_receipt(root / "main/receipts/collect_results.json", "collect_results", [str(product)], COST, facts)
    before = product.stat().st_mtime_ns
    assert disk.repair() == [] and product.stat().st_mtime_ns == before
    write_receipt(root / "main/receipts/collect_results.json", "collect_results", [str(product)], COST, facts[:-1])
    disk.repair()
    assert product.stat().st_mtime_ns < disk.at("facts.json", 0).stat().st_mtime_ns
    table = disk.at("failures.csv")
    os.utime(product)
    write_receipt(
        root / "main/receipts/collect_results.json", "collect_results", [str(product)], COST, [*facts, str(table)]
    )
    write_stub(table, "other failures")
    receipt = disk.at("receipts/merge_labels.json")
    write_receipt(receipt, "merge_labels", [str(disk.at(n)) for n in RULES["merge_labels"]], COST)
    disk.repair()
    assert product.stat().st_mtime_ns < disk.at("facts.json", 0).stat().st_mtime_ns


def test_nothing_is_moved_out_of_another_campaign(disk):
    """cp -a results/toy results/copy with receipts of an earlier version, and the original has gone on since."""
    receipt = disk.at("receipts/merge_labels.json")
    text = json.loads(receipt.read_text())
    body = {key: text[key] for key in ("rule", "cost")}
    body["outputs"] = {str(disk.at(name)): entry for name, entry in text["outputs"].items()}
    receipt.write_text(json.dumps({**body, "checksum": digest_of(body)}))
    shutil.copytree("results/toy", "results/copy")
    disk.at("dataset.h5").write_bytes(b"newer")
    before = disk.content()
    said: list[str] = []
    Recovery(CampaignPaths("copy"), {"main": ArmPlan(scored=True)}).repair(said.append)
    assert said == [] and disk.content() == before
