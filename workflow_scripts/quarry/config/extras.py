"""Packages that only some kinds of model, descriptor or baseline need, and the trained networks that come with them.

Standard library only: the Snakefile reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
"""Where the build of torch for processors alone is; it counts as later than the one for GPUs of the Python package index."""


@dataclass(frozen=True)
class Extra:
    """Packages of one of pyproject's optional dependencies.

    modules: what is imported. requirements: what pip installs. on_top_of: another that it needs. has_make_target: whether the
    Makefile installs it. alone: packages of other extras that cannot be in one environment with it. shipped: names of trained
    networks that lie in the package; all others are files.
    """

    modules: tuple[str, ...]
    requirements: tuple[str, ...]
    on_top_of: str = ""
    has_make_target: bool = False
    alone: str = ""
    shipped: tuple[str, ...] = ()

    def files(self, names: Iterable[str]) -> list[str]:
        """Return which of the names of networks are files of the user's."""
        return [name for name in names if name not in self.shipped]


EXTRAS = {
    "torch": Extra(("torch", "numba"), ("torch==2.13.0", "numba==0.68.1"), has_make_target=True),
    "soap": Extra(("dscribe",), ("dscribe==2.1.2",), has_make_target=True),
    "sevenn": Extra(
        ("sevenn",),
        ("sevenn==0.13.0",),
        on_top_of="torch",
        alone="mace-torch",
        shipped=("7net-0", "7net-0_22may2024", "7net-l3i5"),
    ),
    "mace": Extra(("mace",), ("mace-torch==0.3.16",), on_top_of="torch", alone="sevenn"),
    "ani": Extra(("torchani",), ("torchani==2.9.0",), on_top_of="torch"),
}
"""By the name of the optional dependency; of networks of other packages it is the kind's too."""
