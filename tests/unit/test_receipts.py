"""Receipts: what a job wrote, and whether it is still so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from quarry.campaign import receipts as receipts_module
from quarry.campaign.paths import CampaignPaths, receipts_folder
from quarry.campaign.receipts import accounts, missing_and_damaged, read_receipts, write_receipt
from quarry.files import digest_of

COST = {"wall_s": 1.0, "cpu_s": 1.0, "threads": 1, "host": "here"}


class TestReceipts:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch) -> Path:
        monkeypatch.chdir(tmp_path)
        Path("data").write_bytes(b"0123456789")
        Path("folder").mkdir()
        write_receipt(Path("receipts/rule.json"), "rule", ["data", "folder"], COST)
        return Path("receipts")

    def test_what_a_receipt_holds(self, folder):
        [receipt] = read_receipts(folder)
        assert receipt["rule"] == "rule" and receipt["cost"] == COST
        # sha256sum of 0123456789
        digest = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"
        assert receipt["outputs"] == {"data": {"bytes": 10, "sha256": digest}}

    @pytest.mark.parametrize("text", ["{", '{"format": 0, "inputs": {}}'])
    def test_one_that_is_left_out_does_not_hide_the_others(self, folder, text):
        (folder / "a_rule_before.json").write_text(text)
        assert [list(account.outputs) for account in accounts(folder)] == [[Path("data")]]

    def test_whole(self, folder):
        assert missing_and_damaged(folder, thorough=True) == ([], [])

    def test_missing(self, folder):
        Path("data").unlink()
        assert missing_and_damaged(folder, thorough=True) == ([Path("data")], [])

    @pytest.mark.parametrize("thorough", [True, False])
    @pytest.mark.parametrize("content", [b"", b"012345678", b"01234567890"])
    def test_another_size_is_always_seen(self, folder, thorough, content):
        Path("data").write_bytes(content)
        assert missing_and_damaged(folder, thorough) == ([], [Path("data")])

    def test_another_content_is_seen_by_its_hash(self, folder):
        Path("data").write_bytes(b"012345678X")
        assert missing_and_damaged(folder, thorough=True) == ([], [Path("data")])
        assert missing_and_damaged(folder, thorough=False) == ([], [])

    def test_very_large_files_are_looked_at_by_size_only(self, folder, monkeypatch):
        Path("data").write_bytes(b"012345678X")
        monkeypatch.setattr(receipts_module, "HASH_LIMIT_BYTES", 10)
        assert missing_and_damaged(folder, thorough=True) == ([], [])

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"outputs": {}}', '{"cost": {}}', "3"])
    def test_an_unreadable_receipt_accounts_for_nothing(self, folder, text):
        (folder / "rule.json").write_text(text)
        assert read_receipts(folder) == []
        Path("data").unlink()
        assert missing_and_damaged(folder, thorough=True) == ([], [])

    @pytest.mark.parametrize("text", ['{"outputs": {"data": {"bytfs": 10}}, "cost": {}}', '{"outputs": [], "cost": 0}'])
    def test_a_damaged_receipt_that_is_still_json_accounts_for_nothing(self, folder, text):
        (folder / "rule.json").write_text(text)
        assert missing_and_damaged(folder, thorough=True) == ([], [])

    def test_a_folder_without_receipts(self, tmp_path):
        assert missing_and_damaged(tmp_path / "absent", thorough=True) == ([], [])

    @pytest.mark.parametrize(
        ("output", "folder"),
        [
            ("results/water/pool/structures.h5", "results/water/pool/receipts"),
            ("results/water/main/iter_012/batch.csv", "results/water/main/iter_012/receipts"),
            ("results/water/main/iter_012/model/model.h5", "results/water/main/iter_012/receipts"),
            ("results/water/main/history.csv", "results/water/main/receipts"),
            ("results/water/history.csv", "results/water/receipts"),
            ("results/water/figures/parity.svg", "results/water/figures/receipts"),
        ],
    )
    def test_where_receipts_are(self, output, folder):
        assert receipts_folder([output]) == Path(folder)

    @pytest.mark.parametrize("name", ["pool", "iter_test"])
    def test_two_arms_never_share_receipts(self, name):
        folders = {receipts_folder([CampaignPaths(name).arm(arm, "history.csv")]) for arm in ("main", "random")}
        assert len(folders) == 2


class TestCopies:
    """A receipt speaks of the files beside it, wherever its campaign is now."""

    @pytest.fixture
    def iteration(self, tmp_path, monkeypatch) -> Path:
        monkeypatch.chdir(tmp_path)
        folder = Path("results/c/main/iter_000")
        (folder / "model").mkdir(parents=True)
        (folder / "dataset.h5").write_text("data")
        (folder / "model/model.h5").write_text("model")
        (folder.parents[1] / "pool.h5").write_text("pool")
        inputs = [str(folder / "dataset.h5"), "results/c/pool.h5"]
        write_receipt(
            folder / "receipts/train_model.json", "train_model", [str(folder / "model/model.h5")], COST, inputs
        )
        return folder

    def receipt(self, iteration: Path) -> dict:
        return json.loads((iteration / "receipts/train_model.json").read_text())

    def test_names_are_relative(self, iteration):
        receipt = self.receipt(iteration)
        assert list(receipt["outputs"]) == ["model/model.h5"]
        assert sorted(receipt["inputs"]) == ["../../pool.h5", "dataset.h5"]

    @pytest.mark.parametrize("how", ["copied", "renamed", "linked", "moved"])
    def test_what_is_damaged_is_found_where_the_campaign_is(self, iteration, how, tmp_path, monkeypatch):
        if how == "copied":
            shutil.copytree("results/c", "results/d")
            Path("results/c/main/iter_000/model/model.h5").write_text("ledom")
        elif how == "renamed":
            Path("results/c").rename("results/d")
        elif how == "linked":
            Path("results").rename("elsewhere")
            Path("results").symlink_to("elsewhere")
            Path("results/c").rename("results/d")
        else:
            Path("results/c").rename("results/d")
            (tmp_path / "far").mkdir()
            Path("results").rename("far/results")
            monkeypatch.chdir("far")
        there = Path("results/d/main/iter_000")
        assert missing_and_damaged(there / "receipts", thorough=True) == ([], [])
        [account] = accounts(there / "receipts")
        assert account.is_true and set(account.inputs) == {there / "dataset.h5", Path("results/d/pool.h5")}
        Path("results/d/pool.h5").write_text("other")
        assert not account.is_true
        (there / "model/model.h5").write_text("damaged")
        assert missing_and_damaged(there / "receipts", thorough=True) == ([], [there / "model/model.h5"])

    @pytest.mark.parametrize(
        "before", ["results/c/main/iter_000", "/elsewhere/results/c/main/iter_000", "../x/iter_000"]
    )
    def test_a_receipt_of_an_earlier_version(self, iteration, before):
        """It names files from the working directory on, or absolutely; what it names is looked for beside it."""
        receipt = self.receipt(iteration)
        entry = receipt["outputs"]["model/model.h5"]
        body = {"rule": "train_model", "outputs": {f"{before}/model/model.h5": entry}, "cost": COST}
        (iteration / "receipts/train_model.json").write_text(json.dumps({**body, "checksum": digest_of(body)}))
        assert missing_and_damaged(iteration / "receipts", thorough=True) == ([], [])
        assert accounts(iteration / "receipts") == []
        (iteration / "model/model.h5").write_text("damaged")
        assert missing_and_damaged(iteration / "receipts", thorough=True) == ([], [iteration / "model/model.h5"])

    def test_a_file_of_an_earlier_receipt_that_no_rule_names(self, iteration):
        (iteration / "model").rename(iteration / "elsewhere")
        body = {"rule": "other", "outputs": {"results/c/some/data.h5": {"bytes": 1, "sha256": ""}}, "cost": COST}
        (iteration / "receipts/other.json").write_text(json.dumps({**body, "checksum": digest_of(body)}))
        missing, damaged = missing_and_damaged(iteration / "receipts", thorough=True)
        assert set(missing) == {iteration / "data.h5", iteration / "model/model.h5"} and not damaged

    @pytest.mark.parametrize("name", ["../../../b/main/iter_000/data.h5", "/etc/passwd", "model/../../data"])
    def test_names_that_lead_out_are_not_followed(self, iteration, name):
        body = {**self.receipt(iteration), "outputs": {name: {"bytes": 1, "sha256": ""}}}
        del body["checksum"]
        (iteration / "receipts/train_model.json").write_text(json.dumps({**body, "checksum": digest_of(body)}))
        assert missing_and_damaged(iteration / "receipts", thorough=True) == ([], [])

    def test_an_output_elsewhere_is_a_mistake_of_the_program(self, iteration):
        with pytest.raises(ValueError, match="does not lie in the folder of its receipt"):
            write_receipt(iteration / "receipts/x.json", "x", ["results/c/pool.h5"], COST)

    def test_labels_have_one_hash_for_all(self, iteration):
        (iteration / "labels").mkdir()
        (iteration / "batch.csv").write_text("structure_id,role,job,score,retry_of\na,train,a,,\nb,train,b,,\n")
        labels = [iteration / "labels/a.json", iteration / "labels/b.json"]
        for label in labels:
            label.write_text(label.stem)
        output = str(iteration / "dataset.h5")
        write_receipt(iteration / "receipts/merge_labels.json", "merge_labels", [output], COST, map(str, labels))
        text = (iteration / "receipts/merge_labels.json").read_text()
        assert "a.json" not in text
        account = accounts(iteration / "receipts")[0]
        assert account.is_true and account.labels == labels
        (iteration / "labels/old.json").write_text("of an earlier drawing")
        assert account.is_true
        labels[1].write_text("c")
        assert not account.is_true

    def test_very_large_inputs_are_not_hashed(self, iteration, monkeypatch):
        monkeypatch.setattr(receipts_module, "HASH_LIMIT_BYTES", 3)
        write_receipt(iteration / "receipts/x.json", "x", [], COST, [str(iteration / "dataset.h5")])
        receipt = json.loads((iteration / "receipts/x.json").read_text())
        assert receipt["inputs"] == {"dataset.h5": {"bytes": 4}}
        assert accounts(iteration / "receipts")[-1].is_true
