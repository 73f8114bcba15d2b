"""MACE by the package mace-torch: from scratch, or a trained network from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mace.modules
import numpy as np
import torch
from e3nn.o3 import Irreps
from mace.data import AtomicData, config_from_atoms
from mace.modules.utils import extract_invariant
from mace.tools import AtomicNumberTable
from mace.tools.scripts_utils import extract_config_mace_model
from mace.tools.torch_geometric import Batch
from numpy.typing import NDArray
from torch import Tensor

from quarry.config.networks import Mace, NetworkPotential
from quarry.errors import QuarryError
from quarry.networks.base import Output
from quarry.structures import Structure, StructureSet

BLOCK = "RealAgnosticResidualInteractionBlock"
SCRATCH = {
    "num_bessel": 8,
    "num_polynomial_cutoff": 5,
    "max_ell": 3,
    "interaction_cls": BLOCK,
    "interaction_cls_first": BLOCK,
    "MLP_irreps": "16x0e",
    "gate": "silu",
    "radial_MLP": [64, 64, 64],
    "atomic_inter_scale": 1.0,
    "atomic_inter_shift": 0.0,
}
"""What the package's own training takes by default."""
CLASSES = ("interaction_cls", "interaction_cls_first", "readout_cls")
IRREPS = ("hidden_irreps", "MLP_irreps", "edge_irreps")


class MaceNetwork:
    """A network of the package mace-torch, one head and one energy."""

    kind = "mace"
    takes_cells = True

    def __init__(self, module: Any, device: torch.device) -> None:
        """module: a ``ScaleShiftMACE``."""
        if type(module).__name__ != "ScaleShiftMACE" or len(getattr(module, "heads", None) or [""]) > 1:
            raise QuarryError(
                f"model: {type(module).__name__} with {len(getattr(module, 'heads', None) or [''])} heads is not supported; use "
                "a ScaleShiftMACE with one head"
            )
        for weight in module.parameters():
            weight.requires_grad_(True)
        self.module = module.to(device=device, dtype=torch.float32)
        self.device = device
        self.elements: NDArray[np.int64] = module.atomic_numbers.cpu().numpy().astype(np.int64)
        self.cutoff_A = float(module.r_max)
        self._table = AtomicNumberTable(self.elements.tolist())

    @classmethod
    def pretrained(cls, model: str, device: torch.device) -> MaceNetwork:
        """Read a trained network from a file."""
        return cls(torch.load(model, map_location="cpu", weights_only=False), device)

    @classmethod
    def from_scratch(
        cls, settings: NetworkPotential, structures: StructureSet, seed: int, device: torch.device
    ) -> MaceNetwork:
        """Return a network with random weights for the elements of structures."""
        assert isinstance(settings, Mace)
        numbers = np.unique(structures.numbers).tolist()
        table = AtomicNumberTable(numbers)
        graphs = [_graph(structure, table, settings.cutoff_A) for structure in structures]
        edges, atoms = sum(graph.edge_index.shape[1] for graph in graphs), len(structures.numbers)
        parts = [f"{settings.channels}x{degree}{'eo'[degree % 2]}" for degree in range(settings.angular_momentum + 1)]
        description = {
            **SCRATCH,
            "r_max": settings.cutoff_A,
            "num_interactions": settings.layers,
            "num_elements": len(numbers),
            "hidden_irreps": " + ".join(parts),
            "correlation": settings.correlation,
            "atomic_energies": [0.0] * len(numbers),
            "avg_num_neighbors": max(1.0, edges / max(1, atoms)),
            "atomic_numbers": numbers,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls.rebuilt(description, device)

    @classmethod
    def rebuilt(cls, description: Mapping[str, Any], device: torch.device) -> MaceNetwork:
        """Make an untrained network from ``description``."""
        made = dict(description)
        made |= {name: getattr(mace.modules, made[name]) for name in CLASSES if made.get(name) is not None}
        made |= {name: Irreps(made[name]) for name in IRREPS if made.get(name) is not None}
        made["gate"] = None if made.get("gate") is None else getattr(torch.nn.functional, made["gate"])
        made["atomic_energies"] = np.array(made["atomic_energies"])
        return cls(mace.modules.ScaleShiftMACE(**made), device)

    def description(self) -> dict[str, Any]:
        """Return the package's account of the network, with classes and functions by their names."""
        return {name: _plain(value) for name, value in extract_config_mace_model(self.module).items()}

    def graph(self, structure: Structure) -> AtomicData:
        """Return a structure with its neighbours."""
        return _graph(structure, self._table, self.cutoff_A)

    def evaluate(self, graphs: Sequence[AtomicData], derivatives: bool, learn: bool) -> Output:
        """Return energies, and forces; stresses where they are not for learning."""
        batch = Batch.from_data_list(list(graphs)).to(self.device).to_dict()
        stressed = derivatives and not learn and bool(batch["cell"].any())
        with torch.set_grad_enabled(derivatives or learn):
            found = self.module(batch, training=learn, compute_force=derivatives, compute_stress=stressed)
        energies = found["energy"].reshape(-1).double()
        return Output(energies, found["forces"], found["stress"]) if derivatives else Output(energies)

    def atomic_features(self, graphs: Sequence[AtomicData]) -> Tensor:
        """Return the scalars of all layers."""
        batch = Batch.from_data_list(list(graphs)).to(self.device).to_dict()
        features = self.module(batch, compute_force=False)["node_feats"]
        irreps = Irreps(str(self.module.products[0].linear.irreps_out))
        width = irreps.dim // (irreps.lmax + 1) ** 2
        scalars: Tensor = extract_invariant(features, int(self.module.num_interactions), width, irreps.lmax)
        return scalars


def _graph(structure: Structure, table: AtomicNumberTable, cutoff_A: float) -> AtomicData:
    return AtomicData.from_config(config_from_atoms(structure.to_atoms()), z_table=table, cutoff=cutoff_A)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.tolist()
    if isinstance(value, Irreps):
        return str(value)
    if isinstance(value, type) or callable(value):
        return value.__name__
    return value
