"""How trajectories on a model's potential explore: what they are, and where they end."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from quarry.config.base import ENERGY_UNITS_EV, Section, energy_in_ev
from quarry.config.samplers import Sampler
from quarry.config.units import FORCE_UNITS

NAMED_THRESHOLDS = ("first", "each")
"""Thresholds that are found and not given."""
CROSS_VALIDATION = "cross_validation"
"""The error of cross-validation, as a metric and as what initial data grow by."""
UNITS = {
    "energy": f"a unit of energy ({', '.join(ENERGY_UNITS_EV)}), e.g. 0.5 kcal/mol",
    "forces": "a unit of force (eV/Angstrom, hartree/bohr, kcal/mol/Angstrom ...), e.g. 0.5 eV/Angstrom",
    "informativeness": "none, e.g. 1.0",
}
"""What a given threshold of each uncertainty must carry."""


def _pair(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [value, value]
    if isinstance(value, list) and len(value) == 2:
        return value
    raise ValueError("give one number, or two in brackets for a ramp, in kelvin: 300, or [300, 600]")


Temperatures = list[Annotated[float, Field(gt=0)]]


class Growth(Section):
    """Initial data that grow until dynamics on the model is worth starting (Y.-F. Hou et al., J. Chem. Theory Comput. 20, 7744
    (2024)). Batches of geometries like those of iteration 0 are labelled, and a power law a N^b is fitted to the errors of all
    models so far.
    """

    gain: float = Field(default=0.1, gt=0, lt=1)
    """It is worth starting when the power law says that one more batch would lower the error by less than this share, or when the
    RMSE is below pool.explore.least_energy_eV_atom for each atom."""
    error: Literal["cross_validation", "test"] | None = None
    """Which RMSE: of cross-validation (validation.folds; each fold trains the model anew, but no network that only its standard
    deviations need), or of the test set, which costs no training and of few structures is uncertain. null: cross_validation for
    models that train in seconds (gpr, kreg), test for networks."""
    points: int = Field(default=5, ge=2)
    """Models that must have been trained before the power law is asked."""
    target_rmse: float | str | None = None
    """It is worth starting too when the RMSE is below this: a number in eV, or with an energy unit. null: not asked."""

    def metric(self, trains_in_seconds: bool) -> str:
        """Return which error counts, as facts name it. trains_in_seconds: of the model's traits."""
        return self.error or (CROSS_VALIDATION if trains_in_seconds else "test")

    def target_rmse_eV(self) -> float:
        """Return target_rmse in eV, 0 where it is not asked. Raises ValueError for a text that is no energy."""
        return 0.0 if self.target_rmse is None else float(energy_in_ev(self.target_rmse))

    @field_validator("target_rmse")
    @classmethod
    def _energy(cls, value: float | str | None) -> float | str | None:
        _ = energy_in_ev(value)
        return value


ELEMENT = r"[A-Z][a-z]?"
"""How a chemical symbol is spelled."""


class Bias(Section):
    """A force along the gradient of the model's uncertainty, which draws trajectories to where the model knows little
    (V. Zaverkin et al., npj Comput. Mater. 10, 83 (2024)). docs/dynamics.md.
    """

    uncertainty: Literal["energy", "informativeness"] = "energy"
    """Whose gradient, whatever ends a trajectory: that of the standard deviation of the energy, or of the informativeness of its
    label (gmnn, which needs no standard deviation for it)."""
    strength: float = Field(default=0.25, ge=0, le=10)
    """Root mean square of the bias force over that of the predicted force, on the atoms that it acts on; 0: no bias."""
    stress_strength: float | None = Field(default=None, ge=0, le=10)
    """The same of the bias stress and the predicted stress, in ensemble npt; null: as strength."""
    skip_elements: list[Annotated[str, Field(pattern=f"^{ELEMENT}$")]] = []
    """Elements whose atoms it does not act on: [H] keeps it from being spent on stretching bonds of hydrogen."""
    average_fs: float = Field(default=50.0, gt=0)
    """Time over which forces are averaged to find the scale of the bias force, fs."""

    def citations(self) -> tuple[str, ...]:
        """Return whose idea it is, if there is a bias at all."""
        return ("zaverkin2024bias",) if self.acts else ()

    @property
    def acts(self) -> bool:
        """Whether there is a bias at all."""
        return self.strength > 0 or bool(self.stress_strength)


