"""What a sampler is: it walks over the potential of a model, frame by frame, and is stopped where the model is unsure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from ase import Atoms

from quarry.sampling.modes import NormalModes


@dataclass(frozen=True, eq=False)
class Origin:
    """What a sampler may start from beside the start of a walk.

    base: folder of the campaign file. modes: normal modes of the pool, or None.
    """

    base: Path
    modes: NormalModes | None = None


class PathSampler(Protocol):
    """A sampler without time. A user-defined class needs no base class."""

    def path(self, start: Atoms, number: int, rng: np.random.Generator) -> Iterable[Atoms | Sequence[Atoms]]:
        """Yield the frames of a walk (Angstrom), one after another, or several at once (a band).

        It is stopped at the first frame that the model is unsure of, which becomes a candidate, or that is no chemistry.
        start: a geometry, with the last model as its calculator (eV, eV/Angstrom); it may be moved and yielded again and
        again. number: of the walk in the iteration, from 0. rng: the only source of chance that keeps a campaign reproducible.
        """
        ...
