"""The Gaussian-moment neural network as a model: what it learns, predictions, feature maps, file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray

from quarry.config.base import on_device
from quarry.config.gmnn import Gmnn
from quarry.devices import device_of
from quarry.errors import QuarryError
from quarry.hdf5_files import new_hdf5
from quarry.models.base import (
    STD,
    STD_GRADIENT,
    STD_OF_ENERGY,
    Informativeness,
    Model,
    Prediction,
    TrainingData,
    UncertaintyGradient,
)
from quarry.models.baselines import CompositionBaseline, read_baseline, write_baseline
from quarry.models.calibration import FEW, Calibration, HeldOut
from quarry.models.gmnn.auxiliary import AuxiliaryProcess
from quarry.models.gmnn.beginning import carried_over, first_scales, held_rows
from quarry.models.gmnn.features import feature_map
from quarry.models.gmnn.file import read_held, read_networks, write_held, write_networks
from quarry.models.gmnn.informing import Block, Informing
from quarry.models.gmnn.neighbours import Batch, Neighbourhoods
from quarry.models.gmnn.potential import Parameters, Potential, initial_parameters, potential_of
from quarry.models.gmnn.readouts import initial_spread, said_by, said_together, std_gradient
from quarry.models.gmnn.refusals import check_elements, doubts_about
from quarry.models.gmnn.training import Examples, Trained, blocks, doubtful, train
from quarry.models.model_file import check_version, intact
from quarry.models.network import check_members
from quarry.structures import StructureSet
from quarry.structures.compositions import unfamiliar

VERSION = 1
"""Of the model's file."""


