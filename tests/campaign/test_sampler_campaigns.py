"""Campaigns whose candidates are sampled anew in every iteration, by the sampler of the documentation."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from quarry.config import load_configuration
from quarry.errors import QuarryError
from quarry.stages.pool_checks import check_same_molecule
from quarry.structures import Structure, StructureSet
from quarry.structures.files import read_pool
from quarry.structures.labelled import LabelledSet
from support.campaigns import REPOSITORY, WATER, CampaignFolder, stand_in_configuration
from support.resuming import check_resumed, cuts, outputs_in_order
from support.stand_in import morse

PAGE = (REPOSITORY / "docs/samplers.md").read_text()
SAMPLER, SECTION = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[1] for kind in ("python", "yaml"))
POOL: dict[str, Any] = {**yaml.safe_load(SECTION)["pool"], "arguments": {"copies": 5}}


def sampling(**changes: Any) -> dict[str, Any]:
    query = {"strategy": "uncertainty", "initial": 4, "batch": {"schedule": "constant", "size": 3}}
    defaults = {"pool": POOL, "query": query, "stop": {"rrmse": None, "max_iterations": 2}}
    return stand_in_configuration(**{**defaults, **changes})


def create(path: Path, **changes: Any) -> CampaignFolder:
    folder = CampaignFolder.create(path, sampling(**changes))
    (folder.path / "pool.extxyz").unlink()
    (folder.path / "shaken.py").write_text(SAMPLER)
    return folder


def ids_of_batch(folder: CampaignFolder, arm: str, iteration: int) -> list[str]:
    with open(folder.results / f"{arm}/iter_{iteration:03d}/batch.csv", newline="") as handle:
        return [row["structure_id"] for row in csv.DictReader(handle)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> CampaignFolder:
    """Arm main and its control, three iterations each."""
    folder = create(tmp_path_factory.mktemp("sampled") / "campaign", control={})
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    return folder


def test_every_batch_is_chosen_from_candidates_of_its_own(finished):
    results = finished.results
    labelled = {arm: LabelledSet.read(results / arm / "dataset.h5") for arm in ("main", "random_0")}
    for arm in labelled:
        seen = set(read_pool(results / "pool/structures.h5").ids.tolist())
        assert set(ids_of_batch(finished, arm, 0)) <= seen
        for iteration in (1, 2):
            candidates = set(read_pool(results / f"{arm}/iter_{iteration:03d}/candidates.h5").ids.tolist())
            batch = ids_of_batch(finished, arm, iteration)
            # Three of the best structures, five copies each, none of which was there before.
            assert len(candidates) == 15 and not candidates & seen and len(batch) == 3 and set(batch) <= candidates
            chosen = read_pool(results / f"{arm}/iter_{iteration:03d}/batch.h5")
            assert chosen.ids.tolist() == batch
            seen |= candidates
        assert len(labelled[arm]) == 4 + 3 + 6
    assert len(finished.calls()) == len(set(finished.calls())) == len(finished.stored())
    assert finished.run().nothing_to_do


def test_prefixes_of_the_outputs(finished, tmp_path):
    """Cut anywhere: the same candidates, batches, labels and models, and nothing is paid twice."""
    whole = finished.copy(tmp_path / "whole").unpack()
    order = outputs_in_order(whole)
    names = [str(path) for path in order]
    mine = [names.index(f"results/toy/main/iter_001/{name}") for name in ("candidates.h5", "batch.h5", "dataset.h5")]
    for cut in sorted({*cuts(len(order), 2), *mine}):
        folder = whole.copy(tmp_path / f"cut_{cut}")
        for path in order[cut:]:
            (folder.path / path).unlink()
        check_resumed(folder, finished)


@pytest.mark.parametrize("name", ["candidates.h5", "batch.h5", "batch.csv"])
def test_a_damaged_file_of_the_last_iteration(finished, tmp_path, name):
    folder = finished.copy(tmp_path / "damaged")
    path = folder.results / f"main/iter_002/{name}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    check_resumed(folder, finished)


def test_a_failed_label_of_an_earlier_iteration_is_tried_again(finished, tmp_path):
    """Its structure is in no pool: it stands in the batch in which it was first."""
    failing = ids_of_batch(finished, "main", 1)[1]
    labeling = {"engine": "function", "function": "stand_in:morse", "retries": 0, "max_failed_fraction": 0.5}
    folder = create(tmp_path / "failing", labeling={**labeling, "arguments": {"fail": [failing]}})
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert failing not in LabelledSet.read(folder.results / "dataset.h5").structures.ids
    stand_in = folder.path / "stand_in.py"
    stand_in.write_text(stand_in.read_text().replace("in fail:", "in ():"))
    # With an interpreter that has not imported the engine as it was.
    folder.forked_jobs = False
    outcome = folder.run("retry_failed")
    assert outcome.code == 0, outcome.text[-3000:]
    assert failing in LabelledSet.read(folder.results / "dataset.h5").structures.ids


def test_iteration_0_from_labels_of_the_user_and_an_end_without_candidates(tmp_path):
    pool = {**POOL, "initial": {"source": "file", "files": ["start.extxyz"]}}
    known = {"file": "start.extxyz", "columns": {"energy": "energy", "forces": "forces"}}
    labeling = {"engine": "function", "function": "stand_in:morse", "retries": 0, "known": known}
    folder = create(tmp_path / "campaign", pool=pool, labeling=labeling)
    frames = [Atoms("OHH", WATER) for _ in range(12)]
    for number, atoms in enumerate(frames):
        atoms.positions[1, 1] += 0.01 * number
        atoms.info["structure_id"] = "any"
        atoms.calc = SinglePointCalculator(atoms, **{k: v for k, v in morse(atoms, calls="").items() if k != "gap"})
        del atoms.info["structure_id"]
    write(folder.path / "start.extxyz", frames)
    nothing = "        if iteration == 2:\n            return []\n"
    (folder.path / "shaken.py").write_text(SAMPLER.replace("        energies =", f"{nothing}        energies ="))
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert "stopped: the sampler gave no new candidate" in outcome.text
    assert len(read_pool(folder.results / "pool/structures.h5")) == 12
    assert set(folder.calls()) == set(ids_of_batch(folder, "main", 1)) == folder.stored()
    assert len(LabelledSet.read(folder.results / "dataset.h5")) == 3 + 4 + 3
    assert ids_of_batch(folder, "main", 2) == []
    assert folder.run().nothing_to_do


MISTAKES = {
    "cannot import": {"sampler": "nowhere:Shaken"},
    "has no argument 'copy'; did you mean 'copies'?": {"arguments": {"copy": 3}},
    "gave int as structure 1; it must return ASE atoms": {"sampler": "wrong:Numbers"},
    "failed (ZeroDivisionError": {"sampler": "wrong:Fails"},
    "has no method initial(rng)": {"sampler": "wrong:NoInitial"},
    "has no method sample(": {"sampler": "wrong:NoSample"},
}
WRONG = """
class NoSample:
    def initial(self, rng):
        return []
