"""The Gaussian-moment neural network as a model: what it learns, predictions, feature maps, file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray

from quarry.config.base import on_device
from quarry.config.models import Gmnn
from quarry.devices import device_of
from quarry.errors import QuarryError, reason_of
from quarry.files import atomic_path
from quarry.models.base import Informativeness, Model, Prediction, TrainingData
from quarry.models.baselines import CompositionBaseline, read_baseline, write_baseline
from quarry.models.gmnn.features import (
    force_sensitivities,
    gradient_features,
    gradient_force_features,
    last_layer_features,
    last_layer_force_features,
)
from quarry.models.gmnn.neighbours import Batch, Neighbourhoods
from quarry.models.gmnn.potential import Parameters, Potential, initial_parameters
from quarry.models.gmnn.training import Examples, Trained, blocks_of, train
from quarry.models.optimal_design import Known, Sensitivities
from quarry.models.splits import held_share
from quarry.structures import StructureSet
from quarry.structures.compositions import element_counts, unfamiliar

VERSION = 1
"""Of the model's file."""
SMALLEST_SCALE_EV = 1e-3
"""Scale of an element where forces or energies do not vary."""

_Ready: TypeAlias = tuple[Potential, Parameters, StructureSet]


@lru_cache(maxsize=4)
def _potential_of(cutoff_A: float, n_elements: int, dtype: torch.dtype, device: torch.device) -> Potential:
    """Return a potential, whose tables take longer to make than the energy of a molecule."""
    return Potential(cutoff_A, n_elements, dtype, device)


