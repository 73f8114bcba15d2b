"""Figures of spectra, and of models of excitation energies and oscillator strengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from quarry.config.learning import Stop
from quarry.config.targets import TARGETS
from quarry.reporting.plots import (
    COLOURS,
    STYLE,
    draw_bands,
    draw_changes,
    draw_limit,
    plain_log_ticks,
    save_figure,
    unit_for,
)
from quarry.spectra.cross_section import HC_EV_NM, CrossSection
from quarry.spectra.files import Experiment, read_experiment, read_spectra

LOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "QC-NEA": (COLOURS[1], {"linewidth": 1.1, "alpha": 0.8}),
    "ML-NEA": (COLOURS[0], {"linewidth": 1.4}),
    "single point": ("0.25", {"linewidth": 1.1, "linestyle": "--"}),
}
"""Colour and line of each spectrum, the one in front last but the single point."""
INTERVAL = 1.96
"""Standard errors to each side that hold 95 %."""
DECADES = 1e-5
"""What the logarithmic panel shows, of the highest point of the ensemble's spectra."""
WAVELENGTHS_NM = (100, 110, 120, 130, 140, 150, 160, 180, 200, 220, 250, 300, 350, 400, 500, 600, 800, 1000, 1500, 3000)
"""Ticks of the wavelength axis, those that fit."""
APART = 0.055
"""Distance of two wavelengths at least, in lengths of the axis."""


def draw_spectrum(table: str, summary: str, experiment: str | None, path: str) -> None:
    """Draw the spectra of an arm. table, summary: files of ``compute_spectrum``. experiment: CSV of a measured spectrum."""
    measured = read_experiment(Path(experiment)) if experiment else None
    plot_spectrum(read_spectra(table), json.loads(Path(summary).read_bytes()), measured, path)


def plot_spectrum(
    spectra: dict[str, CrossSection], summary: dict[str, Any], experiment: Experiment | None, path: str
) -> None:
    """Plot cross-sections against the energy, with a wavelength axis: above as they are, below logarithmically.

    In the lower panel a forbidden band can be seen, which is often a thousand times weaker than the highest. Bands: 95 %
    intervals of the ensemble's mean. spectra: by the names in ``LOOKS``. summary: of the same spectra. experiment: an
    absorbance is scaled to the height of ML-NEA.
    """
    ensembles = [spectrum for spectrum in spectra.values() if spectrum.standard_error is not None]
    shown = ensembles or list(spectra.values())
    top = max(float(spectrum.sigma.max()) for spectrum in shown)
    low, high = _shown_energies(shown, DECADES * top)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2, 1, figsize=(7.2, 6.4), sharex=True, height_ratios=(3, 2), constrained_layout=True
        )
        for axis in axes:
            for name, (colour, line) in LOOKS.items():
                if name in spectra:
                    _draw(axis, spectra[name], colour, line, _label(name, summary))
            if experiment is not None:
                scale = 1.0 if experiment.absolute else float(spectra["ML-NEA"].sigma.max() / experiment.values.max())
                label = "experiment" if experiment.absolute else "experiment (scaled to ML-NEA)"
                axis.plot(experiment.energies, scale * experiment.values, color=COLOURS[2], linewidth=1.2, label=label)
            axis.set_ylabel("cross-section (Å²)")
        upper, lower = axes
        upper.set_xlim(low, high)
        upper.set_ylim(bottom=0)
        lower.set_yscale("log")
        lower.set_ylim(DECADES * top, max(2 * top, upper.get_ylim()[1]))
        lower.set_xlabel("excitation energy (eV)")
        handles, labels = upper.get_legend_handles_labels()
        order = np.argsort([_rank(label) for label in labels], kind="stable")
        figure.legend(
            [handles[i] for i in order],
            [labels[i] for i in order],
            loc="outside lower center",
            ncols=2,
            frameon=False,
            fontsize=8.5,
        )
        _wavelength_axis(upper, low, high)
        save_figure(figure, path)


def _shown_energies(spectra: list[CrossSection], least: float) -> tuple[float, float]:
    """Return the range in which one of the spectra is above ``least``, with a little room."""
    found = np.concatenate([spectrum.energies[spectrum.sigma > least] for spectrum in spectra])
    low, high = float(found.min()), float(found.max())
    room = 0.04 * (high - low)
    return max(low - room, 0.5 * low), high + room


def _draw(axis: Axes, spectrum: CrossSection, colour: str, line: dict[str, Any], label: str) -> None:
    axis.plot(spectrum.energies, spectrum.sigma, color=colour, label=label, **line)
    if spectrum.standard_error is not None:
        half = INTERVAL * spectrum.standard_error
        axis.fill_between(
            spectrum.energies,
            np.maximum(spectrum.sigma - half, 0.0),
            spectrum.sigma + half,
            color=colour,
            alpha=0.2,
            linewidth=0,
        )


def _label(name: str, summary: dict[str, Any]) -> str:
    part = summary["spectra"][name]
    delta = f"δ = {part['delta_eV']:g} eV"
    if name == "ML-NEA":
        return f"ML-NEA: {part['geometries']} geometries, {summary['n_labelled']} labelled, {delta}"
    if name == "QC-NEA":
        biased = ", chosen by the strategy" if summary["labels"]["qc_nea_biased"] else ""
        return f"QC-NEA: {part['geometries']} labelled geometries{biased}, {delta}"
    return f"single point (equilibrium geometry), {delta}"


