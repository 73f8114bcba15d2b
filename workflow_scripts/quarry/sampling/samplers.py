"""User-defined samplers: candidates that are made anew for every iteration, from the last model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from quarry.config.pool import SamplerPool
from quarry.errors import QuarryError
from quarry.imports import call_user_code, make_user_object
from quarry.models.base import Model
from quarry.structures import Structure
from quarry.structures.labelled import LabelledSet
from quarry.time_limits import time_limit

if TYPE_CHECKING:
    from ase import Atoms


class Sampler(Protocol):
    """What makes candidates. A user-defined class needs no base class.

    ``initial(rng)`` is only asked for where ``pool.initial`` is not given: it returns the structures (ASE atoms) from which
    the test set and iteration 0 are drawn. It is called twice, when inputs are checked and when the pool is built.
    """

    def sample(self, model: Model, labelled: LabelledSet, iteration: int, rng: np.random.Generator) -> Iterable[Atoms]:
        """Return candidates of an iteration (1, 2, ...) as ASE atoms, positions in Angstrom.

        model: of the last iteration. labelled: the training labels. rng: the only source of chance that keeps a campaign
        reproducible. Charge and multiplicity are those of ``atoms.info``, else of the configuration. No atoms end the arm.
        """
        ...


def make_sampler(pool: SamplerPool, base: Path | None = None) -> Sampler:
    """Return the sampler that ``pool.sampler`` names; base: folder of the campaign file.

    Raises QuarryError if it cannot be imported or made with ``pool.arguments``, or lacks a method that is needed.
    """
    sampler: Sampler = make_user_object(pool.sampler, "pool.sampler", pool.arguments, base)
    if not callable(getattr(sampler, "sample", None)):
        raise QuarryError(f"pool.sampler: {pool.sampler} has no method sample(model, labelled, iteration, rng); add it")
    if pool.initial is None and not callable(getattr(sampler, "initial", None)):
        raise QuarryError(
            f"pool.sampler: {pool.sampler} has no method initial(rng); add it, or name a file or wigner pool in pool.initial"
        )
    return sampler


def initial_structures(pool: SamplerPool, base: Path, rng: np.random.Generator) -> list[Structure]:
    """Return what the sampler itself gives for the test set and iteration 0. Raises QuarryError as ``sampled_structures``."""
    sampler = make_sampler(pool, base)
    return _structures(pool, lambda: sampler.initial(rng))  # type: ignore[attr-defined]


def sampled_structures(
    pool: SamplerPool, base: Path, model: Model, labelled: LabelledSet, iteration: int, rng: np.random.Generator
) -> list[Structure]:
    """Return the candidates of an iteration.

    base: folder of the campaign file. model: of the last iteration. labelled: the training labels. Raises QuarryError, one
    line, if the sampler fails or gives no ASE atoms.
    """
    sampler = make_sampler(pool, base)
    return _structures(pool, lambda: sampler.sample(model, labelled, iteration, rng))


def _structures(pool: SamplerPool, give: Callable[[], Iterable[Atoms]]) -> list[Structure]:
    from ase import Atoms

    with time_limit(pool.time_limit_s):
        found = call_user_code(lambda: list(give()), f"pool.sampler: {pool.sampler} failed")
    structures = []
    for number, atoms in enumerate(found, 1):
        if not isinstance(atoms, Atoms) or not len(atoms):
            what = "atoms without an atom" if isinstance(atoms, Atoms) else type(atoms).__name__
            raise QuarryError(
                f"pool.sampler: {pool.sampler} gave {what} as structure {number}; it must return ASE atoms"
            )
        try:
            structures.append(Structure.from_atoms(atoms, pool.charge, pool.multiplicity))
        except ValueError as error:
            raise QuarryError(f"pool.sampler: structure {number} of {pool.sampler}: {error}; correct it") from error
    return structures
