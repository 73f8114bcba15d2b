"""Numbers of facts as texts, for the terminal and the report (standard library only)."""

from __future__ import annotations

import math
from typing import Any


def interval_text(low: float | None, high: float | None, style: str, scale: float = 1.0) -> str:
    """Return an interval as a text, e.g. ``0.010 to 0.030``; None and NaN are ends that do not exist.

    Without an upper end (the errors seen set no upper bound) it is ``0.010 upwards``, without a lower one, as R^2 of such
    errors has, ``up to 0.030``. style: format of the numbers. scale: what they are multiplied by.
    """
    return _joined(*("" if end is None or math.isnan(end) else f"{scale * end:{style}}" for end in (low, high)))


def r2_text(value: float) -> str:
    """Return R^2 with two digits of what it lacks to 1: 0.99 and 0.9999 are different models."""
    lacks = 1 - value
    return f"{value:.{min(8, max(2, 1 - math.floor(math.log10(lacks))))}f}" if 0 < lacks < 1 else f"{value:.3g}"


def r2_interval_text(low: float | None, high: float | None) -> str:
    """Return the interval of R^2 as a text, the digits of each end as of ``r2_text``."""
    return _joined(*("" if end is None or math.isnan(end) else r2_text(end) for end in (low, high)))


def beside_rmse(errors: dict[str, Any]) -> tuple[str, str, str]:
    """Return what else says how large an error is, each empty where it is not known: its share of the targets' standard
    deviation, R^2, and the error per atom with its unit.
    """
    ratio, r2, per_atom = (errors.get(name) for name in ("rmse_over_std", "r2", "rmse_per_atom"))
    return (
        "" if ratio is None else f"{ratio:.2g}",
        "" if r2 is None else r2_text(r2),
        "" if per_atom is None else f"{1e3 * per_atom:.2g} meV/atom",
    )


def scale_of(error: float, unit: str) -> tuple[float, str]:
    """Return the factor and the unit in which an error is said."""
    return (1e3, f"m{unit}") if unit and error < 0.1 else (1.0, unit)


def error_text(error: float, unit: str) -> str:
    """Return an error with its unit, a small one in thousandths of it (``0.0021 eV``: ``2.1 meV``)."""
    scale, unit = scale_of(error, unit)
    return f"{scale * error:.4g} {unit}".rstrip()


def how_good(errors: dict[str, Any] | None, unit: str) -> str:
    """Return a clause about how good a model is; empty where no error was measured.

    errors: of one metric, as ``Facts.errors`` holds them. unit: of the target.
    """
    if not errors:
        return ""
    if "accuracy" in errors:
        majority = errors.get("majority")
        beside = "" if majority is None else f", the most frequent class alone reaches {majority:.3f}"
        return f"the model's accuracy is {errors['accuracy']:.3f}{beside}"
    words = f"the model's RMSE is {error_text(errors['rmse'], unit)}"
    share, r2, per_atom = beside_rmse(errors)
    words += f", {share} of the labels' std" if share else ""
    words += f" (R2 {r2}, 95 %: {r2_interval_text(errors['r2_low'], errors['r2_high'])})" if r2 else ""
    return words + (f", {per_atom}" if per_atom else "")


def _joined(low: str, high: str) -> str:
    if low and high:
        return f"{low} to {high}"
    return f"{low} upwards" if low else f"up to {high}" if high else "no interval"
