"""What a resumed campaign is held against."""

from __future__ import annotations

import random
from collections.abc import Collection
from pathlib import Path

from support.campaigns import CampaignFolder

SEED = 20261120


def outputs_in_order(folder: CampaignFolder) -> list[Path]:
    """Every file of the campaign in the order in which it was made, but the manifest."""
    files = [
        p for p in folder.results.rglob("*") if p.is_file() and p.name != "campaign.json" and "logs" not in p.parts
    ]
    return sorted(
        (p.relative_to(folder.path) for p in files), key=lambda p: ((folder.path / p).stat().st_mtime_ns, str(p))
    )


def check_resumed(
    folder: CampaignFolder, reference: CampaignFolder, allowed_calls: Collection[str] = frozenset()
) -> None:
    before = len(folder.calls())
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    again = folder.calls()[before:]
    assert set(again) == set(allowed_calls), f"computed again: {again}"
    assert len(again) == len(set(again))
    expected = reference.products()
    found = folder.products()
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert folder.run().nothing_to_do


def cuts(count: int, parts: int) -> list[int]:
    return sorted(random.Random(SEED).sample(range(1, count), min(parts, count - 1)))
