"""Labels saved against random selection at equal quality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev


@dataclass(frozen=True)
class Curve:
    """Quality of an arm against its training labels, one point for each iteration.

    labels: rising. quality: an error (falling is better: interpolated as a power law, as learning curves are) or a
    number of finds (rising is better: interpolated on a straight line), as ``finds`` says.
    """

    labels: tuple[int, ...]
    quality: tuple[float, ...]
    finds: bool = False

    def best(self, upto: int) -> float:
        """Return the best quality with at most ``upto`` labels (errors go up and down by chance)."""
        seen = [q for n, q in zip(self.labels, self.quality, strict=True) if n <= upto]
        return max(seen) if self.finds else min(seen)

    def labels_for(self, quality: float) -> float | None:
        """Return how many labels the arm needs to be as good, between its points; None if it never is.

        The first point where it is as good counts, and its line from the best point before.
        """
        better = (lambda q: q >= quality) if self.finds else (lambda q: q <= quality)
        best: tuple[int, float] | None = None
        for n, q in zip(self.labels, self.quality, strict=True):
            if better(q):
                return float(n) if best is None else _between(best, (n, q), quality, self.finds)
            if best is None or (q > best[1] if self.finds else q < best[1]):
                best = (n, q)
        return None


def _between(before: tuple[int, float], after: tuple[int, float], quality: float, finds: bool) -> float:
    (n0, q0), (n1, q1) = before, after
    if finds or min(q0, q1, quality) <= 0:
        return n0 + (n1 - n0) * (quality - q0) / (q1 - q0)
    share = math.log(quality / q0) / math.log(q1 / q0)
    return math.exp(math.log(n0) + share * (math.log(n1) - math.log(n0)))


def labels_saved(arm: Curve, control: Curve, labels: int) -> float | None:
    """Return how many labels an arm saves against its control when either has ``labels`` of them.

    Ghosh et al., arXiv:2408.11191, figure 5: what the control reaches with all its labels, the arm reaches with fewer;
    the difference is saved. Where the control is the better one the same count has the negative sign: labels wasted. The
    share of ``labels`` is the published saving. None if neither curve has a point with so few labels.
    """
    if labels < min(arm.labels) or labels < min(control.labels):
        return None
    mine, its = arm.best(labels), control.best(labels)
    if mine == its:
        return 0.0
    arm_is_better = mine > its if arm.finds else mine < its
    needed = arm.labels_for(its) if arm_is_better else control.labels_for(mine)
    assert needed is not None
    return (labels - needed) if arm_is_better else (needed - labels)


@dataclass(frozen=True)
class Saving:
    """Labels saved at one number of labels: mean over pairs of an arm and a control, and their spread.

    std: standard deviation over the pairs, None for a single one. share, share_std: of the labels used.
    """

    labels: int
    saved: float
    std: float | None
    pairs: int

    @property
    def share(self) -> float:
        """Saved labels as a share of the labels used."""
        return self.saved / self.labels

    @property
    def share_std(self) -> float | None:
        """Standard deviation of the share."""
        return None if self.std is None else self.std / self.labels


def saving(arms: Sequence[Curve], controls: Sequence[Curve], labels: int) -> Saving | None:
    """Return the saving at ``labels`` over all pairs; None if no pair has points with so few labels.

    arms: the campaign and its repeats with other seeds. controls: random arms.
    """
    found = [labels_saved(arm, control, labels) for arm in arms for control in controls]
    values = [value for value in found if value is not None]
    if not values:
        return None
    return Saving(labels, mean(values), stdev(values) if len(values) > 1 else None, len(values))


def saving_words(found: Saving | None, quality: str) -> str:
    """Return the saving as a sentence, also when nothing was saved. quality: e.g. 'test RMSE', 'structures in range'."""
    if found is None:
        return f"labels saved against random at equal {quality}: not known, the arms have no common size"
    spread = "" if found.std is None else f" ± {found.std:.0f}"
    percent = f"{100 * found.share:.0f}{'' if found.share_std is None else f' ± {100 * found.share_std:.0f}'} %"
    count = f"{found.saved:.0f}{spread} of {found.labels} training labels ({percent}, {_pairs(found.pairs)})"
    margin = found.std if found.std is not None else 0.0
    if found.saved > margin:
        return f"labels saved against random at equal {quality}: {count}"
    if found.saved < -margin:
        return f"labels saved against random at equal {quality}: none, random was better: {count}"
    return f"labels saved against random at equal {quality}: none beyond the spread of the seeds: {count}"


def _pairs(number: int) -> str:
    return "one pair of arms, no error bar" if number == 1 else f"{number} pairs of arms"
