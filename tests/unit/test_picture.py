"""The picture of a campaign in terminals of any width."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from quarry.status.picture import picture
from quarry.status.reading import read_status
from support.made_up import MadeUp


def drawn(made: MadeUp, width: int) -> list[str]:
    """The lines of the picture in a terminal of so many columns."""
    written = io.StringIO()
    Console(file=written, force_terminal=True, color_system=None, width=width).print(
        picture(read_status(made.paths), is_own=True)
    )
    return [line.rstrip() for line in written.getvalue().splitlines()]


@pytest.fixture
def campaign(tmp_path: Path) -> MadeUp:
    made = MadeUp(tmp_path, max_labels=30, max_core_hours=2.0)
    made.begin_run()
    made.iteration(0, 4, 0.5)
    made.batch(1, ["aa1", "ab2", "ac3"], predicted_s=120.0)
    made.lease()
    return made


@pytest.mark.parametrize("width", [30, 40, 73, 74, 200])
def test_every_width_shows_the_numbers(width: int, campaign: MadeUp) -> None:
    lines = drawn(campaign, width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for words in ("4 of 30 labels", "iteration 1: 0 of 3", "core-hours"):
        assert words in text
    assert ("━" in text) is (width >= 74)


@pytest.mark.parametrize("message", ["no file [/usr/lib/x]", "bad [bold] word", "[red]", "state :x: of it"])
def test_messages_are_shown_as_they_are(message: str, campaign: MadeUp) -> None:
    campaign.fail("ab2", message)
    (line,) = (line for line in drawn(campaign, 120) if line.startswith("failed"))
    assert line.endswith(f"scf_not_converged: {message}")
