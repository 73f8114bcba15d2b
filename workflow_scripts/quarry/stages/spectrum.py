"""The spectra of an arm: its last model completes the ensemble, and the lines are broadened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.config.campaign import Configuration
from quarry.config.pool import WignerPool
from quarry.errors import QuarryError
from quarry.files import write_json
from quarry.models.base import main_values
from quarry.spectra.cross_section import PREFACTOR_A2_EV, CrossSection, nuclear_ensemble, single_point, sum_rule
from quarry.spectra.ensemble import QUANTITIES, Ensemble
from quarry.spectra.files import write_dat, write_spectra
from quarry.spectra.states import swap_account
from quarry.stages.arm_models import ArmModels
from quarry.stages.pool import pool_rows
from quarry.stages.targets import excitation_targets
from quarry.structures.files import read_pool
from quarry.structures.labelled import LabelledSet

ML_NEA, QC_NEA, SINGLE_POINT = "ML-NEA", "QC-NEA", "single point"
"""The spectra by the names that tables and figures have."""
UNBIASED = ("sequence", "random")
"""Strategies whose labelled structures are drawn as the ensemble is."""


def compute_spectrum(models: ArmModels, model: str, dataset: str, output: Mapping[str, str]) -> list[str]:
    """Write the ensemble and its spectra; return a line about them and further ones about what to mind.

    ML-NEA: all members, labels where they exist and predictions elsewhere. QC-NEA: labelled members only. Single point:
    the label of the equilibrium geometry, which is no member. model, dataset: of the arm's last iteration.
    output: paths of ensemble, ml_nea, qc_nea, single_point, table and summary; a spectrum without a label to make it from is a
    header alone.
    Raises QuarryError if no line of the ensemble has an oscillator strength.
    """
    configuration, arm = models.configuration, models.arm
    settings = configuration.spectrum
    assert settings is not None
    labelled = LabelledSet.read(dataset)
    labelled = labelled.without_rejected()
    pool = read_pool(models.pool)
    rows = pool_rows(models.pool, labelled.structures.ids)
    labels = np.full((len(pool), 2 * configuration.n_states), np.nan)
    labels[rows] = excitation_targets(labelled, configuration)
    roles = np.full(len(pool), "", dtype="<U10")
    roles[rows] = labelled.roles
    members = np.arange(1 if configuration.has_equilibrium else 0, len(pool))
    if not len(members):
        raise QuarryError(
            "pool: it holds nothing but the equilibrium geometry, so there is no ensemble; make it larger"
        )
    predictions = np.full(labels.shape, np.nan)
    unknown = members[~np.isfinite(labels[members]).all(axis=1)]
    if len(unknown):
        found = models.load(model).predict(pool.subset(unknown), frozenset(models.target.main))
        predictions[unknown] = main_values(models.target, found.mean)
    ensemble = Ensemble.assemble(pool.ids[members], labels[members], roles[members], predictions[members])

    def broadened(own: Ensemble, delta_eV: float) -> CrossSection:
        lines = own.energies, own.strengths
        return nuclear_ensemble(*lines, delta_eV, settings.step_eV, settings.refractive_index)

    warnings = []
    spectra: dict[str, CrossSection] = {ML_NEA: broadened(ensemble, settings.delta_eV)}
    known = ensemble.subset(np.flatnonzero(ensemble.labelled))
    try:
        if not len(known):
            raise QuarryError("spectrum: no member of the ensemble has a label; see failures.csv")
        spectra[QC_NEA] = broadened(known, settings.delta_qc_eV)
    except QuarryError as error:
        warnings.append(f"{output['qc_nea']} holds no spectrum: {error}")
    equilibrium = labels[0] if configuration.has_equilibrium else None
    try:
        if equilibrium is not None:
            spectra[SINGLE_POINT] = _of_equilibrium(equilibrium, settings)
    except QuarryError as error:
        warnings.append(f"{output['single_point']} holds no spectrum: {error}")

    summary = _summary(configuration, arm, labelled, ensemble, spectra, equilibrium)
    ensemble.write(output["ensemble"], {"arm": arm})
    for name, key in ((ML_NEA, "ml_nea"), (QC_NEA, "qc_nea"), (SINGLE_POINT, "single_point")):
        write_dat(output[key], spectra.get(name))
    write_spectra(output["table"], spectra)
    write_json(output["summary"], summary)
    return [_words(summary), *warnings]


def _of_equilibrium(label: NDArray[np.float64], settings: Any) -> CrossSection:
    if not np.isfinite(label).all():
        raise QuarryError("spectrum: the equilibrium geometry has no label, see failures.csv")
    energies, strengths = np.split(label, 2)
    return single_point(
        energies, strengths, settings.delta_single_point_eV, settings.step_eV, settings.refractive_index
    )


def _summary(
    configuration: Configuration,
    arm: str,
    labelled: LabelledSet,
    ensemble: Ensemble,
    spectra: Mapping[str, CrossSection],
    equilibrium: NDArray[np.float64] | None,
) -> dict[str, Any]:
    """Return what the spectra are of; JSON-able."""
    settings, pool = configuration.spectrum, configuration.pool
    assert settings is not None
    strengths = {ML_NEA: ensemble.strengths, QC_NEA: ensemble.strengths[ensemble.labelled]}
    if equilibrium is not None:
        strengths[SINGLE_POINT] = np.split(equilibrium, 2)[1][None]
    delta_eV = {
        ML_NEA: settings.delta_eV,
        QC_NEA: settings.delta_qc_eV,
        SINGLE_POINT: settings.delta_single_point_eV,
    }
    strategy = configuration.arm(arm).query.strategy
    return {
        "arm": arm,
        "n_ensemble": len(ensemble),
        "n_labelled": int(ensemble.labelled.sum()),
        "n_states": configuration.n_states,
        "temperature_K": pool.temperature_K if isinstance(pool, WignerPool) else None,
        "refractive_index": settings.refractive_index,
        "prefactor_A2_eV": PREFACTOR_A2_EV,
        "spectra": {
            name: {
                "delta_eV": delta_eV[name],
                "geometries": spectrum.members,
                "integral_A2_eV": spectrum.integral(),
                "sum_rule_A2_eV": sum_rule(strengths[name], settings.refractive_index),
            }
            for name, spectrum in spectra.items()
        },
        "negative_predictions": {name: vars(ensemble.negative[name]) for name in QUANTITIES},
        "labels": {
            "strategy": strategy,
            "qc_nea_biased": strategy not in UNBIASED,
            "order": settings.order,
            "states": swap_account(labelled, configuration.n_states),
        },
    }


def _words(summary: Mapping[str, Any]) -> str:
    """Return a line about the spectra."""
    found = ", ".join(
        f"{name} of {part['geometries']} (integral {part['integral_A2_eV']:.4f} A^2 eV)"
        for name, part in summary["spectra"].items()
    )
    cut = summary["negative_predictions"]
    words = [
        f"ensemble of {summary['n_ensemble']}, {summary['n_labelled']} labelled",
        found,
        f"negative predictions cut at zero: {cut[QUANTITIES[0]]['count']} energies, "
        f"{cut[QUANTITIES[1]]['count']} oscillator strengths",
    ]
    states = summary["labels"]["states"]
    if states:
        words.append(f"{states['swapped']} of {states['labels']} labels with swapped states")
    if summary["labels"]["qc_nea_biased"]:
        words.append(f"QC-NEA is biased: strategy {summary['labels']['strategy']} chose its geometries")
    return "; ".join(words)