class NoInitial:
    def sample(self, model, labelled, iteration, rng):
        return []
class Numbers(NoInitial):
    def initial(self, rng):
        return [1]
class Fails(NoInitial):
    def initial(self, rng):
        return [1 / 0]
"""


def test_mistakes_get_one_line_before_any_job(tmp_path):
    folder = create(tmp_path / "campaign")
    (folder.path / "wrong.py").write_text(WRONG)
    for message, change in MISTAKES.items():
        folder.configure(sampling(pool={**POOL, "arguments": {}, **change}))
        outcome = folder.run("-n")
        assert outcome.code == 1 and len(outcome.lines) == 1 and message in outcome.text, (message, outcome.text[-800:])
    for change, message in (
        ({"filters": {"copies": "keep"}}, "filters.copies: keep is for a fixed pool"),
        ({"filters": {"near_duplicates": 0.1}}, "filters.near_duplicates"),
    ):
        folder.configure(sampling(**change))
        outcome = folder.run("-n")
        assert outcome.code == 1 and message in outcome.text, outcome.text[-800:]


def test_another_molecule_than_that_of_the_pool_is_refused():
    """Before its labels are paid, and not at the training that comes after."""
    settings = load_configuration(sampling(), "campaign.yaml")
    water = Structure.create([8, 1, 1], WATER)
    other = StructureSet.from_structures([Structure.create([1, 8, 1], WATER), Structure.create([1, 8, 1], WATER + 0.1)])
    check_same_molecule(settings, StructureSet.from_structures([water]), Path(), water)
    with pytest.raises(QuarryError, match="structure 1 of the pool has other atoms"):
        check_same_molecule(settings, other, Path(), water)
