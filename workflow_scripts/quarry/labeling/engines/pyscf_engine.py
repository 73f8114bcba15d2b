"""Labels from PySCF: what a method is, what it cannot do, and the calculator that computes."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import pyscf
from pyscf.dft import libxc

from quarry.config.engines.pyscf import PyscfLabeling
from quarry.config.resources import LabelResources
from quarry.labeling.engines.pyscf_active_space import ActiveSpaceStates
from quarry.labeling.engines.pyscf_calculator import SHORTEST_DISTANCE_A, PyscfCalculator, size_of
from quarry.labeling.engines.pyscf_names import dispersion_name, normalised_basis_name, resolve_functional
from quarry.structures import Structure
from quarry.structures.files import read_molecule
from quarry.structures.stated import LENIENT


class PyscfEngine(PyscfCalculator):
    """The engine ``pyscf``; what it computes and how stands in ``PyscfCalculator``."""

    name = "pyscf"
    periodic = False
    one_job_per_batch = False
    shortest_distance_A = SHORTEST_DISTANCE_A

    @classmethod
    def of(cls, labeling: PyscfLabeling, base: Path, resources: LabelResources) -> Self:
        """Return the engine of a section (see ``Engine.of``)."""
        space = labeling.active_space
        states = None
        if space is not None:
            reference = read_molecule(
                base / space.reference, "labeling.active_space.reference", keys=LENIENT, index="-1"
            )
            states = ActiveSpaceStates(space, reference)
        return cls(labeling.method, labeling.recovery, labeling.stability, labeling.look_for_instabilities, states)

    def method_identity(self) -> dict[str, Any]:
        """Return everything that changes the number, the functional as libxc resolves it.

        recovery, looks, max_cycles and allow_vv10 are left out: they decide whether there is a number, not which (of several
        SCF solutions any may be found, with or without recovery; stability asks for a minimum). The basis is the name
        without case, blanks, - and _ (6-31G* and 6-31g(d) are two identities). What is not asked for is not named.
        Raises QuarryError for an unknown functional.
        """
        method = self.method
        on_request: dict[str, Any] = {}
        if self.stability != "none":
            on_request["stability"] = self.stability
        if method.excitations is not None:
            on_request["excitations"] = method.excitations.identity()
        if self.active_space is not None:
            on_request["active_space"] = self.active_space.identity()
        if not method.forces:
            on_request["forces"] = False
        return {
            "engine": self.name,
            "functional": "hf" if self.hartree_fock else resolve_functional(method.xc),
            "basis": normalised_basis_name(method.basis),
            "ecp": None if method.ecp is None else normalised_basis_name(method.ecp),
            "grid_level": None if self.hartree_fock else method.grid_level,
            "convergence_hartree": method.convergence_hartree,
            "density_fitting": method.density_fitting,
            # The damping parameters belong to the functional's name, which libxc's components do not hold.
            "dispersion": None if method.dispersion is None else f"{method.dispersion}:{dispersion_name(method.xc)}",
            **on_request,
        }

    def size(self, structure: Structure) -> dict[str, int]:
        """Return the numbers of atoms and of basis functions."""
        return size_of(self.molecule(structure))

    def versions(self) -> dict[str, str]:
        """Return the versions of PySCF, libxc and, when used, pyscf-dispersion."""
        versions = {"pyscf": pyscf.__version__, "libxc": str(libxc.__version__)}
        if self.method.dispersion is not None:
            versions["pyscf-dispersion"] = importlib.metadata.version("pyscf-dispersion")
        return versions

    def check(self, elements: list[int]) -> None:
        """Raise QuarryError for what PySCF cannot do with this method and these elements (atomic numbers)."""
        from quarry.labeling.engines.pyscf_checks import check_method

        check_method(self.method, elements)
        if self.active_space is not None:
            self.active_space.check(elements)

    def check_molecules(self, molecules: Iterable[Structure]) -> None:
        """Raise QuarryError for a molecule that has fewer states in the basis than are asked for, or no such active space."""
        from quarry.labeling.engines.pyscf_checks import check_count_of_states

        molecules = list(molecules)
        check_count_of_states(self.method, molecules)
        if self.active_space is not None:
            for molecule in molecules:
                self.active_space.check_molecule(self, molecule)
