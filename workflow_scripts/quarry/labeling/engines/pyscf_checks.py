"""What PySCF cannot do with a method, found before the first job and said in one line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
from pyscf import gto
from pyscf.data.elements import ELEMENTS
from pyscf.dft import libxc
from pyscf.gto import basis as basis_library
from pyscf.scf import dispersion as pyscf_dispersion

from quarry.config.methods import PyscfMethod
from quarry.errors import QuarryError, reason_of
from quarry.labeling.engines.pyscf_calculator import PyscfCalculator
from quarry.labeling.engines.pyscf_names import (
    dispersion_name,
    is_hartree_fock,
    load_core_potential,
    normalised_basis_name,
    one_line,
    quiet,
    resolve_functional,
)
from quarry.structures import Structure

DOUBLE_HYBRID = re.compile(
    r"2.?PLYP|^(REV)?DSD|^DOD|XYG3|XYGJ|PWPB95|PTPSS|QIDH|PBE0.?DH|PBE0.?2$|TPSS0.?DH|WB97X.?2|WB97M.?2|B2NC|MP2"
)
"""Families of double hybrids; '-2' of some names would be read by PySCF as 'minus libxc functional number 2'."""

# Hydrogen to uranium by the rows that basis sets end at: a set that has none of these is unknown.
COMMON_ELEMENTS = ("H", "C", "O", "Na", "Cl", "Fe", "Br", "I", "Au", "U")

CORELESS_RATIO = 0.6
"""A basis whose 1s energy in the field of the bare nucleus is below this share of -Z^2/2 has no core functions.

