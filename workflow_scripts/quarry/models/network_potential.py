"""A potential of another package as a model: training, predictions, feature map, file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray

from quarry.config.base import on_device
from quarry.config.models import Ani, Mace, Sevenn
from quarry.config.networks import NetworkPotential
from quarry.descriptors.reach import within_cutoff
from quarry.devices import device_of
from quarry.errors import QuarryError
from quarry.hdf5_files import new_hdf5
from quarry.models.base import Model, Prediction, TrainingData, check_labels
from quarry.models.baselines import CompositionBaseline, read_baseline, write_baseline
from quarry.models.model_file import check_version, intact
from quarry.models.network_training import Examples, train
from quarry.models.splits import of_known_elements, random_share
from quarry.networks.base import Network, check_domain, pooled, predict
from quarry.networks.registry import from_scratch, pretrained, rebuilt
from quarry.structures import StructureSet
from quarry.structures.compositions import element_counts

VERSION = 1
"""Of the model's file."""
SECTIONS: dict[str, type[NetworkPotential]] = {"sevenn": Sevenn, "mace": Mace, "ani": Ani}


def starting_network(settings: NetworkPotential, structures: StructureSet, base: Path | None, seed: int) -> Network:
    """Return the network that training starts from. base: folder of the campaign file. seed: of random weights."""
    device = device_of(settings.device)
    if settings.network is None:
        return from_scratch(settings, structures, seed, device)
    return pretrained(settings.extra, settings.network, base, "model.model", device)


def check_pool(settings: NetworkPotential, structures: StructureSet, base: Path) -> None:
    """Raise QuarryError if the network cannot be read or made, or does not know a structure's elements or cells."""
    check_domain(starting_network(settings, structures, base, 0), structures, f"model.kind: {settings.extra}")


