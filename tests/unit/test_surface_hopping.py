"""Surface hopping: against Landau and Zener's formula and quantum-free mechanics of models that are known exactly."""

import numpy as np
import pytest

from quarry.dynamics.surface_hopping import (
    ENERGY,
    FINISHED,
    HBAR_EV_FS,
    UNPHYSICAL,
    Settings,
    Start,
    kinetic_eV,
    populations,
    probability,
    propagate,
)
from quarry.dynamics.walkers import ACCELERATION
from quarry.evaluation.intervals import share_interval
from quarry.stages.surface_hopping import interval_of

MASS = np.array([20.0])


def crossing(slope=1.0, coupling_eV=0.05, tilt=0.0):
    """Two diabatic potentials tilt x +- slope x with a constant coupling, along x: the adiabatic ones."""

    def surfaces(positions, numbers):
        x = positions[:, 0, 0]
        root = np.hypot(slope * x, coupling_eV)
        energies = np.stack([tilt * x - root, tilt * x + root], axis=1)
        forces = np.zeros((len(x), 2, 1, 3))
        forces[:, 0, 0, 0] = -tilt + slope**2 * x / root
        forces[:, 1, 0, 0] = -tilt - slope**2 * x / root
        return energies, forces

    return surfaces


def start(energy_eV, x=-1.0):
    velocity = np.sqrt(2 * energy_eV * ACCELERATION / MASS[0])
    return Start(np.array([[x, 0.0, 0.0]]), np.array([[velocity, 0.0, 0.0]]))


def generators(n):
    return [np.random.default_rng([7, number]) for number in range(n)]


def exact(velocity, slope, coupling_eV):
    """Landau and Zener: exp(-2 pi V^2 / (hbar v |F1 - F2|))."""
    return np.exp(-2 * np.pi * coupling_eV**2 / (HBAR_EV_FS * velocity * 2 * slope))


class TestProbability:
    @pytest.mark.parametrize("coupling_eV", [0.01, 0.05, 0.15])
    @pytest.mark.parametrize("step_fs", [0.05, 1.0])
    @pytest.mark.parametrize("offset", [-0.3, 0.0, 0.45])
    def test_it_is_that_of_landau_and_zener_whatever_the_time_step(self, coupling_eV, step_fs, offset):
        velocity, slope = 0.03, 1.0
        times = (np.arange(3) - 1 + offset) * step_fs
        gaps = 2 * np.hypot(slope * velocity * times, coupling_eV)
        assert probability(gaps, step_fs) == pytest.approx(exact(velocity, slope, coupling_eV), rel=1e-9)

    def test_it_is_the_formula_of_belyaev_and_lebedev_in_small_steps(self):
        step = 0.01
        times = np.array([-step, 0.0, step])
        gaps = 0.2 + 0.02 * times**2 + 0.003 * times**3
        assert probability(gaps, step) == pytest.approx(
            np.exp(-np.pi / (2 * HBAR_EV_FS) * np.sqrt(0.2**3 / 0.04)), rel=1e-4
        )

    def test_a_crossing_is_certain_and_no_minimum_has_none(self):
        assert probability([0.1, 0.0, 0.1], 0.5) == 1.0 and probability([0.12, 0.02, 0.08], 0.5) == pytest.approx(1.0)
        assert probability([0.1, 0.1, 0.1], 0.5) == 0.0


