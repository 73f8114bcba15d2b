"""A function engine for pools of rows."""

import math
from typing import Any


def sine(atoms: Any) -> dict[str, float]:
    """Return the sine of the first feature."""
    return {"value": math.sin(atoms.info["features"][0])}
