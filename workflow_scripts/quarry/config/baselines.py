"""Baselines: trained potentials whose errors a model learns (delta learning)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from quarry.config.base import ImportPath, PlainArguments, Section
from quarry.config.extras import EXTRAS
from quarry.config.targets import Target

DEFAULT_NETWORK = "7net-0"
OF_BASELINES = ("energy", "forces", "stress")
"""Properties of which a baseline knows something."""


def check_network(kind: str, model: str) -> None:
    """Raise ValueError if a network's package has no trained network and no file is given."""
    if model == DEFAULT_NETWORK and model not in EXTRAS[kind].shipped:
        raise ValueError(f"{kind} comes with no trained network; set model to the file of one")


class NetworkBaseline(Section):
    """A trained network of another package, which is not trained further."""

    cites: ClassVar[tuple[str, ...]] = ("ramakrishnan2015delta",)

    kind: Literal["sevenn", "mace"]
    """Package of the network: sevenn (pip install sevenn==0.13.0) or mace (pip install mace-torch==0.3.16, which cannot be in
    one environment with sevenn)."""
    model: str = DEFAULT_NETWORK
    """Name of a network that comes with sevenn (7net-0, 7net-0_22may2024, 7net-l3i5), or a file, relative to the campaign
    file. Reading a file runs code in it: use none that you do not trust."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs; auto: a GPU where there is one."""

    @model_validator(mode="after")
    def _has_network(self) -> NetworkBaseline:
        check_network(self.kind, self.model)
        return self

    @property
    def extras(self) -> dict[str, str]:
        """Optional dependencies that it needs, by the key that asks for each."""
        return {"kind": self.kind}

    def input_files(self) -> list[str]:
        """Return the files that it reads."""
        return EXTRAS[self.kind].files([self.model])


class CalculatorBaseline(Section):
    """Any calculator of ASE: a force field, a semi-empirical method, a trained potential."""

    cites: ClassVar[tuple[str, ...]] = ("ramakrishnan2015delta", "larsen2017ase")

    kind: Literal["ase"]
    calculator: ImportPath
    """Import path package.module:Name of a calculator's class, or of a function that returns a calculator. It is made once,
    and asked of every structure; charges and multiplicities are not told."""
    arguments: PlainArguments = {}
    """Keyword arguments of the calculator."""
    files: dict[str, str] = {}
    """Keyword arguments that name an input file (a model, a parameter file), relative to the campaign file."""

    def input_files(self) -> list[str]:
        """Return the files that it reads."""
        return list(self.files.values())


Baseline = Annotated[NetworkBaseline | CalculatorBaseline, Field(discriminator="kind")]


class LearnsDifference(Section):
    """A model that can learn the difference to a baseline."""

    is_user_defined: ClassVar[bool] = False

    baseline: Baseline | None = None
    """Learn the difference of the labels to a trained potential, which is added to the predictions (delta learning), for
    energies, forces and stresses; null: learn the labels themselves. Atomic reference energies of the difference are part of
    the model's own prior mean. Computed once for the pool, docs/models.md."""

    @property
    def of_means(self) -> Self:
        """The same model without what only its standard deviations need."""
        return self

    def input_files(self) -> list[str]:
        """Return the files that it reads."""
        return [] if self.baseline is None else self.baseline.input_files()


def problem_with_baseline(baseline: Baseline | None, target: Target, has_atoms: bool) -> str | None:
    """Return why a baseline is of no use, or None. has_atoms: whether the pool holds structures."""
    if baseline is None:
        return None
    if not has_atoms:
        return "baseline: a baseline is asked of structures, but pool.source is table; remove it"
    others = [name for name in target.learnt if name not in OF_BASELINES]
    if others:
        return (
            f"baseline: a baseline knows {', '.join(OF_BASELINES)}, not {others[0]} (target {target.name}); remove it"
        )
    return None
