"""What an engine is: it turns a structure into properties, or says in one class why it cannot."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from quarry.config.resources import LabelResources
from quarry.errors import QuarryError
from quarry.files import NO_ROOM
from quarry.labeling.attempts import MACHINE_FAULT
from quarry.structures import Structure


class MachineFault(QuarryError):
    """The node cannot do its part: its scratch folder is full, read-only or absent. No fault of any structure."""


def status_of(error: BaseException) -> str:
    """Return the status of a calculation that ended with an exception: a disk that fails is a fault of the machine."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MachineFault) or (isinstance(cause, OSError) and cause.errno in NO_ROOM):
            return MACHINE_FAULT
        cause = cause.__cause__ or cause.__context__
    return "engine_error"


@dataclass
class EngineResult:
    """What one calculation gave.

    status: 'ok', a failure class (``quarry.failures``), or ``MACHINE_FAULT``: no record then, and the label is tried again.
    properties: plain numbers and nested lists (see ``quarry.properties``);
    lumo and gap are None where there is no virtual orbital.
    attempts: one dictionary per step that was tried (name, cycles, converged, wall_s, cpu_s).
    size: what the cost depends on, e.g. {"atoms": 3, "basis_functions": 18}; cost models are fitted to it.
    details: what else belongs in the record (exit code and error output of a program, stability analysis ...).
    """

    status: str
    properties: dict[str, Any] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    message: str = ""
    size: dict[str, int] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """A source of labels."""

    name: str
    periodic: bool
    """Whether it can take periodic structures; those are refused before any job otherwise."""
    one_job_per_batch: bool
    """Whether a label costs next to nothing, so that a whole batch is one job."""

    @classmethod
    def of(cls, labeling: Any, base: Path, resources: LabelResources) -> Self:
        """Return the engine of a section ``labeling`` of its own kind. base: folder of the campaign file, for the files that the
        section names. resources: what a label job has, for engines that start a program.
        """
        ...

    def method_identity(self) -> dict[str, Any]:
        """Return everything that changes the number, and nothing else, as JSON-able data."""
        ...

    def check(self, elements: list[int]) -> None:
        """Raise QuarryError (one line) for what this engine cannot do with the pool's elements (atomic numbers)."""
        ...

    def label(self, structure: Structure, threads: int) -> EngineResult:
        """Compute the properties of one structure."""
        ...

    def size(self, structure: Structure) -> dict[str, int]:
        """Return what the cost of a label depends on, without computing it: atoms, and basis_functions where it has them."""
        ...

    def versions(self) -> dict[str, str]:
        """Return the versions of the programs that make the number."""
        ...


@runtime_checkable
class KnowsLabels(Protocol):
    """An engine that computes nothing: it has finished labels, which can be looked up before any job."""

    source: str
    """Where the labels are, for messages."""

    def contents(self) -> str:
        """Return a clause about what the source holds, for messages."""
        ...

    def label(self, structure: Structure, threads: int) -> EngineResult:
        """Look up the properties of one structure."""
        ...
