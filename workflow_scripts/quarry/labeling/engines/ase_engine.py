"""Labels from any calculator of ASE, found by its import path."""

from __future__ import annotations

import copy
import importlib.metadata
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import ase
from ase import Atoms
from ase.calculators.calculator import SCFError
from threadpoolctl import threadpool_limits

from quarry.config.engines.ase import AseLabeling
from quarry.config.resources import LabelResources
from quarry.errors import QuarryError, reason_of
from quarry.files import sha256_of
from quarry.imports import call_user_code, check_arguments, load
from quarry.labeling.engines.answers import has, plain_properties
from quarry.labeling.engines.ase_arguments import check_calculator_arguments
from quarry.labeling.engines.base import EngineResult, status_of
from quarry.labeling.engines.scratch import scratch_folder
from quarry.labeling.engines.states import State, refuse_untold, untold
from quarry.processes import only_this_process
from quarry.structures import Structure

UNCONVERGED = re.compile(
    r"(scf|self-consisten|convergence).*(\bnot?\b|n't|fail)|not\s+converge|n't\s+converge", re.IGNORECASE
)
"""In the message of a calculator that raises no SCFError, as tblite's 'SCF not converged in 250 cycles'."""
OF_ATOMS = ("initial_charges", "initial_magnetic_moments")
"""Values of charge_key and multiplicity_key that name an array of the atoms and no argument."""
ASKED = {"energy": "get_potential_energy", "dipole": "get_dipole_moment"}
"""Methods of the atoms that are not named after the property."""
ADVICE = "set labeling.charge_key and labeling.multiplicity_key, or choose another calculator"


