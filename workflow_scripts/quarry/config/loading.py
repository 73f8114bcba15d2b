"""From a parsed campaign file to a checked configuration."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from quarry.config.base import absurd_number
from quarry.config.campaign import ArmSettings, Configuration
from quarry.config.checks import contradiction
from quarry.config.messages import one_line
from quarry.errors import QuarryError


def load_configuration(raw: dict[str, Any], origin: str) -> Configuration:
    """Check a parsed configuration file and the rules between its sections.

    raw: the dictionary from YAML. origin: where it comes from, for the message.
    Raises QuarryError with one line that names the key, what is wrong and what to change.
    """
    absurd = absurd_number(raw)
    try:
        configuration = Configuration.model_validate(raw)
        for name in configuration.arms:
            try:
                configuration.arm(name)
            except ValidationError as error:
                raise QuarryError(f"{origin}: {one_line(error, ArmSettings, prefix=f'arms.{name}.')}") from error
    except ValidationError as error:
        raise QuarryError(f"{origin}: {one_line(error, Configuration, given=raw)}") from error
    except OverflowError:
        if not absurd:
            raise
    if absurd:
        raise QuarryError(f"{origin}: {absurd}")
    problem = contradiction(configuration)
    if problem:
        raise QuarryError(f"{origin}: {problem}")
    return configuration
