"""Command engines for tests, with their scratch folders in one place and the campaign's files in another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from quarry.config.engines.command import CommandLabeling
from quarry.config.resources import LabelResources
from quarry.labeling.engines.command import CommandEngine
from quarry.labeling.engines.registry import make_engine
from quarry.structures import Structure

WATER = Structure.create([8, 1, 1], np.array([[0.0, 0.0, 0.117], [0.0, 0.757, -0.469], [0.0, -0.757, -0.469]]))
CATION = Structure.create([8, 1, 1], WATER.positions, charge=1, multiplicity=2)
JSON = {"file": "stdout.txt", "format": "json"}


def labeling(command: str, output: dict[str, Any] | None = None, **settings: Any) -> CommandLabeling:
    return CommandLabeling.model_validate(
        {"engine": "command", "command": command, "output": output or JSON, "state_in_xyz": True, **settings}
    )


def command_engines(folder: Path) -> Callable[..., CommandEngine]:
    """Return a function that makes engines for a campaign in folder/campaign with scratch folders in folder/scratch."""
    for name in ("campaign", "scratch"):
        (folder / name).mkdir()

    def make(
        command: str,
        output: dict[str, Any] | None = None,
        resources: LabelResources | None = None,
        **settings: Any,
    ) -> CommandEngine:
        section = labeling(command, output, **{"scratch": str(folder / "scratch"), **settings})
        made = make_engine(section, folder / "campaign", resources)
        assert isinstance(made, CommandEngine)
        return made

    return make