class AseEngine:
    """A fresh calculator for every structure, in a scratch folder. ASE's units and signs are Quarry's."""

    name = "ase"
    one_job_per_batch = False

    def __init__(self, labeling: AseLabeling, base: str | Path = ".") -> None:
        """base: folder of the campaign file, to which the paths in ``files`` are relative."""
        self.labeling = labeling
        self.periodic = labeling.periodic
        self.files = {name: (Path(base) / path).resolve() for name, path in labeling.files.items()}

    @classmethod
    def of(cls, labeling: AseLabeling, base: Path, resources: LabelResources) -> Self:
        """Return the engine of a section (see ``Engine.of``)."""
        return cls(labeling, base)

    def method_identity(self) -> dict[str, Any]:
        """Return calculator, arguments, content of the files, properties, and the arguments for charge and multiplicity.

        The properties belong to it because a label without forces cannot stand for one with them.
        """
        settings = self.labeling
        return {
            "engine": self.name,
            "calculator": settings.calculator,
            "arguments": settings.arguments,
            "files": {name: sha256_of(path) for name, path in self.files.items()},
            "properties": sorted(settings.properties),
            "charge_key": settings.charge_key,
            "multiplicity_key": settings.multiplicity_key,
        }

    def size(self, structure: Structure) -> dict[str, int]:
        """Return the number of atoms."""
        return {"atoms": len(structure)}

    def versions(self) -> dict[str, str]:
        """Return the versions of ASE and, where it has one, of the calculator's package."""
        versions = {"ase": ase.__version__}
        package = self.labeling.calculator.partition(":")[0].partition(".")[0]
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
        return versions

    def check(self, elements: list[int]) -> None:
        """Raise QuarryError if the calculator cannot be imported or made, does not know an argument, or lacks a property.

        The elements do not matter.
        """
        calculator_class = load(self.labeling.calculator, "labeling.calculator")
        for key, names in self._names_by_key().items():
            check_arguments(calculator_class, names, self.labeling.calculator, key, complete=False)
        failed = f"labeling.arguments: {self.labeling.calculator} cannot be made with these"
        with scratch_folder() as folder, _inside(folder):
            calculator = call_user_code(lambda: calculator_class(**self._arguments()), failed, "correct them")
        for key, names in self._names_by_key().items():
            check_calculator_arguments(calculator_class, calculator, names, self.labeling.calculator, key)
        known = list(getattr(calculator, "implemented_properties", None) or [])
        missing = [name for name in self.labeling.properties if known and name not in known]
        if missing:
            raise QuarryError(
                f"labeling.properties: {self.labeling.calculator} gives no {', '.join(missing)}; "
                f"it knows {', '.join(known)}"
            )

    def check_states(self, states: Iterable[State]) -> None:
        """Raise QuarryError for a charge or multiplicity that the calculator would not be given."""
        refuse_untold(states, bool(self.labeling.charge_key), bool(self.labeling.multiplicity_key), ADVICE)

    def label(self, structure: Structure, threads: int) -> EngineResult:
        """Compute the properties of one structure; what the calculator raises or answers ends as a typed result."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            result = self._label(structure, threads)
        except MemoryError:
            result = EngineResult("out_of_memory", message=f"{self.labeling.calculator}: out of memory")
        except Exception as error:
            reason = reason_of(error, named=True)
            unconverged = isinstance(error, SCFError) or UNCONVERGED.search(reason)
            status = "scf_not_converged" if unconverged else status_of(error)
            result = EngineResult(status, message=f"{self.labeling.calculator}: {reason}")
        result.size = self.size(structure)
        result.attempts.append(
            {
                "name": "calculate",
                "cycles": None,
                "converged": result.status == "ok",
                "wall_s": time.perf_counter() - wall,
                "cpu_s": time.process_time() - cpu,
            }
        )
        return result

    def _label(self, structure: Structure, threads: int) -> EngineResult:
        if any(structure.pbc) and not self.periodic:
            return EngineResult(
                "invalid_structure", message="the structure is periodic, and labeling.periodic is false"
            )
        settings = self.labeling
        ignored = untold(
            (structure.charge, structure.multiplicity), bool(settings.charge_key), bool(settings.multiplicity_key)
        )
        if ignored:
            return EngineResult(
                "invalid_structure", message=f"nobody tells the calculator the structure's {ignored}; {ADVICE}"
            )
        names = [name for name in settings.properties if has(structure, name)]
        if not names:
            return EngineResult(
                "invalid_structure",
                message=f"the structure is not periodic in three directions: it has no {', '.join(settings.properties)}",
            )
        calculator_class = load(settings.calculator, "labeling.calculator")
        atoms, arguments = structure.to_atoms(), self._arguments()
        if settings.charge_key:
            _tell(atoms, arguments, settings.charge_key, structure.charge)
        if settings.multiplicity_key:
            _tell(atoms, arguments, settings.multiplicity_key, structure.multiplicity)
        with scratch_folder() as folder, _inside(folder), _threads(threads), only_this_process():
            atoms.calc = calculator_class(**arguments)
            answer = {name: _asked(atoms, name) for name in names}
        return EngineResult("ok", properties=plain_properties(answer, len(structure)))

    def _names_by_key(self) -> dict[str, list[str]]:
        """Return the names of the calculator's keyword arguments by the key of the configuration that gives them."""
        told = {}
        for key in ("charge_key", "multiplicity_key"):
            place = getattr(self.labeling, key)
            if place and not place.startswith("info:") and place not in OF_ATOMS:
                told[f"labeling.{key}"] = [place.partition(".")[0]]
        return {"labeling.arguments": list(self.labeling.arguments), "labeling.files": list(self.files), **told}

    def _arguments(self) -> dict[str, Any]:
        return copy.deepcopy(self.labeling.arguments) | {name: str(path) for name, path in self.files.items()}


def _asked(atoms: Atoms, name: str) -> Any:
    """Return a property of atoms by their own method where they have one: it also asks calculators of an older kind."""
    method = getattr(atoms, ASKED.get(name, f"get_{name}"), None)
    return atoms.calc.get_property(name, atoms) if method is None else method()


def _tell(atoms: Atoms, arguments: dict[str, Any], key: str, value: int) -> None:
    """Put charge or multiplicity where the calculator looks for it (see ``AseLabeling.charge_key``)."""
    if key.startswith("info:"):
        atoms.info[key.removeprefix("info:")] = value
    elif key == "initial_charges":
        atoms.set_initial_charges([value] + [0] * (len(atoms) - 1))
    elif key == "initial_magnetic_moments":
        atoms.set_initial_magnetic_moments([value - 1] + [0] * (len(atoms) - 1))
    else:
        *sections, last = key.split(".")
        for section in sections:
            arguments = arguments.setdefault(section, {})
        arguments[last] = value


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder: calculators that run a program write beside where they stand."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    """Limit numerical libraries, and the programs that a calculator starts, to a number of threads."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        with threadpool_limits(limits=threads):
            yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
