"""The whole configuration, the checks between its sections, and errors in one line."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator

from quarry.config.base import Section, energy_in_ev
from quarry.config.descriptors import Descriptor, InverseDistances
from quarry.config.engines import AseLabeling, CommandLabeling, ReplayLabeling
from quarry.config.filters import Filters
from quarry.config.labeling import Forecast, Labeling, Resources
from quarry.config.labeling_base import LabelingBase
from quarry.config.learning import Stop, Test, Validation
from quarry.config.models import Gpr, Model
from quarry.config.pool import FilePool, Pool, WignerPool
from quarry.config.query import Query
from quarry.config.verification import Verification
from quarry.errors import QuarryError

MAIN_ARM = "main"
PROBES_ARM = "forecast"
"""Where the probe labels of a forecast stand: as those of an arm, which is never run."""
RESERVED = (MAIN_ARM, PROBES_ARM, "pool", "figures", "model", "logs", "receipts", "verification")
"""Folders beside the arms' own; no arm can have their name."""


class ArmOverride(Section):
    """What an arm does differently from the campaign; pool, test set, initial batch and labels are shared."""

    query: dict[str, Any] = {}
    """Keys of query to replace (not initial)."""
    model: dict[str, Any] = {}
    """Keys of model to replace."""
    seed: int | None = None
    """Seed of the arm's own random choices; null: the campaign's."""


class ArmSettings(Section):
    """The settings of one arm after its overrides."""

    query: Query
    model: Model
    seed: int = Field(ge=0)


class Configuration(Section):
    """A labeling campaign."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    """Name of the campaign; its files are in results/<name>."""
    seed: int = Field(default=0, ge=0)
    """Seed of every random choice."""
    pool: Pool
    filters: Filters = Filters()
    target: Literal["energy", "homo", "lumo", "gap", "dipole"] = "energy"
    """The property that the model learns: energies in eV, dipole as its norm in e*Angstrom."""
    labeling: Labeling
    descriptor: Descriptor
    model: Model = Gpr()
    query: Query
    validation: Validation = Validation()
    test: Test
    stop: Stop
    arms: dict[str, ArmOverride] = {}
    """Further arms beside main, e.g. {random: {query: {strategy: random}}}."""
    resources: Resources = Resources()
    verification: Verification = Verification()
    forecast: Forecast = Forecast()

    @field_validator("arms")
    @classmethod
    def _arm_names(cls, arms: dict[str, ArmOverride]) -> dict[str, ArmOverride]:
        for name, override in arms.items():
            if not re.fullmatch("[a-z_][a-z0-9_]*", name) or name in RESERVED:
                raise ValueError(
                    f"'{name}' cannot name an arm: use small letters, digits and _, and none of {', '.join(RESERVED)}"
                )
            if "initial" in override.query:
                raise ValueError(f"arms.{name}.query.initial: all arms share the initial batch; remove this key")
        return arms

    @property
    def arm_names(self) -> list[str]:
        """Every arm, main first."""
        return [MAIN_ARM, *self.arms]

    def arm(self, name: str) -> ArmSettings:
        """Return the settings of an arm after its overrides."""
        override = self.arms.get(name, ArmOverride())
        query = self.query.model_dump()
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
            }
        )

    @property
    def reference(self) -> str | None:
        """The file of the descriptor's reference geometry, or None."""
        return self.descriptor.reference if isinstance(self.descriptor, InverseDistances) else None

    def target_rmse(self) -> float | None:
        """Return stop.target_rmse in the target's unit (eV, or e*Angstrom for the dipole)."""
        value = self.stop.target_rmse
        return None if value is None else float(energy_in_ev(value))

    def identity(self, with_defaults: bool = True) -> dict[str, Any]:
        """Return what makes this campaign this campaign: everything but stop
        rules, resources, verification, forecast, retries and where labels lie. with_defaults: also the keys that have
        their default value.
        """
        left_out = {"stop", "resources", "verification", "forecast", "name"}
        data = self.model_dump(mode="json", exclude=left_out, exclude_defaults=not with_defaults)
        for key in NOT_IDENTITY:
            data["labeling"].pop(key, None)
        return {**data, "stop.metric": self.stop.metric}


