"""Names of labels within a campaign: the structure id, with _r1, _r2 ... for its first, second ... retry."""

from __future__ import annotations


def key_of(structure_id: str, retry_of: str) -> str:
    """Return the key of a label. retry_of: key of the failed one before it; empty: there is none."""
    return f"{structure_id}_r{retry_number(retry_of) + 1}" if retry_of else structure_id


def retry_number(key: str) -> int:
    """Return how often the label was tried before."""
    return int(key.rpartition("_r")[2]) if "_r" in key else 0


def key_before(key: str) -> str:
    """Return the key of the label that this one tries again; empty: it is the first."""
    number, structure_id = retry_number(key), key.partition("_r")[0]
    return "" if number == 0 else structure_id if number == 1 else f"{structure_id}_r{number - 1}"
