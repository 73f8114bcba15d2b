"""What the names of a method mean to PySCF: functionals, basis sets, effective core potentials, dispersion."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import warnings
from collections.abc import Iterator
from typing import Any

from pyscf.dft import libxc
from pyscf.gto import basis as basis_library

from quarry.errors import QuarryError, reason_of


def is_hartree_fock(xc: str) -> bool:
    """Return whether a name means Hartree-Fock rather than a functional."""
    return xc.strip().lower() == "hf"


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Collect what PySCF prints on stdout and stderr, and drop its warnings."""
    printed = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        warnings.simplefilter("ignore")
        yield printed


def one_line(error: BaseException) -> str:
    """Return PySCF's reason in one line."""
    return f"PySCF: {reason_of(error, named=True)}"


def normalised_basis_name(name: str) -> str:
    """Return a basis set's name as PySCF looks it up: no case, blanks, - and _."""
    return str(basis_library._format_basis_name(name))


def dispersion_name(xc: str) -> str:
    """Return the functional's name under which the dispersion library looks up its parameters."""
    return "".join(xc.lower().split())


@functools.cache
def load_core_potential(name: str, symbol: str) -> list[Any] | None:
    """Return PySCF's data of an effective core potential ([core electrons, ...]) for an element, or None."""
    try:
        with quiet():
            return list(basis_library.load_ecp(name, symbol)) or None
    except Exception:
        # An empty list, BasisNotFoundError, RuntimeError or TypeError, depending on where PySCF misses it.
        return None


def resolve_functional(xc: str) -> dict[str, Any]:
    """Return a functional as libxc resolves it.

    exact_exchange: PySCF's (hybrid, alpha, omega) given explicitly (a hybrid of libxc has its own inside).
    components: sorted (libxc number, factor) pairs. Nicknames of the same functional give the same result.
    Raises QuarryError (with the key xc) if neither PySCF nor libxc knows the name, or if it fits several functionals.
    """
    try:
        with quiet() as remarks:
            exchange, components = libxc.parse_xc(xc)
    except Exception as error:
        raise QuarryError(f"xc: '{xc}' is unknown ({one_line(error)})") from error
    if "Possible xc_code" in remarks.getvalue():
        # PySCF would take one of a Python set, another one in another process.
        raise QuarryError(f"xc: '{xc}' fits several functionals of libxc; write its full name, e.g. MGGA_X_...")
    factors: dict[int, float] = {}
    for number, factor in components:
        factors[int(number)] = factors.get(int(number), 0.0) + float(factor)
    if not factors and not any(exchange):
        raise QuarryError(f"xc: '{xc}' names no functional; name one, or hf")
    if not all(math.isfinite(value) for value in (*exchange, *factors.values())):
        raise QuarryError(f"xc: '{xc}' has a factor that is not finite")
    return {
        "exact_exchange": [float(value) for value in exchange],
        "components": [[number, factors[number]] for number in sorted(factors)],
    }