class GaussianMomentModel:
    """A potential that is the sum of atomic references and a network of the Gaussian moments of each atom's neighbours.

    The references are the least-squares energies of the elements in the training set. Everything else is learnt in single
    precision; energies are summed in double.
    """

    kind = "gmnn"

    def __init__(self, settings: Gmnn, learnt: tuple[str, ...]) -> None:
        """settings: of the configuration. learnt: energy, and forces and stress if they are learnt."""
        self.settings, self.learnt = settings, learnt
        self.elements: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._baseline = CompositionBaseline(self.elements, np.zeros(0))
        self._trained: list[Trained] = []
        self._doubts: list[str] = []
        self._held: HeldOut | None = None
        self._calibrations: dict[str, Calibration] = {}
        self._informed: Informing | None = None
        self._auxiliary: AuxiliaryProcess | None = None

    def fit(
        self,
        data: TrainingData,
        validation: TrainingData | None,
        rng: np.random.Generator,
        *,
        start: Model | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        """Train; early stopping looks at ``validation``, or at a held-out share of ``data``, which calibrates too.

        That share is the same for all members of a committee; each has its own initial weights and order of batches. start: a
        member begins from that of the same number. Raises QuarryError if a label is not finite, atoms are in one place, or
        training diverges.
        """
        data, held, streams = self._prepare(data, validation, rng)
        learn, held_out = self._examples(data), self._examples(held)
        self._trained = []
        for number, stream in enumerate(streams):
            folder = checkpoint if checkpoint is None or len(streams) == 1 else checkpoint / f"{number:03d}"
            self._trained.append(self._train(number, learn, held_out, stream, start, folder))
        if self.settings.has_auxiliary:
            self._auxiliary = AuxiliaryProcess.fit(learn, len(self.elements), self.settings.cutoff_A, rng.spawn(1)[0])
        self._hold_out(held)

    def fit_member(
        self,
        member: int,
        data: TrainingData,
        validation: TrainingData | None,
        rng: np.random.Generator,
        *,
        start: Model | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        """Train member number ``member`` (from 0) alone, as ``fit`` with the same generator state trains it."""
        data, held, streams = self._prepare(data, validation, rng)
        learn, held_out = self._examples(data), self._examples(held)
        self._trained = [self._train(member, learn, held_out, streams[member], start, checkpoint)]
        self._hold_out(held)

    def join(self, members: Sequence[GaussianMomentModel]) -> None:
        """Become the committee of members that were trained one by one, in their order.

        Raises QuarryError if they are not all the members, or were trained on different data.
        """
        first = members[0]
        check_members(self.settings.networks, [len(m._trained) for m in members], [m._fingerprint() for m in members])
        self.elements, self._baseline, self._doubts = first.elements, first._baseline, first._doubts
        self._trained = [m._trained[0] for m in members]
        held = [m._held for m in members if m._held is not None]
        if held:
            outputs = {name: np.concatenate([h.outputs[name] for h in held]) for name in held[0].labels}
            self._calibrate(HeldOut(held[0].labels, outputs, held[0].structures))

    def _fingerprint(self) -> tuple[Any, ...]:
        """Return what all members of a committee have in common."""
        held = () if self._held is None else tuple(values.tobytes() for values in self._held.labels.values())
        return (self.elements.tobytes(), self._baseline.coefficients.tobytes(), *held)

    def _prepare(
        self, data: TrainingData, validation: TrainingData | None, rng: np.random.Generator
    ) -> tuple[TrainingData, TrainingData, list[np.random.Generator]]:
        """Set what all networks share; return what they learn, what is held out from them, and the generator of each."""
        data = data.subset(np.argsort(data.structures.ids, kind="stable"))
        self._informed = None
        self._doubts = doubts_about(data, self.learnt)
        streams, shared = [rng], rng
        if self.settings.networks > 1:
            *streams, shared = rng.spawn(self.settings.networks + 1)
        if validation is None:
            chosen = held_rows(data, self.settings, shared)
            validation, data = data.subset(chosen), data.subset(np.setdiff1d(np.arange(len(data)), chosen))
        self.elements = np.unique(data.structures.numbers)
        strange = unfamiliar(data.structures, validation.structures, compositions=False)
        self._baseline = CompositionBaseline.fit(data.structures, data.targets["energy"])
        return data, validation.subset(np.flatnonzero(~strange)), streams

    def _train(
        self,
        number: int,
        learn: Examples,
        held_out: Examples,
        rng: np.random.Generator,
        start: Model | None,
        checkpoint: Path | None,
    ) -> Trained:
        """Train the network of a member, or the only one."""
        settings = self.settings
        parameters = initial_parameters(len(self.elements), settings.hidden, 1.0, rng)
        parameters.scale = torch.from_numpy(first_scales(learn, len(self.elements)).astype(np.float32))
        if settings.n_readouts:
            # A stream of its own, so that the mean is that of a network without the ensemble.
            parameters.spread = initial_spread(settings.hidden[-1], settings.n_readouts, rng.spawn(1)[0])
        if isinstance(start, GaussianMomentModel) and start._trained:
            known = start._trained[number % len(start._trained)].parameters
            before, now = (start.elements, start._baseline), (self.elements, self._baseline)
            parameters = carried_over(known, before, parameters, now)
        if checkpoint is not None:
            checkpoint.mkdir(parents=True, exist_ok=True)
        potential = self._potential(device_of(settings.device))
        return train(potential, parameters, learn, held_out if len(held_out) else None, settings, rng, checkpoint)

    @torch.inference_mode()
    def _hold_out(self, held: TrainingData) -> None:
        """Keep what the networks say of held-out labels, to calibrate by; of copies of a structure one counts."""
        if not self.settings.gives_std or not self.settings.calibrate or not len(held):
            return
        if held.groups is not None:
            held = held.subset(np.sort(np.unique(held.groups, return_index=True)[1]))
        references = self._baseline.mean(held.structures)
        parts, learnt = [], frozenset(self.learnt)
        for rows, batch, _, spread in self._said(held.structures, learnt != {"energy"}, learnt, plain=True):
            # Members that are trained apart meet later: each must say the whole energy.
            said = {**spread, "energy": spread["energy"] + references[rows]}
            where = {name: batch.atoms if name == "forces" else rows for name in self.learnt}
            labels = {name: held.targets[name][at].ravel() for name, at in where.items()}
            parts.append(HeldOut(labels, {name: said[name].reshape(len(said[name]), -1) for name in where}, len(rows)))
        self._calibrate(HeldOut.joined(parts))

    def _calibrate(self, held: HeldOut) -> None:
        self._held, self._calibrations = held, (held.mirrored() if self._auxiliary else held).calibrations()

    def _examples(self, data: TrainingData) -> Examples:
        return Examples(
            Neighbourhoods.of(data.structures, self.settings.cutoff_A),
            np.searchsorted(self.elements, data.structures.numbers),
            data.targets["energy"] - self._baseline.mean(data.structures),
            data.targets["forces"] if "forces" in self.learnt else None,
            data.targets["stress"] if "stress" in self.learnt else None,
        )

    @torch.inference_mode()
    def predict(self, structures: StructureSet, want: frozenset[str]) -> Prediction:
        """Predict energies, and forces and stresses where they are wanted (stresses: NaN of molecules).

        Standard deviations are those over the members of a committee (equation 24 of V. Zaverkin, J. Kaestner, Mach. Learn.: Sci.
        Technol. 2, 035009 (2021)) or over the read-outs, times the factor of the calibration; of what was learnt only.
        Raises QuarryError for an element that was not learnt, atoms in one place, or a position that is not finite.
        """
        derivatives = bool(want & {"forces", "stress", STD_GRADIENT})
        n, n_atoms = len(structures), len(structures.numbers)
        mean = {"energy": self._baseline.mean(structures)}
        if derivatives:
            mean |= {"forces": np.zeros((n_atoms, 3)), "stress": np.zeros((n, 3, 3))}
        named = {"energy"} if STD_OF_ENERGY in want else set(mean)
        asked = named & set(self.learnt) if STD in want and self.settings.gives_std else set()
        std = {name: np.empty(mean[name].shape) for name in sorted(asked)}
        gradient = None
        if asked and STD_GRADIENT in want:
            gradient = UncertaintyGradient(np.empty((n_atoms, 3)), np.empty((n, 3, 3)))
        spread_of = frozenset(mean if gradient is not None else asked)
        for rows, batch, said, spread in self._said(structures, derivatives, spread_of):
            for name, values in said.items():
                where = batch.atoms if name == "forces" else rows
                mean[name][where] += values
                if name in std:
                    std[name][where] = spread[name].std(axis=0) * self._calibration(name).factor
            if gradient is not None and gradient.by_strain is not None:
                found = std_gradient(spread, batch.owners.cpu().numpy(), self._calibration("energy").factor)
                gradient.by_positions[batch.atoms], gradient.by_strain[rows] = found
        factors = {name: self._calibration(name).factor for name in std}
        return Prediction(mean, std, std_gradient=gradient, std_factor=factors)

    def _said(
        self, structures: StructureSet, derivatives: bool, spread_of: frozenset[str], plain: bool = False
    ) -> Iterator[tuple[NDArray[np.int64], Batch, dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]]:
        """Yield rows of structures, their atoms, the mean of the networks, and what each member or read-out says.

        By property, energies without the atomic references; a first axis for members. spread_of: what these are asked for.
        """
        potential, networks = self._ready(structures)
        for rows, batch, own in self._batches(structures, potential):
            found = [said_by(potential, parameters, batch, own, derivatives, spread_of) for parameters in networks]
            if self._auxiliary is not None and spread_of:
                found.append(self._auxiliary.said(batch, own, spread_of))
            yield rows, batch, *said_together(found, self._auxiliary is not None and not plain)

    def _calibration(self, name: str) -> Calibration:
        return self._calibrations.get(name, Calibration(fewest=FEW))

    def beyond_reach(self, structures: StructureSet) -> NDArray[np.bool_]:
        """Return which structures have no two atoms within the cutoff, see ``HasReach``."""
        found = Neighbourhoods.of(structures, self.settings.cutoff_A)
        return np.diff(found.starts[found.offsets]) == 0

    @torch.inference_mode()
    def features(self, structures: StructureSet, kind: str, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return a feature map of the energies or forces of structures, shape (n, p).

        last_layer: the gradient of the energy by the last layer's weights and bias. gradient: a random projection of that by the
        weights and biases of all layers. last_layer_forces, gradient_forces: of forces, ``features.second_moments`` of the same
        gradients. Inner products of a committee's maps are the mean of its members', of projections on the average.
        Raises QuarryError for another kind.
        """
        known = self.settings.traits.feature_maps
        if kind not in known:
            raise QuarryError(f"query.embedding: a model of kind gmnn has no {kind} features; use {' or '.join(known)}")
        potential, networks = self._ready(structures)
        seeds = [int(rng.integers(2**63 - 1)) for _ in networks]
        parts = []
        for rows, batch, own in self._batches(structures, potential):
            traces = [potential.atoms(parameters, batch, own, kind == "gradient_forces") for parameters in networks]
            each = zip(networks, traces, seeds, strict=True)
            maps = [
                feature_map(potential, parameters, trace, len(rows), kind, seed) for parameters, trace, seed in each
            ]
            found = torch.cat(maps, dim=1) if kind == "last_layer" else torch.stack(maps).sum(dim=0)
            parts.append(found.cpu().numpy())
        return (np.concatenate(parts) / math.sqrt(len(networks))).astype(np.float32)

    @torch.inference_mode()
    def informativeness(
        self, structures: StructureSet, known: StructureSet, want: frozenset[str]
    ) -> dict[str, Informativeness]:
        """Return the expected change of the output variance by labels of structures, by criterion: energy (QS1), forces (QS2).

        ``quarry.models.optimal_design``. The information matrix is that of all known structures, those too that early stopping
        looks at: their labels are there. Of a committee the mean over its members.
        """
        return self._informing_of().change(structures, known, want)

    @torch.inference_mode()
    def informativeness_gradient(self, structures: StructureSet, known: StructureSet) -> UncertaintyGradient:
        """Return the gradient of the relative informativeness of energies, ``HasInformativenessGradient``."""
        return self._informing_of().gradient(structures, known)

    def _informing_of(self) -> Informing:
        if self._informed is None:
            self._informed = Informing(self._informed_blocks, len(self._trained))
        return self._informed

    def _informed_blocks(self, structures: StructureSet) -> Iterator[Block]:
        potential, networks = self._ready(structures)
        for rows, batch, own in self._batches(structures, potential):
            yield rows, batch, own, potential, networks

    def _potential(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Potential:
        return potential_of(self.settings.cutoff_A, len(self.elements), dtype, device)

    def _ready(self, structures: StructureSet) -> tuple[Potential, list[Parameters]]:
        """Return the potential and its networks' parameters. Raises QuarryError for structures that they cannot judge."""
        if not self._trained:
            raise RuntimeError("this model is not trained")
        check_elements(structures, self.elements)
        potential = self._potential(device_of(self.settings.device))
        parameters = [one.parameters.map(lambda tensor: tensor.to(potential.device)) for one in self._trained]
        return potential, parameters

    def _batches(
        self, structures: StructureSet, potential: Potential
    ) -> Iterator[tuple[NDArray[np.int64], Batch, torch.Tensor]]:
        """Yield blocks of structures: their rows, they as a batch, and the numbers of their atoms' elements.

        Neighbours are found block by block: those of a large pool take gigabytes.
        """
        for rows in blocks(structures.offsets):
            found = Neighbourhoods.of(structures.subset(rows), self.settings.cutoff_A)
            batch = found.batch(np.arange(len(rows)), potential.cutoff_A, potential.dtype, potential.device)
            batch.atoms += structures.offsets[rows[0]]
            elements = np.searchsorted(self.elements, structures.numbers[batch.atoms])
            yield rows, batch, torch.from_numpy(elements).to(potential.device)

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Return the number of parameters of a network, the best epoch, its held-out loss (None without held-out data), elements.

        Epochs and losses of a committee are lists. With standard deviations also std_factor, calibration_labels
        (``Calibration.account``), of energies, and with forces_ or stress_ before it of these; auxiliary_ of that model.
        """
        losses = [None if math.isnan(one.held_out_loss) else one.held_out_loss for one in self._trained]
        epochs, several = [one.epoch for one in self._trained], self.settings.networks > 1
        account: dict[str, Any] = {}
        for name in self.learnt if self.settings.gives_std else ():
            prefix = "" if name == "energy" else f"{name}_"
            account |= {prefix + key: value for key, value in self._calibration(name).account().items()}
        account |= self._auxiliary.account() if self._auxiliary is not None else {}
        return {
            "parameters": sum(tensor.numel() for tensor in self._trained[0].parameters.tensors),
            "epochs": epochs if several else epochs[0],
            "held_out_loss": losses if several else losses[0],
            "elements": [chemical_symbols[number] for number in self.elements],
            **account,
        }

    @property
    def warnings(self) -> list[str]:
        """Return what is doubtful about the training, a line each."""
        return [*self._doubts, *doubtful(self._trained, self.settings)]

    def save(self, path: str | Path) -> None:
        """Write the model as HDF5; the same model gives the same bytes."""
        if not self._trained:
            raise RuntimeError("this model is not trained")
        with new_hdf5(path) as handle:
            handle.attrs.update(kind=self.kind, version=VERSION, settings=self.settings.model_dump_json())
            handle.attrs.update(learnt=list(self.learnt), doubts=list(self._doubts))
            handle.create_dataset("elements", data=self.elements)
            write_baseline(self._baseline, handle.create_group("references"))
            write_networks(handle, self._trained, self.settings.networks > 1)
            if self._auxiliary is not None:
                self._auxiliary.write(handle.create_group("auxiliary"))
            if self._held is not None:
                write_held(handle.create_group("calibration"), self._held)

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> GaussianMomentModel:
        """Read what ``save`` wrote. device: where it is to run; None: as when it was trained.

        Raises QuarryError for a file that is damaged, or of another version.
        """
        with intact(path), h5py.File(path, "r") as handle:
            check_version(path, cls.kind, int(handle.attrs["version"]), VERSION)
            learnt = tuple(str(name) for name in handle.attrs["learnt"])
            model = cls(on_device(Gmnn.model_validate_json(handle.attrs["settings"]), device), learnt)
            model.elements, model._doubts = handle["elements"][()], [str(line) for line in handle.attrs["doubts"]]
            baseline = read_baseline(handle["references"])
            assert isinstance(baseline, CompositionBaseline)
            model._baseline = baseline
            model._trained = read_networks(handle)
            if model.settings.has_auxiliary:
                # Earlier ones, of version 0 so to speak, had a second network in its place.
                check_version(path, f"{cls.kind} with an auxiliary model", VERSION * ("auxiliary" in handle), VERSION)
                model._auxiliary = AuxiliaryProcess.read(handle["auxiliary"])
            if "calibration" in handle:
                model._calibrate(read_held(handle["calibration"]))
        return model
