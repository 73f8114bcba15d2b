"""Pictures of what a potential was used for, the reference beside it where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from quarry.reporting.plots import COLOURS, STYLE, save_figure, write_note
from quarry.uses.trajectories import Trajectory

MODEL, REFERENCE = COLOURS[0], COLOURS[1]
MOST_BONDS = 40
"""Bonds that a picture has room for; of more, those that differ most."""


def plot_minima(result: dict[str, Any], path: str) -> None:
    """Draw the bond lengths of both minima."""
    lengths = result["model"]["bonds_A"]
    if not lengths:
        write_note("no two atoms of this structure are bonded", path)
        return
    off = (result["difference"] or {"bonds_A": {}})["bonds_A"]
    names = sorted(sorted(lengths, key=lambda name: -abs(off.get(name, 0.0)))[:MOST_BONDS])

    def draw(axis: Axes) -> None:
        rows = np.arange(len(names))
        axis.plot([lengths[name] for name in names], rows, "o", color=MODEL, label="model")
        if result["reference"]:
            other = result["reference"]["bonds_A"]
            axis.plot([other.get(name, np.nan) for name in names], rows, "x", color=REFERENCE, label="reference")
            worst = 1e3 * max(map(abs, off.values()), default=0.0)
            axis.set_title(f"bonds differ by {worst:.1f} mÅ at most", fontsize=10)
        axis.set_yticks(rows, names)
        axis.invert_yaxis()
        axis.set_xlabel("bond length (Å)")
        # Whole lengths, and none of "+1.012" in a corner.
        axis.ticklabel_format(axis="x", useOffset=False)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.legend(frameon=False)

    _figure(draw, path, height=1.2 + 0.22 * len(names))


def plot_frequencies(result: dict[str, Any], path: str) -> None:
    """Draw the wavenumbers of both, and their differences."""
    model = np.array(result["model"]["frequencies_cm"])

    def draw(axis: Axes) -> None:
        axis.axhline(0, color="0.6", linewidth=0.8)
        if result["reference"]:
            reference = np.array(result["reference"]["frequencies_cm"])
            axis.plot(reference, model - reference, "o", color=MODEL)
            axis.set_ylabel("model - reference (1/cm)")
            axis.set_xlabel("wavenumber of the reference (1/cm)")
            difference = result["difference"]
            axis.set_title(
                f"mean absolute difference {difference['mean_absolute_cm']:.1f} 1/cm, largest {difference['largest_cm']:.1f}",
                fontsize=10,
            )
        else:
            axis.vlines(model, 0, 1, color=MODEL)
            axis.set_yticks([])
            axis.set_xlabel("wavenumber (1/cm)")

    _figure(draw, path)


def plot_energy(result: dict[str, Any], made: Trajectory, path: str) -> None:
    """Draw the total energy along the trajectory, with its drift."""

    def draw(axis: Axes) -> None:
        total = 1e3 * (made.potential_eV + made.kinetic_eV) / made.positions_A.shape[1]
        axis.plot(made.times_fs / 1e3, total - total[0], color=MODEL, linewidth=0.6)
        axis.set_xlabel("time (ps)")
        axis.set_ylabel("total energy (meV/atom, from the start)")
        drift = result["model"]["energy_drift_meV_per_atom_ps"]
        words = f"drift {drift:.2g} meV/atom/ps, {result['model']['temperature_K']:.0f} K on average"
        if result["difference"]:
            error = result["difference"]["forces_rmse_eV_A"]
            words += f"; forces' RMSE at {result['reference']['labels']} frames {error:.3f} eV/Å"
        axis.set_title(words, fontsize=10)

    _figure(draw, path)


def plot_infrared(result: dict[str, Any], path: str) -> None:
    """Draw the absorption along the trajectory, and the harmonic lines, broadened as much."""
    trajectory = result["trajectory"]
    x = np.array(trajectory["wavenumbers_cm"])

    def draw(axis: Axes) -> None:
        kelvin = f"{trajectory['temperature_K']:.0f} K"
        axis.plot(
            x, trajectory["absorption_km_mol_per_cm"], color="0.35", linewidth=1, label=f"model, trajectory ({kelvin})"
        )
        for name, colour in (("model", MODEL), ("reference", REFERENCE)):
            if result[name]:
                y = broadened(
                    x,
                    np.array(result[name]["frequencies_cm"]),
                    np.array(result[name]["intensities_km_mol"]),
                    trajectory["resolution_cm"],
                )
                axis.plot(x, -y, color=colour, linewidth=1, label=f"{name}, harmonic (downwards)")
        axis.axhline(0, color="0.6", linewidth=0.8)
        highest = max(
            max(part["frequencies_cm"], default=0.0) for part in (result["model"], result["reference"]) if part
        )
        axis.set_xlim(0, 4200 if highest < 4000 else highest + 200)
        axis.set_xlabel("wavenumber (1/cm)")
        axis.set_ylabel("absorption (km/mol per 1/cm)")
        axis.legend(frameon=False, fontsize=8)

    _figure(draw, path)


def plot_populations(result: dict[str, Any], path: str) -> None:
    """Draw the populations of the states against time with their 95 % intervals; those by labels dashed."""

    def draw(axis: Axes) -> None:
        for name, style in (("model", "-"), ("reference", "--")):
            found = result[name]
            if not found:
                continue
            times = found["times_fs"]
            shares, low, high = (
                np.array(found[key], dtype=float) for key in ("populations", "populations_low", "populations_high")
            )
            for state, of_state in enumerate(shares.T):
                colour = COLOURS[state % len(COLOURS)]
                axis.plot(times, of_state, style, color=colour, label=f"S{state}, {name} ({found['trajectories']})")
                if name == "model":
                    axis.fill_between(times, low[:, state], high[:, state], color=colour, alpha=0.2, linewidth=0)
        model = result["model"]
        axis.set_title(
            f"{model['hops']} hops, {model['frustrated_hops']} frustrated; {model['fates']['finished']} of "
            f"{model['trajectories']} trajectories finished",
            fontsize=10,
        )
        axis.set_ylim(-0.02, 1.02)
        axis.set_xlabel("time (fs)")
        axis.set_ylabel("population (95 % intervals)")
        axis.legend(frameon=False, fontsize=8)

    _figure(draw, path)


def broadened(
    x: NDArray[np.float64], lines_cm: NDArray[np.float64], areas: NDArray[np.float64], width_cm: float
) -> NDArray[np.float64]:
    """Return lines as Gaussians of a full width at half maximum, shape of x; imaginary ones (negative) are left out."""
    sigma = width_cm / (2.0 * np.sqrt(2.0 * np.log(2.0)))
    real = lines_cm > 0
    off = (x[:, None] - lines_cm[real]) / sigma
    return np.asarray(np.exp(-0.5 * off**2) @ areas[real] / (sigma * np.sqrt(2.0 * np.pi)))


def _figure(draw: Callable[[Axes], None], path: str, height: float = 3.8) -> None:
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, height), constrained_layout=True)
        draw(axis)
        save_figure(figure, path)