class TestTrajectories:
    def test_the_share_of_hops_is_the_formula_s(self):
        n, coupling_eV = 600, 0.06
        paths = propagate(
            [start(3.0)] * n, 1, MASS, crossing(coupling_eV=coupling_eV), Settings(0.5, 60, 0.01), generators(n)
        )
        assert {path.fate for path in paths} == {FINISHED}
        assert all(len(path.hops) <= 1 for path in paths)
        # Downhill on the upper state: 1 eV more at the crossing than at the start, but for the coupling.
        velocity = np.sqrt(2 * (3.0 + 1.0 - coupling_eV) * ACCELERATION / MASS[0])
        expected = exact(velocity, 1.0, coupling_eV)
        share = np.mean([path.states[-1] == 0 for path in paths])
        assert 0.2 < expected < 0.8 and share == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / n))

    def test_energy_is_kept_through_hops_both_ways(self):
        for state in (0, 1):
            paths = propagate(
                [start(3.0)] * 50, state, MASS, crossing(coupling_eV=0.01), Settings(0.1, 60, 0.01), generators(50)
            )
            hopped = [path for path in paths if path.hops]
            assert len(hopped) > 40 and all(path.states[-1] == 1 - state for path in hopped)
            assert max(path.energy_deviation_eV for path in paths) < 1e-3
            for path in hopped:
                place = round(path.hops[0].time_fs / 0.1)
                assert path.states[place - 1] == state and path.states[place] == 1 - state
                assert path.positions[place][0, 0] == pytest.approx(0.0, abs=0.02)
            assert all(len(path.states) == len(path.total_eV) == 601 for path in paths)

    def test_a_hop_upwards_without_the_energy_is_frustrated(self):
        # On the lower state, with 0.08 eV at its top, less than the gap of 0.1 eV.
        n, settings, surfaces = 40, Settings(0.05, 15, 0.01), crossing(slope=10.0, coupling_eV=0.05)
        climb = np.hypot(1.0, 0.05) - 0.05 + 0.08
        paths = propagate([start(climb, x=-0.1)] * n, 0, MASS, surfaces, settings, generators(n))
        frustrated = [path for path in paths if path.hops]
        assert frustrated and all(path.hops[0].frustrated for path in frustrated)
        assert {state for path in paths for state in path.states} == {0}
        without = next(path for path in paths if not path.hops)
        assert all(np.allclose(path.positions[-1], without.positions[-1]) for path in frustrated)

    def test_trajectories_do_not_know_of_each_other(self):
        settings, surfaces = Settings(0.5, 60, 0.1), crossing(coupling_eV=0.06)
        together = propagate([start(3.0)] * 20, 1, MASS, surfaces, settings, generators(20))
        for number in (3, 11):
            alone = propagate([start(3.0)], 1, MASS, surfaces, settings, generators(20)[number : number + 1])
            assert (
                np.array_equal(alone[0].positions, together[number].positions)
                and alone[0].hops == together[number].hops
            )

    def test_what_is_no_mechanics_ends_with_its_fate(self):
        coarse = propagate([start(3.0)], 1, MASS, crossing(slope=30.0), Settings(8.0, 200, 0.05), generators(1))
        assert coarse[0].fate == ENERGY and len(coarse[0].states) < 26
        far = propagate(
            [start(3.0)],
            1,
            MASS,
            crossing(),
            Settings(0.5, 60, 0.1),
            generators(1),
            lambda x, f: "far" if x[0, 0] > 0 else "",
        )
        assert (far[0].fate, far[0].message) == (UNPHYSICAL, "far")
        counts, alive = populations([path.states for path in far], 2, Settings(0.5, 60, 0.1))
        assert counts.shape == (121, 2) and alive[0] == 1 and alive[-1] == 0 and alive.sum() == len(far[0].states)

    def test_the_middle_of_three_states_goes_both_ways(self):
        def surfaces(positions, numbers):
            x = positions[:, 0, 0]
            zero = np.zeros((len(x), 3, 1, 3))
            return np.stack([-np.abs(x) - 1e-4, 0 * x, np.abs(x) + 1e-4], axis=1), zero

        paths = propagate([start(3.0)] * 400, 1, MASS, surfaces, Settings(0.5, 60, 1.0), generators(400))
        ends = np.bincount([path.states[-1] for path in paths], minlength=3)
        assert ends[0] > 150 and ends[2] > 150 and ends.sum() == 400

    def test_kinetic_energy(self):
        assert kinetic_eV(start(3.0).velocities, MASS) == pytest.approx(3.0)


def test_an_interval_holds_whatever_those_that_ended_early_would_be_in():
    """Of 40 trajectories 10 have ended; 3 of the other 30 are in a state. Wilson's ends for 3 and for 13 of 40."""
    low, high = interval_of(3, 30, 40)
    assert low == pytest.approx(share_interval(3, 40)[0]) and high == pytest.approx(share_interval(13, 40)[1])
    assert interval_of(3, 30, 30) == share_interval(3, 30), "where none has ended it is that of chance"
