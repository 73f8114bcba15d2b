"""Molecules and cells of several kinds in one exploration, and every strategy that may choose from what it finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write

from quarry.config import Configuration, load_configuration
from quarry.dynamics import exploration
from quarry.dynamics.files import Trajectories
from quarry.stages.arm_models import ArmModels
from quarry.stages.batch import read_proposal
from quarry.stages.exploring import LABELLED_STEPS, Explored, explore_candidates
from quarry.stages.proposal import propose_batch, score_pool
from quarry.stages.sampling import LastIteration, sample_candidates
from quarry.stages.training import train_model
from quarry.structures import Structure, StructureSet
from quarry.structures.files import JobInputEntry, read_pool, write_job_input, write_pool
from quarry.structures.labelled import LabelledSet
from support.potentials import SMALL
from support.stages import make_facts, write_failures

N, BATCH = 16, 3
EXPLORE = {
    "trajectories": 8,
    "length_fs": 20.0,
    "time_step_fs": 1.0,
    "ensemble": "langevin",
    "temperature_K": 600.0,
    "threshold": "1 meV",
}


def configuration(strategy: str) -> Configuration:
    given = {
        "name": "toy",
        "pool": {"source": "dynamics", "initial": {"source": "file", "files": ["pool.extxyz"]}, "explore": EXPLORE},
        "labeling": {"engine": "ase", "calculator": "ase.calculators.emt:EMT", "periodic": True},
        "model": {**SMALL, "epochs": 3, "uncertainty": "auxiliary"},
        "query": {"strategy": strategy, "initial": N, "batch": {"schedule": "constant", "size": BATCH}},
        "test": {"size": 4},
    }
    return load_configuration(given, "campaign.yaml")


@pytest.fixture(scope="module")
def explored(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """The files of an iteration whose trajectories have run, with two molecules and two cells as training structures."""
    folder = tmp_path_factory.mktemp("kinds")
    cell, rng = bulk("Cu", cubic=True), np.random.default_rng(0)
    kinds, structures, labels = [molecule("H2O"), molecule("CO"), cell, cell.repeat((2, 1, 1))], [], []
    for number in range(N):
        atoms = kinds[number % 4].copy()
        atoms.rattle(0.03, rng=rng)
        atoms.calc = EMT()
        structures.append(Structure.from_atoms(atoms))
        labels.append({"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()})
    names = (
        "dataset.h5",
        "failures.csv",
        "facts.json",
        "model.h5",
        "000.h5",
        "candidates.h5",
        "reference.extxyz",
        "pool.h5",
    )
    paths = {name.partition(".")[0]: str(folder / name) for name in names}
    LabelledSet.from_records(structures, ["train"] * N, [0] * N, labels).write(paths["dataset"], {})
    write_failures(paths["failures"], [])
    make_facts(n_train=N).write(paths["facts"])
    write_job_input(paths["reference"], [JobInputEntry(structures[0])])
    write(folder / "pool.extxyz", [structure.to_atoms() for structure in structures])
    write_pool(paths["pool"], StructureSet.from_structures(structures))
    models = ArmModels(configuration("random"), "main", pool=paths["pool"], base=folder)
    train_model(models, paths["dataset"], paths["model"])
    explore_candidates(models, 1, 0, Explored(paths["model"], paths["dataset"], [paths["facts"]]), paths["000"])
    last = LastIteration(paths["model"], paths["dataset"], paths["reference"], [paths["000"]])
    sample_candidates(models, 1, last, paths["candidates"])
    return folder, paths


def test_molecules_and_cells_move_side_by_side(explored):
    _, paths = explored
    found = Trajectories.read(paths["000"])
    assert len({len(structure) for structure in found.structures}) > 2
    met = [k for k, fate in enumerate(found.fates) if fate == "uncertain"]
    assert len(met) > BATCH
    assert found.ends[met].min() >= LABELLED_STEPS
    assert set(read_pool(paths["candidates"]).ids) <= {found.structures.ids[k] for k in met}


def test_a_killed_job_is_taken_up_with_the_same_model_alone(explored, tmp_path, monkeypatch):
    folder, paths = explored
    models = ArmModels(configuration("random"), "main", pool=paths["pool"], base=folder)

    def run(name: str, model: str) -> Trajectories:
        explore_candidates(models, 1, 0, Explored(model, paths["dataset"], [paths["facts"]]), str(tmp_path / name))
        return Trajectories.read(tmp_path / name)

    def kill_then_run(name: str, model: str) -> Trajectories:
        monkeypatch.setattr(exploration, "CHECKPOINT_S", 0.0)
        with monkeypatch.context() as killed:
            write_state = exploration._write

            def die(*given):
                write_state(*given)
                if given[1].step == 5:
                    raise KeyboardInterrupt

            killed.setattr(exploration, "_write", die)
            with pytest.raises(KeyboardInterrupt):
                run(name, paths["model"])
        assert list(tmp_path.glob("*.state.npz"))
        return run(name, model)

    other = str(tmp_path / "other.h5")
    data = LabelledSet.read(paths["dataset"])
    data.subset(np.arange(N - 2)).write(str(tmp_path / "fewer.h5"), {})
    train_model(models, str(tmp_path / "fewer.h5"), other)
    for name, model in (("000.h5", paths["model"]), ("001.h5", other)):
        whole, found = run(f"whole_{name}", model), kill_then_run(name, model)
        np.testing.assert_array_equal(found.structures.positions, whole.structures.positions)
        assert list(found.ends) == list(whole.ends)
    assert not list(tmp_path.glob("*.state.npz"))


@pytest.mark.parametrize(
    "strategy", ["random", "uncertainty", "lcmd", "k_means_plus_plus", "maxdet", "bait", "oed_total"]
)
def test_a_strategy_chooses_where_there_are_more_candidates_than_the_batch_takes(strategy, explored):
    folder, paths = explored
    models = ArmModels(configuration(strategy), "main", pool=paths["candidates"], base=folder)
    known, scores = (paths["dataset"], paths["failures"]), None
    if models.settings.query.needs_scores:
        scores = str(folder / f"{strategy}.h5")
        score_pool(models, 1, paths["model"], *known, scores)
    proposal = str(folder / f"{strategy}.csv")
    propose_batch(models, 1, *known, paths["facts"], scores, proposal)
    ids = [row.structure_id for row in read_proposal(proposal)]
    assert len(set(ids)) == len(ids) == BATCH
    assert set(ids) <= set(read_pool(paths["candidates"]).ids)