def _merged(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in override.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if nested else value
    return merged


def load_configuration(raw: dict[str, Any], origin: str) -> Configuration:
    """Check a parsed configuration file and the rules between its sections.

    raw: the dictionary from YAML. origin: where it comes from, for the message.
    Raises QuarryError with one line that names the key, what is wrong and what to change.
    """
    try:
        configuration = Configuration.model_validate(raw)
        for name in configuration.arms:
            try:
                configuration.arm(name)
            except ValidationError as error:
                raise QuarryError(f"{origin}: {_one_line(error, ArmSettings, prefix=f'arms.{name}.')}") from error
    except ValidationError as error:
        raise QuarryError(f"{origin}: {_one_line(error, Configuration)}") from error
    problem = _conflict(configuration)
    if problem:
        raise QuarryError(f"{origin}: {problem}")
    return configuration


def _conflict(c: Configuration) -> str | None:
    """Return what contradicts itself between sections, or None."""
    wanted = c.query.initial + c.test.size
    if isinstance(c.pool, WignerPool) and wanted > c.pool.size:
        return (
            f"query.initial + test.size = {wanted} is more than the pool's {c.pool.size} structures; "
            "make pool.size larger or the others smaller"
        )
    if c.stop.max_labels is not None and c.stop.max_labels < wanted:
        return (
            f"stop.max_labels = {c.stop.max_labels} is below the initial batch and test set, "
            f"query.initial + test.size = {wanted}; raise it to at least {wanted}"
        )
    uses_error = c.stop.rrmse is not None or c.stop.target_rmse is not None
    if uses_error and c.stop.metric == "test" and c.test.size < 2:
        return f"test.size = {c.test.size} is too small for stop.metric: test; set test.size to 2 or more, or another metric"
    if c.stop.metric == "cross_validation" and c.query.initial < c.validation.folds:
        return f"validation.folds = {c.validation.folds} is more than query.initial = {c.query.initial}; lower it"
    if c.stop.metric == "validation" and not 2 <= round(c.validation.fraction * c.query.initial) <= c.query.initial - 1:
        return (
            f"validation.fraction = {c.validation.fraction} of query.initial = {c.query.initial} leaves fewer than 2 "
            "structures to validate or none to train; raise query.initial"
        )
    if isinstance(c.stop.target_rmse, str):
        if c.target == "dipole":
            return "stop.target_rmse: the dipole's unit is e*Angstrom; give a plain number"
        try:
            energy_in_ev(c.stop.target_rmse)
        except ValueError as error:
            return f"stop.target_rmse = '{c.stop.target_rmse}': {error}"
    target_rmse = c.target_rmse()
    if target_rmse is not None and not (math.isfinite(target_rmse) and target_rmse > 0):
        return f"stop.target_rmse = {c.stop.target_rmse} must be a number greater than 0"
    if c.labeling.engine != "pyscf" and isinstance(c.pool, WignerPool) and c.pool.geometry_method is None:
        return (
            "pool.geometry_method: a wigner pool needs a PySCF method for its Hessian when labeling.engine is "
            f"{c.labeling.engine}"
        )
    if c.resources.label.tasks > 1 and c.labeling.engine != "command":
        return (
            f"resources.label.tasks = {c.resources.label.tasks}: only labeling.engine command starts MPI tasks, not "
            f"{c.labeling.engine}; set threads instead"
        )
    return next((problem for check in CHECKS if (problem := check(c))), None)


CHECKS: tuple[Callable[[Configuration], str | None], ...] = ()
"""Further checks between sections: each returns what contradicts itself, or None."""


def _one_line(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """Return a pydantic error as one line in the user's words."""
    lines = []
    for item in error.errors():
        key = prefix + _path_of(item["loc"])
        value = item.get("input")
        if item["type"] == "extra_forbidden":
            known = _keys_at(model, list(item["loc"][:-1]))
            close = difflib.get_close_matches(str(item["loc"][-1]), known, n=1, cutoff=0.5)
            text = (
                f"unknown key; did you mean '{close[0]}'?" if close else f"unknown key; known here: {', '.join(known)}"
            )
        elif item["type"] in ("model_type", "model_attributes_type"):
            text = f"must be a section, a dictionary of keys and values (got {value!r})"
        elif item["type"] == "missing":
            text = "this key is missing; add it"
        elif item["type"] in ("literal_error", "union_tag_invalid"):
            context = item.get("ctx", {})
            expected = str(context.get("expected") or context.get("expected_tags"))
            given = context.get("tag", value)
            text = f"'{given}' is not one of {expected}"
        elif item["type"] == "union_tag_not_found":
            text = f"the key {item['ctx']['discriminator']} is missing; it says which kind this is"
        elif item["type"] == "bool_type":
            text = (
                f"must be True or False, got the text '{value}'; on the command line write True or False with a capital"
            )
        else:
            message = item["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(value, dict) or value is None else f" (got {value!r})"
            if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+e[-+]?[0-9]+", value, re.IGNORECASE):
                shown += "; YAML reads this as text: write it with a decimal point, e.g. 1.0e-3"
            text = f"{message[0].lower()}{message[1:]}{shown}"
        lines.append(f"{key}: {text}" if key else text)
    more = f" (and {len(lines) - 3} more)" if len(lines) > 3 else ""
    return "; ".join(dict.fromkeys(lines[:3])) + more


WAYS_OF_A_COMMAND = (
    *("launcher", "launcher_options", "memory_fraction", "version_command", "modules", "environment"),
    *("scratch", "keep", "keep_in"),
)
NOT_IDENTITY = (*LabelingBase.model_fields, *WAYS_OF_A_COMMAND, "recovery")
"""Keys of labeling that decide how labels come about, not which numbers they are."""

UNIONS = ("pool", "labeling", "batch", "descriptor", "model")
"""Keys whose value is one of several sections."""


def _path_of(location: Sequence[Any]) -> str:
    """Return the user's path of an error: pydantic puts the tags and types of unions into it ("pool.wigner.size")."""
    path: list[str] = []
    tag_follows = False
    for part in location:
        if not tag_follows and part not in ("str", "float", "constrained-int", "literal['auto']"):
            path.append(str(part))
            tag_follows = part in UNIONS
        else:
            tag_follows = False
    return ".".join(path)


def _keys_at(model: type[BaseModel], path: list[Any]) -> list[str]:
    """Return the keys that are known at a path of the configuration, following discriminated unions by their tag."""
    schema = model.model_json_schema()
    node: dict[str, Any] = schema
    for part in path:
        node = _resolved(schema, node)
        if "discriminator" in node:
            node = _resolved(schema, {"$ref": node["discriminator"]["mapping"].get(str(part), "")})
            continue
        node = node.get("properties", {}).get(str(part)) or node.get("additionalProperties") or node.get("items") or {}
    return list(_resolved(schema, node).get("properties", {}))


def _resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while True:
        if "$ref" in node and node["$ref"].startswith("#/$defs/"):
            node = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
        elif "allOf" in node:
            node = node["allOf"][0]
        elif "anyOf" in node and "discriminator" not in node:
            node = next((n for n in node["anyOf"] if "$ref" in n), {})
        else:
            return node


def inputs_of(configuration: Configuration, base: Path) -> list[Path]:
    """Return every input file that the configuration names, resolved against the campaign file's folder."""
    pool, labeling = configuration.pool, configuration.labeling
    names = [s.path for s in pool.files] if isinstance(pool, FilePool) else [pool.molecule]
    if configuration.reference:
        names.append(configuration.reference)
    if isinstance(labeling, AseLabeling):
        names += labeling.files.values()
    elif isinstance(labeling, CommandLabeling):
        names += labeling.input.values()
    elif isinstance(labeling, ReplayLabeling):
        names += [labeling.file, *(s.path for s in labeling.structures)]
    return [base / name for name in dict.fromkeys(names)]
