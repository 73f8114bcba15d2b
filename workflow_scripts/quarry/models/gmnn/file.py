"""Networks and held-out labels of a potential in its file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from quarry.models.calibration import HeldOut
from quarry.models.gmnn.potential import Parameters
from quarry.models.gmnn.training import Trained


def write_networks(handle: Any, networks: Sequence[Trained], several: bool) -> None:
    """Write networks into an HDF5 file: a single one at its top, members of a committee (several) in groups."""
    for number, trained in enumerate(networks):
        group = handle.create_group(f"members/{number:03d}") if several else handle
        parameters = trained.parameters
        group.attrs.update(epoch=trained.epoch, held_out_loss=trained.held_out_loss)
        for name in ("embedding", "scale", "shift"):
            group.create_dataset(name, data=getattr(parameters, name).numpy())
        for layer, (weights, biases) in enumerate(zip(parameters.weights, parameters.biases, strict=True)):
            group.create_dataset(f"layers/{layer:02d}/weights", data=weights.numpy())
            group.create_dataset(f"layers/{layer:02d}/biases", data=biases.numpy())
        for name, values in zip(("weights", "biases"), parameters.spread, strict=bool(parameters.spread)):
            group.create_dataset(f"spread/{name}", data=values.numpy())


def read_networks(handle: Any) -> list[Trained]:
    """Read what ``write_networks`` wrote. Raises KeyError if something is missing."""
    groups = [handle["members"][name] for name in sorted(handle["members"])] if "members" in handle else [handle]
    networks = []
    for group in groups:
        layers = [group["layers"][name] for name in sorted(group["layers"])]
        weights, biases = ([torch.from_numpy(layer[part][()]) for layer in layers] for part in ("weights", "biases"))
        rest = [torch.from_numpy(group[name][()]) for name in ("embedding", "scale", "shift")]
        spread = []
        if "spread" in group:
            spread = [torch.from_numpy(group["spread"][name][()]) for name in ("weights", "biases")]
        parameters = Parameters(weights, biases, rest[0], rest[1], rest[2], spread)
        networks.append(Trained(parameters, int(group.attrs["epoch"]), float(group.attrs["held_out_loss"])))
    return networks


def write_held(group: Any, held: HeldOut) -> None:
    """Write held-out labels and what networks say of them into an HDF5 group."""
    group.attrs["structures"] = held.structures
    for name, labels in held.labels.items():
        group.create_dataset(f"{name}/labels", data=labels)
        group.create_dataset(f"{name}/outputs", data=held.outputs[name])


def read_held(group: Any) -> HeldOut:
    """Read what ``write_held`` wrote."""
    labels, outputs = ({name: group[name][part][()] for name in group} for part in ("labels", "outputs"))
    return HeldOut(labels, outputs, int(group.attrs["structures"]))
