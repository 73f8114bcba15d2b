"""The excited states of a nuclear ensemble: labels where there are some, predictions elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from quarry.errors import QuarryError
from quarry.hdf5_files import new_hdf5
from quarry.structures.structure import ID_LENGTH

QUANTITIES = ("excitation_energies", "oscillator_strengths")


@dataclass(frozen=True)
class Negative:
    """Predictions below zero that were cut there.

    count: how many numbers. lowest: the most negative one (0 for none). mean: their sum over the number of members; by so
    much (in the mean sum over the states) cutting has raised the ensemble's.
    """

    count: int
    lowest: float
    mean: float


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The excited states of every member of a nuclear ensemble.

    ids: n strings. energies: eV, strengths: oscillator strengths, shape (n, n_states). labelled: whether these come from a
    label, shape (n,). roles: of the label (train, test), empty for the others, n strings. negative: by quantity, what
    was cut of the predictions.
    """

    ids: NDArray[np.str_]
    energies: NDArray[np.float64]
    strengths: NDArray[np.float64]
    labelled: NDArray[np.bool_]
    roles: NDArray[np.str_]
    negative: Mapping[str, Negative]

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def assemble(
        ids: NDArray[np.str_],
        labels: NDArray[np.float64],
        roles: NDArray[np.str_],
        predictions: NDArray[np.float64],
    ) -> Ensemble:
        """Keep labels where they exist, take predictions elsewhere, and cut those below zero at zero.

        labels, predictions: shape (n, 2 n_states), all energies (eV) and then all oscillator strengths. A label that lacks
        a number (NaN) is none; of predictions, the rows without a label are looked at.
        Raises QuarryError if one of those is not a finite number.
        """
        labelled: NDArray[np.bool_] = np.asarray(np.isfinite(labels).all(axis=1))
        lost = ~labelled & ~np.isfinite(predictions).all(axis=1)
        if lost.any():
            lost_id = ids[int(np.argmax(lost))]
            raise QuarryError(
                f"spectrum: the model's prediction for structure {lost_id} is not a finite number; "
                "label more, or check model and labels"
            )
        values = np.where(labelled[:, None], labels, predictions)
        energies, strengths = np.split(values, 2, axis=1)
        negative = {}
        for name, part in zip(QUANTITIES, (energies, strengths), strict=True):
            below = (part < 0) & ~labelled[:, None]
            cut = part[below]
            negative[name] = Negative(len(cut), float(cut.min(initial=0.0)), float(cut.sum()) / max(1, len(part)))
            part[below] = 0.0
        own = np.where(labelled, roles, "")
        return Ensemble(ids, energies, strengths, labelled, own, negative)

    def subset(self, indices: NDArray[np.int64]) -> Ensemble:
        """Return the members at ``indices``, shape (m,), in that order; ``negative`` stays that of the whole ensemble."""
        return Ensemble(
            self.ids[indices],
            self.energies[indices],
            self.strengths[indices],
            self.labelled[indices],
            self.roles[indices],
            self.negative,
        )

    def write(self, path: str | Path, attributes: Mapping[str, Any]) -> None:
        """Write HDF5. The same ensemble gives the same bytes."""
        with new_hdf5(path) as handle:
            handle.attrs.update(attributes)
            handle.create_dataset("ids", data=self.ids.astype(f"S{ID_LENGTH}"))
            handle.create_dataset("labelled", data=self.labelled)
            handle.create_dataset("roles", data=self.roles.astype("S10"))
            for name, values in zip(QUANTITIES, (self.energies, self.strengths), strict=True):
                data = handle.create_dataset(name, data=values)
                data.attrs["unit"] = "eV" if values is self.energies else "1"
                data.attrs["negative_predictions_cut"] = self.negative[name].count
                data.attrs["lowest_prediction"] = self.negative[name].lowest
                data.attrs["mean_cut"] = self.negative[name].mean

    @staticmethod
    def read(path: str | Path) -> Ensemble:
        """Read what ``write`` wrote."""
        with h5py.File(path, "r") as handle:
            return Ensemble(
                ids=handle["ids"][()].astype(f"<U{ID_LENGTH}"),
                energies=handle[QUANTITIES[0]][()],
                strengths=handle[QUANTITIES[1]][()],
                labelled=handle["labelled"][()],
                roles=handle["roles"][()].astype("<U10"),
                negative={
                    name: Negative(
                        int(handle[name].attrs["negative_predictions_cut"]),
                        float(handle[name].attrs["lowest_prediction"]),
                        float(handle[name].attrs["mean_cut"]),
                    )
                    for name in QUANTITIES
                },
            )
