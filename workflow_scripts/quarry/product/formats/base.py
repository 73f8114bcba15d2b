"""What a format of an export is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from quarry.errors import QuarryError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from quarry.product.campaign_data import CampaignData

Writer = Callable[["CampaignData", "NDArray[np.int64]", Path], None]


@dataclass(frozen=True)
class Package:
    """A package that Quarry itself does not need. module: what is imported. requirement: what pip installs."""

    module: str
    requirement: str

    @property
    def is_installed(self) -> bool:
        """Whether it can be imported."""
        return find_spec(self.module) is not None


@dataclass(frozen=True)
class Format:
    """A format. name: as ``--format`` has it. words: for people. endings: of its files. write: called with the campaign's data,
    the rows of the labels to write and a path that is the file's soon. packages: by the ending that needs them; the ending ''
    stands for all. Modules of formats import what is heavy where it is used: the command line reads all of them.
    """

    name: str
    words: str
    endings: tuple[str, ...]
    write: Writer
    packages: tuple[tuple[str, Package], ...] = ()

    def check(self, path: Path) -> None:
        """Raise QuarryError for a file that cannot be of this format, or for a package that is not installed."""
        ending = next((ending for ending in self.endings if path.name.endswith(ending)), None)
        if ending is None:
            raise QuarryError(f"--to {path}: the name of a file of format {self.name} ends in {one_of(self.endings)}")
        for wanted, package in self.packages:
            if ending.endswith(wanted) and not package.is_installed:
                raise QuarryError(
                    f"--format {self.name}: {package.module} is not installed: "
                    f"{sys.executable} -m pip install {package.requirement}"
                )


def one_of(words: Sequence[str]) -> str:
    """Return words as 'a, b or c'."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
