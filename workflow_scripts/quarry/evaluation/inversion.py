"""Saved labels with a confidence interval, from smoothed curves: the inversion of a t test.

One axis of savings s serves both signs: with n labels of either arm, s > 0 says that the arm reaches with n - s labels what
its control reaches with n, s < 0 that the control reaches with n + s what the arm reaches with n. Along it the difference d
(arm minus control, of log errors) rises, and is 0 at the true saving. All s whose d is not significant are the
confidence interval (E. C. Fieller, J. R. Stat. Soc. B 16, 175 (1954)): it holds the true saving in 95 % of campaigns where the
test is right in 95 %, however curved the learning curves are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True)
class Differences:
    """Differences (arm minus control; below 0 the arm is better) along the axis of savings.

    saved: savings, rising, shape (n,). mean: d, shape (..., n), any number of campaigns at once. errors: variances of d and
    their degrees of freedom, one or several such pairs of shape (..., n); the one that gives the widest interval counts.
    Empty where nothing shows the chance.
    """

    saved: Array
    mean: Array
    errors: tuple[tuple[Array, Array], ...]

    def with_shared(self, variance: Array, freedom: float) -> Differences:
        """Return them with a further, independent variance (F. E. Satterthwaite, Biometrics Bull. 2, 110 (1946)).

        It never makes an interval shorter, although a small one, itself half chance, adds degrees of freedom.
        """
        joined = tuple(_joined(v, f, variance, freedom) for v, f in self.errors)
        return Differences(self.saved, self.mean, self.errors + joined)

    @property
    def margin(self) -> Array:
        """How far from 0 a difference may be by chance, in 95 % of campaigns, shape (..., n)."""
        if not self.errors:
            return np.full(self.mean.shape, np.inf)
        margins = [stdtrit(freedom, 0.5 + LEVEL / 2) * np.sqrt(variance) for variance, freedom in self.errors]
        return np.max(margins, axis=0)

    def estimate(self) -> Array:
        """Return the saving at which d is 0, shape (...): the nearest to no saving, the end of the axis if there is none."""
        middle = int(np.searchsorted(self.saved, 0.0))
        # Seen from the middle outwards, the side on which the better one pays off.
        up = _first(self.mean[..., middle:], self.saved[middle:])
        down = _first(-self.mean[..., middle::-1], self.saved[middle::-1])
        at_middle = self.mean[..., middle]
        return np.where(at_middle < 0, up, np.where(at_middle > 0, down, 0.0))

    def interval(self) -> tuple[Array, Array]:
        """Return the ends of the 95 % interval, shape (...); they stop at the ends of the axis."""
        margin = self.margin
        low = _first(self.mean + margin, self.saved)
        high = _first((margin - self.mean)[..., ::-1], self.saved[::-1])
        return low, high


def _joined(first: Array, freedom: Array | float, second: Array, other: Array | float) -> tuple[Array, Array]:
    """Return the sum of two independent variances and its degrees of freedom (Satterthwaite)."""
    both = first + second
    with np.errstate(divide="ignore", invalid="ignore"):
        joint = both**2 / (first**2 / freedom + second**2 / other)
    return both, np.where(both > 0, joint, freedom)


def _first(values: Array, places: Array) -> Array:
    """Return the first place where values, shape (..., n), are not below 0, between points; the last one if none is."""
    reached = values >= 0
    found = np.where(reached.any(axis=-1), reached.argmax(axis=-1), len(places) - 1)
    before = np.maximum(found - 1, 0)
    high = np.take_along_axis(values, found[..., None], axis=-1)[..., 0]
    low = np.take_along_axis(values, before[..., None], axis=-1)[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where((low < 0) & (high > 0), -low / (high - low), 1.0)
    between: Array = places[before] + share * (places[found] - places[before])
    return between


def of_arms(arms: Array, controls: Array, at: Array, n: int) -> Differences:
    """Return the differences of independent arms and controls; their chance is the spread between them.

    arms: smoothed values, shape (..., R, G), R repeats of the arm; controls: (..., K, G), K > 1; at: their numbers of labels,
    shape (G,); n: index of the number of labels that is asked about.

    A single arm has no spread: that of the controls at as many labels is taken. Several arms have one, but
    few of them know it badly: the wider of two t tests counts, that of B. L. Welch (Biometrika 34, 28 (1947)), which alone
    is wrong in 10 % where two repeats meet ten controls, and Student's with a common spread, which is wrong where
    the repeats scatter more than the controls.
    """
    saved, of_arm, of_control = _axis(at, n)
    repeats, number = arms.shape[-2], controls.shape[-2]
    mean = arms.mean(axis=-2)[..., of_arm] - controls.mean(axis=-2)[..., of_control]
    squares = [_squares(group, of_arm, of_control) for group in (arms, controls)]
    if repeats == 1:
        student = _student(squares[1], number - 1, 1, number)
        return Differences(saved, mean, (student,))
    student = _student(squares[0] + squares[1], repeats + number - 2, repeats, number)
    first, second = squares[0][0] / (repeats - 1) / repeats, squares[1][1] / (number - 1) / number
    return Differences(saved, mean, (_joined(first, repeats - 1.0, second, number - 1.0), student))


def _squares(group: Array, first: NDArray[np.int_], second: NDArray[np.int_]) -> Array:
    """Return the sums of squares and of products, over a group, of values at two places: shape (3, ..., n)."""
    centred = group - group.mean(axis=-2, keepdims=True)
    a, b = centred[..., first], centred[..., second]
    return np.stack([(a * a).sum(axis=-2), (b * b).sum(axis=-2), (a * b).sum(axis=-2)])


def _student(squares: Array, freedom: int, repeats: int, number: int) -> tuple[Array, Array]:
    """Return the variance of d by a common spread, known with ``freedom`` at each place, and its own degrees of freedom.

    The spreads at two places are of the same arms. Where they are independent, their sum is better known than either
    (Satterthwaite's approximation with their covariance, 2 c^2 / freedom for normal values with covariance c).
    """
    first, second, both = squares / freedom
    one, other, product = first / repeats, second / number, both**2 / (repeats * number)
    with np.errstate(divide="ignore", invalid="ignore"):
        joint = freedom * (one + other) ** 2 / (one**2 + other**2 + 2 * product)
    return one + other, np.where(one + other > 0, joint, float(freedom))


def of_pairs(arms: Array, controls: Array, at: Array, n: int) -> Differences:
    """Return the differences of pairs, each with another initial batch and test set: a paired t test.

    arms, controls: smoothed values, shape (..., U, G), U > 1 pairs; at, n: as in ``of_arms``.
    """
    saved, of_arm, of_control = _axis(at, n)
    pairs = arms[..., of_arm] - controls[..., of_control]
    number = pairs.shape[-2]
    mean = pairs.mean(axis=-2)
    return Differences(saved, mean, ((pairs.var(axis=-2, ddof=1) / number, np.full(mean.shape, number - 1.0)),))


def point(arm: Array, control: Array, at: Array, n: int) -> Differences:
    """Return the difference of two curves, shape (..., G), without any chance: good for an estimate alone."""
    saved, of_arm, of_control = _axis(at, n)
    return Differences(saved, arm[..., of_arm] - control[..., of_control], ())


def on_axis(matrix: Array, at: Array, n: int) -> Array:
    """Return a matrix over (labels of the arm, labels of the control), shape (G, G), along the axis of savings, shape (n,)."""
    _, of_arm, of_control = _axis(at, n)
    return matrix[of_arm, of_control]


def _axis(at: Array, n: int) -> tuple[Array, NDArray[np.int_], NDArray[np.int_]]:
    """Return the savings, and the indices of the numbers of labels of arm and control at each."""
    rising, falling = np.arange(n + 1), np.arange(n - 1, -1, -1)
    saved = np.concatenate([at[rising] - at[n], at[n] - at[falling]])
    of_arm = np.concatenate([np.full(n + 1, n), falling])
    of_control = np.concatenate([rising, np.full(n, n)])
    return saved, of_arm, of_control


def shared_test_variance(arms: list[Array], controls: list[Array]) -> Array:
    """Return the variance of differences that comes from the one finite test set of all arms, shape (G, G).

    arms, controls: for each arm the influence of every test structure on its smoothed values, shape (n_test, G); at least two
    controls. Entry (g, h) belongs to the arm with at[g] and the control with at[h] labels. Structures and arms are
    crossed: what structure and single arm do together is in the spread between arms already and is subtracted, so that
    nothing is left where both select alike. A single arm's share of it is taken from the controls.
    """
    n_test = len(controls[0])
    mean_arm, within_arm = _components(arms)
    mean_control, within_control = _components(controls)
    if len(arms) == 1:
        within_arm = within_control
    cross = mean_arm.T @ mean_control / (n_test - 1)
    both = (
        (mean_arm**2).sum(axis=0)[:, None] / (n_test - 1)
        + (mean_control**2).sum(axis=0)[None, :] / (n_test - 1)
        - 2 * cross
    )
    noise = within_arm[:, None] / len(arms) + within_control[None, :] / len(controls)
    return np.clip(both - noise, 0, None) / n_test


def _components(influences: list[Array]) -> tuple[Array, Array]:
    """Return the arms' mean influences, centred over the structures, and the variance of structures within arms, (G,)."""
    centred = [values - values.mean(axis=0) for values in influences]
    mean = sum(centred) / len(centred)
    number, n_test = len(centred), len(mean)
    if number == 1:
        return mean, np.zeros(mean.shape[1])
    within = sum(((values - mean) ** 2).sum(axis=0) for values in centred) / ((number - 1) * (n_test - 1))
    return mean, np.asarray(within)
