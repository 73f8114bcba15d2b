"""Labels from PySCF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from quarry.config.engines.base import LabelingBase
from quarry.config.methods import ActiveSpace, Excitations, PyscfMethod

STATES = ("state_energies", "state_forces")
RecoveryStep = Literal["plain", "guess", "diis", "smearing", "level_shift", "newton"]


class PyscfLabeling(LabelingBase):
    """Labels from PySCF."""

    free_keys: ClassVar[tuple[str, ...]] = ("recovery", "look_for_instabilities")
    key_of_states: ClassVar[str | None] = "method.excitations"
    switches: ClassVar[Mapping[str, str]] = {"forces": "method.forces"}

    engine: Literal["pyscf"]
    method: PyscfMethod
    active_space: ActiveSpace | None = None
    """Labels by state-averaged CASSCF on top of method.xc: hf; null: those of the method itself."""
    recovery: list[RecoveryStep] = ["plain", "guess", "diis", "smearing", "level_shift", "newton"]
    """Recovery steps to the SCF solution, tried in this order until one converges: plain; guess (another initial guess); diis
    (augmented
    Roothaan-Hall DIIS, then a larger DIIS space with damping); smearing (Fermi occupations of falling width); level_shift
    (damping and level shift); newton (second-order solver). None changes the level of theory: the last run of each is without
    shift and smearing. [] and [plain]: no recovery."""
    stability: Literal["none", "internal", "external"] = "none"
    """internal: test that the SCF solution is a minimum (real orbitals, same spin restriction) and follow instabilities
    downhill. external: follow also those by which a closed shell falls to an unrestricted solution (stretched bonds, diradicals);
    not with excitations. The energy may then be lower than without, so that it is part of the method's identity."""
    look_for_instabilities: bool = False
    """Look for internal and external instabilities also where stability follows none, and say in the record what was found; no
    number changes. Costs 5 to 20 % of a label. Where stability follows some, the external one is looked for in any case (2 to
    6 %)."""

    def gives(self) -> tuple[str, frozenset[str]]:
        """Return what PySCF is asked for."""
        method = self.method
        if self.active_space is not None:
            return "active_space", frozenset(("energy", "forces", *STATES))
        found = ("energy", "homo", "lumo", "gap", "dipole", *(["forces"] if method.forces else []))
        states = ("excitation_energies", "oscillator_strengths") if method.excitations is not None else ()
        of_each = STATES if method.excitations is not None and method.excitations.forces else ()
        return "method", frozenset((*found, *states, *of_each))

    def input_files(self) -> list[str]:
        """Return the active space's reference geometry."""
        return [] if self.active_space is None else [self.active_space.reference]

    @property
    def excitations(self) -> Excitations | None:
        """The excited states of the method."""
        return self.method.excitations

    @property
    def n_states(self) -> int | None:
        """States of the active space, or the excited ones of the method and the ground state."""
        if self.active_space is not None:
            return self.active_space.n_states
        return None if self.excitations is None else self.excitations.n_states + 1

    @property
    def geometry_method(self) -> PyscfMethod | None:
        """The method of the labels."""
        return self.method

    @field_validator("recovery")
    @classmethod
    def _steps_once(cls, recovery: list[RecoveryStep]) -> list[RecoveryStep]:
        if len(set(recovery)) < len(recovery):
            raise ValueError("a step is named twice; name each once")
        return recovery

    @model_validator(mode="after")
    def _states_of_a_closed_shell(self) -> Self:
        if self.stability == "external" and self.method.excitations is not None:
            raise ValueError(
                "stability: external and method.excitations: an unrestricted solution has other states (singlets mixed with "
                "triplets) than the closed shells beside it; set stability to internal, or excitations to null"
            )
        if self.active_space is not None:
            self._hartree_fock_alone()
        excitations = self.method.excitations
        forces = excitations is not None and excitations.forces
        if forces and excitations is not None and excitations.grid_level is not None:
            raise ValueError(
                "method.excitations.forces: they are derivatives on the ground state's grid; set "
                "method.excitations.grid_level to null"
            )
        if forces and self.method.dispersion is not None:
            raise ValueError(
                "method.excitations.forces: PySCF has no dispersion in them; set method.dispersion to null"
            )
        return self

    def _hartree_fock_alone(self) -> None:
        """Raise ValueError for keys of the method that CASSCF knows nothing of."""
        method = self.method
        if method.xc.strip().lower() != "hf":
            raise ValueError(f"active_space: CASSCF begins with Hartree-Fock, not {method.xc}; set method.xc: hf")
        for name in ("excitations", "dispersion", "density_fitting"):
            if getattr(method, name):
                raise ValueError(f"active_space and method.{name} exclude each other; remove one of them")
        if self.stability != "none":
            raise ValueError(
                "active_space: stability is of Hartree-Fock alone, which is only the start; set it to none"
            )