class NetworkModel:
    """Atomic references by least squares, and a network of another package that learns the rest."""

    def __init__(self, settings: NetworkPotential, learnt: tuple[str, ...], base: Path | None = None) -> None:
        """settings: of the configuration. learnt: energy, and forces if they are learnt. base: folder of the campaign file."""
        self.settings = settings
        self.learnt = learnt
        self.base = base
        self._network: Network | None = None
        self._references = CompositionBaseline(np.zeros(0, dtype=np.int64), np.zeros(0))
        self._epoch, self._held_out_loss = 0, math.nan

    def fit(
        self,
        data: TrainingData,
        validation: TrainingData | None,
        rng: np.random.Generator,
        *,
        start: Model | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        """Train; early stopping looks at ``validation``, or at a held-out share of ``data``.

        Raises QuarryError if a label is not finite, the network does not know an element, or training diverges.
        """
        data = data.subset(np.argsort(data.structures.ids, kind="stable"))
        check_labels(self.settings.extra, data, self.learnt)
        if validation is None:
            chosen = of_known_elements(data.structures, random_share(data, self.settings.held_out, rng))
            validation, data = data.subset(chosen), data.subset(np.setdiff1d(np.arange(len(data)), chosen))
        network = starting_network(self.settings, data.structures, self.base, int(rng.integers(2**31)))
        check_domain(network, data.structures, f"model.kind: {self.settings.extra}")
        check_domain(network, validation.structures, f"model.kind: {self.settings.extra}")
        if isinstance(start, NetworkModel) and start._network is not None and _same(start._network, network):
            network.module.load_state_dict(start._network.module.state_dict())
        elements = np.unique(data.structures.numbers)
        learn, held_out = (self._examples(network, part, elements) for part in (data, validation))
        trained = train(network, learn, held_out, self.settings, rng, checkpoint)
        self._network, self._references = network, CompositionBaseline(elements, trained.references)
        self._epoch, self._held_out_loss = trained.epoch, trained.held_out_loss

    def _examples(self, network: Network, data: TrainingData, elements: NDArray[np.int64]) -> Examples:
        graphs = [network.graph(structure) for structure in data.structures]
        counts = element_counts(data.structures, elements)
        forces = data.targets["forces"] if "forces" in self.learnt else None
        return Examples(graphs, data.structures.offsets, counts, data.targets["energy"], forces)

    def predict(self, structures: StructureSet, want: frozenset[str]) -> Prediction:
        """Predict energies, and forces where they are wanted. Raises QuarryError for an element that was not learnt."""
        network = self._ready(structures)
        found = predict(network, structures, "forces" in want)
        found.pop("stress", None)
        return Prediction({**found, "energy": found["energy"] + self._references.mean(structures)})

    def features(self, structures: StructureSet, kind: str, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the sums of the features of atoms that the last layers see, shape (n, p); kind: last_layer."""
        if kind != "last_layer" or kind not in self.settings.maps:
            raise QuarryError(
                f"query.embedding: a model of kind {self.settings.extra} has no {kind} features; set last_layer"
            )
        return pooled(self._ready(structures), structures, "sum")

    def beyond_reach(self, structures: StructureSet) -> NDArray[np.bool_]:
        """Return which structures have no two atoms within the network's cutoff, see ``HasReach``."""
        assert self._network is not None
        return ~within_cutoff(self._network.cutoff_A, structures)

    def _ready(self, structures: StructureSet) -> Network:
        if self._network is None:
            raise RuntimeError("this model is not trained")
        strange = np.setdiff1d(structures.numbers, self._references.elements)
        if len(strange):
            names = ", ".join(chemical_symbols[number] for number in strange)
            raise QuarryError(
                f"model.kind: {self.settings.extra} has learnt nothing of the element {names}; label some structures with it "
                "(query.initial), or leave them out of the pool"
            )
        check_domain(self._network, structures, f"model.kind: {self.settings.extra}")
        return self._network

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Return the number of parameters, the best epoch, its held-out loss (None without held-out data), the elements."""
        assert self._network is not None
        return {
            "parameters": sum(tensor.numel() for tensor in self._network.module.parameters()),
            "epochs": self._epoch,
            "held_out_loss": None if math.isnan(self._held_out_loss) else self._held_out_loss,
            "elements": [chemical_symbols[number] for number in self._references.elements],
        }

    @property
    def warnings(self) -> list[str]:
        """Return what is doubtful about the training: nothing is known."""
        return []

    def save(self, path: str | Path) -> None:
        """Write weights, what the network is made from, references and settings: no code is run when it is read."""
        assert self._network is not None
        with new_hdf5(path) as handle:
            handle.attrs.update(kind=self.settings.extra, version=VERSION, settings=self.settings.model_dump_json())
            handle.attrs.update(learnt=list(self.learnt), epoch=self._epoch, held_out_loss=self._held_out_loss)
            handle.create_dataset("network", data=json.dumps(self._network.description(), sort_keys=True))
            write_baseline(self._references, handle.create_group("references"))
            for number, (name, tensor) in enumerate(self._network.module.state_dict().items()):
                data = handle.create_dataset(f"weights/{number:05d}", data=tensor.detach().cpu().numpy())
                data.attrs["name"] = name

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> NetworkModel:
        """Read what ``save`` wrote. device: where it is to run; None: as when it was trained.

        Raises QuarryError for a file that is damaged, or of another version.
        """
        with intact(path), h5py.File(path, "r") as handle:
            kind = str(handle.attrs["kind"])
            check_version(path, kind, int(handle.attrs["version"]), VERSION)
            settings = on_device(SECTIONS[kind].model_validate_json(handle.attrs["settings"]), device)
            model = cls(settings, tuple(str(name) for name in handle.attrs["learnt"]))
            model._epoch, model._held_out_loss = int(handle.attrs["epoch"]), float(handle.attrs["held_out_loss"])
            references = read_baseline(handle["references"])
            assert isinstance(references, CompositionBaseline)
            description = json.loads(handle["network"][()])
            weights = {
                str(data.attrs["name"]): torch.from_numpy(np.asarray(data[()])) for data in handle["weights"].values()
            }
        network = rebuilt(kind, description, device_of(settings.device))
        network.module.load_state_dict(weights)
        model._network, model._references = network, references
        return model


def _same(one: Network, other: Network) -> bool:
    """Whether two networks have the same elements and layers."""
    shapes: Sequence[dict[str, torch.Size]] = [
        {name: tensor.shape for name, tensor in network.module.state_dict().items()} for network in (one, other)
    ]
    return np.array_equal(one.elements, other.elements) and shapes[0] == shapes[1]
