"""What a stop rule sees of an arm (standard library only: read at parse time)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quarry.config.campaign import Configuration
from quarry.errors import reason_of
from quarry.files import digest_of, write_json
from quarry.stopping.facts import Cost, Facts

QUERY_FORMAT = 1


@dataclass(frozen=True)
class Query:
    """How an iteration's batch was chosen, as ``query.json`` holds it. Numbers are in the target's unit.

    strategy: its name. candidates: number of structures that it could choose from. unfamiliar: those of them that the model
    cannot judge (``query.unfamiliar``), which stand in none of the distributions. chosen: what the strategy chose, in its
    order, a dictionary each with structure_id and, where they are there, score (what the strategy ranks by), std and
    informativeness_by_mean and _by_median: score over the mean or median of what the training structures would be ranked by.
    distributions: of the candidates' score, std, mean and these, where they are there: min, q25, median, q75, q95, max and mean;
    of an informativeness also above_1, the share of candidates above 1.
    thresholds: of the strategy, by the names of the configuration (minimum and maximum of ``search``, share of ``query``);
    training_mean and training_median, where training structures can be ranked.
    uninformative: candidates that were left out because they tell too little (``query.min_informativeness``).
    """

    strategy: str
    candidates: int
    unfamiliar: int
    chosen: list[dict[str, Any]] = field(default_factory=list)
    distributions: dict[str, dict[str, float]] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    uninformative: int = 0
    format: int = QUERY_FORMAT

    def write(self, path: str | Path) -> None:
        """Write ``query.json`` with a checksum; the same query gives the same bytes."""
        body = dict(vars(self))
        write_json(path, {**body, "checksum": digest_of(body)})

    @staticmethod
    def read(path: str | Path) -> Query | None:
        """Read ``query.json``; None if there is none. Raises ValueError if it is damaged."""
        try:
            data = json.loads(Path(path).read_bytes())
            if data.pop("checksum") != digest_of(data):
                raise ValueError("the checksum does not match the content")
            return Query(**data)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: damaged query: {reason_of(error)}") from error


@dataclass(frozen=True)
class Progress:
    """An arm after an iteration.

    facts, costs, queries: of iterations 0, 1, ... up to it. A query is None in iteration 0, whose batch nobody queried, in a
    batch of nothing but retries, and where an earlier version of Quarry made the batch; fewer queries than facts: none of the
    others is known.
    """

    facts: Sequence[Facts]
    costs: Sequence[Cost]
    configuration: Configuration
    queries: Sequence[Query | None] = ()

    @property
    def last(self) -> Facts:
        """The facts of the last iteration."""
        return self.facts[-1]

    def query(self, iteration: int) -> Query | None:
        """Return how an iteration's batch was chosen, None where that is not known."""
        return self.queries[iteration] if iteration < len(self.queries) else None

    def until(self, iteration: int) -> Progress:
        """Return the arm as it was after an earlier iteration."""
        end = iteration + 1
        return Progress(self.facts[:end], self.costs[:end], self.configuration, self.queries[:end])
