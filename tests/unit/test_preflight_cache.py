"""The checks before the start run again when what they depend on has changed, and only then."""

import os

import pytest

from quarry.campaign import preflight
from quarry.config import load_configuration
from quarry.errors import QuarryError
from support.campaigns import stand_in_configuration


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Number the runs of the checks; the answer is the number."""
    count = []

    def run(request):
        count.append(request)
        return {"run": len(count)}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preflight, "_run", run)
    (tmp_path / "pool.extxyz").write_text("x")
    return count


def ask(tmp_path, **changes):
    configuration = stand_in_configuration(
        target="excitations",
        model={"kind": "kreg"},
        **{
            "spectrum": {"n_states": 2, "experiment": "measured.csv"},
            "stop": {"metric": "validation", "max_labels": 20},
            "query": {"strategy": "sequence", "initial": 10, "batch": {"schedule": "constant", "size": 3}},
            **changes,
        },
    )
    return preflight.preflight(load_configuration(configuration, "campaign.yaml"), tmp_path)["run"]


@pytest.mark.parametrize("name", ["*.extxyz", "~/pool.extxyz"])
def test_a_path_is_taken_as_it_is_written(name, tmp_path, runs):
    (tmp_path / "measured.csv").write_text("x")
    with pytest.raises(QuarryError, match=r"does not exist .* stand for themselves") as caught:
        ask(tmp_path, pool={"source": "file", "files": [name]})
    assert str(tmp_path / name) in str(caught.value) and runs == []


def test_what_the_checks_depend_on(tmp_path, runs):
    with pytest.raises(QuarryError, match=r"measured.csv does not exist or cannot be read"):
        ask(tmp_path)
    measured = tmp_path / "measured.csv"
    measured.write_text("energy_eV,absorbance\n1,2\n")
    assert ask(tmp_path) == 1 and ask(tmp_path) == 1
    # Of the stop rules, only the budget: finished labels must suffice for it.
    assert ask(tmp_path, stop={"metric": "validation", "max_labels": 20, "rrmse": 0.2}) == 1
    assert ask(tmp_path, stop={"metric": "validation", "max_labels": 25}) == 2
    os.utime(measured, (1, 1))
    assert ask(tmp_path) == 3 and ask(tmp_path) == 3
