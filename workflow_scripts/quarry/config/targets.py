"""What a target needs of the labels."""

from __future__ import annotations

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
