"""Before and around trajectories: when the initial data are large enough, thresholds, starts, what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from quarry.config import load_configuration
from quarry.config.dynamics import Explore, Growth, sections_of
from quarry.dynamics.files import NEW, Trajectories, account_of, words_of
from quarry.dynamics.walkers import BOLTZMANN_EV_K, Walkers
from quarry.errors import QuarryError
from quarry.randomness import generator
from quarry.sampling.modes import NormalModes
from quarry.sampling.wigner import coordinate_variances, sample_wigner_motion
from quarry.stages.assessment import cross_validates, phase_of
from quarry.stages.exploring import check_cells
from quarry.stages.growing import decide_growth
from quarry.stages.overview.findings import Evidence, findings_of
from quarry.stopping.progress import Progress
from quarry.stopping.rules import stop_reason
from quarry.structures import Structure, StructureSet
from support.dynamics import WATER, dynamics
from support.progress import facts

FOLDS = "cross_validation"
QUERY = {"strategy": "random", "batch": {"schedule": "constant", "size": 2}}


# --- the configuration


def test_a_campaign_that_names_its_molecule_alone_has_all_sections():
    given = {
        "name": "h2",
        "pool": {"source": "dynamics", "molecule": "h2.xyz"},
        "labeling": {"engine": "pyscf", "method": {"xc": "b3lyp", "basis": "6-31g*"}},
    }
    found = load_configuration(given, "campaign.yaml")
    assert found.goal.learnt == ("energy", "forces")
    assert found.pool.explore.steps == 2000
    assert found.pool.explore.trajectories == 100
    assert found.initial_pool.temperature_K == 500.0
    assert found.stop.min_new_points == 5
    assert found.pool.growth == found.pool.grows_by == Growth()
    # Single keys of what ends it, of the query and of the test set change nothing else; a model stands alone.
    own = {
        "stop": {"max_labels": 300},
        "query": {"initial": 80},
        "test": {},
        "model": {"kind": "gmnn", "uncertainty": "committee"},
    }
    mine = load_configuration({**given, **own}, "campaign.yaml")
    assert mine.stop == found.stop.model_copy(update={"max_labels": 300}) and mine.stop.rrmse is None
    assert mine.query == found.query.model_copy(update={"initial": 80}) and mine.test == found.test
    assert mine.model.epochs == 5000 and mine.model.uncertainty == "committee"
    for trajectories, few in ((1, 1), (20, 1), (50, 2), (200, 10), ("many", 5)):
        pool = {**given["pool"], "explore": {"trajectories": trajectories}}
        assert sections_of({**given, "pool": pool})["stop"]["min_new_points"] == few
    ended = load_configuration({**given, "stop": {"min_new_points": None, "rrmse": 0.2}}, "campaign.yaml")
    assert ended.stop.min_new_points is None and ended.stop.rrmse == 0.2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"explore": {"threshold": 0.5}}, "threshold = 0.5: give first, each, or a number with a unit of energy"),
        ({"explore": {"threshold": "0 eV"}}, "nothing is surer than that"),
        (
            {"explore": {"threshold": "5 meV/atom"}},
            "threshold = '5 meV/atom': give first, each, or a number with a unit",
        ),
        ({"explore": {"threshold": "frist"}}, "threshold = 'frist': give first, each"),
        ({"explore": {"temperature_K": "300 K"}}, "temperature_K: give one number, or two in brackets"),
        ({"explore": {"temperature_K": [300, 400, 500]}}, "temperature_K: give one number, or two in brackets"),
        ({"explore": {"time_step_fs": "0.5 fs"}}, "(got '0.5 fs'); write the number alone, without a unit"),
        (
            {"pool": {"initial": None, "modes_file": "m.json", "growth": {"target_rmse": "3 K"}}},
            "pool.growth.target_rmse: give",
        ),
        (
            {"explore": {"trajectories": 4}, "stop": {"rrmse": None, "min_new_points": 5}},
            "stop.min_new_points: 4 trajectories (pool.explore) never find 5 new structures",
        ),
        ({"explore": {"ensemble": "npt"}}, "need stress, which"),
        ({"explore": {"temperature_K": [300, 600]}}, "a ramp is that of a thermostat, and ensemble: nve has none"),
        ({"explore": {"uncertainty": "informativeness", "threshold": 1.0}}, "has no informativeness"),
        (
            {"explore": {"uncertainty": "forces"}, "model": {"kind": "gpr"}, "target": "energy"},
            "no standard deviation of forces (pool.explore.uncertainty), which ends trajectories; set target: energy_forces",
        ),
        ({"explore": {"starts": "wigner"}}, "explore.starts: wigner needs normal modes"),
        (
            {"model": {"kind": "gpr"}, "target": "energy", "descriptor": {"kind": "coulomb_matrix"}},
            "need forces, which",
        ),
        (
            {
                "test": {"size": 0},
                "stop": {"max_labels": 99, "metric": "validation"},
                "query": {**QUERY, "initial": 20},
            },
            "looks at the test set, and test.size is 0",
        ),
        ({"pool": {"molecule": "h2.xyz"}}, "give one of molecule, modes_file and initial, not molecule and initial"),
        ({"pool": {"growth": {}}}, "growth: it draws geometries from normal modes"),
        ({"explore": {"time_step_fs": 2.0, "length_fs": 1.0}}, "is longer than length_fs"),
        ({"explore": {"uncertainty": "forces", "threshold": "1 eV"}}, "a unit of force"),
        ({"explore": {"bias": {}}}, "bias heats molecules, and ensemble: nve has no thermostat"),
        ({"explore": {"ensemble": "langevin", "bias": {"stress_strength": 0.1}}}, "acts on cells that change"),
        ({"explore": {"ensemble": "langevin", "bias": {"skip_elements": ["hydrogen"]}}}, "skip_elements"),
        (
            {"explore": {"ensemble": "langevin", "bias": {}}, "model": {"kind": "gmnn"}},
            "needs the gradient of the uncertainty",
        ),
        ({"explore": {"calibration": "conformal"}}, "conformal needs 19 errors of the test set"),
        (
            {"explore": {"calibration": "conformal", "uncertainty": "informativeness", "threshold": 1.0}},
            "compares with errors, and informativeness is none",
        ),
        ({"model": {"kind": "gmnn"}}, "predicts no standard deviation of energy"),
        ({"pool": {"source": "file", "files": ["a.xyz"]}, "stop": {"min_new_points": 3}}, "stop.min_new_points"),
    ],
)
def test_what_does_not_fit_trajectories_is_refused(changes, words):
    configuration = dynamics(**changes)
    if configuration["pool"]["source"] == "file":
        configuration["pool"] = changes["pool"]
    with pytest.raises(QuarryError) as refused:
        load_configuration(configuration, "campaign.yaml")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("uncertainty", "threshold", "expected"),
    [
        ("energy", "0.5 kcal/mol", 0.5 * 0.0433641043),
        ("energy", "2 meV", 2e-3),
        ("forces", "0.5 ev/angstrom", 0.5),
        ("forces", "1 hartree/bohr", 51.422067),
        ("informativeness", 1.5, 1.5),
    ],
)
def test_a_given_threshold_has_its_unit(uncertainty, threshold, expected):
    assert Explore(uncertainty=uncertainty, threshold=threshold).given_threshold() == pytest.approx(expected, rel=1e-6)


def test_constant_pressure_needs_cells():
    settings = Explore(ensemble="npt")
    cells = [Structure.from_atoms(bulk("Cu", cubic=True))]
    check_cells(settings, StructureSet.from_structures(cells))
    with pytest.raises(QuarryError, match="are not periodic"):
        check_cells(
            settings, StructureSet.from_structures([*cells, Structure.from_atoms(Atoms("H2", [[0, 0, 0], [0, 0, 1]]))])
        )


# --- the growth of the initial data


def grows(*arguments) -> bool:
    return decide_growth(*arguments).grows


def history(exponent: float, batch: int, count: int, factor: float = 3.0):
    sizes = [batch * (t + 1) for t in range(count)]
    return [grown(t, n, factor * n**exponent) for t, n in enumerate(sizes)]


def grown(iteration: int, n: int, rmse: float, test: float = 7.0):
    """The facts of an iteration of the initial data. rmse: by cross-validation. test: by the test set."""
    errors = {"cross_validation": {"rmse": rmse}, "test": {"rmse": test}}
    return facts(iteration, phase="initial", n_train=n, errors=errors)


@pytest.mark.parametrize(("exponent", "last"), [(-0.5, 250), (-1.0, 450), (-2.0, 900)])
def test_data_grow_until_a_batch_gains_less_than_a_tenth(exponent, last):
    """With e = a N^b and batches of 50 the gain is 1 - (1 + 50 / N)^b: below 0.1 from N = 214, 450 and 925 on."""
    growing = [n for n in range(50, 1500, 50) if grows(history(exponent, 50, n // 50), Growth(), 50, FOLDS)]
    by_rule = [n for n in range(50, 1500, 50) if n < 250 or 1 - (1 + 50 / n) ** exponent >= 0.1]
    assert growing == by_rule
    assert max(growing) <= last


def test_an_error_that_rises_asks_for_more_and_the_end_is_for_good():
    assert grows(history(0.3, 50, 8), Growth(), 50, FOLDS)
    small = [grown(0, 50, 0.9e-3)]
    assert grows(small, Growth(), 50, FOLDS)
    assert grows(small, Growth(target_rmse="0.8 meV"), 50, FOLDS)
    assert not grows(small, Growth(target_rmse="1 meV"), 50, FOLDS)
    over = [*history(-0.5, 50, 6), facts(6, phase="query", n_train=350, rmse=99.0)]
    assert not grows(over, Growth(), 50, FOLDS)


def test_an_error_that_nobody_needs_smaller_ends_the_growth_once_the_law_is_asked():
    """Errors 0.3 / N: 1.5 meV of 200 labels, 1.2 meV of 250, the first number at which the law is asked, 1 meV of 300."""
    curve = history(-1.0, 50, 8, factor=0.3)
    assert [grows(curve[:n], Growth(), 50, FOLDS, 2e-3) for n in (3, 4, 5)] == [True, True, False]
    assert [grows(curve[:n], Growth(), 50, FOLDS, 1.1e-3) for n in (5, 6)] == [True, False]
    assert grows(curve, Growth(), 50, FOLDS, 0.0)


def test_initial_data_grow_by_cross_validation_or_by_the_test_set():
    """By the errors of cross-validation 50 more gain little from 250 on, by those of the test set more than a tenth."""
    both = [grown(t, n, n**-0.1, n**-2.0) for t, n in enumerate(range(50, 400, 50))]
    assert not grows(both, Growth(), 50, FOLDS)
    assert grows(both, Growth(), 50, "test")
    # Iterations without the error do not count, nor is one error of three enough.
    without = [facts(t, phase="initial", n_train=50 * t + 50, rmse=0.01) for t in range(9)]
    assert grows(without, Growth(), 50, FOLDS)
    settings = dynamics(
        pool={"initial": None, "modes_file": "modes.json", "growth": {"error": "test"}}, test={"size": 0}
    )
    with pytest.raises(QuarryError, match=r"pool.growth.error: test, and test.size is 0"):
        load_configuration(settings, "campaign.yaml")


def test_cross_validation_is_for_the_initial_data_alone():
    molecule = {"initial": None, "modes_file": "modes.json"}

    def cross_validated(growth, iteration, exploration, **changes):
        settings = dynamics(pool={**molecule, "growth": growth}, **changes)
        return cross_validates(load_configuration(settings, "campaign.yaml"), "main", iteration, exploration, "")

    new, met = {"phase": "initial", "new": 50}, {"phase": "query", "uncertain": 3}
    assert cross_validated({}, 0, None) and cross_validated({}, 1, new)
    assert not cross_validated({}, 2, met)
    assert not cross_validated({"error": "test"}, 0, None) and not cross_validated(None, 0, None)
    # Networks take too long for it, unless it is asked for.
    network = {"model": {"kind": "gmnn", "uncertainty": "auxiliary"}}
    assert not cross_validated({}, 0, None, **network)
    assert cross_validated({"error": "cross_validation"}, 0, None, **network)
    assert not cross_validates(load_configuration(dynamics(), "campaign.yaml"), "main", 0, None, "")


def test_growth_says_which_error_it_looks_at_and_what_it_waits_for():
    """The error of the terminal is that of the test set; without a word nobody knows why more is labelled."""
    curve = history(-1.0, 50, 5, factor=0.1)
    few = decide_growth(curve[:3], Growth(target_rmse="0.1 meV"), 50, FOLDS)
    assert few.words == (
        "RMSE of cross-validation 0.6667 meV; 3 of the 5 models that the power law needs (pool.growth.points), and 0.1 meV is "
        "not reached"
    )
    # 1 - (1 + 50 / 250)^-1 = 1/6.
    law = decide_growth(curve, Growth(), 50, FOLDS)
    assert law.grows and law.words.endswith("50 more labels would lower it by 16.7 %, at least 10 % (pool.growth.gain)")
    enough = decide_growth(curve, Growth(), 50, FOLDS, 1e-3)
    assert not enough.grows and "below 1 meV (pool.explore.least_energy_eV_atom)" in enough.words
    reached = decide_growth(curve, Growth(target_rmse="1 meV"), 50, FOLDS)
    assert not reached.grows and "below pool.growth.target_rmse (1 meV)" in reached.words
    assert "it has not fallen yet" in decide_growth(history(0.3, 50, 8), Growth(), 50, FOLDS).words
    assert "RMSE of the test set 7 eV" in decide_growth(curve, Growth(), 50, "test").words
    later = [*curve, facts(5, phase="query")]
    assert decide_growth(later, Growth(), 50, FOLDS).account() == {}


def test_labels_that_are_tried_again_alone_belong_to_the_phase_before(tmp_path):
    """A campaign that its budget stopped while the initial data grew: after ``retry_failed`` they go on growing."""
    settings = dynamics(pool={"initial": None, "modes_file": "modes.json", "growth": {}})
    growing, given = (load_configuration(one, "campaign.yaml") for one in (settings, dynamics()))
    for t, phase in enumerate(("initial", "initial", "query")):
        (tmp_path / f"iter_{t:03d}").mkdir()
        facts(t, phase=phase).write(tmp_path / f"iter_{t:03d}/facts.json")

    def after(iteration, configuration=growing):
        output = tmp_path / f"iter_{iteration:03d}/metrics.json"
        phase = phase_of(configuration, iteration, None, output)
        assert cross_validates(configuration, "main", iteration, None, output) == (
            configuration is growing and phase == "initial"
        )
        return phase

    assert [after(t) for t in range(4)] == ["initial", "initial", "initial", "query"]
    assert [after(t, given) for t in range(4)] == ["initial", "query", "query", "query"]


def test_the_curve_has_one_point_for_each_number_of_labels():
    """A retry that failed again gives the same labels: neither a further point, nor twice the weight of one."""
    curve = [grown(t, n, rmse) for t, (n, rmse) in enumerate([(50, 9.0), (100, 4.0), (150, 3.0), (200, 2.9)])]
    again = [*curve[:3], grown(3, 150, 3.0), grown(4, 150, 3.0)]
    assert grows(again, Growth(), 50, FOLDS)
    of_three = Growth(points=3, gain=0.2)
    assert grows(again, of_three, 50, FOLDS) == grows(curve[:3], of_three, 50, FOLDS)
    whole = Growth(points=4, gain=0.15)
    heavier = [*curve, *(grown(4 + k, 200, 2.9) for k in range(20))]
    assert grows(heavier, whole, 50, FOLDS) == grows(curve, whole, 50, FOLDS)


# --- starts


def test_wigner_starts_have_the_variances_of_coordinates_and_momenta():
    """At high temperature both energies of a mode are k_B T / 2; at zero both are a quarter of its quantum."""
    frequencies = np.array([500.0, 1500.0])
    masses = np.array([15.999, 1.008, 1.008])
    rng = np.random.default_rng(0)
    vectors = np.linalg.qr(rng.normal(size=(9, 9)))[0][:2].reshape(2, 3, 3) / np.sqrt(masses)[:, None]
    modes = NormalModes(WATER, frequencies, vectors, masses, 0.0, {})
    for temperature, expected in ((3000.0, None), (0.0, 0.25 * 1.239841984e-4 * frequencies)):
        drawn = [sample_wigner_motion(modes, temperature, generator(1, "start", k)) for k in range(4000)]
        velocities = np.concatenate([velocity for _, velocity in drawn])
        walkers = Walkers(StructureSet.from_structures(s for s, _ in drawn), velocities, np.tile(masses, 4000))
        kinetic = walkers.kinetic_eV
        potential = np.zeros(4000)
        for k, (frequency, vector) in enumerate(zip(frequencies, vectors, strict=True)):
            # Mass-weighted coordinate of the mode: displacements are its own, being orthogonal with the masses.
            shift = np.array([s.positions for s, _ in drawn]) - WATER.positions
            coordinate = np.einsum("nai,ai,a->n", shift, vector, masses)
            variance = coordinate_variances(np.array([frequency]), temperature)[0]
            assert coordinate.var() == pytest.approx(variance, rel=0.06), k
            omega_per_fs = 2 * np.pi * 2.99792458e-5 * frequency
            potential += 0.5 * omega_per_fs**2 * coordinate**2 / 9.648533212e-3
        assert kinetic.mean() == pytest.approx(potential.mean(), rel=0.05)
        if expected is not None:
            assert kinetic.mean() == pytest.approx(expected.sum(), rel=0.04)
        else:
            assert kinetic.mean() == pytest.approx(BOLTZMANN_EV_K * temperature, rel=0.06)


# --- what is told


def trajectories(*fates: str) -> Trajectories:
    n = len(fates)
    faults = tuple("a force is beyond 50 eV/Angstrom" if fate == "unphysical" else "" for fate in fates)
    found = StructureSet.from_structures([WATER] * n)
    common = {"phase": "query", "threshold": 0.0123, "unit": "eV", "uncertainty": "energy"}
    return Trajectories(found, fates, faults, np.arange(n), np.ones(n), np.zeros((2, 3)), common)


def test_trajectories_are_read_as_they_were_written_and_counted(tmp_path):
    one, two = trajectories("uncertain", "unphysical", "complete"), trajectories("uncertain")
    one.write(tmp_path / "000.h5")
    again = Trajectories.read(tmp_path / "000.h5")
    assert (again.fates, again.faults, again.facts) == (one.fates, one.faults, one.facts)
    again.write(tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "000.h5").read_bytes()
    account = account_of([again, two])
    assert (account["trajectories"], account["uncertain"], account["unphysical"], account["steps"]) == (4, 2, 1, 3)
    assert words_of(account) == (
        "4 trajectories, 3 steps: 2 met a frame whose uncertainty is beyond 0.0123 eV, 1 met none, 1 were thrown away "
        "(1 x a force is beyond 50 eV/Angstrom)"
    )
    grown = account_of([trajectories(NEW, NEW)])
    assert words_of(grown) == "2 geometries drawn to let the initial data grow"
    assert words_of({**grown, "growth": "why"}) == "2 geometries drawn to let the initial data grow (why)"
    assert words_of({**account, "growth": "why"}).endswith("; the initial data have grown enough: why")
    trajectories().write(tmp_path / "none.h5")
    assert Trajectories.read(tmp_path / "none.h5").fates == ()


def test_a_budget_that_ends_before_the_first_trajectory_says_so():
    """Else a campaign of dynamics looks whole, and no trajectory was ever run."""
    settings = dynamics(pool={"initial": None, "modes_file": "m.json"}, stop={"rrmse": None, "max_iterations": 2})
    configuration = load_configuration(settings, "campaign.yaml")
    words = {}
    for phase in ("initial", "query"):
        now = facts(2, phase=phase, pool_left=None)
        reason = stop_reason(Progress([facts(0), facts(1, phase=phase), now], [], configuration))
        words[phase] = "" if reason is None else str(reason.words)
        evidence = Evidence(configuration, [now], "max_iterations")
        told = {finding.what: finding for finding in findings_of(evidence)}
        assert ("A budget ended the campaign before its first trajectory" in told) is (phase == "initial")
    assert "is spent, before any trajectory was run: the initial data were still growing" in words["initial"]
    assert words["query"].startswith("the budget of max_iterations = 2 is spent") and "growing" not in words["query"]


def test_few_new_structures_are_convergence():
    configuration = load_configuration(dynamics(stop={"rrmse": None, "min_new_points": 5}), "campaign.yaml")

    def stops(**changes):
        last = facts(1, pool_left=None, **changes)
        reason = stop_reason(Progress([facts(0), last], [], configuration))
        return "" if reason is None else str(reason.words)

    found = {"trajectories": 100, "uncertain": 6, "unphysical": 4}
    assert "converged: 6 of 100 trajectories" in stops(pool_size=4, exploration=found)
    assert not stops(pool_size=5, exploration=found)
    # While the initial data grow no trajectory was run.
    assert not stops(pool_size=4, exploration={"new": 4})
    sure = {"trajectories": 100, "uncertain": 0, "unphysical": 0}
    assert "converged" in stops(pool_size=0, exploration=sure)
    # A model whose trajectories explode has not converged.
    faults = {"a force is beyond 50 eV/Angstrom": 90, "two atoms are too close": 5}
    exploded = {"trajectories": 100, "uncertain": 1, "unphysical": 95, "faults": faults}
    assert not stops(pool_size=1, exploration=exploded)
    assert "95 of 100 were thrown away, most of them because a force is beyond 50 eV" in stops(
        pool_size=0, exploration=exploded
    )


# --- which frames are candidates
