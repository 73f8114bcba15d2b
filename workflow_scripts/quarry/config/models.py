"""Models: what is trained on the labels."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, Tag, model_validator

from quarry.config.base import OWN_TAG, ImportPath, PlainArguments, Section, told_by_kind
from quarry.config.baselines import LearnsDifference
from quarry.config.gmnn import Gmnn
from quarry.config.model_traits import NUMBERS, ModelTraits, one_of
from quarry.config.networks import Ani, Mace, Sevenn
from quarry.config.targets import CLASS, TARGETS


class Gpr(LearnsDifference):
    """Exact Gaussian process regression with an RBF kernel. Nothing in its training is random.

    The setup of Ghosh et al. (arXiv:2408.11191) is prior_mean: zero, length_scale: 700, signal_variance: 20 and
    noise_variance: 1.0e-10 or 0.05 (eV^2).
    """

    cites: ClassVar[tuple[str, ...]] = ("rasmussen2006gp",)

    kind: Literal["gpr"] = "gpr"
    prior_mean: Literal["auto", "zero", "constant", "composition"] = "auto"
    """Prior mean: zero, constant (mean of the training targets) or composition (atomic reference energies: a sum over the
    elements, by least squares);
    auto: composition for target energy, otherwise constant."""
    criterion: Literal["predictive", "likelihood"] = "predictive"
    """What the hyperparameters maximise: predictive, how probable each half of the training labels is given the other (in
    closed form); likelihood, the marginal likelihood, which trusts models that have learnt nothing for longer
    (docs/studies.md)."""
    optimise: bool = True
    """Optimise the hyperparameters; False keeps the starting values, and then the noise must be given."""
    subset: int | None = Field(default=None, ge=2)
    """Training structures, evenly from the order of their ids (which are hashes), that the hyperparameters are optimised on,
    e.g. 2000; the model is then trained on all. null: all, which takes n^3 operations a step."""
    length_scale: float | None = Field(default=None, gt=0)
    """Middle of the search in the features' unit; null: the median distance of two training structures."""
    signal_variance: float | None = Field(default=None, gt=0)
    """Middle of the search in the target's unit squared; null: the targets' variance, with bounds of x1e-3 and x1e15."""
    bounds_factor: float = Field(default=100.0, gt=1)
    """How far from their middle, by this factor down and up, length_scale and a given signal_variance may go."""
    calibrate: bool = True
    """Scale the standard deviations by one factor, so that 95 % of leave-one-out errors are within their 95 % intervals."""
    noise: float | None = Field(default=None, gt=0)
    """Fixed noise variance relative to the targets' variance (about the prior mean); null: optimised, unless
    noise_variance is given."""
    noise_variance: float | None = Field(default=None, gt=0)
    """Fixed noise variance in the target's unit squared, exactly what is added to the diagonal of the kernel matrix (more
    only where that cannot be factorised); null: see noise."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the linear algebra runs; auto: a GPU where there is one and the training set is large, else the CPU."""

    @model_validator(mode="after")
    def _noise(self) -> Gpr:
        if self.noise is not None and self.noise_variance is not None:
            raise ValueError(
                f"noise = {self.noise} (relative) and noise_variance = {self.noise_variance} (absolute) are two ways to say "
                "one thing; remove one (or set it to null)"
            )
        if not self.optimise and self.noise is None and self.noise_variance is None:
            raise ValueError(
                "optimise: False keeps the starting values, but there is none of the noise; set noise_variance"
            )
        return self

    @property
    def extras(self) -> dict[str, str]:
        """Optional dependencies that it needs, by the key that asks for each."""
        return {"device": "torch"} if self.device == "cuda" else {}

    @property
    def traits(self) -> ModelTraits:
        """What the model can do."""
        return ModelTraits(
            learns=one_of(NUMBERS),
            std=True,
            uncertainty_gradients=("energy",),
            feature_maps=("kernel",),
            trains_in_seconds=True,
            derivatives=("forces",),
            needs_descriptor=True,
            needs_atoms="model.prior_mean: composition" if self.prior_mean == "composition" else "",
            gpus=int(self.device == "cuda"),
            remedies={"atoms": "; set constant"},
        )


