"""What looks for candidates on the last model's potential in place of thermal trajectories (section pool.explore.sampler)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, Tag, model_validator

from quarry.config.base import OWN_TAG, ImportPath, PlainArguments, Section, sections_of, told_by_kind


class SamplerSection(Section):
    """What all samplers say of themselves; docs/samplers.md."""

    made_by: ClassVar[str] = ""
    """Import path of the class in ``quarry.dynamics.samplers``; it is called with the section and with what it starts from."""
    noun: ClassVar[str] = "paths"
    """What one of its walks is called, in the plural."""
    needs_forces: ClassVar[bool] = True
    """Whether it follows forces of the model, or looks at frames alone."""
    needs_modes: ClassVar[bool] = False
    """Whether it needs the pool's normal modes."""
    has_time: ClassVar[bool] = False
    """Whether it runs dynamics, with the keys of section explore that say how."""
    together: ClassVar[int] = 1
    """Walks that stay in one job."""
    one_frame_each: ClassVar[bool] = True
    """Whether a walk finds one frame at most; others have frames that belong together."""
    free_keys: ClassVar[tuple[str, ...]] = ()
    """Keys that change no frame, and may be changed at any time."""
    summary: ClassVar[str] = ""
    """Import path of a function that counts what all walks of an iteration have found beside candidates."""

    def input_files(self) -> list[str]:
        """Return the files that it starts from."""
        return []

    def count(self, wanted: int) -> int:
        """Return how many walks an iteration has. wanted: pool.explore.trajectories."""
        return wanted


class _Relaxing(SamplerSection):
    """What ends a relaxation."""

    optimiser: Literal["bfgs", "lbfgs", "fire"] = "bfgs"
    """ASE's optimiser."""
    max_force_eV_A: float = Field(default=0.05, gt=0)
    """A relaxation has ended when no atom has a larger force, eV/Angstrom."""
    steps: int = Field(default=200, gt=0)
    """Steps of a relaxation at most."""


class Relaxation(_Relaxing):
    """Relaxations: each start goes down to a minimum of the model, so that minima find their own errors."""

    made_by: ClassVar[str] = "quarry.dynamics.samplers.relaxation:Relaxation"
    noun: ClassVar[str] = "relaxations"

    kind: Literal["relaxation"]


class Conformers(_Relaxing):
    """A search for conformers: the rotatable bonds of each start are turned at random, and it is relaxed."""

    made_by: ClassVar[str] = "quarry.dynamics.samplers.conformers:Conformers"
    noun: ClassVar[str] = "relaxations of conformers"
    summary: ClassVar[str] = "quarry.dynamics.samplers.conformers:distinct_of"

    kind: Literal["conformers"]
    bond_factor: float = Field(default=1.25, gt=0)
    """Two atoms are bonded that are closer than this multiple of the sum of their covalent radii."""


class NormalModeScan(SamplerSection):
    """Scans from the minimum of the pool along each of its normal modes, both ways; when there are more scans than that, along
    random mixtures of modes.
    """

    made_by: ClassVar[str] = "quarry.dynamics.samplers.scans:NormalModeScan"
    noun: ClassVar[str] = "scans of normal modes"
    needs_forces: ClassVar[bool] = False
    needs_modes: ClassVar[bool] = True

    kind: Literal["normal_modes"]
    displacement_A: float = Field(default=0.5, gt=0)
    """How far the atom is displaced that moves most, at the end of a scan, Angstrom."""
    points: int = Field(default=10, gt=0)
    """Frames of a scan."""


class TorsionScan(SamplerSection):
    """Scans of a torsion: a rotatable bond of each start, one after another in turn, is turned once around."""

    made_by: ClassVar[str] = "quarry.dynamics.samplers.scans:TorsionScan"
    noun: ClassVar[str] = "scans of torsions"
    needs_forces: ClassVar[bool] = False

    kind: Literal["torsions"]
    points: int = Field(default=24, gt=1)
    """Frames of a whole turn."""
    bond_factor: float = Field(default=1.25, gt=0)
    """Two atoms are bonded that are closer than this multiple of the sum of their covalent radii."""


