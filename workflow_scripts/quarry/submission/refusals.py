"""What a scheduler says when it does not take a job: what can never succeed, and how long to wait with the rest."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
JITTER = 0.2
"""Share by which a pause is shorter or longer, so that several campaigns do not ask at the same moments."""

_NEVER = {
    "slurm": (
        r"invalid (partition|account|qos|feature|license|generic resource|reservation|wckey|constraint|node name)",
        r"invalid (numeric value|time limit|--\S+ specification)|requested (time limit|partition configuration) is",
        r"requested (node configuration|reservation|topology) (is )?(not available|invalid)",
        r"memory (required by task|specification can ?not)|cpu count per node can ?not|more processors requested",
        r"\w*(Max|Min)\w*(PerJob|PerNode)|\w*MaxWall",
        r"not permitted to use this|access/permission denied|invalid account",
        r"unrecognized option|invalid option|requires an argument|ambiguous|try .*--help|argument list too long",
        # The plugin's own checks before it calls sbatch.
        r"appears to be invalid|is not allowed in the 'slurm_extra'",
    ),
    "pbs": (
        r"unknown (queue|resource)|illegal attribute|invalid (account|project|credential)|unauthorized request",
        r"(exceeds?|violates) (queue|server|the queue)\S* (and/or server )?resource limits|illegal -|usage: ?qsub",
    ),
    "sge": (
        r'unknown (queue|option|resource|project)|the requested (project|parallel environment) ".*" does not exist',
        r"job rejected: .*(does not exist|no permission|not allowed)",
    ),
    "lsf": (
        r"no such queue|cannot use the queue|bad resource requirement|illegal (option|job)|invalid project",
        r"cannot exceed queue's hard limit|unknown or invalid",
    ),
    # What submit.py and Quarry find themselves. A job without a legible id runs: another one of it would be one more.
    "quarry": (r"no job id in|job ids? found in|set QUARRY_SCHEDULER|^resources: |# properties = ",),
}
_NEVER_PATTERN = re.compile("|".join(f"({p})" for patterns in _NEVER.values() for p in patterns), re.IGNORECASE)
_USUAL_PATTERN = re.compile(
    r"submit ?limit|submit\w*job|job submit limit|maximum number of jobs|jobs are allowed per user|job threshold|"
    r"would exceed|unable to contact|cannot connect|connection|timed out|temporarily",
    re.IGNORECASE,
)
_PREFIX = re.compile(r"^\s*(sbatch|qsub|bsub)(: (error|fatal))?: *|\.$", re.IGNORECASE)


def words_of(answer: str, most: int = 300) -> str:
    """Return what a submit command has printed as one line of at most ``most`` characters."""
    lines = dict.fromkeys(_PREFIX.sub("", line).strip() for line in answer.splitlines())
    message = "; ".join(line for line in lines if line) or "no word of explanation"
    return message if len(message) <= most else message[: most - 3] + "..."


@dataclass(frozen=True)
class Refusal:
    """One submission that was refused or failed.

    words: what the scheduler has printed, in one line. certain: it can never succeed, whatever that says.
    """

    words: str
    certain: bool = False

    @property
    def for_good(self) -> bool:
        """Whether the same job can never be taken: something the user has to change, not a matter of time."""
        return self.certain or _NEVER_PATTERN.search(self.words) is not None

    @property
    def usual(self) -> bool:
        """Whether waiting is known to help: limits of jobs in the queue, a scheduler that cannot be reached."""
        return _USUAL_PATTERN.search(self.words) is not None


def pause_s(refusals: int, chance: random.Random | None = None) -> float:
    """Return seconds to wait after so many refusals in a row: doubled each time up to five minutes, with jitter."""
    spread = (chance or random).uniform(1 - JITTER, 1 + JITTER)
    return float(spread * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(refusals - 1, 20)))


@dataclass
class Reminders:
    """When to say something again that goes on: once, and then at intervals that double, up to a day."""

    first_s: float = 600.0
    longest_s: float = 86400.0
    _said: dict[str, tuple[float, float]] = field(default_factory=dict)

    def is_due(self, words: str, now: float, first_s: float | None = None) -> bool:
        """Return whether to print a message now, and count it as printed.

        words: the message; numbers in it make no difference. now: seconds of a monotonic clock. first_s: the first interval.
        """
        key = re.sub(r"\d+", "0", words)
        if key not in self._said:
            self._said[key] = (now, first_s or self.first_s)
            return True
        said_at, interval = self._said[key]
        if now - said_at < interval:
            return False
        self._said[key] = (now, min(2 * interval, self.longest_s))
        return True

    def postpone(self, now: float) -> None:
        """Count the intervals from now: what was said has ceased meanwhile."""
        self._said = {key: (now, interval) for key, (_, interval) in self._said.items()}
