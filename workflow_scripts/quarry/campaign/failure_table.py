"""``failures.csv``: every failed label of an arm so far. Standard library only (read at parse time)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from quarry.csv_tables import read_dicts, write_dicts

FAILURE_COLUMNS = (
    "structure_id",
    "key",
    "role",
    "iteration",
    "job",
    "status",
    "message",
    "tried",
    "wall_s",
    "core_hours",
    "straggler",
    "retried",
)
"""key: name of the label (see BatchRow.key). straggler: yes if it was put off to the next batch by itself. retried: key of
the label that tried it again, or empty: then it is open.
"""

REMEDIES = {
    "scf_not_converged": "give it more recovery steps or cycles (labeling.recovery, labeling.method.max_cycles; an argument of "
    "the engine)",
    "excitations_not_converged": "ask for fewer states or allow more cycles (labeling.method.excitations, "
    "labeling.active_space)",
    "active_space_changed": "choose an active space that holds the states of all structures (labeling.active_space: more "
    "orbitals), or leave structures far from its reference out",
    "out_of_memory": "raise resources.label.memory_MB",
    "out_of_time": "raise resources.label.walltime_min",
    "invalid_structure": "correct the structures, or the keys that the message names",
    "engine_error": "correct what the message says, in the engine's program or in section labeling",
    "lacks_target": "let labels have what the target needs (section labeling), or set another target",
}
"""What may help against each failure class (``quarry.failures.FAILURE_CLASSES``)."""


def read_failures(path: str | Path) -> list[dict[str, str]]:
    """Return the rows of the table, by the names of its columns. Raises ValueError if it is damaged."""
    return read_dicts(path)


def write_failures(path: str | Path, rows: Iterable[dict[str, str]]) -> None:
    """Write the table; the same rows give the same bytes."""
    write_dicts(path, FAILURE_COLUMNS, rows)


def open_failures(rows: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Return the failures that were not tried again."""
    return [row for row in rows if not row["retried"]]


def put_off(rows: Iterable[dict[str, str]], iteration: int) -> list[dict[str, str]]:
    """Return the open stragglers of an iteration, which go into the next batch by themselves."""
    return [row for row in open_failures(rows) if row["straggler"] and row["iteration"] == str(iteration)]


def table_by_class(rows: Sequence[dict[str, str]]) -> list[str]:
    """Return lines that show how many labels failed in which way, with the last message of each class."""
    messages = {row["status"]: row["message"] for row in rows}
    counts = Counter(row["status"] for row in rows).most_common()
    width = max((len(status) for status in messages), default=0)
    return [f"{status:<{width}} {count:>6}  {messages[status]}" for status, count in counts]
