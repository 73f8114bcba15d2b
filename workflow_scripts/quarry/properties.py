"""The properties of a label: the one table that records, data sets, engines, units, checks and the manual read.

A new property is one line in ``PROPERTIES``, and what an engine must do to give it. Standard library only: configuration and
records are read while Snakemake reads its rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Shape = Literal["scalar", "vector", "tensor", "per_atom", "per_atom_vector", "per_state", "per_atom_state_vector"]
REFERENCE = "REF_"
"""What MACE's defaults have before the name of a label: those of ASE may be a calculator's own since ASE 3.23."""
LARGEST = 1e12
"""Largest size of a number in its unit. The total energy of a thousand gold atoms is 5e8 eV."""


@dataclass(frozen=True)
class Property:
    """What there is to know of a property.

    name: in records, data sets and the configuration. unit: Quarry's own; others that it may be stated in are in
    ``quarry.config.units``. shape: scalar (), vector (3,), symmetric tensor (3, 3), per_atom (n_atoms,), per_atom_vector
    (n_atoms, 3), per_state (n_states,), one number for each state, per_atom_state_vector (n_atoms, n_states, 3).
    from_ground: the first state is the ground state; False: states are the excited ones.
    meaning: for people. negative: name of the negative of it, which programs and tables may give in its place.
    optional: a label may hold None: there is no such thing. periodic: only structures that are periodic in three directions
    have it; of others it is dropped, and not missed. whole: a whole number from 0.
    answered: engines give it; False: found when labels are merged.
    ase: calculators of ASE give it under this name, and frames have it as a result; others stand in ``info`` (or, of
    atoms, in ``arrays``) of frames under the name ``extxyz``.
    recomputed, rotated: largest difference of a number of a label and of its recomputation as it is and rotated: a key of
    section verification, or a number in its unit, which verification.tolerances and rotation_tolerances change; None: not
    compared.
    largest: beyond this size it is no label. absurd_off: by how much a value (of vectors and tensors the norm, of states the
    largest) may be off the median of all labels; None: not looked at by this rule.
    """

    name: str
    unit: str
    shape: Shape = "scalar"
    meaning: str = ""
    negative: str = ""
    optional: bool = False
    from_ground: bool = False
    periodic: bool = False
    whole: bool = False
    answered: bool = True
    ase: bool = False
    extxyz: str = ""
    recomputed: str | float | None = None
    rotated: str | float | None = None
    largest: float = LARGEST
    absurd_off: float | None = None

    @property
    def of_atoms(self) -> bool:
        """Whether there are numbers for each atom."""
        return self.shape in ("per_atom", "per_atom_vector", "per_atom_state_vector")

    @property
    def of_states(self) -> bool:
        """Whether there is one number for each state."""
        return self.shape == "per_state"

    @property
    def state_axis(self) -> int | None:
        """Which axis of a label's numbers are the states; None: there are none."""
        return {"per_state": 0, "per_atom_state_vector": 1}.get(self.shape)

    @property
    def rank(self) -> int:
        """How it rotates with the structure: 0 not at all, 1 as a vector (R v), 2 as a tensor (R s R^T)."""
        return {"vector": 1, "per_atom_vector": 1, "per_atom_state_vector": 1, "tensor": 2}.get(self.shape, 0)

    @property
    def one_number(self) -> bool:
        """Whether a label has one number of it."""
        return self.shape == "scalar"

    @property
    def in_columns(self) -> bool:
        """Whether its numbers may stand in several columns of a table, which are joined."""
        return self.shape in ("vector", "tensor", "per_state")

    @property
    def counts(self) -> tuple[int, ...]:
        """How many columns its numbers may have, a tensor 9 or the 6 of its upper half; empty: any number."""
        return {"scalar": (1,), "vector": (3,), "tensor": (6, 9)}.get(self.shape, ())

    @property
    def key(self) -> str:
        """Its name in extended XYZ."""
        return self.extxyz or self.name

    @property
    def reference(self) -> str:
        """Name under which MACE's defaults find it in extended XYZ, of what calculators of ASE give."""
        return REFERENCE + self.name

    def dimensions(self, n_atoms: int, n_states: int = 0) -> tuple[int, ...]:
        """Return the shape that the property's numbers have in a label of ``n_atoms`` atoms and ``n_states`` states."""
        of_shape: dict[str, tuple[int, ...]] = {
            "vector": (3,),
            "tensor": (3, 3),
            "per_atom": (n_atoms,),
            "per_atom_vector": (n_atoms, 3),
            "per_state": (n_states,),
            "per_atom_state_vector": (n_atoms, n_states, 3),
        }
        return of_shape.get(self.shape, ())


