"""HDF5: as ``dataset.h5``, with the part of each label."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quarry.product.formats.base import Format

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from quarry.product.campaign_data import CampaignData


def write(data: CampaignData, rows: NDArray[np.int64], path: Path) -> None:
    """Write the labels in flat arrays, and their parts in the data set ``split``."""
    from quarry.hdf5_files import new_hdf5

    with new_hdf5(path) as handle:
        data.labelled.subset(rows).write_into(handle, {"method_id": data.manifest["method_id"]})
        handle.create_dataset("split", data=data.split[rows].astype("S12"))


FORMAT = Format("hdf5", "flat arrays (docs/dataset.md)", (".h5", ".hdf5"), write)