class Explore(Section):
    """Trajectories on the potential of the last model, each of which ends at the first frame that the model is unsure of. These
    frames are the candidates. docs/dynamics.md.
    """

    sampler: Sampler | None = None
    """What looks for candidates in place of these trajectories: a kind (relaxation, conformers, normal_modes, torsions,
    elastic_band, reaction) or an import path, with its keys; docs/samplers.md."""
    trajectories: int = Field(default=100, gt=0)
    """Trajectories of an iteration, or relaxations, scans ... of its sampler, all of them from new starts."""
    jobs: int = Field(default=1, gt=0)
    """Jobs that share them, at most one for each; those of a job run side by side, as one calculation."""
    starts: Literal["wigner", "labelled"] | None = None
    """Where they begin: positions and velocities from the Wigner distribution of the pool's normal modes, at the temperature
    at the start; or training structures chosen at random, with velocities of that temperature. null: wigner where the pool has
    normal modes."""
    ensemble: Literal["nve", "langevin", "npt"] = "nve"
    """Constant energy; a Langevin thermostat; or, of periodic structures, that and constant pressure, with cells that keep their
    shape."""
    temperature_K: Annotated[Temperatures, BeforeValidator(_pair, json_schema_input_type=float | Temperatures)] = Field(
        default=[300.0, 300.0], min_length=2, max_length=2
    )
    """Temperature, kelvin; two values: of the thermostat at the start and at the end of a trajectory."""
    time_step_fs: float = Field(default=0.5, gt=0, le=10)
    """Time step, fs."""
    length_fs: float = Field(default=1000.0, gt=0)
    """Length of a trajectory that meets nothing new, fs."""
    friction_per_ps: float = Field(default=10.0, gt=0)
    """Friction of the thermostat, 1/ps."""
    pressure_GPa: float = 0.0
    """Pressure of ensemble npt, GPa."""
    compressibility_per_GPa: float = Field(default=0.01, gt=0)
    """Isothermal compressibility that npt assumes, 1/GPa: it decides how fast volumes change."""
    pressure_time_ps: float = Field(default=0.5, gt=0)
    """Time constant of the volume, ps."""
    uncertainty: Literal["energy", "forces", "informativeness"] = "energy"
    """What ends a trajectory: the standard deviation of the energy, the largest one of the force on an atom, or how much a label
    would tell the model (docs/strategies.md, oed_total), by the mean of the labels that it has."""
    threshold: float | str = "first"
    """How unsure is too unsure. first: the median plus 3 scaled median absolute deviations of the uncertainties of the test
    set's structures (which no model learns), by the first model that is explored with; each: the same by each model, neither
    below least_energy_eV_atom or least_force_eV_A; or a number with its unit: 0.5 kcal/mol, 0.5 eV/Angstrom, of informativeness
    without one."""
    least_energy_eV_atom: float = Field(default=0.001, ge=0)
    """A threshold of energy that is found is not below this for each atom (of a test structure, on average), eV: a good first
    model would ask for more than anybody needs. An RMSE below it ends the growth of the initial data too (pool.growth)."""
    least_force_eV_A: float = Field(default=0.03, ge=0)
    """A threshold of forces that is found is not below this, eV/Angstrom."""
    calibration: Literal["none", "conformal"] = "none"
    """none: uncertainties are the model's standard deviations. conformal: they are bounds, times the factor below which 95 % of
    the errors of the test set are (split conformal prediction); threshold is then one of errors."""
    bias: Bias | None = None
    """A force that draws trajectories to where the model is unsure; null: none."""
    max_force_eV_A: float = Field(default=50.0, gt=0)
    """A frame with a larger predicted force on an atom is no chemistry and no candidate, eV/Angstrom."""
    max_energy_eV_atom: float | None = Field(default=5.0, gt=0)
    """A frame whose predicted energy is further above the lowest label of the same atoms is none either, eV for each of its
    atoms; null: no ceiling."""
    near_duplicates_A: float | None = Field(default=0.01, gt=0, le=0.1)
    """Of frames that are the same up to displacements of their atoms by this (Angstrom; order of equal atoms, rotation,
    translation and mirror image do not matter) the first one alone is a candidate; null: only copies are dropped
    (filters.copy_tolerance_A)."""

    @model_validator(mode="after")
    def _threshold(self) -> Explore:
        if self.threshold not in NAMED_THRESHOLDS and not self.given_threshold() > 0:
            raise ValueError(f"threshold = {self.threshold!r}: nothing is surer than that; set it above 0")
        if self.ensemble == "nve" and self.temperature_K[0] != self.temperature_K[1]:
            raise ValueError(
                f"temperature_K = {self.temperature_K}: a ramp is that of a thermostat, and ensemble: nve has none; set "
                "langevin, or give one temperature"
            )
        if self.time_step_fs > self.length_fs:
            raise ValueError(f"time_step_fs = {self.time_step_fs:g} is longer than length_fs = {self.length_fs:g}")
        idle = [key for key in OF_TIME if getattr(self, key) != type(self).model_fields[key].default]
        if self.sampler is not None and not self.sampler.has_time and idle:
            raise ValueError(f"{self.sampler.noun} have no time, and no use for {' and '.join(idle)}; remove it")
        if self.calibration == "conformal" and self.uncertainty == "informativeness":
            raise ValueError("calibration: conformal compares with errors, and informativeness is none; set none")
        return self

    @model_validator(mode="after")
    def _bias(self) -> Explore:
        if self.bias is None or not self.bias.acts:
            return self
        if self.ensemble == "nve":
            raise ValueError("bias heats molecules, and ensemble: nve has no thermostat that cools them; set langevin")
        if self.bias.stress_strength is not None and self.ensemble != "npt":
            raise ValueError("bias.stress_strength acts on cells that change (ensemble: npt); remove it")
        return self

    def citations(self) -> tuple[str, ...]:
        """Return what its calibration rests on."""
        return ("lei2018conformal",) if self.calibration == "conformal" else ()

    def least_threshold(self, atoms: float) -> float:
        """Return what a threshold that is found is not below, in eV or eV/Angstrom. atoms: of a structure, on average."""
        least = {"energy": self.least_energy_eV_atom * atoms, "forces": self.least_force_eV_A}
        return least.get(self.uncertainty, 0.0)

    def given_threshold(self) -> float:
        """Return the threshold that is given as a number, in eV or eV/Angstrom. Raises ValueError without the unit it needs."""
        given = self.threshold
        needed = ValueError(f"threshold = {given!r}: give first, each, or a number with {UNITS[self.uncertainty]}")
        if self.uncertainty == "informativeness":
            if isinstance(given, str):
                raise needed
            return given
        if not isinstance(given, str):
            raise needed
        if self.uncertainty == "energy":
            try:
                return float(energy_in_ev(given))
            except ValueError:
                raise needed from None
        match = re.fullmatch(r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(\S+)\s*", given)
        factors = {unit.casefold(): factor for unit, factor in FORCE_UNITS.items()}
        if match is None or match[2].casefold() not in factors:
            raise needed
        return float(match[1]) * factors[match[2].casefold()]

    @property
    def shares(self) -> int:
        """Jobs that an iteration has: no more than there are walks, or pairs of them that stay together."""
        return min(self.jobs, self.count // (1 if self.sampler is None else self.sampler.together))

    @property
    def count(self) -> int:
        """Trajectories of an iteration, or walks of its sampler."""
        return self.trajectories if self.sampler is None else self.sampler.count(self.trajectories)

    @property
    def most_found(self) -> float:
        """Structures that an iteration finds at most; infinity where a walk may find several."""
        return self.count if self.sampler is None or self.sampler.one_frame_each else math.inf

    @property
    def noun(self) -> str:
        """What a job makes several of."""
        return "trajectories" if self.sampler is None else self.sampler.noun

    @property
    def steps(self) -> int:
        """Time steps of a trajectory."""
        return max(1, round(self.length_fs / self.time_step_fs))


OF_TIME = (
    *("ensemble", "time_step_fs", "length_fs", "friction_per_ps", "pressure_GPa", "compressibility_per_GPa"),
    *("pressure_time_ps", "bias"),
)
"""Keys that a sampler without dynamics has no use for."""

TRAINING = {"epochs": 1000, "batch_size": 16, "learning_rate": 0.06, "schedule": "cosine"}
"""How the default potential, which is trained anew in each iteration, is trained (docs/studies.md, Dynamics)."""

DEFAULTS: dict[str, Any] = {
    "target": "energy_forces",
    "model": {"kind": "gmnn", "uncertainty": "auxiliary", **TRAINING},
    "query": {"strategy": "random", "initial": 50, "batch": {"schedule": "constant", "size": 50}},
    "test": {"size": 50},
    "stop": {"rrmse": None, "min_new_points": 5, "max_iterations": 50},
}
"""Sections that a campaign with pool.source: dynamics has where it does not give them."""
SHARE_NEW = 0.05
"""Share of the trajectories below which default campaigns count as converged: 5 of the default's 100."""
BY_KEY = ("query", "test", "stop")
"""Those of which it may give single keys. What a model of its own needs, the default one's keys do not say."""


def sections_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a campaign of dynamics as it was read with the sections, and keys of sections, that it leaves out."""
    explore = given["pool"].get("explore")
    count = explore.get("trajectories") if isinstance(explore, Mapping) else None
    few = {"min_new_points": max(1, round(SHARE_NEW * count))} if isinstance(count, int) else {}
    defaults = DEFAULTS | {"stop": DEFAULTS["stop"] | few}
    keys = {name: defaults[name] | given[name] for name in BY_KEY if isinstance(given.get(name), Mapping)}
    return {**defaults, **given, **keys}
