"""Uncertainties of a potential in a campaign: jobs of members, and what does not fit is refused before any of them."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from quarry.dynamics.uncertainty import MEASURES
from quarry.errors import QuarryError
from quarry.models.calibration import Calibration
from quarry.models.gmnn.model import GaussianMomentModel
from quarry.stages.arm_models import ArmModels
from quarry.stages.training import train_member, train_model
from quarry.structures import StructureSet
from quarry.structures.files import write_pool
from quarry.structures.labelled import LabelledSet
from support.potentials import SMALL, settings, toy, toy_data, trained
from support.stages import configuration

COMMITTEE = {"uncertainty": "committee", "members": 3}
SHALLOW = {"uncertainty": "shallow_ensemble", "readouts": 4}
QUERY = {"strategy": "uncertainty", "initial": 8, "batch": {"schedule": "constant", "size": 5}}


def test_the_stage_joins_what_member_jobs_trained(tmp_path):
    """Members have a state of their own beside them, which is gone afterwards."""
    conf = configuration(
        target="energy_forces", model={**SMALL, **COMMITTEE, "epochs": 3}, descriptor=None, query=QUERY
    )
    structures = list(toy_data(14).structures)
    write_pool(tmp_path / "structures.h5", StructureSet.from_structures(structures))
    labels = [dict(zip(("energy", "forces"), toy(s), strict=True)) for s in structures]
    dataset = str(tmp_path / "dataset.h5")
    LabelledSet.from_records(structures, ["train"] * 14, [0] * 14, labels).write(dataset, {})
    models = ArmModels(conf, "main", str(tmp_path / "structures.h5"))
    files = [str(tmp_path / "model" / "members" / f"{n:03d}.h5") for n in range(conf.model.traits.member_jobs)]
    seen = []
    fit_member = GaussianMomentModel.fit_member

    def spy(model, member, *args, **named):
        seen.append((named["checkpoint"].name, named["start"], named["checkpoint"].is_dir()))
        fit_member(model, member, *args, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GaussianMomentModel, "fit_member", spy)
        for number, file in enumerate(files):
            assert train_member(models, number, dataset, file) == f"gmnn, member {number}, trained on 14 labels"
    assert seen == [(f"{n:03d}.checkpoint", None, True) for n in range(3)]
    assert sorted(path.name for path in (tmp_path / "model" / "members").iterdir()) == ["000.h5", "001.h5", "002.h5"]
    joined, whole = str(tmp_path / "model" / "model.h5"), str(tmp_path / "whole.h5")
    assert train_model(models, dataset, joined, files) == ["gmnn trained on 14 labels"]
    train_model(models, dataset, whole)
    assert (tmp_path / "model" / "model.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    with h5py.File(joined) as handle:
        assert sorted(handle["members"]) == ["000", "001", "002"]
        assert json.loads(handle.attrs["settings"])["uncertainty"] == "committee"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"members": 3}, "members = 3 needs uncertainty: committee; set it, or remove members"),
        ({"readouts": 3}, "readouts = 3 needs uncertainty: shallow_ensemble"),
        ({"uncertainty": "committee", "readouts": 3}, "readouts = 3 needs uncertainty: shallow_ensemble"),
        ({"uncertainty": "committee", "members": 1}, "members = 1: committee needs at least 2"),
        ({"uncertainty": "shallow_ensemble", "readouts": 0}, "readouts = 0: shallow_ensemble needs at least 2"),
        (
            {"uncertainty": "shallow_ensemble", "energy_weight": 0},
            "energy_weight = 0: the read-outs of shallow_ensemble",
        ),
        ({"uncertainty": "dropout"}, r"model\.uncertainty: 'dropout' is not one of"),
        (
            {},
            "uncertainty needs a model that predicts uncertainties; set model.uncertainty: committee, shallow_ensemble or aux",
        ),
    ],
)
def test_what_it_cannot_do_is_refused_before_any_job(model, words):
    with pytest.raises(QuarryError, match=words) as caught:
        configuration(target="energy_forces", model={**SMALL, **model}, descriptor=None, query=QUERY)
    assert "\n" not in str(caught.value)


def test_what_fits_is_accepted():
    for kind, jobs in ((COMMITTEE, 3), (SHALLOW, 0)):
        traits = configuration(
            target="energy_forces", model={**SMALL, **kind}, descriptor=None, query=QUERY
        ).model.traits
        assert traits.std and traits.member_jobs == jobs
    plain = settings().traits
    assert not plain.std and not plain.member_jobs
    assert settings(uncertainty="committee").networks == 3 and settings(uncertainty="shallow_ensemble").n_readouts == 8


def test_what_ends_a_trajectory_does_not_change_with_the_calibration(monkeypatch):
    """A threshold of an earlier model, which was calibrated by other labels, means the same."""
    committee, unseen = trained(toy_data(60), **COMMITTEE, held_out=0.4, epochs=15), toy_data(8, seed=5)
    for name in ("energy", "forces"):
        measure, said = MEASURES[name], []
        for factor in (1.0, 7.0):
            monkeypatch.setattr(committee, "_calibrations", {name: Calibration(factor, 60)})
            found = committee.predict(unseen.structures, measure.wants)
            assert found.std_factor[name] == factor
            said.append((measure.of(committee, unseen.structures, found), found.std[name]))
        (one, std), (other, scaled) = said
        assert np.allclose(one, other) and np.allclose(scaled, 7.0 * std) and (one > 0).all()
