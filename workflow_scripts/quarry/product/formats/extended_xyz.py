"""Extended XYZ: the frames of ``dataset.extxyz``, with the part of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quarry.product.formats.base import Format

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    from quarry.product.campaign_data import CampaignData


def frames_with_parts(data: CampaignData, rows: NDArray[np.int64]) -> list[Atoms]:
    """Return labels as frames (``structures.frames``) with their part under the name ``split``; the user's own is renamed."""
    from quarry.structures.frames import frames_of

    frames = frames_of(data.labelled, rows.tolist())
    for atoms, row in zip(frames, rows.tolist(), strict=True):
        if "split" in atoms.info:
            atoms.info["source_split"] = atoms.info.pop("split")
        atoms.info["split"] = str(data.split[row])
    return frames


def write(data: CampaignData, rows: NDArray[np.int64], path: Path) -> None:
    """Write the frames."""
    from quarry.structures.frames import write_frames

    write_frames(path, frames_with_parts(data, rows))


FORMAT = Format("extxyz", "extended XYZ for ASE, MACE, SevenNet, fairchem", (".extxyz", ".xyz"), write)