class Mlp(LearnsDifference):
    """A feed-forward neural network on the standardised descriptor, trained with Adam and early stopping.

    With uncertainty committee, the std of a prediction is the spread of several networks (population variance); with
    mc_dropout that of several passes of one network with neurons left out at random. For target class the committee's
    votes, or the mean probabilities of the passes, take its place.
    """

    cites: ClassVar[tuple[str, ...]] = ("paszke2019pytorch",)

    kind: Literal["mlp"]
    hidden: list[Annotated[int, Field(gt=0)]] = Field(default=[256, 256], min_length=1)
    """Neurons of each hidden layer."""
    activation: Literal["silu", "relu", "tanh"] = "silu"
    """Activation of the hidden layers."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate at the start; halved whenever the held-out loss has not fallen for a quarter of patience."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Decoupled weight decay (AdamW), per unit of learning rate."""
    batch_size: int = Field(default=64, gt=0)
    """Training structures per step."""
    epochs: int = Field(default=1000, gt=0)
    """At most so many passes through the training data."""
    held_out: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training labels that early stopping looks at (at least one); the network does not learn them."""
    patience: int = Field(default=50, gt=0)
    """Epochs without a lower held-out loss before training stops; the weights of the best epoch are kept."""
    uncertainty: Literal["none", "committee", "mc_dropout"] = "none"
    """Where the uncertainty comes from."""
    members: int | None = None
    """Networks of a committee, each trained by a job of its own; null: 5."""
    bootstrap: bool = False
    """Let each member of a committee learn a sample with replacement of the training data, not all of it."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Probability that a hidden neuron is left out, in training and in mc_dropout; null: 0.1 for mc_dropout, else 0."""
    passes: int | None = None
    """Passes of mc_dropout; null: 50."""
    calibrate: bool = True
    """Scale the standard deviations by one factor, so that 95 % of the errors of labels that networks have not seen are within
    their 95 % intervals. Takes up to five further networks for each one (from 50 training labels on; fewer from 200 on)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where training and prediction run; auto: a GPU where there is one."""

    @model_validator(mode="after")
    def _uncertainty(self) -> Mlp:
        committee, dropout = self.uncertainty == "committee", self.uncertainty == "mc_dropout"
        if self.members is not None and not committee:
            raise ValueError(f"members = {self.members} needs uncertainty: committee; set it, or remove members")
        if self.bootstrap and not committee:
            raise ValueError("bootstrap needs uncertainty: committee; set it, or remove bootstrap")
        if self.members is not None and self.members < 2:
            raise ValueError(
                f"members = {self.members}: a committee needs at least 2 members; raise it, or set uncertainty: none"
            )
        if self.passes is not None and not dropout:
            raise ValueError(f"passes = {self.passes} needs uncertainty: mc_dropout; set it, or remove passes")
        if self.passes is not None and self.passes < 2:
            raise ValueError(f"passes = {self.passes}: mc_dropout needs at least 2 passes; raise it")
        if dropout and self.dropout == 0:
            raise ValueError("dropout = 0 gives mc_dropout no uncertainty; set it above 0, e.g. 0.1")
        return self

    @property
    def extras(self) -> dict[str, str]:
        """Optional dependencies that it needs, by the key that asks for each."""
        return {"kind": "torch"}

    @property
    def traits(self) -> ModelTraits:
        """What the model can do."""
        committee = self.uncertainty == "committee"
        return ModelTraits(
            learns=one_of((*NUMBERS, CLASS)),
            std=self.uncertainty != "none",
            feature_maps=("gradient", "last_layer"),
            derivatives=("forces",),
            votes=committee,
            member_jobs=self.networks if committee else 0,
            needs_descriptor=True,
            gpus=int(self.device == "cuda"),
            remedies={
                "std": "; set model.uncertainty: committee or mc_dropout",
                "votes": f" (model.uncertainty: {self.uncertainty}); set model.uncertainty: committee",
            },
        )

    @property
    def networks(self) -> int:
        """Number of networks: the members of a committee, otherwise one."""
        return (self.members or 5) if self.uncertainty == "committee" else 1

    @property
    def dropout_probability(self) -> float:
        """Probability that a hidden neuron is left out."""
        if self.dropout is None:
            return 0.1 if self.uncertainty == "mc_dropout" else 0.0
        return self.dropout

    @property
    def n_passes(self) -> int:
        """Number of passes of mc_dropout."""
        return self.passes or 50


class Log2Grid(Section):
    """Values of a hyperparameter that the first pass of its search tries, evenly spaced in the binary logarithm."""

    minimum: float
    """Binary logarithm of the first value."""
    maximum: float
    """Binary logarithm of the last value."""
    points: int = Field(default=11, gt=1)
    """Number of values, of each pass."""

    @model_validator(mode="after")
    def _grows(self) -> Log2Grid:
        if self.maximum <= self.minimum:
            raise ValueError(f"maximum = {self.maximum} must be greater than minimum = {self.minimum}")
        return self


