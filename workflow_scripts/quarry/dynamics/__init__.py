"""Molecular dynamics of many structures at once, on the potential of a model."""
