"""The same labels give the same hyperparameters and the same model with other threads and kernels of the linear algebra."""

from __future__ import annotations

import numpy as np
import pytest

from support.machines import Machine, core_types
from support.model_fits import KINDS

FITS = [
    # Smooth data in six dimensions: long length scales, with kernel matrices that are singular but for rounding.
    {"size": 150, "dimensions": 6, "noise": 0.0, "seed": 2, "criterion": "predictive"},
    {"size": 200, "dimensions": 1, "noise": 0.2, "seed": 2, "criterion": "predictive"},
    {"size": 60, "dimensions": 2, "noise": 0.0, "seed": 1, "criterion": "predictive"},
    {"size": 150, "dimensions": 3, "noise": 0.05, "seed": 1, "criterion": "likelihood"},
]


def test_hyperparameters_do_not_depend_on_the_machine():
    machines = [Machine(1), Machine(2), *(Machine(1, name) for name in core_types()[:2])]
    first, *others = [machine.run("support.gpr_fits", FITS) for machine in machines]
    for fits in others:
        for fit, one, other in zip(FITS, first, fits, strict=True):
            assert other["length"] == pytest.approx(one["length"], rel=0.03), fit
            assert other["noise"] == pytest.approx(one["noise"], rel=0.05), fit


def test_predictions_do_not_depend_on_the_machine():
    """Rounding alone: searches end at the same optimum, trainings stay together (differences are 1e-6 of the spread)."""
    machines = [Machine(1), Machine(2), *(Machine(1, name) for name in core_types()[:1])]
    first, *others = [machine.run("support.model_fits", KINDS) for machine in machines]
    assert set(first) == set(KINDS)
    for models in others:
        for kind, fields in first.items():
            for name, values in fields.items():
                assert np.isfinite(values).all()
                difference = np.abs(np.array(models[kind][name]) - values).max()
                assert difference < 1e-4 * np.std(values), (kind, name)
