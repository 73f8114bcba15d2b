"""Receipts: what a job wrote, and whether it is still so."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarry.campaign import receipts as receipts_module
from quarry.campaign.paths import CampaignPaths, receipts_folder
from quarry.campaign.receipts import missing_and_damaged, read_receipts, write_receipt

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
        assert receipts_folder(output) == Path(folder)

    @pytest.mark.parametrize("name", ["pool", "iter_test"])
    def test_two_arms_never_share_receipts(self, name):
        folders = {receipts_folder(CampaignPaths(name).arm(arm, "history.csv")) for arm in ("main", "random")}
        assert len(folders) == 2