_ENERGY, _ROTATED_ENERGY = "energy_tolerance_eV", "rotation_energy_tolerance_eV_per_atom"
_FORCE, _ROTATED_FORCE = "force_tolerance_eV_per_A", "rotation_force_tolerance_eV_per_A"

_TABLE = (
    Property("energy", "eV", meaning="total energy", ase=True, recomputed=_ENERGY, rotated=_ROTATED_ENERGY),
    Property(
        "homo",
        "eV",
        meaning="energy of the highest occupied orbital",
        optional=True,
        extxyz="homo_eV",
        recomputed=_ENERGY,
        rotated=_ROTATED_ENERGY,
        absurd_off=100.0,
    ),
    Property(
        "lumo",
        "eV",
        meaning="energy of the lowest empty orbital",
        optional=True,
        extxyz="lumo_eV",
        recomputed=_ENERGY,
        rotated=_ROTATED_ENERGY,
        absurd_off=100.0,
    ),
    Property(
        "gap",
        "eV",
        meaning="lumo - homo",
        optional=True,
        extxyz="gap_eV",
        recomputed=_ENERGY,
        rotated=_ROTATED_ENERGY,
        absurd_off=100.0,
    ),
    Property("value", "1", meaning="a number of a table or toy function", recomputed=_ENERGY, largest=1e150),
    Property("class", "1", meaning="number of a class, from 0", whole=True, largest=1e6),
    Property(
        "dipole",
        "e*Angstrom",
        "vector",
        # Not compared when rotated: that of an ion depends on the origin.
        meaning="dipole moment",
        ase=True,
        recomputed="dipole_tolerance_eA",
        absurd_off=100.0,
    ),
    Property(
        "excitation_energies",
        "eV",
        "per_state",
        meaning="vertical excitation energies, ascending",
        extxyz="excitation_energies_eV",
        recomputed=_ENERGY,
        rotated=_ROTATED_ENERGY,
        absurd_off=100.0,
    ),
    Property("oscillator_strengths", "1", "per_state", meaning="from the ground state, in the length gauge"),
    Property(
        "state_order",
        "1",
        "per_state",
        meaning="of tracked states: number of the label's state, from 0",
        answered=False,
    ),
    Property("state_overlap", "1", "per_state", meaning="of tracked states: the overlap that found it", answered=False),
    Property(
        "forces",
        "eV/Angstrom",
        "per_atom_vector",
        meaning="forces on the atoms",
        negative="gradient",
        ase=True,
        recomputed=_FORCE,
        rotated=_ROTATED_FORCE,
    ),
    Property(
        "state_energies",
        "eV",
        "per_state",
        meaning="total energies of electronic states, ascending from the ground state",
        from_ground=True,
        extxyz="state_energies_eV",
        recomputed=_ENERGY,
        rotated=_ROTATED_ENERGY,
    ),
    Property(
        "state_forces",
        "eV/Angstrom",
        "per_atom_state_vector",
        meaning="forces on the atoms in each of these states",
        negative="state_gradients",
        from_ground=True,
        recomputed=_FORCE,
        rotated=_ROTATED_FORCE,
    ),
    Property(
        "stress",
        "eV/Angstrom^3",
        "tensor",
        meaning="derivative of the energy by the strain over the volume: positive where the cell wants to shrink, as in ASE",
        periodic=True,
        ase=True,
        recomputed=1e-5,
        rotated=5e-4,
        absurd_off=100.0,
    ),
    Property("charges", "e", "per_atom", meaning="charges of the atoms", ase=True, recomputed=1e-4, rotated=1e-3),
)
PROPERTIES = {property.name: property for property in _TABLE}
"""The properties by name, in the order in which they are told."""


def answerable() -> list[str]:
    """Return the names of what engines give."""
    return [entry.name for entry in PROPERTIES.values() if entry.answered]


def statable() -> dict[str, Property]:
    """Return the properties by the names that programs and tables give them, a negative under its own name."""
    names = {entry.name: entry for entry in PROPERTIES.values() if entry.answered}
    return names | {entry.negative: entry for entry in PROPERTIES.values() if entry.negative}


def given_by(names: Iterable[str]) -> frozenset[str]:
    """Return the properties that a label has if these are given, by the names of ``statable``: a gradient becomes forces."""
    known = statable()
    return frozenset(known[name].name for name in names)


def groups_of_states(names: Iterable[str]) -> list[list[str]]:
    """Return which of the properties are of the same states: those of the excited ones, and those from the ground state on."""
    known = [PROPERTIES[name] for name in names if name in PROPERTIES]
    known = [entry for entry in known if entry.answered and entry.state_axis is not None]
    return [[entry.name for entry in known if entry.from_ground == ground] for ground in (False, True)]
