"""Interatomic potentials of other packages: their sections."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from quarry.config.base import Section
from quarry.config.baselines import DEFAULT_NETWORK
from quarry.config.extras import EXTRAS
from quarry.config.model_traits import ModelTraits


class NetworkPotential(Section):
    """What the potentials of other packages share: how they are trained.

    The loss of a structure is energy_weight dE^2 + forces_weight / (3 n_atoms) |dF|^2, in eV and Angstrom. Atomic reference
    energies are fitted to the training labels. Charges and multiplicities are not seen.
    """

    is_user_defined: ClassVar[bool] = False
    baseline: ClassVar[None] = None
    maps: ClassVar[tuple[str, ...]] = ("last_layer",)
    """Feature maps that it gives."""

    epochs: int = Field(default=200, gt=0)
    """At most so many passes through the training data."""
    batch_size: int = Field(default=8, gt=0)
    """Training structures per step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of AMSGrad at the start; it falls linearly to zero at the last of epochs."""
    held_out: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training labels that early stopping looks at (at least one); the network does not learn them."""
    patience: int = Field(default=50, gt=0)
    """Epochs without a lower held-out loss before training stops; the weights of the best epoch are kept."""
    energy_weight: float = Field(default=1.0, gt=0)
    """Weight of the squared error of a structure's energy (eV^2) in the loss."""
    forces_weight: float = Field(default=100.0, ge=0)
    """Weight of the mean squared error of a structure's force components ((eV/Angstrom)^2), in Angstrom^2."""
    start: Literal["fresh", "last"] = "fresh"
    """Where training starts: afresh, or from the weights of the arm's previous iteration."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where training and prediction run; auto: a GPU where there is one."""

    @property
    def traits(self) -> ModelTraits:
        """What the model can do."""
        kind = str(getattr(self, "kind", ""))
        return ModelTraits(
            learns=(frozenset(("energy", "forces")),),
            feature_maps=self.maps,
            derivatives=("forces",),
            needs_atoms=f"model.kind: {kind}",
            gpus=int(self.device == "cuda"),
            warm_start=self.start == "last",
            known_elements=True,
        )

    @property
    def network(self) -> str | None:
        """Name or file of the trained network that it starts from; None: random weights."""
        return None

    @property
    def extra(self) -> str:
        """Optional dependency that it is made of, which has the kind's name."""
        return str(getattr(self, "kind", ""))

    @property
    def extras(self) -> dict[str, str]:
        """Optional dependencies that it needs, by the key that asks for each."""
        return {"kind": self.extra}

    def input_files(self) -> list[str]:
        """Return the files that it reads."""
        return [] if self.network is None else EXTRAS[self.extra].files([self.network])


class Sevenn(NetworkPotential):
    """SevenNet, fine-tuned from a trained network (Y. Park, J. Kim, S. Hwang, S. Han, J. Chem. Theory Comput. 20, 4857
    (2024)). Needs pip install sevenn==0.13.0. Molecules and cells.
    """

    cites: ClassVar[tuple[str, ...]] = ("park2024sevennet",)

    kind: Literal["sevenn"]
    model: str = DEFAULT_NETWORK
    """The network that training starts from: 7net-0, 7net-0_22may2024 or 7net-l3i5, which come with the package, or a file,
    relative to the campaign file. Reading a file runs code in it: use none that you do not trust."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Learning rate of AMSGrad at the start; it falls linearly to zero at the last of epochs."""

    @property
    def network(self) -> str:
        """Name or file of the trained network that it starts from."""
        return self.model


class Mace(NetworkPotential):
    """MACE (I. Batatia, D. P. Kovacs, G. N. C. Simm, C. Ortner, G. Csanyi, NeurIPS 2022), from scratch or fine-tuned. Needs
    pip install mace-torch==0.3.16, which cannot be in one environment with sevenn. Molecules and cells.
    """

    cites: ClassVar[tuple[str, ...]] = ("batatia2022mace",)

    kind: Literal["mace"]
    model: str | None = None
    """File of a trained network that training starts from, relative to the campaign file; null: random weights. Its own
    settings win over the ones below. Reading a file runs code in it: use none that you do not trust."""
    cutoff_A: float = Field(default=5.0, gt=0.5, le=30.0)
    """How far an atom sees its neighbours in a layer, in Angstrom."""
    channels: int = Field(default=32, gt=0)
    """Channels of an atom's features."""
    angular_momentum: Annotated[int, Field(ge=0, le=3)] = 1
    """Highest angular momentum of the features that layers hand on."""
    layers: Annotated[int, Field(ge=1, le=4)] = 2
    """Interactions, each of which sees a cutoff further."""
    correlation: Annotated[int, Field(ge=1, le=4)] = 3
    """Bodies beside the atom itself in a product of features."""

    @property
    def network(self) -> str | None:
        """File of the trained network that it starts from; None: random weights."""
        return self.model


class Ani(NetworkPotential):
    """ANI (J. S. Smith, O. Isayev, A. E. Roitberg, Chem. Sci. 8, 3192 (2017)) by torchani, from scratch: a network for each
    element on symmetry functions. Needs pip install torchani==2.9.0. Molecules only.
    """

    cites: ClassVar[tuple[str, ...]] = ("gao2020torchani",)

    maps: ClassVar[tuple[str, ...]] = ()

    kind: Literal["ani"]
    cutoff_A: float = Field(default=5.2, gt=1.0, le=12.0)
    """How far an atom sees its neighbours, in Angstrom; triples within 3.5 Angstrom or this, where it is less."""
    batch_size: int = Field(default=32, gt=0)
    """Training structures per step."""
