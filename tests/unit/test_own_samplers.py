"""Own samplers: faults, the example of the documentation, and how jobs share walks."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
import yaml

from quarry.config.dynamics import Explore
from quarry.config.samplers import (
    OwnSampler,
)
from quarry.dynamics.paths import NO_FRAME
from quarry.errors import QuarryError
from quarry.stages.exploring import numbers_of
from support.campaigns import REPOSITORY
from support.dynamics import EmtModel, OfAtoms
from support.walks import CU4, walk

# --- own samplers

OWN = """
import time
from ase import Atoms
class Nothing:
    def path(self, start, number, rng):
        return None if number else []
class Breaks:
    def path(self, start, number, rng):
        yield start
        1 / 0
class Hangs:
    def path(self, start, number, rng):
        yield start
        time.sleep(60)
class Numbers:
    def path(self, start, number, rng):
        yield 1
class Gold:
    def path(self, start, number, rng):
        yield Atoms("Au4", start.positions)
class NotFinite:
    def path(self, start, number, rng):
        start.positions[0] = float("nan")
        yield start
class Exits:
    def path(self, start, number, rng):
        raise SystemExit(3)
class NoPath:
    pass
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Breaks", "wrong_paths:Breaks failed in path \\(ZeroDivisionError"),
        ("Hangs", "wrong_paths:Hangs failed in path \\(TimeIsUp: it has taken longer than time_limit_s = 0.2 s"),
        ("Numbers", "wrong_paths:Numbers gave int as a frame; it must yield ASE atoms"),
        ("Gold", "wrong_paths:Gold gave Au, which the model has not learnt"),
        ("Exits", "wrong_paths:Exits failed in path \\(it called sys.exit"),
        ("NoPath", "has no method path"),
        ("Absent", "cannot import"),
    ],
)
def test_a_users_sampler_that_fails_gets_one_line(name, words, tmp_path):
    (tmp_path / "wrong_paths.py").write_text(OWN)
    section = OwnSampler(kind=f"wrong_paths:{name}", time_limit_s=0.2)
    began = time.monotonic()
    with pytest.raises(QuarryError, match=words) as refused:
        walk(section, EmtModel(), [CU4], base=tmp_path)
    assert "\n" not in str(refused.value) and time.monotonic() - began < 5.0


def test_a_users_sampler_that_returns_nothing_is_counted(tmp_path):
    (tmp_path / "wrong_paths.py").write_text(OWN)
    found = walk(OwnSampler(kind="wrong_paths:Nothing"), EmtModel(), [CU4], base=tmp_path)
    assert (found.fates, found.faults) == (("unphysical",), (NO_FRAME,))
    with pytest.raises(QuarryError, match="returned None from path"):
        walk(OwnSampler(kind="wrong_paths:Nothing"), EmtModel(), [CU4, CU4], base=tmp_path)
    found = walk(OwnSampler(kind="wrong_paths:NotFinite"), EmtModel(), [CU4], base=tmp_path)
    assert found.faults == ("a position or force is not a finite number",)


PAGE = (REPOSITORY / "docs/samplers.md").read_text().partition("### Your own")[2]
EXAMPLE, SECTION = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[1] for kind in ("python", "yaml"))


def test_the_sampler_of_the_documentation_squeezes_until_the_model_is_unsure(tmp_path):
    (tmp_path / "squeezed.py").write_text(EXAMPLE)
    section = Explore(**yaml.safe_load(SECTION)["pool"]["explore"]).sampler
    assert isinstance(section, OwnSampler) and section.arguments == {"steps": 20}
    whole = CU4.get_all_distances().sum()
    narrow = OfAtoms(lambda atoms: 0.0, unsure=lambda atoms: 1.0 - atoms.get_all_distances().sum() / whole)
    found = walk(section, narrow, [CU4] * 3, threshold=0.02, base=tmp_path)
    assert found.fates == ("uncertain",) * 3
    assert found.ends.min() > 0 and found.ends.max() < 20
    sizes = [one.to_atoms().get_all_distances().sum() for one in found.structures]
    np.testing.assert_allclose(1.0 - np.array(sizes) / whole, found.uncertainty, atol=1e-6)
    assert (found.uncertainty > 0.02).all()


# --- shares of jobs


def test_jobs_share_all_walks_and_pairs_stay_together():
    for sampler, count in (
        ("relaxation", 7),
        ({"kind": "reaction", "transition_state": "a.xyz", "breaking": [[0, 1]]}, 6),
    ):
        settings = Explore(sampler=sampler, trajectories=7, jobs=3)
        shares = [numbers_of(settings, group) for group in range(3)]
        assert sorted(number for share in shares for number in share) == list(range(count))
        if count == 6:
            assert shares == [[0, 1], [2, 3], [4, 5]]


def test_no_job_is_without_a_walk():
    """A band is one walk, and pairs stay together."""
    band = {"kind": "elastic_band", "minima": ["a.xyz", "b.xyz"]}
    pairs = {"kind": "reaction", "transition_state": "a.xyz", "breaking": [[0, 1]]}
    for sampler, trajectories, shares in ((None, 3, 3), ("relaxation", 9, 4), (band, 9, 1), (pairs, 5, 2)):
        settings = Explore(sampler=sampler, trajectories=trajectories, jobs=4)
        assert settings.shares == shares
        assert all(numbers_of(settings, group) for group in range(shares))
