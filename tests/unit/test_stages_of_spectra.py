"""The spectra of an arm, with a model that predicts what it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quarry.campaign.loop import RULES
from quarry.config.learning import Stop
from quarry.errors import QuarryError
from quarry.models.base import Prediction
from quarry.spectra.cross_section import nuclear_ensemble, single_point
from quarry.spectra.ensemble import Ensemble
from quarry.spectra.files import read_dat, read_spectra
from quarry.stages import arm_models
from quarry.stages.spectrum import compute_spectrum
from quarry.structures.labelled import LabelledSet
from support.arms import models_in
from support.stages import SIZE, configuration

SPECTRUM = RULES["compute_spectrum"].outputs

ROLES = {0: "train", 1: "train", 2: "train", 5: "test", 9: "train"}
"""Row 0 is the equilibrium geometry. Row 9 has a label with a state too few."""


def states_of(structure) -> np.ndarray:
    """Two energies and two strengths that depend on the geometry."""
    bond = np.linalg.norm(structure.positions[1:] - structure.positions[0], axis=1)
    return np.concatenate([np.array([6.0, 8.0]) + bond, np.abs(bond - 0.9)])


class TellsStates:
    """Predicts the states as they are plus 0.1, with a strength below zero in one structure."""

    asked: list[str]

    def predict(self, structures, want):
        assert want == {"excitation_energies", "oscillator_strengths"}
        self.asked = structures.ids.tolist()
        values = np.array([states_of(s) for s in structures]) + 0.1
        values[3, 2:] = -0.2, -0.05
        return Prediction({"excitation_energies": values[:, :2], "oscillator_strengths": values[:, 2:]})


@pytest.fixture
def model(monkeypatch):
    told = TellsStates()
    monkeypatch.setattr(arm_models, "load_model", lambda *_: told)
    return told


def conf(strategy: str = "sequence", **settings: Any):
    return configuration(
        target="excitations",
        spectrum={
            "n_states": 2,
            "equilibrium": True,
            "delta_eV": 0.02,
            "delta_qc_eV": 0.1,
            "step_eV": 0.01,
            **settings,
        },
        model={"kind": "kreg"},
        query={"strategy": strategy, "initial": 8, "batch": {"schedule": "constant", "size": 5}},
        stop={"rrmse": None, "max_iterations": 2},
    )


def compute(folder: Path, pool, structures: str, features: str, settings, properties=None, roles=ROLES) -> list[str]:
    chosen = [pool[n] for n in roles]
    if properties is None:
        values = [states_of(s) for s in chosen]
        properties = [{"excitation_energies": v[:2], "oscillator_strengths": v[2:]} for v in values]
        properties[-1] = {"excitation_energies": values[-1][:1], "oscillator_strengths": values[-1][2:3]}
    LabelledSet.from_records(chosen, list(roles.values()), [0] * len(roles), properties).write(folder / "d.h5", {})
    (folder / "cross-section").mkdir(exist_ok=True)
    output = {name: str(folder / file) for name, file in SPECTRUM.items()}
    return compute_spectrum(
        models_in(settings, features, structures=structures), "model.h5", str(folder / "d.h5"), output
    )


class TestComputeSpectrum:
    def test_every_file(self, tmp_path, pool, structures, features, model):
        settings = conf()
        line, *warnings = compute(tmp_path, pool, structures, features, settings)
        assert warnings == []
        assert {f.relative_to(tmp_path).as_posix() for f in tmp_path.rglob("*.*")} == {*SPECTRUM.values(), "d.h5"}

        ensemble = Ensemble.read(tmp_path / "ensemble.h5")
        assert ensemble.ids.tolist() == pool.ids[1:].tolist()
        assert np.flatnonzero(ensemble.labelled).tolist() == [0, 1, 4]
        assert ensemble.roles[[0, 1, 4, 8]].tolist() == ["train", "train", "test", ""]
        known = {1, 2, 5}
        unknown = [n for n in range(1, SIZE) if n not in known]
        assert model.asked == pool.ids[unknown].tolist(), "what has a label is not predicted"
        expected = np.array([states_of(pool[n]) + (0 if n in known else 0.1) for n in range(1, SIZE)])
        expected[unknown[3] - 1, 2:] = 0
        assert ensemble.energies == pytest.approx(expected[:, :2], abs=1e-12)
        assert ensemble.strengths == pytest.approx(expected[:, 2:], abs=1e-12)

        spectra = read_spectra(tmp_path / SPECTRUM["table"])
        assert list(spectra) == ["ML-NEA", "QC-NEA", "single point"]
        by_hand = {
            "ML-NEA": nuclear_ensemble(expected[:, :2], expected[:, 2:], 0.02, 0.01),
            "QC-NEA": nuclear_ensemble(expected[[0, 1, 4], :2], expected[[0, 1, 4], 2:], 0.1, 0.01),
            "single point": single_point(*np.split(states_of(pool[0]), 2), 0.3, 0.01),
        }
        for (name, spectrum_), key in zip(by_hand.items(), ("ml_nea", "qc_nea", "single_point"), strict=True):
            assert spectra[name].sigma == pytest.approx(spectrum_.sigma, rel=1e-6, abs=1e-12), name
            assert read_dat(tmp_path / SPECTRUM[key]).sigma == pytest.approx(spectrum_.sigma, abs=6e-9), name

        summary = json.loads((tmp_path / SPECTRUM["summary"]).read_text())
        assert (summary["n_ensemble"], summary["n_labelled"], summary["n_states"]) == (SIZE - 1, 3, 2)
        assert summary["temperature_K"] is None and summary["prefactor_A2_eV"] == pytest.approx(1.09761, rel=1e-5)
        assert summary["labels"] == {
            "strategy": "sequence",
            "qc_nea_biased": False,
            "order": "energy",
            "states": {},
        }
        assert summary["negative_predictions"]["oscillator_strengths"] == {
            "count": 2,
            "lowest": -0.2,
            "mean": pytest.approx(-0.25 / (SIZE - 1)),
        }
        assert summary["negative_predictions"]["excitation_energies"] == {"count": 0, "lowest": 0.0, "mean": 0.0}
        for name, spectrum_ in by_hand.items():
            part = summary["spectra"][name]
            assert part["geometries"] == {"ML-NEA": SIZE - 1, "QC-NEA": 3, "single point": 1}[name]
            assert part["integral_A2_eV"] == pytest.approx(spectrum_.integral(), rel=1e-9)
            assert part["integral_A2_eV"] == pytest.approx(part["sum_rule_A2_eV"], rel=3e-3)
        assert f"ensemble of {SIZE - 1}, 3 labelled" in line
        assert "negative predictions cut at zero: 0 energies, 2 oscillator strengths" in line and "biased" not in line

    def test_the_same_again_gives_the_same_bytes(self, tmp_path, pool, structures, features, model):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            compute(tmp_path / name, pool, structures, features, conf())
        for file in SPECTRUM.values():
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file

    def test_without_an_equilibrium_geometry_every_structure_is_a_member(
        self, tmp_path, pool, structures, features, model
    ):
        line, *warnings = compute(tmp_path, pool, structures, features, conf(equilibrium=None))
        assert len(Ensemble.read(tmp_path / "ensemble.h5")) == SIZE and warnings == []
        assert len(read_dat(tmp_path / SPECTRUM["single_point"]).energies) == 0
        assert f"ensemble of {SIZE}, 4 labelled" in line

    def test_an_equilibrium_geometry_without_a_label(self, tmp_path, pool, structures, features, model):
        others = {n: role for n, role in ROLES.items() if n}
        _, warning = compute(tmp_path, pool, structures, features, conf(), roles=others)
        assert "cross-section_spc.dat holds no spectrum: spectrum: the equilibrium geometry has no label" in warning
        assert len(read_dat(tmp_path / SPECTRUM["single_point"]).energies) == 0
        assert list(read_spectra(tmp_path / SPECTRUM["table"])) == ["ML-NEA", "QC-NEA"]

    def test_no_labelled_member(self, tmp_path, pool, structures, features, model):
        short = [{"excitation_energies": [7.0, 8.0], "oscillator_strengths": [0.0, 0.1]}]
        short += [{"excitation_energies": [7.0], "oscillator_strengths": [0.1]}] * (len(ROLES) - 1)
        _, warning = compute(tmp_path, pool, structures, features, conf(), short)
        assert "cross-section_qc-nea.dat holds no spectrum: spectrum: no member of the ensemble has a label" in warning
        assert (tmp_path / SPECTRUM["qc_nea"]).read_text() == "DE/eV\tlambda/nm\tsigma/A^2\n"

    def test_labels_that_a_strategy_chose_are_flagged(self, tmp_path, pool, structures, features, model):
        line, *_ = compute(tmp_path, pool, structures, features, conf("max_min"))
        assert "QC-NEA is biased: strategy max_min chose its geometries" in line
        assert json.loads((tmp_path / SPECTRUM["summary"]).read_text())["labels"]["qc_nea_biased"]

    def test_a_model_that_predicts_no_number_is_one_line(
        self, tmp_path, pool, structures, features, model, monkeypatch
    ):
        def nothing(chosen, want):
            return Prediction({name: np.full((len(chosen), 2), np.nan) for name in want})

        monkeypatch.setattr(model, "predict", nothing)
        with pytest.raises(QuarryError, match=r"spectrum: the model's prediction for structure \w{20} is not a finite"):
            compute(tmp_path, pool, structures, features, conf())
        assert not (tmp_path / "ensemble.h5").exists(), "nothing is written before everything is right"

    def test_temperature_of_a_wigner_pool(self):
        """The key that the summary names."""
        from quarry.config.pool import WignerPool

        assert WignerPool(source="wigner", molecule="w.xyz", size=3).temperature_K == 300.0


class TestFigures:
    def test_of_a_spectrum(self, tmp_path, pool, structures, features, model):
        from quarry.reporting.spectrum_plots import draw_spectrum

        compute(tmp_path, pool, structures, features, conf("max_min"))
        (tmp_path / "measured.csv").write_text("wavelength_nm,absorbance\n100,0.1\n150,0.9\n300,0\n")
        table, summary = (str(tmp_path / SPECTRUM[name]) for name in ("table", "summary"))
        draw_spectrum(table, summary, str(tmp_path / "measured.csv"), str(tmp_path / "with.svg"))
        picture = (tmp_path / "with.svg").read_text()
        for message in (
            f"ML-NEA: {SIZE - 1} geometries, 3 labelled, δ = 0.02 eV",
            "QC-NEA: 3 labelled geometries, chosen by the strategy, δ = 0.1 eV",
            "single point (equilibrium geometry), δ = 0.3 eV",
            "experiment (scaled to ML-NEA)",
            "wavelength (nm)",
        ):
            assert message in picture, message
        draw_spectrum(table, summary, None, str(tmp_path / "without.svg"))
        assert "experiment" not in (tmp_path / "without.svg").read_text()

    def test_of_a_model_of_states(self, tmp_path):
        from quarry.reporting.spectrum_plots import plot_state_learning_curve, plot_state_parity

        label = np.random.default_rng(0).uniform(size=(5, 6))
        plot_state_parity({"label": label, "mean": label + 0.5}, 3, "cross_validation", str(tmp_path / "p.svg"))
        picture = (tmp_path / "p.svg").read_text()
        for message in ("cross-validation: 5 structures", "RMSE 0.5 eV", "RMSE 0.5<", "state"):
            assert message in picture, message
        columns = "iteration,n_train,metric,rmse,rmse_low,rmse_high,rmse_energies_eV,rmse_strengths"
        rows = ["0,50,validation,2,1,3,2,1,1,1,1", "1,100,validation,1,0,2,1,0.5,0,0,0.5"]
        text = "\n".join([f"{columns},rrmse,rrmse_low,rrmse_high", *rows])
        # Of one iteration there is no relative change yet.
        for lines in (text, "\n".join(text.splitlines()[:2])):
            (tmp_path / "history.csv").write_text(lines + "\n")
            plot_state_learning_curve(
                {"main": str(tmp_path / "history.csv")}, Stop(rrmse=0.1, patience=1), str(tmp_path / "l.svg")
            )
            assert "stops with the rRMSE below 0.1" in (tmp_path / "l.svg").read_text()