Measured over PySCF's library: 0.67 and more with the core described (relativistic contractions of gold are the lowest),
below 0.35 for valence bases, but for the large ones of ``ECP_FAMILIES``.
"""

ECP_FAMILIES = ("ccecphe", "ccecpreg", "ccecp28", "ccecp36", "ccecp", "bfd")
"""Basis sets (ccecp-cc-pvdz ...) whose effective core potential has the name of the family, not of the basis."""


def check_method(method: PyscfMethod, elements: Sequence[int], where: str = "labeling.method") -> None:
    """Raise QuarryError (one line, with the configuration key) for what PySCF cannot do.

    elements: atomic numbers of the pool. where: configuration key of the method, for the message.
    """
    symbols = [ELEMENTS[int(z)] for z in sorted(set(elements))]
    with quiet():
        _check_functional(method, where)
        _check_basis(method, symbols, where)
        _check_core_potential(method, symbols, where)
        _check_dispersion(method, symbols, where)
        _check_excitations(method, where)
        _probe(method, where)


def check_wigner(method: PyscfMethod | None, start: Structure, where: str = "pool.geometry_method") -> None:
    """Raise QuarryError if normal modes of a molecule cannot be computed with a method.

    method: None if it is that of another engine, whose Hessian is made of forces. start: the molecule. Checks the method for its
    elements and tries a Hessian of H2 (H3 for open shells).
    """
    if len(start) < 2:
        raise QuarryError(
            "pool.source: wigner needs at least two atoms, a single atom has no vibrations; use source: file"
        )
    if method is None:
        return
    check_method(method, [int(z) for z in start.numbers], where)
    advice = f"set {where} to a method that has one, e.g. {{xc: b3lyp, basis: 6-31g*}}"
    if not is_hartree_fock(method.xc) and libxc.is_nlc(method.xc):
        raise QuarryError(f"{where}.xc: the Hessian of the VV10 functional '{method.xc}' takes too long; {advice}")
    probe = _probe_method(method)
    # PySCF's unrestricted Hessian needs an electron of each spin, so that H3 stands in for the open shells.
    size = 2 if start.multiplicity == 1 else 3
    chain = np.array([[0.0, 0.0, 0.9 * i] for i in range(size)])
    try:
        with quiet():
            hessian = PyscfCalculator(probe).hessian(
                Structure.create([1] * size, chain, multiplicity=size - 1), threads=1
            )
    except Exception as error:
        raise QuarryError(f"{where}: no analytic Hessian for this method ({one_line(error)}); {advice}") from error
    if not np.isfinite(hessian).all():
        raise QuarryError(f"{where}: the Hessian of this method is not finite; {advice}")


def _check_functional(method: PyscfMethod, where: str) -> None:
    xc = method.xc
    if is_hartree_fock(xc):
        return
    if DOUBLE_HYBRID.search(xc.strip().upper()):
        raise QuarryError(
            f"{where}.xc: '{xc}' is a double hybrid, of which PySCF's DFT would leave out the MP2 part; "
            "choose another functional"
        )
    _check_bundled_dispersion(xc, where)
    try:
        resolved = resolve_functional(xc)
    except QuarryError as error:
        close = _close(xc.upper(), [*libxc.XC_ALIAS, *libxc.XC_CODES])
        raise QuarryError(f"{where}.{error}{close or '; name it as libxc or PySCF does'}") from error
    _check_components(xc, resolved, where)
    if libxc.is_nlc(xc) and not method.allow_vv10:
        raise QuarryError(
            f"{where}.xc: '{xc}' has VV10 nonlocal correlation, about 100 times the cost of a label; "
            f"choose another functional (with {where}.dispersion) or set {where}.allow_vv10: true"
        )


def _check_bundled_dispersion(xc: str, where: str) -> None:
    """Refuse names that PySCF rejects or that would switch a dispersion correction on behind the identity's back."""
    plain = f"write the functional plainly and set {where}.dispersion to d3bj or d4"
    if re.fullmatch(r"wb97x[-_]?d3?", xc.strip().lower()):
        full = "HYB_GGA_XC_WB97X_D3" if xc.strip().endswith("3") else "HYB_GGA_XC_WB97X_D"
        raise QuarryError(
            f"{where}.xc: PySCF has no '{xc}' with its own dispersion; write {full} for the functional without "
            f"dispersion, or choose another functional with {where}.dispersion"
        )
    try:
        _, nonlocal_part, correction = pyscf_dispersion.parse_dft(dispersion_name(xc))
    except NotImplementedError as error:
        raise QuarryError(f"{where}.xc: PySCF refuses '{xc}' ({' '.join(str(error).split())}); {plain}") from error
    if correction is not None or nonlocal_part is False:
        raise QuarryError(f"{where}.xc: '{xc}' carries a dispersion correction in its name; {plain}")


def _check_components(xc: str, resolved: dict[str, Any], where: str) -> None:
    """Refuse what PySCF resolves but what is no exchange-correlation functional."""
    description = xc.upper().replace(" ", "")
    for name, replacement in libxc._NAME_WITH_DASH.items():
        description = description.replace(name, replacement)
    if re.search(r"(^|[,+-])\d+($|[,+-])", description):
        raise QuarryError(
            f"{where}.xc: PySCF reads a number in '{xc}' as the libxc functional of that number; "
            "write names instead of numbers"
        )
    names = {number: name for name, number in libxc.XC_CODES.items() if isinstance(number, int | np.integer)}
    for number, _ in resolved["components"]:
        if "_K_" in names.get(number, ""):
            raise QuarryError(f"{where}.xc: '{xc}' holds the kinetic energy functional {names[number]}; leave it out")


def _check_basis(method: PyscfMethod, symbols: list[str], where: str) -> None:
    name = method.basis
    _check_is_name(name, f"{where}.basis")
    if normalised_basis_name(name).startswith("gth"):
        raise QuarryError(
            f"{where}.basis: '{name}' needs GTH pseudopotentials, which are not supported; choose another"
        )
    for symbol in symbols:
        if _basis_of(name, symbol) is not None:
            continue
        if any(_basis_of(name, other) is not None for other in COMMON_ELEMENTS):
            raise QuarryError(f"{where}.basis: '{name}' has no functions for {symbol}; choose a basis set that has")
        close = _close(normalised_basis_name(name), list(basis_library.ALIAS))
        raise QuarryError(f"{where}.basis: '{name}' is unknown to PySCF{close or '; name it as PySCF does'}")


