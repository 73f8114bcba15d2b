"""SevenNet by the package sevenn: trained networks, and what they are made from."""

from __future__ import annotations

import copy
import json
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sevenn._keys as key
import torch
from e3nn.o3 import Irreps
from numpy.typing import NDArray
from sevenn.atom_graph_data import AtomGraphData
from sevenn.model_build import build_E3_equivariant_model
from sevenn.train.dataload import unlabeled_atoms_to_graph
from sevenn.util import load_checkpoint
from torch import Tensor
from torch_geometric.data import Batch

from quarry.errors import QuarryError
from quarry.networks.base import Output
from quarry.structures import Structure

READOUTS = ("reduce_input_to_hidden", "readout_FCN")
"""Layers that map an atom's features to its energy; a network has one of them."""
TYPE_MAP = "_type_map"


class SevenNet:
    """A network of the package sevenn."""

    kind = "sevenn"
    takes_cells = True

    def __init__(self, module: Any, config: Mapping[str, Any], device: torch.device) -> None:
        """module: its ``AtomGraphSequential``. config: what it was built from."""
        if module.modal_map:
            raise QuarryError("model: a network of several modalities is not supported; use one with a single one")
        module.set_is_batch_data(True)
        self.module = module.to(device)
        self.config = config
        self.device = device
        self.cutoff_A = float(module.cutoff)
        self.elements: NDArray[np.int64] = np.array(sorted(module.type_map), dtype=np.int64)
        # The same layers without the one that differentiates.
        self._energies = copy.copy(module)
        self._energies._modules = OrderedDict(
            (name, layer) for name, layer in module.named_children() if name != "force_output"
        )
        self._energies.key_grad = None

    @classmethod
    def pretrained(cls, model: str, device: torch.device) -> SevenNet:
        """Read a trained network: a name or a file."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoint = load_checkpoint(model)
            return cls(checkpoint.build_model(), checkpoint.config, device)

    @classmethod
    def rebuilt(cls, description: Mapping[str, Any], device: torch.device) -> SevenNet:
        """Make an untrained network from ``description``."""
        config = {**description, TYPE_MAP: {int(z): place for z, place in description[TYPE_MAP].items()}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cls(build_E3_equivariant_model(dict(config)), config, device)

    def description(self) -> dict[str, Any]:
        """Return the settings of the package that can be written down; tensors among them are weights or lists too."""
        return {name: value for name, value in self.config.items() if _is_plain(value)}

    def graph(self, structure: Structure) -> AtomGraphData:
        """Return a structure with its neighbours."""
        return AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(structure.to_atoms(), self.module.cutoff))

    def evaluate(self, graphs: Sequence[AtomGraphData], derivatives: bool, learn: bool) -> Output:
        """Return energies, and forces and stresses."""
        self.module.train(learn)
        batch = Batch.from_data_list(list(graphs)).to(self.device)
        if not derivatives:
            with torch.set_grad_enabled(learn):
                return Output(self._energies(batch)[key.PRED_TOTAL_ENERGY].reshape(-1).double())
        found = self.module(batch)
        stress = -found[key.PRED_STRESS][:, [0, 3, 5, 3, 1, 4, 5, 4, 2]].reshape(-1, 3, 3)
        return Output(found[key.PRED_TOTAL_ENERGY].reshape(-1).double(), found[key.PRED_FORCE], stress)

    def atomic_features(self, graphs: Sequence[AtomGraphData]) -> Tensor:
        """Return the scalars that the read-out sees."""
        readout = next(layer for name, layer in self.module.named_children() if name in READOUTS)
        seen: list[Tensor] = []
        handle = readout.register_forward_pre_hook(lambda _, given: seen.append(given[0][key.NODE_FEATURE]))
        try:
            self.evaluate(graphs, derivatives=False, learn=False)
        finally:
            handle.remove()
        scalars = next((part for part in Irreps(str(readout.irreps_in)) if part.ir.l == 0), None)
        return seen[0] if scalars is None else seen[0][:, : scalars.mul]


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
