"""What a model can do, said by its section of the configuration or by its class. Checks between sections read it.

Standard library only: the Snakefile reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from quarry.config.targets import CLASS, Target

NUMBERS = ("energy", "homo", "lumo", "gap", "dipole_norm", "value")
"""Properties that are one number for each structure."""


def one_of(names: Iterable[str]) -> tuple[frozenset[str], ...]:
    """Return sets of one property each: a model that learns any of them, but one at a time."""
    return tuple(frozenset((name,)) for name in names)


@dataclass(frozen=True)
class ModelTraits:
    """What a model can do.

    learns: sets of properties that it learns at once (energy, forces, dipole_norm, class ...); it need not be given all of a
    set. std: whether it predicts standard deviations. feature_maps: kinds of them that ``features`` gives, the default
    first. informativeness: properties of which it says how much a label would tell it (energy, forces).
    uncertainty_gradients: uncertainties that it can differentiate (energy: the energy's standard deviation; informativeness:
    that of the energy). votes: whether it counts the votes of a committee on classes. member_jobs: how many jobs train its
    members, 0: one job trains it.
    needs_descriptor: whether it learns from the descriptor and not from structures; descriptors: the kinds that it takes, empty:
    all. needs_atoms: key that needs the atoms of a structure; empty: rows of features do too. validates: whether it chooses its
    hyperparameters on validation data that are split off for it. gpus: GPUs that its jobs ask for.
    known_elements: whether it refuses structures with elements that it has not learnt. derivatives: properties that it gives with
    energies whether it has learnt them or not (forces, stress; of a model of the descriptor where that has derivatives).
    warm_start: whether it can begin from the model of the previous iteration. trains_in_seconds: whether a training on some
    hundred labels takes no longer than a label or two. remedies: what to set for a thing that is missing
    (std, votes, atoms), for messages.
    """

    learns: tuple[frozenset[str], ...] = ()
    std: bool = False
    feature_maps: tuple[str, ...] = ()
    informativeness: tuple[str, ...] = ()
    uncertainty_gradients: tuple[str, ...] = ()
    votes: bool = False
    member_jobs: int = 0
    needs_descriptor: bool = False
    descriptors: tuple[str, ...] = ()
    needs_atoms: str = ""
    validates: bool = False
    gpus: int = 0
    warm_start: bool = False
    trains_in_seconds: bool = False
    known_elements: bool = False
    derivatives: tuple[str, ...] = ()
    remedies: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A user writes [{"energy", "forces"}], or ["energy"] for one property alone.
        sets = tuple(frozenset((part,)) if isinstance(part, str) else frozenset(part) for part in self.learns)
        object.__setattr__(self, "learns", sets)
        object.__setattr__(self, "feature_maps", tuple(self.feature_maps))
        object.__setattr__(self, "informativeness", tuple(self.informativeness))
        object.__setattr__(self, "uncertainty_gradients", tuple(self.uncertainty_gradients))
        object.__setattr__(self, "derivatives", tuple(self.derivatives))

    @property
    def classes(self) -> bool:
        """Whether it predicts classes and their probabilities."""
        return any(CLASS in together for together in self.learns)

    def can_learn(self, target: Target) -> bool:
        """Return whether it learns all of a target at once."""
        return any(set(target.learnt) <= together for together in self.learns)

    def predicts(self, target: Target, has_derivatives: bool) -> tuple[str, ...]:
        """Return the properties that it predicts. has_derivatives: whether the descriptor that it learns from has them."""
        if target.each_state:
            # Those of the ground state, too.
            return (*target.learnt, "energy", "forces")
        derived = "energy" in target.learnt and (has_derivatives or not self.needs_descriptor)
        return tuple(dict.fromkeys((*target.learnt, *(self.derivatives if derived else ()))))
