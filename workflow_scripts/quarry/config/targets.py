"""What a campaign learns: one object says which labels it needs, in which unit its errors are, and what it is.

Standard library only: the Snakefile reads it. Its numbers are in ``quarry.stages.targets``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from quarry.properties import PROPERTIES

CLASS = "class"
"""The property whose value is the number of a class."""
DIPOLE_NORM = "dipole_norm"
"""The norm of a dipole (e*Angstrom): what ``target: dipole`` learns, where a list of several properties has the vector."""


@dataclass(frozen=True)
class Target:
    """What is learnt.

    name: as facts and messages have it. main: properties whose errors stop rules and strategies look at: one, or all
    quantities of the excited states. beside: properties that are learnt with them. labels: properties that a label must
    have. words: of the main property, for figures. unit: of its errors (empty: none, or mixed ones); not_energy: why this is
    no energy, for messages. energies: of a figure's axis, errors are energies. total_energy: a sum over elements but for the
    bonds. classes: the main property is a class. per_state: it has a value for each state. transitions: these are excitations,
    of which a label must have ``n_states``. each_state: the target of a model of one of the states, which is one of several.
    """

    name: str
    main: tuple[str, ...]
    labels: tuple[str, ...]
    beside: tuple[str, ...] = ()
    words: str = ""
    unit: str = "eV"
    not_energy: str = ""
    total_energy: bool = False
    classes: bool = False
    per_state: bool = False
    transitions: bool = False
    n_states: int = 0
    each_state: str = ""

    @property
    def learnt(self) -> tuple[str, ...]:
        """All properties that a model learns, those of the main error first."""
        return (*self.main, *self.beside)

    @property
    def is_one_number(self) -> bool:
        """Whether errors, ranges and strategies are about one number of a structure."""
        return not self.classes and not self.per_state

    @property
    def error_name(self) -> str:
        """What the main error is called: RMSE, or the geometric mean of those of all states and quantities."""
        return "RMSE_geom" if self.per_state else "RMSE"

    def with_beside(self, names: tuple[str, ...]) -> Target:
        """Return the target with further properties that are learnt beside the main one."""
        return replace(
            self, name="+".join((self.name, *names)), beside=(*self.beside, *names), labels=(*self.labels, *names)
        )


def _of(name: str, words: str, unit: str = "eV", not_energy: str = "") -> Target:
    return Target(name, (name,), (name,), words=words, unit=unit, not_energy=not_energy)


_ENERGY = Target("energy", ("energy",), ("energy",), words="energy", total_energy=True)
_STATES = ("excitation_energies", "oscillator_strengths")

TargetName = Literal[
    "energy", "energy_forces", "homo", "lumo", "gap", "dipole", "excitations", "state_energies_forces", "value", "class"
]
TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        _ENERGY,
        replace(_ENERGY, name="energy_forces", beside=("forces",), labels=("energy", "forces")),
        _of("homo", "HOMO energy"),
        _of("lumo", "LUMO energy"),
        _of("gap", "HOMO-LUMO gap"),
        Target(
            "dipole",
            (DIPOLE_NORM,),
            ("dipole",),
            words="dipole moment",
            unit="e*Angstrom",
            not_energy="the dipole's unit is e*Angstrom",
        ),
        Target(
            "excitations",
            _STATES,
            _STATES,
            words="excitations",
            unit="",
            not_energy="RMSE_geom is of mixed units",
            per_state=True,
            transitions=True,
        ),
        Target(
            "state_energies_forces",
            ("state_energies",),
            ("state_energies", "state_forces"),
            beside=("state_forces",),
            words="energies of states",
            per_state=True,
            each_state="energy_forces",
        ),
        _of("value", "value", "", "a value has no unit"),
        Target(CLASS, (CLASS,), (CLASS,), words="class", unit="", not_energy="classes have no unit", classes=True),
    )
}
"""What ``target`` may name."""

BESIDE = tuple(
    name for name, found in PROPERTIES.items() if found.answered and found.state_axis is None and not found.whole
)
"""What a list of several properties may name after the first, the main one."""


def target_name(names: list[str]) -> str | list[str]:
    """Return a list of properties as ``target`` is written: one alone and energy with forces by their names.

    Raises ValueError for a property that is unknown, or that is learnt alone.
    """
    if not names:
        raise ValueError("name at least one property")
    alone = [name for name in names if name in TARGETS and not TARGETS[name].is_one_number]
    if alone and len(names) > 1:
        raise ValueError(f"{alone[0]} is learnt alone; remove the others")
    if names[0] not in TARGETS:
        raise ValueError(f"'{names[0]}' cannot be the main property; the first is one of {', '.join(TARGETS)}")
    wrong = [name for name in names[1:] if name not in BESIDE]
    if wrong:
        raise ValueError(f"'{wrong[0]}' cannot be learnt beside {names[0]}; known are {', '.join(BESIDE)}")
    if len(set(names)) < len(names):
        raise ValueError("a property is named twice; remove one")
    if len(names) == 1:
        return names[0]
    return "energy_forces" if names == ["energy", "forces"] else names


def target_named(name: str) -> Target:
    """Return a target by its name in facts (``Target.name``). Raises KeyError for an unknown one."""
    main, *beside = name.split("+")
    return TARGETS[main].with_beside(tuple(beside)) if beside else TARGETS[main]


def target_of(named: str | list[str]) -> Target:
    """Return what key ``target`` names, without what other sections say of it (states, classes).

    Raises KeyError for an unknown property.
    """
    if isinstance(named, str):
        return TARGETS[named]
    main, *beside = named
    if beside[:1] == ["forces"] and main == "energy":
        main, beside = "energy_forces", beside[1:]
    return TARGETS[main].with_beside(tuple(beside)) if beside else TARGETS[main]
