"""A force along the gradient of a model's uncertainty, which draws trajectories to where the model knows little.

V. Zaverkin et al., npj Comput. Mater. 10, 83 (2024): dynamics on E - tau u, with u the calibrated uncertainty, and the stress
that goes with it. The gradient of an uncertainty may be of any size, the smaller the surer the model is, so that tau is not given
but found in every step, from running averages of squares as in AdaDelta (M. D. Zeiler, arXiv:1212.5701):

    tau = strength sqrt(<|F|^2> / <|du/dR|^2>),    <x>_t = kept <x>_(t-1) + (1 - kept) x_t

with the squares summed over the atoms on which the bias acts. Each trajectory has one tau, and not each component one of its own
as in AdaDelta: the force stays along the gradient, and does not depend on how a molecule lies. The authors' own program (ALEBREW,
github.com/nec-research/alebrew) has the same ratio of the last 100 steps' squares, summed over all atoms. As the size of u is
scaled away, a calibrated uncertainty and one that is not have the same bias force.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quarry.dynamics.integrators import Forces
from quarry.dynamics.uncertainty import Measure
from quarry.dynamics.walkers import Walkers
from quarry.models.base import Model, Prediction, UncertaintyGradient
from quarry.structures import StructureSet


@dataclass(frozen=True)
class Bias:
    """How strong a bias is, and on what it acts.

    measure: the uncertainty, which has a gradient. strength, stress_strength: root mean square of the bias force over that of the
    predicted force, and of the bias stress over that of the predicted stress, 0: none. skipped: atomic numbers of atoms on which
    no force acts. kept: share of the averages that a step keeps.
    """

    measure: Measure
    strength: float
    stress_strength: float
    skipped: frozenset[int]
    kept: float

    @property
    def wants(self) -> frozenset[str]:
        """What must be predicted for it."""
        return self.measure.gradient_wants

    def gradient(self, model: Model, structures: StructureSet, prediction: Prediction) -> UncertaintyGradient:
        """Return how the uncertainty of structures changes, from a prediction with what ``wants`` names."""
        assert self.measure.gradient is not None
        return self.measure.gradient(model, structures, prediction)

    @staticmethod
    def no_averages(n: int) -> NDArray[np.float64]:
        """Return the averages of n trajectories at their start, see ``added``."""
        return np.zeros((n, 4))

    def added(
        self, forces: Forces, gradient: UncertaintyGradient, walkers: Walkers, averages: NDArray[np.float64]
    ) -> tuple[Forces, NDArray[np.float64]]:
        """Return forces with those of the bias, and the averages with this step.

        averages: of the squares of force, gradient, stress and gradient by the strain, of each walker, shape (n, 4).
        """
        moved = ~np.isin(walkers.structures.numbers, list(self.skipped))
        # What is no number ends a trajectory for its uncertainty or forces; it must not push.
        along = np.nan_to_num(np.where(moved[:, None], gradient.by_positions, 0.0), posinf=0.0, neginf=0.0)
        own = np.where(moved[:, None], forces.forces, 0.0)
        squares = np.zeros(averages.shape)
        squares[:, 0], squares[:, 1] = (walkers.sums((part**2).sum(axis=1)) for part in (own, along))
        stress, strained = forces.stress, None
        if stress is not None and gradient.by_strain is not None and self.stress_strength:
            strained = np.nan_to_num(gradient.by_strain, posinf=0.0, neginf=0.0)
            squares[:, 2], squares[:, 3] = ((part**2).sum(axis=(1, 2)) for part in (stress, strained))
        averages = self.kept * averages + (1.0 - self.kept) * squares
        scale = self.strength * _ratio(averages[:, 0], averages[:, 1])
        pushed = forces.forces + scale[walkers.owners][:, None] * along
        if stress is not None and strained is not None:
            # Where the uncertainty grows with the cell, the cell wants to grow: a negative stress.
            of_cells = self.stress_strength * _ratio(averages[:, 2], averages[:, 3])
            stress = stress - of_cells[:, None, None] * strained
        return Forces(pushed, stress), averages


def _ratio(over: NDArray[np.float64], under: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the square root of the ratio of averages, 0 where there is nothing to scale."""
    return np.sqrt(np.divide(over, under, out=np.zeros_like(over), where=under > 0))
