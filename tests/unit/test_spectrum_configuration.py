"""Mistakes of spectra in one line each, before any job."""

from __future__ import annotations

from typing import Any

import pytest

from quarry.config import load_configuration
from quarry.errors import QuarryError
from quarry.stages.preflight import check
from support.campaigns import CampaignFolder, stand_in_configuration
from support.configurations import ABSENT, WIGNER, changed

BASE = changed(
    WIGNER,
    {
        "target": "excitations",
        "spectrum": {},
        "labeling.method.excitations": {"n_states": 3, "kind": "tda"},
        "model": {"kind": "kreg"},
        "query.strategy": "sequence",
        "test.size": 0,
        "stop": {"rrmse": 0.1, "metric": "validation"},
    },
)
REPLAY = {"engine": "replay", "file": "t.npz", "columns": {"excitation_energies": "E", "oscillator_strengths": "f"}}
FILE_POOL = {"source": "file", "files": ["a.xyz"]}
MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    # changes, how the message begins, words that it must hold
    ({"target": "energy", "model": ABSENT}, "spectrum: this section needs target: excitations", ""),
    ({"spectrum": ABSENT}, "target: excitations needs the section spectrum", "add it"),
    ({"spectrum": None}, "target: excitations needs the section spectrum", "add it"),
    ({"spectrum.n_states": 4}, "spectrum.n_states = 4", "excitations.n_states = 3; lower it or raise the other"),
    ({"spectrum.n_states": 0}, "spectrum.n_states", "greater than 0"),
    ({"labeling.method.excitations.n_states": 0}, "labeling.method.excitations.n_states", "greater than 0"),
    ({"labeling.method.excitations": ABSENT}, "labeling.method.excitations", "needs it, e.g. {n_states: 10"),
    ({"spectrum.order": "overlap"}, "spectrum.order: overlap", "characters: True"),
    ({"spectrum": {"step_eV": 0.006}}, "spectrum: step_eV = 0.006 leaves lines of 0.01 eV out", "0.005 or less"),
    ({"spectrum.order": "character"}, "spectrum.order", "'character' is not one of 'energy' or 'overlap'"),
    *(
        ({f"spectrum.{key}": value}, f"spectrum.{key}", f"greater than 0 (got {value})")
        for key in ("delta_eV", "delta_qc_eV", "delta_single_point_eV", "step_eV", "refractive_index")
        for value in (0, -1.0)
    ),
    ({"spectrum.delta_eV": float("nan")}, "spectrum.delta_eV", "finite number"),
    ({"spectrum.delta_eV": float("inf")}, "spectrum.delta_eV", "finite number"),
    ({"spectrum.delta_eV": "0.05 eV"}, "spectrum.delta_eV", "valid number"),
    ({"spectrum.delta": 0.05}, "spectrum.delta", "did you mean 'delta_eV'?"),
    ({"spectrum.experiment": 3}, "spectrum.experiment", "put text in quotes"),
    ({"model": {"kind": "gpr"}}, "model.kind: gpr (arm main) learns one number", "needs kreg"),
    ({"arms": {"a": {"model": {"kind": "gpr"}}}}, "model.kind: gpr (arm a) learns one number", "needs kreg"),
    ({"labeling": REPLAY, "pool": FILE_POOL}, "spectrum.n_states: labeling.engine replay does not say how many", "set it"),
    (
        {"labeling": REPLAY, "pool": FILE_POOL, "spectrum": {"n_states": 3, "order": "overlap"}},
        "spectrum.order: overlap needs labeling.engine: pyscf, not replay",
        "set order: energy",
    ),
    ({"pool.size": 9}, "query.initial + test.size = 10 is more than the pool's 9 structures", "make pool.size larger"),
    ({"pool": {"source": "table", "files": ["a.csv"], "features": ["x"]}}, "", "pool.source: table"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "start", "words"), MISTAKES)
def test_a_mistake_is_one_line(changes: dict[str, Any], start: str, words: str) -> None:
    with pytest.raises(QuarryError) as caught:
        load_configuration(changed(BASE, changes), "mine.yaml")
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    assert message.startswith(f"mine.yaml: {start}"), message
    assert words in message


def test_the_base_of_the_table_is_right() -> None:
    configuration = load_configuration(BASE, "mine.yaml")
    assert (configuration.n_states, configuration.has_equilibrium) == (3, True)
    lower = load_configuration(changed(BASE, {"spectrum.n_states": 2, "spectrum.equilibrium": False}), "mine.yaml")
    assert (lower.n_states, lower.has_equilibrium) == (2, False)
    replay = changed(BASE, {"labeling": REPLAY, "pool": FILE_POOL, "spectrum.n_states": 3})
    assert not load_configuration(replay, "mine.yaml").has_equilibrium


def test_a_measured_spectrum_is_read_before_any_job(tmp_path):
    states = {"engine": "pyscf", "method": {"xc": "hf", "basis": "sto-3g", "excitations": {"n_states": 2}}}
    configuration = stand_in_configuration(
        target="excitations",
        spectrum={"experiment": "measured.csv"},
        labeling=states,
        model={"kind": "kreg"},
        stop={"metric": "validation", "rrmse": 0.1},
        query={"strategy": "sequence", "initial": 10, "batch": {"schedule": "constant", "size": 3}},
    )
    folder = CampaignFolder.create(tmp_path, configuration).path
    for text, message in ((None, "does not exist"), ("energy,intensity\n1,2\n", "needs a column energy_eV")):
        if text is not None:
            (folder / "measured.csv").write_text(text)
        with pytest.raises(QuarryError, match=rf"spectrum.experiment: .*{message}"):
            check(load_configuration(configuration, "campaign.yaml"), folder)
    (folder / "measured.csv").write_text("energy_eV,absorbance\n5,0.1\n6,0.2\n")
    assert check(load_configuration(configuration, "campaign.yaml"), folder)["method_id"]
