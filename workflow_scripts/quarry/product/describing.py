"""What goes with a published data set: its parts as files, its card, its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from quarry.campaign.loop import product_of
from quarry.campaign.paths import CampaignPaths
from quarry.files import write_json, write_text
from quarry.product.campaign_data import read_campaign
from quarry.product.card import ProductFile, card_of
from quarry.product.crate import crate_of
from quarry.product.split import PARTS
from quarry.structures.frames import frames_of, write_frames

WORDS = {
    "dataset.extxyz": "every label (less those that are left out), for ASE, MACE, SevenNet and fairchem",
    "dataset.h5": "every label in flat arrays (docs/dataset.md)",
    "history.csv": "one row an iteration: errors, labels, core-hours, the reason of the stop",
    "failures.csv": "labels that failed",
    "outliers.csv": "labels that stand out of their batch",
    "audit.csv": "what contradicts physics or other labels",
    "model/model.h5": "the campaign's last model",
    "train.extxyz": "labels to learn from",
    "validation.extxyz": "labels to choose settings by",
    "test.extxyz": "labels to measure errors by",
    "dataset_card.md": "what the data set is, for people",
}
"""What each file of the product is."""


def describe_dataset(paths: CampaignPaths, output: Mapping[str, str]) -> None:
    """Write the parts, the card and the metadata of arm main's data set, which is published already.

    output: paths of train, validation, test, card and metadata.
    """
    data = read_campaign(paths)
    frames = dict(zip(range(len(data.labelled)), frames_of(data.labelled, range(len(data.labelled))), strict=True))
    for part in PARTS:
        write_frames(output[part], [frames[row] for row in data.rows([part]).tolist()])
    names = [*sorted(product_of("publish_results")), *(f"{part}.extxyz" for part in PARTS)]
    files = [ProductFile.of(data.root, name, WORDS[name]) for name in names]
    write_text(output["card"], card_of(data, files))
    card = Path(output["card"]).name
    write_json(output["metadata"], crate_of(data, [*files, ProductFile.of(data.root, card, WORDS[card])]))