def _check_core_potential(method: PyscfMethod, symbols: list[str], where: str) -> None:
    if method.ecp is not None:
        _check_is_name(method.ecp, f"{where}.ecp")
        if not any(load_core_potential(method.ecp, s) for s in (*symbols, *ELEMENTS[1:104])):
            raise QuarryError(
                f"{where}.ecp: '{method.ecp}' is no effective core potential that PySCF knows; name one, e.g. def2-svp"
            )
    for symbol in symbols:
        own = _own_core_potential(method.basis, symbol)
        of_method = load_core_potential(method.ecp, symbol) if method.ecp else None
        ratio = _core_ratio(method.basis, symbol)
        if of_method is None and (own is not None or ratio < CORELESS_RATIO):
            fitting = f"'{own}'" if own is not None else "the one that belongs to it"
            raise QuarryError(
                f"{where}.ecp: the basis '{method.basis}' describes only the valence electrons of {symbol} and needs "
                f"an effective core potential; set ecp to {fitting}"
            )
        if of_method is not None and own is None and of_method[0] > 0 and ratio > CORELESS_RATIO:
            raise QuarryError(
                f"{where}.ecp: '{method.ecp}' replaces the core electrons of {symbol}, but the basis '{method.basis}' "
                "is made for all electrons; remove ecp or choose the basis that belongs to it"
            )


def _check_dispersion(method: PyscfMethod, symbols: list[str], where: str) -> None:
    if method.dispersion is None:
        return
    key = f"{where}.dispersion"
    if not is_hartree_fock(method.xc) and libxc.is_nlc(method.xc):
        raise QuarryError(f"{key}: the VV10 functional '{method.xc}' has its own dispersion; set dispersion to null")
    name, _, _ = pyscf_dispersion.parse_disp(dispersion_name(method.xc), method.dispersion)
    if re.sub("[-_]", "", name) == "wb97x":
        # simple-dftd3 and dftd4 keep the parameters of wB97X-V without its VV10 part under this name.
        raise QuarryError(
            f"{key}: the parameters named wb97x belong to another functional (wB97X-V); set dispersion to null"
        )
    chain = gto.Mole()
    chain.build(
        dump_input=False,
        parse_arg=False,
        verbose=0,
        atom=[(symbol, (0.0, 0.0, 3.0 * i)) for i, symbol in enumerate(symbols)],
        basis={symbol: [[0, [1.0, 1.0]]] for symbol in symbols},
        spin=None,
    )
    try:
        if method.dispersion == "d4":
            energy = pyscf_dispersion.dftd4.DFTD4Dispersion(chain, xc=name).get_dispersion()["energy"]
        else:
            energy = pyscf_dispersion.dftd3.DFTD3Dispersion(chain, xc=name, version="d3bj").get_dispersion()["energy"]
    except Exception as error:
        raise QuarryError(
            f"{key}: {method.dispersion} has no parameters for '{method.xc}' with these elements ({reason_of(error)}); "
            "set dispersion to null or choose another functional"
        ) from error
    if not np.isfinite(energy):
        raise QuarryError(f"{key}: {method.dispersion} gives no finite energy for the elements {', '.join(symbols)}")


def _check_excitations(method: PyscfMethod, where: str) -> None:
    if method.excitations is not None and not is_hartree_fock(method.xc) and libxc.is_nlc(method.xc):
        raise QuarryError(
            f"{where}.excitations: PySCF leaves the VV10 part of '{method.xc}' out of its excited states; "
            "set excitations to null or choose another functional"
        )


