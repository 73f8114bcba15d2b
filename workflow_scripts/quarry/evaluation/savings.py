"""Labels saved against random selection at equal quality: the result and its words (nothing heavy is imported)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from quarry.config.control import ONE_RANDOM_ARM

Verdict = Literal["saved", "wasted", "none", "unknown"]


@dataclass(frozen=True)
class Saving:
    """Labels saved at one number of labels.

    With ``labels`` of them for either arm: what random selection reaches with all, arm main reaches with ``saved`` fewer
    (R. Ghosh et al., arXiv:2408.11191, figure 5). Below 0 random selection was the better one: labels wasted. low, high: the
    95 % interval; None where the arms are too few for one. limit: the most that can be saved or wasted, all labels but the
    initial ones; estimate and interval end there.
    """

    labels: int
    saved: float
    low: float | None
    high: float | None
    limit: float

    @property
    def says_nothing(self) -> bool:
        """Whether the interval is all that can be: the curves are too flat beside their chance to show anything."""
        ends = self.low, self.high
        return self.limit > 0 and None not in ends and self.low <= -self.limit and self.high >= self.limit  # type: ignore[operator]

    @property
    def verdict(self) -> Verdict:
        """Whether labels were saved or wasted beyond chance, neither (none), or nothing is shown (unknown)."""
        if self.low is None or self.high is None or self.says_nothing:
            return "unknown"
        return "saved" if self.low > 0 else "wasted" if self.high < 0 else "none"


VERDICT_WORDS: dict[Verdict, str] = {
    "saved": "",
    "wasted": "none, random was better: ",
    "none": "none beyond chance: ",
    "unknown": "no verdict: ",
}


def saving_message(found: Saving | None, quality: str) -> str:
    """Return the saving by the first measure as a sentence. quality: e.g. 'test RMSE', 'structures in range'."""
    head = f"labels saved against random at equal {quality}"
    if found is None:
        return f"{head}: not known, the arms have no common size"
    if found.says_nothing:
        return (
            f"{head}: no verdict, the curves are too flat beside their chance: anything from {found.low:.0f} to "
            f"{found.high:.0f} of {found.labels} training labels"
        )
    percent = f"{100 * found.saved / found.labels:.0f} %"
    interval = "" if found.low is None else f"; 95 % interval {found.low:.0f} to {found.high:.0f} labels"
    least = "at least " if found.limit and abs(found.saved) >= found.limit else ""
    return (
        f"{head}: {VERDICT_WORDS[found.verdict]}{least}{found.saved:.0f} of {found.labels} training labels "
        f"({percent}{interval})"
    )


def further_message(found: Saving | None, measure: str) -> str:
    """Return the saving by a further measure, in short. measure: e.g. 'MAE'."""
    if found is None:
        return f"by {measure}: not known"
    if found.says_nothing:
        return f"by {measure}: no verdict"
    interval = "" if found.low is None else f" ({found.low:.0f} to {found.high:.0f})"
    return f"by {measure}: {VERDICT_WORDS[found.verdict]}{found.saved:.0f}{interval}"


def disagreement(verdicts: Mapping[str, Verdict]) -> str | None:
    """Return a sentence where labels were saved by one measure and wasted by another, or None."""
    saved = [measure for measure, verdict in verdicts.items() if verdict == "saved"]
    wasted = [measure for measure, verdict in verdicts.items() if verdict == "wasted"]
    if not saved or not wasted:
        return None
    return (
        f"saved by {' and '.join(saved)}, wasted by {' and '.join(wasted)}: which selection is better depends on the errors "
        "that matter to you"
    )


def scope_message(arms: int, controls: int, splits: int) -> str:
    """Return what the estimate is about and what it stands on. arms: main and its repeats; controls: random arms."""
    if splits:
        return (
            f"the interval is over initial batches and test sets of this pool ({splits + 1} of them, each with an arm main and "
            "a random one)"
        )
    if controls < 2:
        return ONE_RANDOM_ARM
    own = f"{arms} arms main" if arms > 1 else "one arm main, whose chance is taken to be that of the random ones"
    return f"the interval is for structures like the pool's and this one initial batch ({controls} random arms, {own})"


def summary_messages(
    last: Mapping[str, Saving | None], qualities: Sequence[str], arms: int, controls: int, splits: int
) -> list[str]:
    """Return the lines that the terminal shows when a campaign ends.

    last: saving at the last common size by the short name of each measure, that which decides first. qualities: the same
    measures as the first sentence names them. arms, controls, splits: numbers of them, as of ``scope_message``.
    """
    measures = list(last)
    first = [saving_message(last[measures[0]], qualities[0])]
    lines = ["; ".join(first + [further_message(last[measure], measure) for measure in measures[1:]])]
    known: dict[str, Verdict] = {measure: found.verdict for measure, found in last.items() if found is not None}
    against = disagreement(known)
    return lines + ([against] if against else []) + ([scope_message(arms, controls, splits)] if known else [])
