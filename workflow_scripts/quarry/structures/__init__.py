"""Structures, their identity and their files."""

from quarry.structures.structure import Structure, StructureSet

__all__ = ["Structure", "StructureSet"]