class ElasticBand(SamplerSection):
    """Nudged elastic bands of the model between given minima, so that barriers find their own errors."""

    made_by: ClassVar[str] = "quarry.dynamics.samplers.elastic_band:ElasticBand"
    noun: ClassVar[str] = "images of bands"
    one_frame_each: ClassVar[bool] = False

    kind: Literal["elastic_band"]
    minima: list[str] = Field(min_length=2)
    """Structure files of the minima in the order of the path, with their atoms in the same order; a band between each two
    neighbours."""
    images: int = Field(default=7, gt=0)
    """Images of a band between its ends."""
    climb: bool = True
    """Whether the highest image climbs to the saddle point."""
    max_force_eV_A: float = Field(default=0.1, gt=0)
    """A band has converged when no atom has a larger force across it, eV/Angstrom."""
    steps: int = Field(default=200, gt=0)
    """Steps of a band at most."""

    def input_files(self) -> list[str]:
        """Return the files of the minima."""
        return list(self.minima)

    def count(self, wanted: int) -> int:
        """Return the number of bands."""
        return len(self.minima) - 1


class Reaction(SamplerSection):
    """Trajectories that start at a transition state, in pairs: one and the same point of phase space, forward and backward in
    time. A pair that connects reactants and products is reactive.
    """

    made_by: ClassVar[str] = "quarry.dynamics.samplers.reaction:Reaction"
    noun: ClassVar[str] = "trajectories"
    has_time: ClassVar[bool] = True
    together: ClassVar[int] = 2
    summary: ClassVar[str] = "quarry.dynamics.samplers.reaction:pairs_of"

    kind: Literal["reaction"]
    transition_state: str
    """Structure file of it: its Hessian is then the model's; or (.json) a file of its normal modes, the lowest of them
    imaginary (docs/samplers.md)."""
    forming: list[Annotated[list[int], Field(min_length=2, max_length=2)]] = []
    """Pairs of atoms, from 0, that are bonded in the products alone."""
    breaking: list[Annotated[list[int], Field(min_length=2, max_length=2)]] = []
    """Pairs that are bonded in the reactants alone."""
    formed_within: float = Field(default=1.25, gt=0)
    """A bond is there within this multiple of the sum of the covalent radii."""
    broken_beyond: float = Field(default=1.5, gt=0)
    """A bond is gone beyond this multiple."""

    @model_validator(mode="after")
    def _bonds(self) -> Reaction:
        if not self.forming and not self.breaking:
            raise ValueError("name the bonds that tell products from reactants: forming, breaking, or both")
        if self.broken_beyond < self.formed_within:
            raise ValueError(f"broken_beyond = {self.broken_beyond:g} is below formed_within = {self.formed_within:g}")
        pairs = [tuple(sorted(pair)) for pair in (*self.forming, *self.breaking)]
        for pair in pairs:
            if pair[0] < 0 or pair[0] == pair[1] or pairs.count(pair) > 1:
                raise ValueError(f"the bond {list(pair)} is none, or stands twice; give two atoms, counted from 0")
        return self

    def input_files(self) -> list[str]:
        """Return the file of the transition state."""
        return [self.transition_state]

    def count(self, wanted: int) -> int:
        """Return the number of trajectories, in whole pairs."""
        return 2 * max(1, wanted // 2)


class OwnSampler(SamplerSection):
    """A user-defined sampler, docs/samplers.md."""

    free_keys: ClassVar[tuple[str, ...]] = ("time_limit_s",)
    one_frame_each: ClassVar[bool] = False

    kind: ImportPath
    """Import path package.module:Name of its class, importable from the campaign file's folder or the working directory. Its
    method path(start, number, rng) yields ASE atoms."""
    arguments: PlainArguments = {}
    """Keyword arguments of the class."""
    time_limit_s: float = Field(default=600.0, gt=0)
    """Seconds that a walk may take at most; may be changed at any time."""


def _kind_alone(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


_Kinds = (
    Annotated[Relaxation, Tag("relaxation")]
    | Annotated[Conformers, Tag("conformers")]
    | Annotated[NormalModeScan, Tag("normal_modes")]
    | Annotated[TorsionScan, Tag("torsions")]
    | Annotated[ElasticBand, Tag("elastic_band")]
    | Annotated[Reaction, Tag("reaction")]
    | Annotated[OwnSampler, Tag(OWN_TAG)]
)
SAMPLERS: dict[str, type[SamplerSection]] = sections_of(_Kinds)
"""The sections of samplers by their kinds, that of user-defined ones by ``OWN_TAG``."""
_Section = Annotated[_Kinds, told_by_kind(_Kinds)]
Sampler = Annotated[_Section, BeforeValidator(_kind_alone, json_schema_input_type=str | _Section)]