def _rank(label: str) -> int:
    return next(
        i for i, name in enumerate(("ML-NEA", "QC-NEA", "single point", "experiment")) if label.startswith(name)
    )


def _wavelength_axis(axis: Axes, low: float, high: float) -> None:
    """Put wavelengths (nm) on top of an axis of energies (eV) from ``low`` to ``high``, both above 0."""
    chosen: list[int] = []
    for nm in WAVELENGTHS_NM:
        place = HC_EV_NM / nm
        if low <= place <= high and (not chosen or HC_EV_NM / chosen[-1] - place >= APART * (high - low)):
            chosen.append(nm)
    top = axis.twiny()
    top.set_xlim(low, high)
    top.xaxis.set_major_locator(FixedLocator([HC_EV_NM / nm for nm in chosen]))
    top.xaxis.set_minor_locator(NullLocator())
    top.set_xticklabels([f"{nm}" for nm in chosen])
    top.set_xlabel("wavelength (nm)")
    top.spines["top"].set_visible(True)


def state_colours(n_states: int) -> list[Any]:
    """Return a colour for each state."""
    if n_states <= len(COLOURS):
        return list(COLOURS[:n_states])
    colours: Colormap = plt.get_cmap("viridis")
    return [colours(place) for place in np.linspace(0.0, 0.92, n_states)]


def plot_state_parity(predictions: dict[str, Any], n_states: int, metric: str, path: str) -> None:
    """Plot predicted against labelled excitation energies and oscillator strengths, a colour for each state.

    predictions: label and mean, shape (n, 2 n_states), all energies (eV) and then all strengths, of the structures that
    the model was evaluated on.
    """
    label, mean = np.asarray(predictions["label"]), np.asarray(predictions["mean"])
    parts = (("excitation energy", " (eV)", slice(None, n_states)), ("oscillator strength", "", slice(n_states, None)))
    colours = state_colours(n_states)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9.0, 4.2), constrained_layout=True)
        for axis, (name, unit, columns) in zip(axes, parts, strict=True):
            x, y = label[:, columns], mean[:, columns]
            axis.axline((float(x.mean()), float(x.mean())), slope=1, color="0.6", linewidth=1, zorder=0)
            for state, colour in enumerate(colours):
                axis.plot(x[:, state], y[:, state], "o", color=colour, markersize=3.5, alpha=0.75, label=f"{state + 1}")
            error = float(np.sqrt(np.mean((y - x) ** 2)))
            scale, small = unit_for(TARGETS["energy" if unit else "value"], error)
            axis.set_title(f"RMSE {scale * error:.3g} {small}".rstrip(), fontsize=10)
            axis.set_xlabel(f"labelled {name}{unit}")
            axis.set_ylabel(f"predicted{unit}")
        if n_states > 1:
            handles, labels = axes[0].get_legend_handles_labels()
            figure.legend(
                handles,
                labels,
                loc="outside right upper",
                title="state",
                frameon=False,
                fontsize=8,
                ncols=int(np.ceil(n_states / 16)),
            )
        figure.suptitle(f"{metric.replace('_', '-')}: {len(label)} structures", fontsize=10)
        save_figure(figure, path)


def plot_state_learning_curve(histories: dict[str, str], stop: Stop, path: str) -> None:
    """Plot RMSE_geom (with its 95 % interval), the RMSE of energies and strengths, and rRMSE against the training labels.

    histories: ``history.csv`` by arm. stop: the stop rules, of which that by rRMSE is drawn.
    """
    tables = {arm: pd.read_csv(file) for arm, file in histories.items()}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(8.6, 5.8), sharex=True, constrained_layout=True)
        (geometric, energies), (relative, strengths) = axes
        for (arm, table), colour in zip(tables.items(), COLOURS * len(tables), strict=False):
            x = table["n_train"]
            line = {"color": colour, "markersize": 4, "label": arm}
            geometric.plot(x, table["rmse"], "o-", **line)
            energies.plot(x, table["rmse_energies_eV"], "o-", **line)
            strengths.plot(x, table["rmse_strengths"], "o-", **line)
            draw_changes(relative, table[table["iteration"] > 0], colour)
        metric = str(next(iter(tables.values()))["metric"].iloc[0]).replace("_", "-")
        geometric.set_ylabel("RMSE$_{geom}$")
        energies.set_ylabel("RMSE, all energies (eV)")
        strengths.set_ylabel("RMSE, all oscillator strengths")
        relative.set_ylabel("rRMSE")
        draw_limit(relative, stop)
        draw_bands(geometric, tables)
        for axis in (geometric, energies, strengths, relative):
            _fit_scale(axis)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axis in (relative, strengths):
            axis.set_xlabel("training labels")
        if len(tables) > 1:
            geometric.legend(frameon=False, fontsize=8)
        figure.suptitle(f"errors of the {metric} set", fontsize=10)
        figure.align_ylabels()
        save_figure(figure, path)


def _fit_scale(axis: Axes) -> None:
    """Make an axis logarithmic where its values differ much, else begin it at 0."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axis.lines])
    # A campaign of one iteration has no relative change yet.
    if len(values) and (values > 0).all() and values.max() > 4 * values.min():
        axis.set_yscale("log")
        plain_log_ticks(axis)
    else:
        axis.set_ylim(bottom=0)
