"""Every sampler of docs/samplers.md in a campaign of its own, to its end: a chain H-O-O-H with a threefold torsion."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import write

from quarry.dynamics.files import read_exploration
from quarry.sampling.hessian import modes_of
from quarry.structures.files import read_pool_ids
from quarry.structures.labelled import LabelledSet
from support.campaigns import REPOSITORY, CampaignFolder, stand_in_configuration
from support.hydrogen_peroxide import Chain, at_angle

PAGE = (REPOSITORY / "docs/samplers.md").read_text().partition("### Your own")[2]
REACTION = {"kind": "reaction", "breaking": [[0, 3]], "formed_within": 3.5, "broken_beyond": 4.2}
SAMPLERS: dict[str, Any] = {
    "relaxation": "relaxation",
    "normal_modes": {"kind": "normal_modes", "displacement_A": 0.3},
    "torsions": "torsions",
    "conformers": "conformers",
    "elastic_band": {"kind": "elastic_band", "minima": ["gauche.xyz", "trans.xyz"], "images": 3},
    "reaction": {**REACTION, "transition_state": "ts.json"},
    "reaction without modes": {**REACTION, "transition_state": "ts.xyz"},
}
WALKS = {"elastic_band": 5}
"""How many frames an iteration looks at last, where it is not ``explore.trajectories``: of a band all images."""


def chain_campaign(path: Path, pool: dict[str, Any], explore: dict[str, Any], **changes: Any) -> CampaignFolder:
    """Return the folder of a campaign with all files that samplers start from."""
    explore = {"trajectories": 4, "jobs": 2, "threshold": "each", **explore}
    settings = stand_in_configuration(
        pool={"source": "dynamics", **pool, "explore": explore},
        target="energy_forces",
        model={"kind": "kreg"},
        labeling={
            "engine": "ase",
            "calculator": "hydrogen_peroxide:Chain",
            "properties": ["energy", "forces"],
            "structures_per_job": 30,
            "retries": 0,
        },
        query={"strategy": "random", "initial": 20, "batch": {"schedule": "constant", "size": 3}},
        test={"size": 6},
        stop={"rrmse": None, "max_iterations": 1},
    )
    folder = CampaignFolder.create(path, {**settings, **changes}, size=1)
    shutil.copy(REPOSITORY / "tests/support/hydrogen_peroxide.py", path)
    (path / "squeezed.py").write_text(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1])
    rng = np.random.default_rng(0)
    starts = [at_angle(angle) for angle in rng.uniform(0.0, 360.0, 30)]
    for atoms in starts:
        atoms.positions += rng.normal(0.0, 0.01, (4, 3))
    write(path / "start.extxyz", starts)
    for name, angle in (("gauche", 60.0), ("trans", 180.0), ("ts", 120.0)):
        atoms = at_angle(angle)
        write(path / f"{name}.xyz", atoms)
        atoms.calc = Chain()
        modes_of(atoms).write(path / f"{name}.json")
    return folder


GIVEN = {"initial": {"source": "file", "files": ["start.extxyz"]}}
MODES = {"modes_file": "trans.json", "initial_size": 30, "growth": None}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_campaign_of_each_sampler_comes_to_its_end(name, tmp_path):
    explore = {"sampler": SAMPLERS[name], **({"length_fs": 60.0} if name.startswith("reaction") else {})}
    folder = chain_campaign(tmp_path / "campaign", MODES if name == "normal_modes" else GIVEN, explore)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    candidates = folder.results / "main/iter_001/candidates.h5"
    found = read_exploration(candidates)
    assert found["trajectories"] == WALKS.get(name, 4)
    assert found["trajectories"] == found["uncertain"] + found["complete"] + found["unphysical"]
    assert found["unphysical"] < 4, found["faults"]
    if name.startswith("reaction"):
        assert sum(found["found"][kind] for kind in ("reactive_pairs", "returned_pairs", "unfinished_pairs")) == 2
    labelled = LabelledSet.read(folder.results / "dataset.h5").structures
    chosen = set(labelled.ids[26:].tolist())
    assert len(labelled) == 26 + min(3, len(read_pool_ids(candidates))) and chosen <= set(read_pool_ids(candidates))
    assert folder.run().nothing_to_do


FAULTS = {
    "1 / 0": "failed in path (ZeroDivisionError: division by zero); correct it",
    "__import__('time').sleep(60)": "has taken longer than time_limit_s = 2 s); correct it",
    "return None": "returned None from path; it must yield ASE atoms",
}
"""What a class of the user may do, and what is said of it."""


def test_a_sampler_of_ones_own_that_fails_costs_no_label_and_goes_on_when_it_is_mended(tmp_path):
    sampler = {"kind": "squeezed:Squeezed", "time_limit_s": 2.0}
    folder = chain_campaign(tmp_path / "campaign", GIVEN, {"sampler": sampler, "jobs": 1})
    good, labels = (folder.path / "squeezed.py").read_text(), {}
    for fault, words in FAULTS.items():
        (folder.path / "squeezed.py").write_text(
            f"class Squeezed:\n    def path(self, start, number, rng):\n        {fault}\n"
        )
        outcome = folder.run()
        assert outcome.code == 1 and "Traceback" not in "".join(outcome.lines)
        [line] = [line for line in outcome.lines if words in line]
        assert line.startswith("Quarry: explore: pool.explore.sampler: squeezed:Squeezed ")
        kept = {path.name: path.read_bytes() for path in (folder.path / "label_store").glob("*/??/*.json")}
        assert len(kept) == 26 and kept == (labels or kept)
        labels = kept
    (folder.path / "squeezed.py").write_text(good)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    assert read_exploration(folder.results / "main/iter_001/candidates.h5")["trajectories"] == 4
    now = {path.name: path.read_bytes() for path in (folder.path / "label_store").glob("*/??/*.json")}
    assert labels.items() <= now.items() and 26 < len(now) <= 29


def test_trajectories_that_explode_at_once_end_the_campaign_in_words(tmp_path):
    """No force is below the limit: all are thrown away, and what is labelled is the result."""
    stop = {"rrmse": None, "min_new_points": 2, "max_iterations": 4}
    explore = {"max_force_eV_A": 1e-6, "length_fs": 20.0}
    folder = chain_campaign(tmp_path / "campaign", GIVEN, explore, stop=stop)
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    [line] = [line for line in outcome.lines if "stopped:" in line]
    assert "4 of 4 were thrown away, most of them because a force is beyond 1e-06 eV/Angstrom" in line
    assert "begin again under another name, with more initial data" in line and "labels are in the store" in line
    assert len(LabelledSet.read(folder.results / "dataset.h5").structures) == 26
