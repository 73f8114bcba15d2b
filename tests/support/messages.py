"""What a refusal says."""

from __future__ import annotations

from typing import Any


def the_line(caught: Any) -> str:
    """Return the message of what pytest.raises caught, printed (pytest -rP shows it): one line, and no book."""
    message = str(caught.value)
    print(message)
    assert "\n" not in message and len(message) < 500
    return message
