"""The networks of other packages by their kind. Imports are lazy, and a package that is absent is one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from quarry.config.extras import EXTRAS
from quarry.config.installed import require
from quarry.config.networks import NetworkPotential
from quarry.errors import QuarryError, reason_of
from quarry.imports import named
from quarry.networks.base import Network
from quarry.structures import StructureSet

NETWORKS = {
    "sevenn": "quarry.networks.sevennet:SevenNet",
    "mace": "quarry.networks.mace_network:MaceNetwork",
    "ani": "quarry.networks.ani:AniNetwork",
}
"""Where the class of each kind is."""


def pretrained(kind: str, model: str, base: Path | None, key: str, device: torch.device) -> Network:
    """Return a trained network. model: its name, or a file relative to base (the campaign file's folder).

    key: of the configuration, for messages. Raises QuarryError if the package is not installed or the network cannot be read.
    """
    path = model if model in EXTRAS[kind].shipped else str((base or Path()) / model)
    return _made(kind, key, lambda made: made.pretrained(path, device))


def from_scratch(settings: NetworkPotential, structures: StructureSet, seed: int, device: torch.device) -> Network:
    """Return a network with random weights for the elements of structures. Errors as of ``pretrained``."""
    return _made(settings.extra, "model.kind", lambda made: made.from_scratch(settings, structures, seed, device))


def rebuilt(kind: str, description: Mapping[str, Any], device: torch.device) -> Network:
    """Return an untrained network from ``Network.description``. Errors as of ``pretrained``."""
    return _made(kind, "model.kind", lambda made: made.rebuilt(description, device))


def _made(kind: str, key: str, make: Any) -> Network:
    require(kind, f"{key}: {kind}")
    try:
        network: Network = make(named(NETWORKS[kind]))
    except QuarryError:
        raise
    except Exception as error:
        raise QuarryError(
            f"{key}: {kind} cannot make the network ({reason_of(error, named=True)}); correct it"
        ) from error
    return network
