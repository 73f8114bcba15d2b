"""The label record: one JSON object per labelled structure, written once, never changed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quarry.errors import QuarryError, reason_of
from quarry.files import canonical_json, digest_of, read_file, write_text
from quarry.labeling.plain import check_numbers

RECORD_FORMAT = 1


@dataclass(frozen=True)
class LabelRecord:
    """The label of one structure, or the account of its failure.

    status: 'ok' or a failure class (``quarry.failures.FAILURE_CLASSES``).
    properties: numbers and nested lists by name, in the units and shapes of ``quarry.properties``.
    attempts: one dictionary per step that was tried. cost: wall_s, cpu_s, threads, tasks, peak_memory_MB, size (what the
    cost depends on: atoms, basis_functions). details: further numbers and messages of the engine.
    origin: campaign_id, campaign, arm and iteration that paid for it. finished: time in UTC to the millisecond, ISO 8601.
    """

    structure_id: str
    method_id: str
    method: dict[str, Any]
    status: str
    message: str
    properties: dict[str, Any]
    attempts: list[dict[str, Any]]
    cost: dict[str, Any]
    origin: dict[str, Any]
    host: str
    versions: dict[str, str]
    finished: str
    details: dict[str, Any] = field(default_factory=dict)
    format: int = field(default=RECORD_FORMAT)

    @property
    def ok(self) -> bool:
        """Whether this is a label (and not an account of a failure)."""
        return self.status == "ok"

    @property
    def core_hours(self) -> float:
        """Wall time x threads x tasks in core-hours: what a cluster bills, with the attempts that gave no record."""
        earlier = sum(float(attempt[1]) for attempt in self.cost.get("earlier_attempts", []))
        cores = int(self.cost["threads"]) * int(self.cost.get("tasks", 1))
        return (float(self.cost["wall_s"]) + earlier) * cores / 3600.0

    def to_json(self) -> dict[str, Any]:
        """Return the record with its checksum."""
        body = asdict(self)
        return {**body, "checksum": digest_of(body)}

    @staticmethod
    def from_json(data: Any) -> LabelRecord:
        """Return a record after checks. Raises ValueError if it is not intact, or a label holds what is no number."""
        if not isinstance(data, dict) or data.get("format") != RECORD_FORMAT:
            raise ValueError("not a label record of this format")
        body = {key: value for key, value in data.items() if key != "checksum"}
        if digest_of(body) != data.get("checksum"):
            raise ValueError("the checksum does not match the content")
        record = LabelRecord(**body)
        if record.ok:
            check_numbers(record.properties)
        return record


def encode_records(records: list[LabelRecord]) -> bytes:
    """Return the bytes of a record file: a JSON list, one record a line."""
    return ("[\n" + ",\n".join(canonical_json(r.to_json()) for r in records) + "\n]\n").encode()


def write_records(path: str | Path, records: list[LabelRecord]) -> None:
    """Write the record file of a job."""
    write_text(path, encode_records(records).decode())


def read_records(path: str | Path) -> list[LabelRecord]:
    """Read a record file. Raises ValueError (one line) if it is damaged or no record file."""
    try:
        content = read_file(path)[0]
    except ValueError as error:
        raise ValueError(f"{path}: damaged label record: {reason_of(error)}") from error
    return decode_records(content, path)


def decode_records(content: bytes, path: str | Path) -> list[LabelRecord]:
    """Return the records of a record file's content. path: for the message. Raises ValueError as ``read_records``."""
    try:
        data = json.loads(content)
        if not isinstance(data, list) or not data:
            raise ValueError("no records in it")
        return [LabelRecord.from_json(item) for item in data]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: damaged label record: {reason_of(error)}") from error


def read_valid_records(path: str | Path) -> list[LabelRecord]:
    """Return the records of a file. Raises QuarryError if it is not intact."""
    try:
        return read_records(path)
    except ValueError as error:
        raise QuarryError(f"{error}; start again and it is moved aside and computed again") from error
