"""The whole configuration: its sections, arms, identity and input files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from quarry.config.base import Form, Section, energy_in_ev
from quarry.config.baselines import Baseline
from quarry.config.classification import Classification
from quarry.config.control import Control, control_names, split_names
from quarry.config.dataset import DatasetCard
from quarry.config.descriptors import Descriptor, InverseDistances
from quarry.config.dynamics import sections_of
from quarry.config.engines.registry import Labeling
from quarry.config.filters import Filters
from quarry.config.learning import Stop, Test, Validation
from quarry.config.models import Gpr, Model
from quarry.config.pool import DynamicsPool, InitialPool, Pool, SamplerPool, TablePool, WignerPool, files_of
from quarry.config.query import OPTIONS, Query
from quarry.config.resources import Forecast, Resources
from quarry.config.search import Search
from quarry.config.spectrum import LEARNT, Spectrum
from quarry.config.targets import Target, TargetName, target_name, target_of
from quarry.config.uses import Uses
from quarry.config.verification import Verification

MAIN_ARM = "main"
PROBES_ARM = "forecast"
"""Where the probe labels of a forecast stand: as those of an arm, which is never run."""
LONGEST_NAME = 100
"""Characters of a name that becomes part of paths; most file systems take 255 bytes, endings and all."""


CampaignName = Annotated[
    str,
    Form(
        rf"^[A-Za-z0-9][A-Za-z0-9_-]{{0,{LONGEST_NAME - 1}}}$",
        f"must be letters, digits, - and _ with a letter or digit first, {LONGEST_NAME} at most",
    ),
]


class ArmOverride(Section):
    """What an arm does differently from the campaign; pool and labels are shared, and without draw test set and initial batch."""

    query: dict[str, Any] = {}
    """Keys of query to replace (not initial). Another strategy begins without the settings of the campaign's."""
    model: dict[str, Any] = {}
    """Keys of model to replace."""
    seed: int | None = None
    """Seed of the arm's own random choices; null: the campaign's."""
    draw: int | None = Field(default=None, ge=0)
    """Seed with which the arm draws an initial batch and a test set of its own; null: it shares the campaign's."""


class ArmSettings(Section):
    """The settings of one arm after its overrides."""

    query: Query
    model: Model
    seed: int = Field(ge=0)
    draw: int = Field(ge=0)