class Kreg(LearnsDifference):
    """KREG: kernel ridge regression with the RE descriptor (descriptor.kind: inverse_distances) and the Gaussian kernel
    exp(-|x - x'|^2 / (2 sigma^2)), for geometries of one molecule (P. O. Dral, A. Owens, S. N. Yurchenko, W. Thiel,
    J. Chem. Phys. 146, 244108 (2017)). Learns several targets at once, and energies with forces.

    Each target has its own sigma and regularisation: those of the smallest RMSE on the validation part of the training
    labels (validation.fraction), for target energy_forces of the smallest geometric mean of the RMSE of energies and of
    forces. The model is then trained on all training labels. The grids of default are those of ML-NEA.
    """

    cites: ClassVar[tuple[str, ...]] = ("dral2017kreg",)

    kind: Literal["kreg"]
    prior_mean: Literal["constant", "zero"] = "constant"
    """Prior mean: constant (mean of the training targets) or zero."""
    log2_sigma: Log2Grid = Log2Grid(minimum=-10, maximum=9)
    """Widths of the kernel that are tried, in the unit of the descriptor (none); by default 2^-10 to 2^9."""
    log2_regularisation: Log2Grid = Log2Grid(minimum=-25, maximum=-1)
    """Regularisations that are tried, which are added to the diagonal of the kernel matrix (ones); by default 2^-25 to 2^-1.
    Noise-free labels of a small molecule can be learnt better with a minimum of -50. Values below 1e-15 times the number
    of labels are left out, being rounding."""
    grid_depth: int = Field(default=2, gt=0)
    """Passes of the search; each after the first has its points within one step of the last around the best of the last, so
    that it may leave the grid by a step."""
    sigma: float | None = Field(default=None, gt=0)
    """Fixed width of the kernel; null: searched."""
    regularisation: float | None = Field(default=None, gt=0)
    """Fixed regularisation; null: searched."""
    calibrate: bool = True
    """Scale the standard deviations of each target by one factor, so that 95 % of the errors of training labels that are left
    out (with their forces) are within their 95 % intervals."""

    @property
    def traits(self) -> ModelTraits:
        """What the model can do."""
        several = (frozenset(TARGETS[name].learnt) for name in ("energy_forces", "excitations"))
        return ModelTraits(
            learns=(*one_of(NUMBERS), *several),
            std=True,
            uncertainty_gradients=("energy",),
            feature_maps=("kernel",),
            trains_in_seconds=True,
            derivatives=("forces",),
            needs_descriptor=True,
            descriptors=("inverse_distances",),
            validates=True,
        )


class OwnModel(Section):
    """A user-defined model, docs/models.md."""

    kind: ImportPath
    """Import path package.module:Name of its class, importable from the campaign file's folder or the working directory."""
    arguments: PlainArguments = {}
    """Keyword arguments of the class."""
    start: Literal["fresh", "last"] = "fresh"
    """What an iteration's training begins from: nothing, or the model of the iteration before."""

    is_user_defined: ClassVar[bool] = True
    baseline: ClassVar[None] = None

    def input_files(self) -> list[str]:
        """Return nothing: no file of it is known here."""
        return []

    @property
    def traits(self) -> ModelTraits:
        """Nothing that is known here: its class says what the model can do, which is looked at before any job."""
        return ModelTraits()


def gpr_by_default(value: Any) -> Any:
    """Return the section with its default kind where it names none."""
    return {"kind": "gpr", **value} if isinstance(value, dict) else value


_Section = (
    Annotated[Gpr, Tag("gpr")]
    | Annotated[Mlp, Tag("mlp")]
    | Annotated[Kreg, Tag("kreg")]
    | Annotated[Gmnn, Tag("gmnn")]
    | Annotated[Sevenn, Tag("sevenn")]
    | Annotated[Mace, Tag("mace")]
    | Annotated[Ani, Tag("ani")]
    | Annotated[OwnModel, Tag(OWN_TAG)]
)
Model = Annotated[_Section, told_by_kind(_Section), BeforeValidator(gpr_by_default)]

MODEL_SECTIONS: tuple[type[Gpr | Mlp | Kreg | Gmnn], ...] = (Gpr, Mlp, Kreg, Gmnn)
"""The models of Quarry that need no further package."""
