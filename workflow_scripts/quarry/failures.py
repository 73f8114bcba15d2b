"""Why labels fail: the failure classes, which engines, records, tables and the configuration share."""

from __future__ import annotations

from typing import Literal, get_args

FailureClass = Literal[
    "scf_not_converged",
    "excitations_not_converged",
    "active_space_changed",
    "out_of_memory",
    "out_of_time",
    "invalid_structure",
    "engine_error",
    "lacks_target",
]
FAILURE_CLASSES: tuple[str, ...] = get_args(FailureClass)
