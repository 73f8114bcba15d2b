"""The neural network as a model of a target: standardised inputs and targets, committee or MC dropout, file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quarry.config.base import on_device
from quarry.config.models import Mlp
from quarry.config.targets import TARGETS
from quarry.devices import device_of
from quarry.errors import QuarryError
from quarry.hdf5_files import new_hdf5
from quarry.models.baselines import CompositionBaseline, ConstantBaseline, read_baseline, write_baseline
from quarry.models.calibration import FEWEST, Calibration
from quarry.models.inputs import Inputs
from quarry.models.network import Network, Training, blocks, check_members, train_network
from quarry.models.network_features import gradient_features, input_gradients, last_layer_features
from quarry.models.regression import RegressionData, RegressionPrediction, check_features
from quarry.models.splits import folds_of, held_share
from quarry.structures import StructureSet

NEGLIGIBLE_SPREAD = 1e-12
"""A standard deviation of the targets below this, relative to the largest target, is rounding: they do not vary."""

FOLDS = 5
"""A network that calibrates has learnt all but one of so many parts of the training labels."""

CALIBRATING = 200
"""Held-out labels that are enough to calibrate: with many labels fewer folds are trained."""


class MultilayerPerceptron:
    """A feed-forward network, a committee of them, or one with MC dropout, for numbers or classes.

    Uncertainties are those of the function: a committee's std is equation 3 of the lecture, MC dropout's equation 4
    (population variances). In MC dropout every pass leaves out the same neurons for all structures, as one imperfect copy
    of the network (figure 6 of the lecture): so a prediction does not depend on the other structures. The spread of
    networks is mostly too small; it is scaled by the errors of further networks (of each member one for each fold) on labels
    that they have not seen.
    """

    kind = "mlp"

    def __init__(self, settings: Mlp, target: str) -> None:
        """settings: of the configuration. target: energy, homo ... class."""
        self.settings = settings
        self.target = target
        self.classes: tuple[str, ...] = ()
        self.scale = 1.0
        self._baseline: CompositionBaseline | ConstantBaseline = ConstantBaseline(0.0)
        self._inputs: Inputs | None = None
        self._trained: list[Training] = []
        self._mask_seed = 0
        self._folds: list[NDArray[np.int64]] = []
        # Standardised: targets of the folds, and what each network's twins that have not seen a fold say of it.
        self._held_targets: NDArray[np.float64] = np.zeros(0)
        self._held_outputs: list[NDArray[np.float64]] = []

    @classmethod
    def from_settings(cls, settings: Mlp, target: str) -> MultilayerPerceptron:
        """Make an untrained model."""
        return cls(settings, target)

    def fit(self, data: RegressionData, validation: RegressionData | None, rng: np.random.Generator) -> None:
        """Train every network; early stopping looks at ``validation``, or at a held-out share of ``data``.

        Each member of a committee has its own initial weights, order of batches and held-out share.
        Raises QuarryError if there is nothing to train on, a target or feature is not finite, or training diverges.
        """
        streams = self._prepare(data, rng)
        self._trained = [self._train_and_hold_out(data, validation, stream) for stream in streams]

    def fit_member(
        self, member: int, data: RegressionData, validation: RegressionData | None, rng: np.random.Generator
    ) -> None:
        """Train member number ``member`` alone, as ``fit`` with the same generator state trains it."""
        self._trained = [self._train_and_hold_out(data, validation, self._prepare(data, rng)[member])]

    def join(self, members: Sequence[MultilayerPerceptron]) -> None:
        """Become the committee of members that were trained one by one, in their order.

        Raises QuarryError if they are not all the members, or were trained on different data.
        """
        first = members[0]
        check_members(self.settings.networks, [len(m._trained) for m in members], [m._fingerprint() for m in members])
        self.classes, self.scale, self._baseline = first.classes, first.scale, first._baseline
        self._inputs, self._mask_seed = first._inputs, first._mask_seed
        self._trained = [m._trained[0] for m in members]
        self._held_targets = first._held_targets
        self._held_outputs = [outputs for m in members for outputs in m._held_outputs]

    def predict(
        self, structures: StructureSet, features: NDArray[np.float64], with_std: bool = True
    ) -> RegressionPrediction:
        """Predict mean and standard deviation in the target's unit, or for target class the probabilities.

        The mean is that of the members or passes (equations 3, 4 and 6 of the lecture); std is None for a single
        network and for classes, votes are those of a committee. The std is calibrated by errors of held-out labels where
        there are enough of them. Works in blocks of bounded memory.
        """
        n, n_classes = len(features), len(self.classes)
        if n_classes:
            probabilities, votes = np.empty((n, n_classes)), np.empty((n, n_classes))
            for rows, outputs in self._outputs(structures, features):
                each = torch.softmax(outputs.double(), dim=2).numpy()
                probabilities[rows] = each.mean(axis=0)
                chosen = each.argmax(axis=2)[:, :, None] == np.arange(n_classes)
                votes[rows] = chosen.mean(axis=0)
            of_members = votes if self.settings.uncertainty == "committee" else None
            return RegressionPrediction(
                probabilities.argmax(axis=1).astype(np.float64), None, probabilities, of_members
            )
        mean, std = np.empty(n), np.empty(n)
        for rows, outputs in self._outputs(structures, features):
            values = outputs[:, :, 0].double().numpy()
            mean[rows], std[rows] = values.mean(axis=0), values.std(axis=0)
        mean = self._baseline.mean(structures) + self.scale * mean
        if self.settings.uncertainty == "none" or not with_std:
            return RegressionPrediction(mean, None)
        factor = self._calibration().factor
        std = np.hypot(factor * self.scale * std, self._baseline.extra_std(structures))
        return RegressionPrediction(mean, std, std_factor=factor)

    def slopes(self, structures: StructureSet, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the derivatives of the predicted mean by the features, see ``HasSlopes``."""
        assert self._inputs is not None
        device, parts = device_of(self.settings.device), []
        networks, passes = self._members(self._trained, device)
        for _, inputs in self._blocks(structures, features, self._trained):
            x = torch.from_numpy(inputs).to(device)
            each = [input_gradients(network, x, masks) for network in networks for masks in passes]
            parts.append(torch.stack(each).double().mean(dim=0).cpu().numpy())
        by_inputs = np.concatenate([np.zeros((0, len(self._inputs.columns))), *parts])
        return self.scale * self._inputs.by_features(by_inputs, features)

    def _calibration(self) -> Calibration:
        """Return how the spread of the networks is scaled: by errors of networks on labels that they have not seen."""
        if not self._held_outputs:
            return Calibration()
        outputs = np.concatenate(self._held_outputs)
        return Calibration.of(outputs.mean(axis=0) - self._held_targets, outputs.std(axis=0))

    def embed(
        self, structures: StructureSet, features: NDArray[np.float64], kind: str, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Return a feature map of structures, shape (n, p); neurons are not left out. kind: last_layer or gradient.

        last_layer: activations before the output layer and a 1 for its bias; for a committee those of all members, over
        sqrt(M), so that inner products are the mean of the members' kernels. gradient: random projection of the gradient
        with respect to all parameters, see ``gradient_features``; p does not grow with the members.
        Raises QuarryError for another kind.
        """
        if kind not in ("last_layer", "gradient"):
            raise QuarryError(f"query: a model of kind {self.kind} has no {kind} features; use last_layer or gradient")
        networks = [trained.network for trained in self._trained]
        device = device_of(self.settings.device)
        seeds = [int(rng.integers(2**63 - 1)) for _ in networks]
        parts = []
        for rows, inputs in self._blocks(structures, features, self._trained):
            x = torch.from_numpy(inputs).to(device)
            if kind == "last_layer":
                each = [last_layer_features(network.on(device), x).cpu() for network in networks]
                parts.append((rows, torch.cat(each, dim=1)))
            else:
                pairs = zip(networks, seeds, strict=True)
                sketches = [gradient_features(network.on(device), x, seed).cpu() for network, seed in pairs]
                parts.append((rows, torch.stack(sketches).sum(dim=0)))
        result = np.concatenate([part.numpy() for _, part in parts])
        return (result / math.sqrt(len(networks))).astype(np.float32)

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Return the number of inputs and parameters of a network, and by network the best epoch and its held-out loss.

        The loss is in squared standardised targets, or the cross-entropy; None without held-out data. std_factor,
        calibration_labels, of a model with uncertainties of numbers: see ``Calibration.account``.
        """
        calibrated = self.settings.uncertainty != "none" and not self.classes
        networks = [trained.network for trained in self._trained]
        losses = [trained.held_out_loss for trained in self._trained]
        return {
            "inputs": int(networks[0].weights[0].shape[0]),
            "parameters": sum(p.numel() for p in networks[0].parameters),
            "epochs": [trained.epoch for trained in self._trained],
            "held_out_loss": [None if math.isnan(loss) else loss for loss in losses],
            **(self._calibration().account() if calibrated else {}),
        }

    @property
    def warnings(self) -> list[str]:
        """Return what is doubtful about the training, a line each."""
        if not self.settings.epochs > 1:
            return []
        cut = sum(trained.epoch == self.settings.epochs for trained in self._trained)
        if not cut:
            return []
        return [
            f"{cut} of {len(self._trained)} networks were best in their last epoch: they may not have converged (model.epochs)"
        ]

    def save(self, path: str | Path) -> None:
        """Write the model as HDF5; the same model gives the same bytes."""
        if self._inputs is None:
            raise RuntimeError("this model is not trained")
        with new_hdf5(path) as handle:
            handle.attrs.update(kind=self.kind, target=self.target, scale=self.scale, mask_seed=self._mask_seed)
            handle.attrs["settings"] = self.settings.model_dump_json()
            if self.classes:
                handle.attrs["classes"] = list(self.classes)
            inputs = handle.create_group("inputs")
            inputs.attrs["length"] = self._inputs.length
            for name in ("columns", "mean", "std"):
                inputs.create_dataset(name, data=getattr(self._inputs, name))
            write_baseline(self._baseline, handle.create_group("baseline"))
            if self._held_outputs:
                handle.create_dataset("calibration/targets", data=self._held_targets)
                for number, outputs in enumerate(self._held_outputs):
                    handle.create_dataset(f"calibration/outputs/{number:03d}", data=outputs)
            for number, trained in enumerate(self._trained):
                group = handle.create_group(f"networks/{number:03d}")
                group.attrs.update(epoch=trained.epoch, held_out_loss=trained.held_out_loss)
                for layer, (weights, biases) in enumerate(
                    zip(trained.network.weights, trained.network.biases, strict=True)
                ):
                    group.create_dataset(f"weights_{layer}", data=weights.numpy())
                    group.create_dataset(f"biases_{layer}", data=biases.numpy())

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> MultilayerPerceptron:
        """Read what ``save`` wrote. device: where it is to run; None: as when it was trained."""
        with h5py.File(path, "r") as handle:
            attributes, inputs = handle.attrs, handle["inputs"]
            model = cls(on_device(Mlp.model_validate_json(attributes["settings"]), device), str(attributes["target"]))
            model.scale, model._mask_seed = float(attributes["scale"]), int(attributes["mask_seed"])
            model.classes = tuple(str(name) for name in attributes.get("classes", ()))
            columns, mean, std = (inputs[name][()] for name in ("columns", "mean", "std"))
            model._inputs = Inputs(columns, mean, std, int(inputs.attrs["length"]))
            model._baseline = read_baseline(handle["baseline"])
            # A file of an earlier version has none.
            if "calibration" in handle:
                held = handle["calibration"]
                model._held_targets = held["targets"][()]
                model._held_outputs = [held["outputs"][name][()] for name in sorted(held["outputs"])]
            for name in sorted(handle["networks"]):
                group = handle["networks"][name]
                layers = range(len(group) // 2)
                weights, biases = (
                    [torch.from_numpy(group[f"{part}_{layer}"][()]) for layer in layers]
                    for part in ("weights", "biases")
                )
                network = Network(weights, biases, model.settings.activation)
                model._trained.append(Training(network, int(group.attrs["epoch"]), float(group.attrs["held_out_loss"])))
        return model

    def _prepare(self, data: RegressionData, rng: np.random.Generator) -> list[np.random.Generator]:
        """Set what all networks share, and return the generator of each."""
        data.check(self.target)
        self.classes = data.classes
        self._inputs = Inputs.of(data.features)
        if not self.classes:
            if TARGETS[self.target].total_energy:
                self._baseline = CompositionBaseline.fit(data.structures, data.targets)
            else:
                self._baseline = ConstantBaseline(float(np.mean(data.targets)))
            spread = float(np.std(data.targets - self._baseline.mean(data.structures)))
            constant = spread <= NEGLIGIBLE_SPREAD * float(np.max(np.abs(data.targets)))
            # Constant targets: whatever the networks say, the prediction is the baseline.
            self.scale = 0.0 if constant else spread
        *streams, masks, folds = rng.spawn(self.settings.networks + 2)
        self._mask_seed = int(masks.integers(2**63 - 1))
        self._folds, self._held_outputs = self._calibration_folds(data, folds), []
        if self._folds:
            self._held_targets = self._numbers(data)[1][np.concatenate(self._folds)].astype(np.float64)
        return streams

    def _calibration_folds(self, data: RegressionData, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Return the parts of the data that calibrate, each to be predicted by networks that have not seen it."""
        settings, n = self.settings, len(data)
        if not settings.calibrate or settings.uncertainty == "none" or self.classes or n < FEWEST or not self.scale:
            return []
        folds = folds_of(rng.permutation(n), FOLDS, data.groups)
        return folds[: max(1, math.ceil(CALIBRATING / (n / FOLDS)))]

    def _train_and_hold_out(
        self, data: RegressionData, validation: RegressionData | None, rng: np.random.Generator
    ) -> Training:
        """Train a network, and one for each fold that has not seen it; keep what these say of their folds."""
        trained = self._train(data, validation, rng)
        parts = []
        for fold, stream in zip(self._folds, rng.spawn(len(self._folds)), strict=True):
            twin = self._train(data.subset(np.setdiff1d(np.arange(len(data)), fold)), None, stream)
            held = data.subset(fold)
            outputs = self._outputs(held.structures, held.features, [twin])
            parts.append(np.concatenate([values[:, :, 0].double().numpy() for _, values in outputs], axis=1))
        if parts:
            self._held_outputs.append(np.concatenate(parts, axis=1))
        return trained

    def _train(self, data: RegressionData, validation: RegressionData | None, rng: np.random.Generator) -> Training:
        if validation is None:
            held = max(1, round(self.settings.held_out * len(data))) if len(data) > 1 else 0
            order = rng.permutation(len(data))
            validates = held_share(order, held, data.groups)
            validation, data = data.subset(validates), data.subset(np.setdiff1d(order, validates))
        if self.settings.bootstrap:
            data = data.subset(rng.integers(len(data), size=len(data)))
        (x, y), (held_x, held_y) = self._numbers(data), self._numbers(validation)
        return train_network(x, y, held_x, held_y, len(self.classes) or 1, self.settings, rng)

    def _numbers(self, data: RegressionData) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return inputs and what the outputs should be: classes, or standardised targets."""
        assert self._inputs is not None
        if self.classes:
            return self._inputs(data.features), data.targets.astype(np.int64)
        targets = (data.targets - self._baseline.mean(data.structures)) / (self.scale or 1.0)
        return self._inputs(data.features), targets.astype(np.float32)

    def _blocks(
        self, structures: StructureSet, features: NDArray[np.float64], of: Sequence[Training]
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Check features and yield them as inputs, in blocks of bounded memory."""
        if self._inputs is None:
            raise RuntimeError("this model is not trained")
        if features.shape[1] != self._inputs.length:
            raise QuarryError(
                f"descriptor: the model was trained on {self._inputs.length} features, but these structures have "
                f"{features.shape[1]}; use the descriptor and pool that it was trained with"
            )
        width = max(self._inputs.length, *(trained.network.width for trained in of))
        for rows in blocks(len(features), width):
            check_features(structures.subset(range(rows.start, rows.stop)), features[rows])
            yield rows, self._inputs(features[rows])

    def _outputs(
        self, structures: StructureSet, features: NDArray[np.float64], of: Sequence[Training] | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield the outputs of every member or pass, shape (m, n_block, n_outputs), on the CPU. of: None for the model's."""
        device, of = device_of(self.settings.device), of or self._trained
        networks, passes = self._members(of, device)
        for rows, inputs in self._blocks(structures, features, of):
            x = torch.from_numpy(inputs).to(device)
            with torch.no_grad():
                outputs = []
                for network in networks:
                    first = network.first(x)
                    outputs += [network.output(first, masks) for masks in passes]
                yield rows, torch.stack(outputs).cpu()

    def _members(self, of: Sequence[Training], device: torch.device) -> tuple[list[Network], list[list[Tensor] | None]]:
        """Return the networks on a device, and the masks of each pass of mc_dropout (None: nothing is left out)."""
        networks = [trained.network.on(device) for trained in of]
        if self.settings.uncertainty != "mc_dropout":
            return networks, [None]
        generator = torch.Generator().manual_seed(self._mask_seed)
        probability, network = self.settings.dropout_probability, of[0].network
        drawn = [network.masks(1, probability, generator) for _ in range(self.settings.n_passes)]
        return networks, [[mask.to(device) for mask in masks] for masks in drawn]

    def _fingerprint(self) -> tuple[Any, ...]:
        """Return what all members of a committee have in common."""
        assert self._inputs is not None
        arrays = (self._inputs.columns, self._inputs.mean, self._inputs.std)
        held = self._held_targets.tobytes()
        return (self.classes, self.scale, self._mask_seed, self._inputs.length, held, *(a.tobytes() for a in arrays))