def check_count_of_states(method: PyscfMethod, molecules: Iterable[Structure], where: str = "labeling.method") -> None:
    """Raise QuarryError for a molecule with fewer single excitations in the basis than excitations.n_states."""
    wanted = method.excitations
    if wanted is None:
        return
    from quarry.labeling.engines.pyscf_excitations import count_excitations

    for structure in molecules:
        molecule = PyscfCalculator(method).molecule(structure)
        possible = count_excitations(molecule)
        if wanted.n_states > possible:
            formula = structure.to_atoms().get_chemical_formula()
            raise QuarryError(
                f"{where}.excitations.n_states = {wanted.n_states} is more than the {possible} excited states that {formula} "
                f"has with {max(molecule.nelec)} occupied of {molecule.nao_nr()} orbitals in the basis '{method.basis}'; "
                "lower it or choose a larger basis"
            )


def _probe(method: PyscfMethod, where: str) -> None:
    """Compute energy and gradient of a helium atom, so that PySCF itself says what it cannot do."""
    result = PyscfCalculator(_probe_method(method)).label(Structure.create([2], np.zeros((1, 3))), threads=1)
    if result.status != "ok":
        raise QuarryError(
            f"{where}: PySCF cannot compute energy and forces of a helium atom with xc '{method.xc}' "
            f"({result.message}); choose another functional"
        )


def _probe_method(method: PyscfMethod) -> PyscfMethod:
    """Return the method in a small basis that every probe's elements have, with cycles enough and one excited state."""
    excitations = method.excitations and method.excitations.model_copy(update={"n_states": 1, "max_cycles": 100})
    return method.model_copy(
        update={
            "basis": "def2-svp",
            "ecp": None,
            "max_cycles": max(method.max_cycles, 100),
            "excitations": excitations,
        }
    )


def _check_is_name(name: str, key: str) -> None:
    """Refuse what PySCF would take for a file or for basis data: the identity of a label holds the name only."""
    if "\n" in name or Path(name).is_file():
        raise QuarryError(f"{key}: give the name of a basis set; '{' '.join(name.split())}' is a file or basis data")


def _own_core_potential(basis: str, symbol: str) -> str | None:
    """Return the name of the effective core potential that a basis set comes with for an element, or None."""
    families = [family for family in ECP_FAMILIES if normalised_basis_name(basis).startswith(family)]
    return next((name for name in (basis, *families) if load_core_potential(name, symbol)), None)


def _basis_of(name: str, symbol: str) -> list[Any] | None:
    try:
        return list(gto.format_basis({symbol: name})[symbol])
    except Exception:
        return None


def _core_ratio(basis: str, symbol: str) -> float:
    """Return the lowest energy of one electron at the bare nucleus in the basis, divided by the exact -Z^2/2."""
    charge = gto.charge(symbol)
    if charge <= 2:
        return 1.0
    functions = [shell for shell in _basis_of(basis, symbol) or [] if shell[0] == 0]
    atom = gto.Mole()
    atom.build(
        dump_input=False,
        parse_arg=False,
        verbose=0,
        atom=[(symbol, (0.0, 0.0, 0.0))],
        basis={symbol: functions},
        spin=None,
    )
    overlap, vectors = np.linalg.eigh(atom.intor("int1e_ovlp"))
    keep = overlap > 1e-9
    orthogonal = vectors[:, keep] / np.sqrt(overlap[keep])
    core_hamiltonian = atom.intor("int1e_kin") + atom.intor("int1e_nuc")
    lowest = scipy.linalg.eigvalsh(orthogonal.T @ core_hamiltonian @ orthogonal)[0]
    return float(lowest / (-(charge**2) / 2))


def _close(name: str, known: list[str]) -> str:
    """Return '; did you mean ...?' with the closest known names, or nothing."""
    close = difflib.get_close_matches(name.strip(), known, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(c.lower() for c in close)}?" if close else ""
