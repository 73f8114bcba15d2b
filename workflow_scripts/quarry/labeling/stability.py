"""What a label's record says about the stability of its SCF solution: ``details["stability"]``.

internal, external: ``STABLE``, ``UNSTABLE`` (found, not followed), ``FLAT`` (a negative curvature that leads nowhere lower) or
``NOT_LOOKED_FOR``; external also ``FOLLOWED`` (the label is the unrestricted solution, whose ``spin_squared`` stands beside) and
``OPEN_SHELL`` (which has none of this kind).
stable, flat, followed, energies (eV), lowest_curvature (hartree): of the internal stability. external_curvature (hartree): of
the closed shell, to about 0.002 where it is not close to zero. not_looked_for: the kinds that nobody looked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STABLE, UNSTABLE, FLAT, FOLLOWED = "stable", "unstable", "flat", "followed"
NOT_LOOKED_FOR, OPEN_SHELL = "not looked for", "open shell"

EXTERNAL = "RHF -> UHF"
"""The external instability of a closed shell with real orbitals (of Kohn-Sham calculations as well)."""

NEVER_LOOKED_FOR = ("real -> complex", "UHF -> GHF")
"""Instabilities that the engine never looks for."""


def external_instability(details: Mapping[str, Any]) -> float | None:
    """Return the negative curvature (hartree) of a label whose closed shell has a lower unrestricted solution.

    details: of a label's record. None: there is none, or it was followed, or nobody looked (``external_looked_for``).
    """
    found = details.get("stability") or {}
    return float(found["external_curvature"]) if found.get("external") == UNSTABLE else None


def external_looked_for(details: Mapping[str, Any]) -> bool:
    """Return whether the external instability of a label was looked for, or is none, as of an open shell."""
    return (details.get("stability") or {}).get("external", NOT_LOOKED_FOR) != NOT_LOOKED_FOR
