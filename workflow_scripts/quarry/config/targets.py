"""What a target needs of the labels, and whether they can have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quarry.config.campaign import Configuration

OF_SEVERAL = {
    "energy_forces": ("energy", "forces"),
    "excitations": ("excitation_energies", "oscillator_strengths"),
}
"""Properties that targets of more than one are made of."""


def needed(configuration: Configuration) -> tuple[str, ...]:
    """Return the properties that a label must have to be learnt."""
    if configuration.classification is not None:
        return (configuration.classification.property,)
    return OF_SEVERAL.get(configuration.target, (configuration.target,))


def conflict(configuration: Configuration) -> str | None:
    """Return what labels will lack of the target, as far as section labeling says it, or None."""
    given = configuration.labeling.gives()
    if given is None:
        return None
    key, properties = given
    missing = [name for name in needed(configuration) if name not in properties]
    if not missing:
        return None
    return (
        f"labeling.{key}: target {configuration.target} needs {' and '.join(missing)}, but labels have only "
        f"{', '.join(sorted(properties))}; change that, or set another target"
    )