class Configuration(Section):
    """A labeling campaign."""

    name: CampaignName
    """Name of the campaign; its files are in results/<name>."""
    seed: int = Field(default=0, ge=0)
    """Seed of every random choice."""
    pool: Pool
    filters: Filters = Filters()
    target: TargetName | list[str] = "energy"
    """What the model learns: energies in eV, energy_forces with the forces in eV/Angstrom, dipole as its norm in e*Angstrom,
    excitations as section spectrum says, value as it is, class as classification says. A list of several properties, e.g.
    [energy, forces, dipole], is learnt at once by models that can: errors, stop rules and strategies look at the first one
    (a dipole after it is the vector), and history.csv has RMSE and MAE of each of the others."""
    classification: Classification | None = None
    search: Search | None = None
    spectrum: Spectrum | None = None
    labeling: Labeling
    descriptor: Descriptor | None = None
    model: Model = Gpr()
    query: Query
    validation: Validation = Validation()
    test: Test
    stop: Stop
    arms: dict[str, ArmOverride] = {}
    """Further arms beside main, e.g. {random: {query: {strategy: random}}}."""
    control: Control | None = None
    resources: Resources = Resources()
    verification: Verification = Verification()
    forecast: Forecast = Forecast()
    dataset: DatasetCard = DatasetCard()
    uses: Uses = Uses()

    @model_validator(mode="before")
    @classmethod
    def _sections_of_dynamics(cls, data: Any) -> Any:
        """Give a campaign of dynamics the sections, and keys of sections, that it leaves out."""
        pool = data.get("pool") if isinstance(data, dict) else None
        if not isinstance(pool, dict) or pool.get("source") != "dynamics":
            return data
        return sections_of(data)

    @field_validator("target")
    @classmethod
    def _target(cls, target: str | list[str]) -> str | list[str]:
        return target if isinstance(target, str) else target_name(target)

    @field_validator("arms")
    @classmethod
    def _arm_names(cls, arms: dict[str, ArmOverride]) -> dict[str, ArmOverride]:
        for name, override in arms.items():
            if not re.fullmatch("[a-z_][a-z0-9_]*", name) or name == MAIN_ARM:
                raise ValueError(
                    f"'{name}' cannot name an arm: use small letters, digits and _, no digit first, and not {MAIN_ARM}, "
                    "the campaign itself"
                )
            if len(name) > LONGEST_NAME:
                raise ValueError(
                    f"'{name[:20]}...' has {len(name)} characters; an arm's name has {LONGEST_NAME} at most"
                )
            for key in ("initial", "initial_selection"):
                if key in override.query:
                    raise ValueError(f"arms.{name}.query.{key}: all arms share the initial batch; remove this key")
        return arms

    @property
    def arm_names(self) -> list[str]:
        """Every arm, main first, control arms last."""
        return [MAIN_ARM, *self.overrides()]

    @property
    def controls(self) -> list[str]:
        """The random arms of the section control."""
        return control_names(self.control)[0]

    @property
    def repeats(self) -> list[str]:
        """The repeats of arm main that the section control asks for."""
        return control_names(self.control)[1]

    @property
    def splits(self) -> list[tuple[str, str]]:
        """The arms (main, random) of each further initial batch and test set that the section control asks for."""
        return split_names(self.control)

    @property
    def compared(self) -> list[str]:
        """Every arm that ``control`` makes."""
        return [*self.controls, *self.repeats, *(name for pair in self.splits for name in pair)]

    def overrides(self) -> dict[str, ArmOverride]:
        """Return what each arm beside main does differently: those of ``arms``, and those that ``control`` makes."""
        made: dict[str, ArmOverride] = {}
        if self.control is not None:
            random = {"strategy": "random"}
            made |= {
                n: ArmOverride(query=random, seed=s) for n, s in zip(self.controls, self.control.seeds, strict=True)
            }
            made |= {n: ArmOverride(seed=s) for n, s in zip(self.repeats, self.control.repeats, strict=True)}
            for (main, control_arm), s in zip(self.splits, self.control.splits, strict=True):
                made[main] = ArmOverride(seed=s, draw=s)
                made[control_arm] = ArmOverride(query=random, seed=s, draw=s)
        return {**self.arms, **made}

    def arm(self, name: str) -> ArmSettings:
        """Return the settings of an arm after its overrides; those of the campaign for a name that is no arm.

        Raises pydantic's ValidationError if campaign and overrides together are no valid section.
        """
        override = self.overrides().get(name, ArmOverride())
        query = self.query.model_dump()
        if override.query.get("strategy", self.query.strategy) != self.query.strategy:
            query = {key: value for key, value in query.items() if key not in OPTIONS}
        batch = override.query.get("batch")
        if isinstance(batch, dict) and "schedule" in batch:
            query.pop("batch")
        model = self.model.model_dump()
        if override.model.get("kind", model["kind"]) != model["kind"]:
            model = {}
        return ArmSettings.model_validate(
            {
                "query": _merged(query, override.query),
                "model": _merged(model, override.model),
                "seed": self.seed if override.seed is None else override.seed,
                "draw": self.seed if override.draw is None else override.draw,
            }
        )

    @property
    def initial_pool(self) -> InitialPool | None:
        """The fixed pool from which the test set and iteration 0 come; None: they come from the sampler itself."""
        return self.pool.initial_pool

    @property
    def computes_modes(self) -> bool:
        """Whether the normal modes of a wigner pool are to be computed."""
        return isinstance(self.initial_pool, WignerPool) and self.initial_pool.modes_file is None

    @property
    def pool_filters(self) -> Filters:
        """The filters of the pool. The ensemble of a spectrum is a random sample: copies (of diatomics) are part of it."""
        if self.spectrum is None or "copies" in self.filters.model_fields_set:
            return self.filters
        return self.filters.model_copy(update={"copies": "keep"})

    @property
    def reference(self) -> str | None:
        """The file of the descriptor's reference geometry, or None."""
        return self.descriptor.reference if isinstance(self.descriptor, InverseDistances) else None

    @property
    def baselines(self) -> list[Baseline]:
        """The baselines of all arms."""
        named = [self.arm(name).model.baseline for name in self.arm_names]
        return [baseline for baseline in named if baseline is not None]

    @property
    def is_function(self) -> bool:
        """Whether the model is a function of one variable, which can be drawn."""
        return isinstance(self.pool, TablePool) and len(self.pool.features) == 1 and self.goal.is_one_number

    @property
    def goal(self) -> Target:
        """What is learnt, with what the sections classification and spectrum say of it."""
        target = target_of(self.target)
        if target.classes and self.classification is not None:
            return replace(target, labels=(self.classification.property,))
        return replace(target, n_states=self.n_states) if target.transitions else target

    @property
    def n_states(self) -> int:
        """Number of excited states that are learnt; 0 without a spectrum, or where no section says it (an error)."""
        if self.spectrum is None:
            return 0
        if self.spectrum.n_states is not None:
            return self.spectrum.n_states
        states = self.labeling.excitations
        return 0 if states is None else states.n_states

    @property
    def has_equilibrium(self) -> bool:
        """Whether the pool's first structure is the equilibrium geometry, which is no member of a spectrum's ensemble."""
        if self.spectrum is None:
            return False
        wanted = self.spectrum.equilibrium
        return isinstance(self.initial_pool, WignerPool) if wanted is None else wanted

    @property
    def knows_pool(self) -> bool:
        """Whether a targeted search can be measured by labels of the whole pool: finished data are searched again."""
        return self.search is not None and not self.labeling.computes

    @property
    def compares_uses(self) -> bool:
        """Whether uses of the potential are computed with the labels' method too."""
        if self.uses.reference is not None:
            return self.uses.reference
        gives = self.labeling.gives()
        return self.labeling.computes and (gives is None or "forces" in gives[1])

    def target_rmse(self) -> float | None:
        """Return stop.target_rmse in the target's unit, or None. Raises ValueError for a text that is no energy."""
        value = self.stop.target_rmse
        return None if value is None else float(energy_in_ev(value))

    def search_range(self) -> tuple[float, float] | None:
        """Return both ends of the range that a targeted search wants, in the target's unit, or None; errors as there."""
        return None if self.search is None else self.search.range()

    def identity(self, with_defaults: bool = True) -> dict[str, Any]:
        """Return the campaign's identity: the sections and keys that decide its batches, labels and models.

        These are all but stop rules, resources, verification, forecast, dataset, uses, and of section labeling the keys that
        all engines share and those that change no number (``LabelingBase.free_keys``). with_defaults: also keys with default
        values.
        """
        excluded = {"stop", "resources", "verification", "forecast", "dataset", "uses", "name"}
        data = self.model_dump(mode="json", exclude=excluded, exclude_defaults=not with_defaults)
        for key in (*self.labeling.names_of_shared_keys(), *self.labeling.free_keys):
            data["labeling"].pop(key, None)
        sampler = self.pool.explore.sampler if isinstance(self.pool, DynamicsPool) else None
        if sampler is not None:
            for key in sampler.free_keys:
                data["pool"]["explore"]["sampler"].pop(key, None)
        if isinstance(self.pool, SamplerPool):
            for key in self.pool.free_keys:
                data["pool"].pop(key, None)
        if data.get("spectrum"):
            data["spectrum"] = {key: data["spectrum"][key] for key in LEARNT if key in data["spectrum"]}
        # As the arms that they are: like others, they may be added to a campaign later.
        data.pop("control", None)
        made = {name: arm for name, arm in self.overrides().items() if name not in self.arms}
        if made:
            # draw only where it is given: manifests of earlier versions do not know it.
            absent = {name: {"draw"} if arm.draw is None else set() for name, arm in made.items()}
            dumped = {name: arm.model_dump(mode="json", exclude=absent[name]) for name, arm in made.items()}
            data["arms"] = {**data.get("arms", {}), **dumped}
        return {**data, "stop.metric": self.stop.metric}


def _merged(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in override.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if nested else value
    return merged


def inputs_of(configuration: Configuration, base: Path) -> list[Path]:
    """Return every input file that the configuration names, resolved against the campaign file's folder."""
    names = files_of(configuration.initial_pool)
    names += configuration.pool.input_files() if isinstance(configuration.pool, DynamicsPool) else []
    if configuration.reference:
        names.append(configuration.reference)
    names += configuration.labeling.input_files()
    names += configuration.descriptor.input_files() if configuration.descriptor is not None else []
    names += [name for arm in configuration.arm_names for name in configuration.arm(arm).model.input_files()]
    return [base / name for name in dict.fromkeys(names)]


def drawn_files(configuration: Configuration, base: Path) -> list[Path]:
    """Return files that are no part of the campaign, but checked before the start: what is drawn beside the results, the
    list of labels that are rejected, labels that the user has already, and the structure that uses begin with.
    """
    spectrum = configuration.spectrum
    known = configuration.labeling.known
    names = [None if spectrum is None else spectrum.experiment, configuration.labeling.leave_out]
    names += [None if known is None else known.file, configuration.uses.structure]
    return [base / name for name in names if name is not None]
