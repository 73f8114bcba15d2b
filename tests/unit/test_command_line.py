"""Values given with --config get the types of the top level."""

from __future__ import annotations

import pytest

from quarry.config import load_configuration
from quarry.config.command_line import apply_types
from quarry.errors import QuarryError
from support.configurations import WIGNER, changed


class TestCommandLine:
    def test_types_inside_braces(self):
        given_values = {
            "stop": {"max_labels": "300", "rrmse": "null", "target_rmse": "0.5 kcal/mol"},
            "labeling": {"method": {"density_fitting": "True"}},
            "seed": 8,
        }
        config = changed(WIGNER, {"stop": {"max_labels": "300", "rrmse": "null", "target_rmse": "0.5 kcal/mol"}})
        config["labeling"]["method"]["density_fitting"] = "True"
        config["seed"] = 8
        apply_types(config, given_values)
        configuration = load_configuration(config, "x")
        assert configuration.stop.max_labels == 300 and configuration.stop.rrmse is None
        assert configuration.stop.target_rmse == "0.5 kcal/mol"
        assert configuration.labeling.method.density_fitting is True and configuration.seed == 8

    def test_what_the_file_says_keeps_its_type(self):
        config = {"name": "7", "stop": {"max_labels": "30", "patience": "text"}}
        apply_types(config, {"stop": {"max_labels": "30"}})
        assert config == {"name": "7", "stop": {"max_labels": 30, "patience": "text"}}

    def test_a_small_true_stays_text_and_is_refused(self):
        config = changed(WIGNER, {"labeling.method.density_fitting": "true"})
        apply_types(config, {"labeling": {"method": {"density_fitting": "true"}}})
        with pytest.raises(QuarryError, match="True or False with a capital"):
            load_configuration(config, "x")

    def test_lists(self):
        config = {"pool": {"files": ["a", "b"]}}
        apply_types(config, {"pool": {"files": ["1.5", "b", "null"]}})
        assert config == {"pool": {"files": [1.5, "b", None]}}
