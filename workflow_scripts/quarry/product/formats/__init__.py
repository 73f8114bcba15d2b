"""Formats of exports. A new one is a module beside these with a ``FORMAT``, and its name in ``MODULES``."""

from __future__ import annotations

from importlib import import_module

from quarry.product.formats.base import Format

MODULES = ("extended_xyz", "ase_database", "qcschema", "table", "hdf5")


def formats() -> dict[str, Format]:
    """Return the formats by their names."""
    found = [import_module(f"{__name__}.{module}").FORMAT for module in MODULES]
    return {entry.name: entry for entry in found}
