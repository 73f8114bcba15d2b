"""Uses of a potential that the merged labels cannot serve: one line before any job, as some of these jobs are labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quarry.campaign.uses import check_labels
from quarry.config import load_configuration
from quarry.config.uses import USES
from quarry.errors import QuarryError
from quarry.structures.labelled import LabelledSet
from support.campaigns import stand_in_configuration
from support.data_sets import campaign_of, label, structures

WATER, ION, CRYSTAL = structures()[:3]
RNG = np.random.default_rng(0)


def refused(folder: Path, use: str, labelled: list[Any], lacks: tuple[str, ...] = (), **uses: Any) -> str:
    """Return what is said of a use, where arm main has merged labels of these structures without some properties."""
    labels = [{name: value for name, value in label(one, RNG).items() if name not in lacks} for one in labelled]
    rows = len(labelled)
    data = LabelledSet.from_records(labelled, ["train"] * rows, [0] * rows, labels)
    paths = campaign_of(folder / "mine", data, iterations=1)
    try:
        check_labels(load_configuration(stand_in_configuration(uses=uses), "toy.yaml"), paths, use)
    except QuarryError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


@pytest.mark.parametrize("use", USES)
def test_labels_that_serve_are_not_refused(use: str, tmp_path: Path) -> None:
    assert refused(tmp_path, use, [WATER]) == ""
    assert refused(tmp_path, "md", [CRYSTAL]) == refused(tmp_path, "optimise", [CRYSTAL]) == ""


@pytest.mark.parametrize(
    ("use", "labelled", "lacks", "says"),
    [
        ("infrared", [WATER], ("dipole",), "the campaign's have none"),
        ("infrared", [ION], (), "neutral molecules alone"),
        ("infrared", [CRYSTAL], (), "neutral molecules alone"),
        ("frequencies", [CRYSTAL], (), "molecules alone, and the labelled structures are periodic"),
        ("md", [WATER, ION], (), "2 compositions; name the structure to begin with (uses.structure)"),
        ("optimise", [WATER], ("forces",), "uses.reference needs forces of the labels"),
    ],
)
def test_labels_that_cannot_serve(
    use: str, labelled: list[Any], lacks: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    message = refused(tmp_path, use, labelled, lacks)
    assert message.startswith(f"{use}: ") and says in message


def test_what_the_configuration_says_is_heard(tmp_path: Path) -> None:
    assert refused(tmp_path, "optimise", [WATER], ("forces",), reference=False) == ""
    assert refused(tmp_path, "md", [WATER, ION], structure="start.xyz") == ""


def test_labels_that_are_not_there_or_damaged_say_nothing(tmp_path: Path) -> None:
    assert refused(tmp_path, "infrared", [WATER], ("dipole",))
    (tmp_path / "mine/main/iter_000/dataset.h5").write_bytes(b"half")
    configuration = load_configuration(stand_in_configuration(), "toy.yaml")
    for folder in ("mine", "none"):
        paths = campaign_of(tmp_path / folder, LabelledSet.from_records([], [], [], []), iterations=0, finished=False)
        check_labels(configuration, paths, "infrared")