class GaussianMomentModel:
    """A potential that is the sum of atomic references and a network of the Gaussian moments of each atom's neighbours.

    The references are the least-squares energies of the elements in the training set. Everything else is learnt in single
    precision; energies are summed in double.
    """

    kind = "gmnn"

    def __init__(self, settings: Gmnn, learnt: tuple[str, ...]) -> None:
        """settings: of the configuration. learnt: energy, and forces and stress if they are learnt."""
        self.settings = settings
        self.learnt = learnt
        self.elements: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._baseline = CompositionBaseline(self.elements, np.zeros(0))
        self._trained: Trained | None = None
        self._doubts: list[str] = []
        self._informed: tuple[bytes, dict[str, Known]] = (b"", {})

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

        Raises QuarryError if a label is not finite, atoms are in one place, or training diverges.
        """
        data = data.subset(np.argsort(data.structures.ids, kind="stable"))
        self._informed = (b"", {})
        self._check(data)
        if validation is None:
            held = max(1, round(self.settings.held_out * len(data))) if len(data) > 1 else 0
            chosen = np.sort(held_share(rng.permutation(len(data)), held, data.groups))
            # The network must learn every element.
            rest = data.structures.subset(np.setdiff1d(np.arange(len(data)), chosen))
            chosen = chosen[~unfamiliar(rest, data.structures.subset(chosen), compositions=False)]
            validation, data = data.subset(chosen), data.subset(np.setdiff1d(np.arange(len(data)), chosen))
        self.elements = np.unique(data.structures.numbers)
        strange = unfamiliar(data.structures, validation.structures, compositions=False)
        validation = validation.subset(np.flatnonzero(~strange))
        self._baseline = CompositionBaseline.fit(data.structures, data.targets["energy"])
        learn, held_out = self._examples(data), self._examples(validation)
        device = device_of(self.settings.device)
        parameters = initial_parameters(len(self.elements), self.settings.hidden, 1.0, rng)
        parameters.scale = torch.from_numpy(self._scales(learn).astype(np.float32))
        if isinstance(start, GaussianMomentModel) and start._trained is not None:
            parameters = start.parameters_for(self.elements, parameters, self._baseline)
        self._trained = train(
            self._potential(device),
            parameters,
            learn,
            held_out if len(held_out) else None,
            self.settings,
            rng,
            checkpoint,
        )

    def _check(self, data: TrainingData) -> None:
        """Look at the labels, and keep doubts about them."""
        if not len(data):
            raise QuarryError("model.kind: gmnn: there is nothing to train on")
        if not len(data.structures.numbers):
            raise QuarryError("model.kind: gmnn learns from structures, and these have no atoms; choose another kind")
        for name in self.learnt:
            values = data.targets[name]
            periodic = data.structures.pbc.all(axis=1)
            judged = values[periodic] if name == "stress" else values
            if not np.isfinite(judged).all():
                raise QuarryError(f"model.kind: gmnn: a training label's {name} is not a finite number; leave it out")
        states = np.stack([data.structures.charges, data.structures.multiplicities], axis=1)
        numbers = len(np.unique(states, axis=0))
        self._doubts = []
        if numbers > 1:
            self._doubts.append(
                f"the training labels are of {numbers} charges or multiplicities, which gmnn does not see: it takes them for one"
            )

    def _examples(self, data: TrainingData) -> Examples:
        return Examples(
            Neighbourhoods.of(data.structures, self.settings.cutoff_A),
            np.searchsorted(self.elements, data.structures.numbers),
            data.targets["energy"] - self._baseline.mean(data.structures),
            data.targets["forces"] if "forces" in self.learnt else None,
            data.targets["stress"] if "stress" in self.learnt else None,
        )

    def _scales(self, learn: Examples) -> NDArray[np.float64]:
        """Return the first scale of each element (eV): its forces' root mean square times 1 Angstrom; without forces the
        energies' spread about the references, per square root of the atoms.
        """
        if learn.forces is not None:
            squares = (learn.forces**2).mean(axis=1)
            each = np.bincount(learn.elements, squares) / np.bincount(learn.elements)
            return np.maximum(np.sqrt(each), SMALLEST_SCALE_EV)
        sizes = np.diff(learn.neighbourhoods.offsets)
        spread = float(np.sqrt(np.mean(learn.energies**2 / np.maximum(sizes, 1))))
        return np.full(len(self.elements), max(spread, SMALLEST_SCALE_EV))

    def parameters_for(
        self, elements: NDArray[np.int64], fresh: Parameters, baseline: CompositionBaseline
    ) -> Parameters:
        """Return the trained parameters for other elements and references; elements that are new keep ``fresh`` ones."""
        assert self._trained is not None
        own = self._trained.parameters
        if [w.shape for w in own.weights] != [w.shape for w in fresh.weights]:
            return fresh
        known = np.flatnonzero(np.isin(elements, self.elements))
        mine = torch.from_numpy(np.searchsorted(self.elements, elements[known]))
        theirs = torch.from_numpy(known)
        shape = fresh.embedding.shape[1:]
        table = fresh.embedding.clone().view(len(elements), len(elements), *shape)
        old = own.embedding.view(len(self.elements), len(self.elements), *shape)
        table[theirs[:, None], theirs] = old[mine[:, None], mine]
        scale, shift = fresh.scale.clone(), fresh.shift.clone()
        scale[theirs] = own.scale[mine]
        # The references have changed: what the network adds to them changes by the difference.
        before = self._baseline.coefficients[mine.numpy()] + own.shift[mine].double().numpy()
        shift[theirs] = torch.from_numpy(before - baseline.coefficients[known]).float()
        return Parameters(own.weights, own.biases, table.view(fresh.embedding.shape), scale, shift)

    @torch.inference_mode()
    def predict(self, structures: StructureSet, want: frozenset[str]) -> Prediction:
        """Predict energies, and forces and stresses where they are wanted (stresses: NaN of molecules).

        Raises QuarryError for an element that was not learnt, atoms in one place, or a position that is not finite.
        """
        derivatives = bool(want & {"forces", "stress"})
        n, n_atoms = len(structures), len(structures.numbers)
        energies, forces, stresses = self._baseline.mean(structures), np.empty((n_atoms, 3)), np.empty((n, 3, 3))
        potential, parameters, _ = self._ready(structures)
        for rows, batch, own in self._batches(structures, potential):
            if not derivatives:
                energies[rows] += potential.energies(parameters, potential.atoms(parameters, batch, own)).cpu().numpy()
                continue
            result = potential.evaluate(parameters, batch, own)
            energies[rows] += result.energies.cpu().numpy()
            forces[batch.atoms] = -result.gradient.cpu().numpy()
            stresses[rows] = (result.strain / batch.volumes[:, None, None]).cpu().numpy()
        mean = {"energy": energies}
        if derivatives:
            mean |= {"forces": forces, "stress": 0.5 * (stresses + stresses.transpose(0, 2, 1))}
        return Prediction(mean)

    def beyond_reach(self, structures: StructureSet) -> NDArray[np.bool_]:
        """Return which structures have no two atoms within the cutoff, see ``HasReach``."""
        found = Neighbourhoods.of(structures, self.settings.cutoff_A)
        return np.diff(found.starts[found.offsets]) == 0

    @torch.inference_mode()
    def features(self, structures: StructureSet, kind: str, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return a feature map of the energies or forces of structures, shape (n, p).

        last_layer: the gradient of the energy by the last layer's weights and bias. gradient: a random projection of that by the
        weights and biases of all layers. last_layer_forces, gradient_forces: of forces, ``features.second_moments`` of the same
        gradients. Raises QuarryError for another kind.
        """
        known = self.settings.traits.feature_maps
        if kind not in known:
            raise QuarryError(f"query.embedding: a model of kind gmnn has no {kind} features; use {' or '.join(known)}")
        seed = int(rng.integers(2**63 - 1))
        potential, parameters, _ = self._ready(structures)
        parts = []
        for rows, batch, own in self._batches(structures, potential):
            trace, n = potential.atoms(parameters, batch, own, curved=kind == "gradient_forces"), len(rows)
            if kind == "last_layer":
                found = last_layer_features(trace, n)
            elif kind == "gradient":
                found = gradient_features(trace, n, seed)
            elif kind == "last_layer_forces":
                found = last_layer_force_features(potential, parameters, trace, n, seed)
            else:
                found = gradient_force_features(potential, trace, n, seed)
            parts.append(found.cpu().numpy())
        return np.concatenate(parts).astype(np.float32)

    @torch.inference_mode()
    def informativeness(
        self, structures: StructureSet, known: StructureSet, want: frozenset[str]
    ) -> dict[str, Informativeness]:
        """Return the expected change of the output variance by labels of structures, by criterion: energy (QS1), forces (QS2).

        ``quarry.models.optimal_design``. The information matrix is that of all known structures, those too that early stopping
        looks at: their labels are there. It is kept for the next structures.
        """

        def blocks(criterion: str, ready: _Ready) -> Iterator[Sensitivities]:
            potential, parameters, some = ready
            for rows, batch, own in self._batches(some, potential):
                trace = potential.atoms(parameters, batch, own)
                if criterion == "energy":
                    found = last_layer_features(trace, len(rows))[:, :-1]
                    counts, together = np.ones(len(rows), dtype=np.int64), 1
                else:
                    found = force_sensitivities(potential, parameters, trace)
                    counts, together = 3 * np.diff(some.offsets)[rows], 3
                yield Sensitivities(found.cpu().numpy(), counts, together)

        others, ids = self._ready(structures), known.ids.tobytes()
        if self._informed[0] != ids:
            self._informed = (ids, {})
        kept = self._informed[1]
        for criterion in sorted(want - kept.keys()):
            kept[criterion] = Known(partial(blocks, criterion, self._ready(known)))
        return {criterion: kept[criterion].change(blocks(criterion, others)) for criterion in sorted(want)}

    def _potential(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Potential:
        return _potential_of(self.settings.cutoff_A, len(self.elements), dtype, device)

    def _ready(self, structures: StructureSet) -> _Ready:
        """Return the potential, its parameters, and the structures. Raises QuarryError for some that it cannot judge."""
        if self._trained is None:
            raise RuntimeError("this model is not trained")
        strange = np.setdiff1d(structures.numbers, self.elements)
        if len(strange):
            names = ", ".join(chemical_symbols[number] for number in strange)
            counts = element_counts(structures, strange).sum(axis=1)
            first = structures.ids[np.flatnonzero(counts)[0]]
            raise QuarryError(
                f"model.kind: gmnn has learnt nothing of the element {names} (structure {first}, {int((counts > 0).sum())} in "
                "all); label some of them (query.initial), or leave them out of the pool"
            )
        device = device_of(self.settings.device)
        potential = self._potential(device)
        parameters = self._trained.parameters.map(lambda tensor: tensor.to(device))
        return potential, parameters, structures

    def _batches(
        self, structures: StructureSet, potential: Potential
    ) -> Iterator[tuple[NDArray[np.int64], Batch, torch.Tensor]]:
        """Yield blocks of structures: their rows, they as a batch, and the numbers of their atoms' elements.

        Neighbours are found block by block: those of a large pool take gigabytes.
        """
        for rows in blocks_of(structures.offsets):
            found = Neighbourhoods.of(structures.subset(rows), self.settings.cutoff_A)
            batch = found.batch(np.arange(len(rows)), potential.cutoff_A, potential.dtype, potential.device)
            batch.atoms += structures.offsets[rows[0]]
            elements = np.searchsorted(self.elements, structures.numbers[batch.atoms])
            yield rows, batch, torch.from_numpy(elements).to(potential.device)

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Return the number of parameters, the best epoch, its held-out loss (None without held-out data), the elements."""
        assert self._trained is not None
        loss = self._trained.held_out_loss
        return {
            "parameters": sum(tensor.numel() for tensor in self._trained.parameters.tensors),
            "epochs": self._trained.epoch,
            "held_out_loss": None if math.isnan(loss) else loss,
            "elements": [chemical_symbols[number] for number in self.elements],
        }

    @property
    def warnings(self) -> list[str]:
        """Return what is doubtful about the training, a line each."""
        assert self._trained is not None
        cut = self._trained.epoch == self.settings.epochs and not math.isnan(self._trained.held_out_loss)
        unfinished = cut and self.settings.schedule in ("constant", "plateau") and self.settings.epochs > 1
        late = ["gmnn was best in its last epoch: it may not have converged (model.epochs)"] if unfinished else []
        return [*self._doubts, *late]

    def save(self, path: str | Path) -> None:
        """Write the model as HDF5; the same model gives the same bytes."""
        if self._trained is None:
            raise RuntimeError("this model is not trained")
        parameters = self._trained.parameters
        with atomic_path(path) as temporary, h5py.File(temporary, "w") as handle:
            handle.attrs.update(kind=self.kind, version=VERSION, settings=self.settings.model_dump_json())
            handle.attrs.update(learnt=list(self.learnt), doubts=list(self._doubts))
            handle.attrs.update(epoch=self._trained.epoch, held_out_loss=self._trained.held_out_loss)
            handle.create_dataset("elements", data=self.elements)
            write_baseline(self._baseline, handle.create_group("references"))
            for name in ("embedding", "scale", "shift"):
                handle.create_dataset(name, data=getattr(parameters, name).numpy())
            for layer, (weights, biases) in enumerate(zip(parameters.weights, parameters.biases, strict=True)):
                handle.create_dataset(f"layers/{layer:02d}/weights", data=weights.numpy())
                handle.create_dataset(f"layers/{layer:02d}/biases", data=biases.numpy())

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> GaussianMomentModel:
        """Read what ``save`` wrote. device: where it is to run; None: as when it was trained.

        Raises QuarryError for a file that is damaged, or of another version.
        """
        try:
            with h5py.File(path, "r") as handle:
                version = int(handle.attrs["version"])
                if version != VERSION:
                    raise QuarryError(
                        f"{path}: a gmnn of version {version}, this Quarry reads {VERSION}; remove it and start again"
                    )
                learnt = tuple(str(name) for name in handle.attrs["learnt"])
                model = cls(on_device(Gmnn.model_validate_json(handle.attrs["settings"]), device), learnt)
                model.elements, model._doubts = handle["elements"][()], [str(line) for line in handle.attrs["doubts"]]
                baseline = read_baseline(handle["references"])
                assert isinstance(baseline, CompositionBaseline)
                model._baseline = baseline
                layers = [handle["layers"][name] for name in sorted(handle["layers"])]
                parts = [[torch.from_numpy(layer[part][()]) for layer in layers] for part in ("weights", "biases")]
                rest = [torch.from_numpy(handle[name][()]) for name in ("embedding", "scale", "shift")]
                parameters = Parameters(parts[0], parts[1], rest[0], rest[1], rest[2])
                model._trained = Trained(parameters, int(handle.attrs["epoch"]), float(handle.attrs["held_out_loss"]))
        except (OSError, KeyError, ValueError) as error:
            raise QuarryError(
                f"{path}: this is not an intact model file ({reason_of(error)}); remove it and start again"
            ) from error
        return model
