"""Gaussian-moment neural networks: interatomic potentials."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from quarry.config.baselines import LearnsDifference
from quarry.config.model_traits import ModelTraits


class Gmnn(LearnsDifference):
    """A Gaussian-moment neural network: an interatomic potential that sees positions and elements, and learns energies, with
    forces and stresses where target names them (V. Zaverkin, J. Kaestner, J. Chem. Theory Comput. 16, 5410 (2020)).

    The energy is a sum over atoms, so that it is the same for a rotated, moved or relabelled structure, and grows with the
    structure. Structures of any size, elements and periodicity may be mixed. Charges and multiplicities are not seen. Needs no
    descriptor. Standard deviations of energies, forces and stresses are the spread of several networks (committee), or of several
    read-outs of one (shallow_ensemble); strategies that look at the last layer or gradient need none.
    """

    cites: ClassVar[tuple[str, ...]] = ("zaverkin2020gmnn", "zaverkin2021oed", "paszke2019pytorch")

    kind: Literal["gmnn"]
    cutoff_A: float = Field(default=4.0, gt=0.5, le=30.0)
    """How far an atom sees its neighbours, in Angstrom."""
    hidden: list[Annotated[int, Field(gt=0)]] = Field(default=[256, 128], min_length=1)
    """Neurons of each hidden layer."""
    epochs: int = Field(default=5000, gt=0)
    """At most so many passes through the training data."""
    batch_size: int = Field(default=32, gt=0)
    """Training structures per step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate at the start: of Adam with bounded gradients where it falls to zero (linear, cosine), else AMSGrad."""
    schedule: Literal["constant", "linear", "cosine", "plateau"] = "constant"
    """How the learning rate goes on: constant; linear or cosine, down to zero at the last of epochs; plateau, halved whenever
    the held-out loss has not fallen for a quarter of patience."""
    held_out: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training labels for early stopping and calibration (at least one); the network does not learn them."""
    patience: int = Field(default=500, gt=0)
    """Epochs without a lower held-out loss before training stops; the weights of the best epoch are kept. Where the learning rate
    falls to zero (linear, cosine), all epochs are made and the last weights kept; those of the best epoch, with a warning, where
    the loss was ten times lower then. Weights are running averages over steps."""
    energy_weight: float = Field(default=1.0, ge=0)
    """Weight of the squared error of a structure's energy (eV^2) in the loss."""
    forces_weight: float = Field(default=100.0, ge=0)
    """Weight of the mean squared error of a structure's force components ((eV/Angstrom)^2), in Angstrom^2."""
    stress_weight: float = Field(default=1.0, ge=0)
    """Weight of the mean squared error of the components of stress times volume (eV^2)."""
    uncertainty: Literal["none", "committee", "shallow_ensemble", "auxiliary"] = "none"
    """Where standard deviations come from: nowhere; the spread of several networks, each trained by a job of its own; that of
    several read-outs of one network, at the cost of one, which differ less (M. Kellner, M. Ceriotti, Mach. Learn.: Sci. Technol.
    5, 035006 (2024)); or how far an auxiliary model is off that learns energies alone, a Gaussian process of the atoms'
    neighbourhoods, while predictions are those of the network (Y.-F. Hou et al., J. Chem. Theory Comput. 20, 7744 (2024))."""
    members: int | None = None
    """Networks of a committee; null: 3."""
    readouts: int | None = None
    """Read-outs of a shallow ensemble; null: 8."""
    calibrate: bool = True
    """Scale the standard deviations of energies, of force components and of stresses by a factor each, so that 95 % of the errors
    of the held_out labels are within their 95 % intervals. From 50 held-out structures on; from 20 on the same with 68 %."""
    start: Literal["fresh", "last"] = "fresh"
    """Where training starts: from random weights, or from the weights of the arm's previous iteration."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where training and prediction run; auto: a GPU where there is one."""

    @model_validator(mode="after")
    def _some_weight(self) -> Gmnn:
        if not self.energy_weight and not self.forces_weight:
            raise ValueError("energy_weight and forces_weight are both 0; raise one")
        return self

    def citations(self) -> tuple[str, ...]:
        """Return the papers of the network, and of read-outs that share it."""
        return (*self.cites, *(("kellner2024shallow",) if self.uncertainty == "shallow_ensemble" else ()))

    @model_validator(mode="after")
    def _uncertainty(self) -> Gmnn:
        for key, kind, smallest in (("members", "committee", 2), ("readouts", "shallow_ensemble", 2)):
            value = getattr(self, key)
            if value is not None and self.uncertainty != kind:
                raise ValueError(f"{key} = {value} needs uncertainty: {kind}; set it, or remove {key}")
            if value is not None and value < smallest:
                raise ValueError(f"{key} = {value}: {kind} needs at least 2; raise it, or set uncertainty: none")
        if self.uncertainty == "shallow_ensemble" and not self.energy_weight:
            raise ValueError(
                "energy_weight = 0: the read-outs of shallow_ensemble learn to differ from energies; raise it"
            )
        return self

    @property
    def extras(self) -> dict[str, str]:
        """Optional dependencies that it needs, by the key that asks for each."""
        return {"kind": "torch"}

    @property
    def gives_std(self) -> bool:
        """Whether it predicts standard deviations."""
        return self.uncertainty != "none"

    @property
    def networks(self) -> int:
        """Number of networks: the members of a committee, otherwise one."""
        return (self.members or 3) if self.uncertainty == "committee" else 1

    @property
    def has_auxiliary(self) -> bool:
        """Whether there is an auxiliary model, which learns energies alone."""
        return self.uncertainty == "auxiliary"

    @property
    def of_means(self) -> Self:
        """The same model without an auxiliary one, which predictions do not need."""
        return self.model_copy(update={"uncertainty": "none"}) if self.has_auxiliary else self

    @property
    def n_readouts(self) -> int:
        """Number of read-outs of a shallow ensemble, otherwise 0."""
        return (self.readouts or 8) if self.uncertainty == "shallow_ensemble" else 0

    @property
    def stops_early(self) -> bool:
        """Whether the held-out loss says which weights are kept; otherwise those of the last epoch, when the rate is zero."""
        return self.schedule in ("constant", "plateau")

    def share_of_rate(self, epoch: int) -> float:
        """Return the factor by which the schedule changes the learning rate in an epoch (1, 2, ...)."""
        past = (epoch - 1) / self.epochs
        if self.schedule == "linear":
            return 1.0 - past
        if self.schedule == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * past))
        return 1.0

    @property
    def traits(self) -> ModelTraits:
        """What the model can do."""
        return ModelTraits(
            learns=(frozenset(("energy", "forces", "stress")),),
            std=self.gives_std,
            member_jobs=self.networks if self.networks > 1 else 0,
            feature_maps=("last_layer", "gradient", "last_layer_forces", "gradient_forces"),
            derivatives=("forces", "stress"),
            informativeness=("energy", "forces"),
            uncertainty_gradients=("energy", "informativeness") if self.gives_std else ("informativeness",),
            needs_atoms="model.kind: gmnn",
            gpus=int(self.device == "cuda"),
            warm_start=self.start == "last",
            known_elements=True,
            remedies={"std": "; set model.uncertainty: committee, shallow_ensemble or auxiliary"},
        )
