"""Packages that only some kinds of model, descriptor or baseline need, and the trained networks that come with them.

Standard library only: the Snakefile reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Extra:
    """A package of pyproject's optional dependencies.

    module: what is imported. requirement: what pip installs. alone: packages of other extras that cannot be in one environment
    with it. shipped: names of trained networks that lie in the package; all others are files.
    """

    module: str
    requirement: str
    alone: str = ""
    shipped: tuple[str, ...] = ()

    def files(self, names: Iterable[str]) -> list[str]:
        """Return which of the names of networks are files of the user's."""
        return [name for name in names if name not in self.shipped]


EXTRAS = {
    "sevenn": Extra("sevenn", "sevenn==0.13.0", "mace-torch", ("7net-0", "7net-0_22may2024", "7net-l3i5")),
    "mace": Extra("mace", "mace-torch==0.3.16", "sevenn"),
    "ani": Extra("torchani", "torchani==2.9.0"),
}
"""By the name of the optional dependency, which is the kind's too."""
