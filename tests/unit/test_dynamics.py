"""Trajectories side by side: against ASE one by one, against statistical mechanics, ends, and a killed exploration."""

from __future__ import annotations

from dataclasses import replace

import ase.units
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet as AseVerlet
from hypothesis import given
from hypothesis import strategies as st

from quarry.dynamics import exploration
from quarry.dynamics.exploration import Course, Fate, explore
from quarry.dynamics.integrators import Barostat, Forces, Langevin, Surroundings, VelocityVerlet
from quarry.dynamics.physical import Limits, fault_of
from quarry.dynamics.uncertainty import MEASURES, outlier_threshold
from quarry.dynamics.walkers import ACCELERATION, BOLTZMANN_EV_K, Walkers, heated
from quarry.errors import QuarryError
from quarry.randomness import generator
from quarry.structures import Structure, StructureSet
from support.dynamics import EmtModel, Springs

CU3 = Atoms("Cu3", [[0, 0, 0], [2.3, 0, 0], [1.1, 2.0, 0]])
CU4 = Atoms("Cu4", [[0, 0, 0], [2.3, 0, 0], [1.1, 2.0, 0], [1.1, 0.7, 1.9]])


def walkers_of(*molecules, temperature_K=600.0):
    structures = StructureSet.from_structures([Structure.from_atoms(atoms) for atoms in molecules])
    return heated(Walkers.at_rest(structures), temperature_K, generators(len(molecules)))


def generators(n):
    return [generator(3, "walker", k) for k in range(n)]


def course(steps, threshold=np.inf, temperature_K=(600.0, 600.0), limit=1e3):
    return Course(steps, temperature_K, threshold, limit)


def run(model, walkers, course, integrator=None, checkpoint=None):
    move = integrator or VelocityVerlet(2.0)
    return explore(model, walkers, move, course, MEASURES["energy"], generators(len(walkers)), checkpoint)


def ase_positions(atoms, velocities, steps):
    """The frames of a trajectory by ASE. velocities: Angstrom/fs."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    atoms.set_velocities(velocities / ase.units.fs)
    frames = [atoms.positions.copy()]
    dynamics = AseVerlet(atoms, timestep=2.0 * ase.units.fs)
    for _ in range(steps):
        dynamics.run(1)
        frames.append(atoms.positions.copy())
    return frames


def part(walkers, k):
    return walkers.velocities[walkers.structures.atoms_of(np.array([k]))]


def test_trajectories_side_by_side_are_those_of_ase_one_by_one():
    walkers = walkers_of(CU3, CU4)
    found = run(EmtModel(), walkers, course(100))
    for k, atoms in enumerate((CU3, CU4)):
        expected = ase_positions(atoms, part(walkers, k), 100)[-1]
        np.testing.assert_allclose(found.walkers.structures[k].positions, expected, atol=1e-7)
    assert found.fates == [Fate.COMPLETE] * 2


def test_the_first_frames_after_a_labelled_one_end_no_trajectory():
    walkers = walkers_of(CU3, CU4)
    found = run(EmtModel(), walkers, replace(course(30, 0.1), certain_steps=10))
    assert found.fates == [Fate.UNCERTAIN] * 2
    assert found.ends.tolist() == [10, 10]


def test_a_trajectory_ends_at_its_first_uncertain_frame():
    walkers = walkers_of(CU3, CU4, temperature_K=1500.0)
    threshold = 2.9
    found = run(EmtModel(), walkers, course(100, threshold))
    assert Fate.UNCERTAIN in found.fates
    for k, atoms in enumerate((CU3, CU4)):
        frames = ase_positions(atoms, part(walkers, k), 100)
        sizes = [Atoms(atoms.numbers, frame).get_all_distances().max() for frame in frames]
        beyond = [step for step, size in enumerate(sizes) if size > threshold]
        assert found.ends[k] == (beyond[0] if beyond else 100)
        assert found.uncertainty[k] == pytest.approx(sizes[found.ends[k]], abs=1e-6)


@pytest.mark.parametrize("integrator", [VelocityVerlet(2.0), Langevin(2.0, 10.0)])
def test_a_trajectory_does_not_depend_on_those_beside_it(integrator):
    walkers = walkers_of(CU3, CU4, CU3)
    together = run(EmtModel(), walkers, course(30), integrator)
    for k in range(3):
        rows = np.array([k])
        alone = explore(
            EmtModel(), walkers.subset(rows), integrator, course(30), MEASURES["energy"], [generators(3)[k]]
        )
        np.testing.assert_array_equal(alone.walkers.structures.positions, together.walkers.structures[k].positions)


@pytest.mark.parametrize("died_after", [1, 7, 25])
def test_a_killed_exploration_goes_on_to_the_same_end(died_after, tmp_path, monkeypatch):
    monkeypatch.setattr(exploration, "CHECKPOINT_S", 0.0)
    walkers, langevin = walkers_of(CU3, CU4, temperature_K=1500.0), Langevin(2.0, 10.0)
    settings = course(40, 2.9)
    whole = run(EmtModel(), walkers, settings, langevin)
    checkpoint, killed = tmp_path / "state.npz", EmtModel(die_after=died_after)
    with pytest.raises(KeyboardInterrupt):
        run(killed, walkers, settings, langevin, checkpoint)
    again = EmtModel()
    found = run(again, walkers, settings, langevin, checkpoint)
    assert again.calls <= 41 - died_after + (died_after == 1)
    np.testing.assert_array_equal(found.walkers.structures.positions, whole.walkers.structures.positions)
    np.testing.assert_array_equal(found.ends, whole.ends)
    assert found.fates == whole.fates
    assert found.trace == whole.trace


@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_a_checkpoint_that_does_not_fit_is_not_taken_up(content, tmp_path, monkeypatch):
    monkeypatch.setattr(exploration, "CHECKPOINT_S", 0.0)
    checkpoint = tmp_path / "state.npz"
    if content is None:
        with pytest.raises(KeyboardInterrupt):
            run(EmtModel(die_after=5), walkers_of(CU3), course(40), checkpoint=checkpoint)
    else:
        checkpoint.write_bytes(content)
    walkers = walkers_of(CU3, CU4)
    found = run(EmtModel(), walkers, course(5), checkpoint=checkpoint)
    np.testing.assert_array_equal(found.walkers.velocities, run(EmtModel(), walkers, course(5)).walkers.velocities)


# --- statistical mechanics


def test_velocities_at_the_start_have_the_temperature_and_no_drift():
    walkers = walkers_of(*[CU4] * 2000, temperature_K=300.0)
    # Without drift there are three degrees of freedom less.
    assert walkers.temperature_K.mean() == pytest.approx(300.0 * (3 * 4 - 3) / (3 * 4), rel=0.02)
    momentum = walkers.sums(walkers.masses[:, None] * walkers.velocities)
    assert np.abs(momentum).max() < 1e-10


def test_langevin_dynamics_has_the_distribution_of_harmonic_springs():
    """Equipartition: k <x^2> = k_B T and m <v^2> = k_B T."""
    walkers = walkers_of(*[CU4] * 400, temperature_K=300.0)
    walkers = walkers.moved(np.zeros_like(walkers.structures.positions))
    spring, step, rngs = 2.0, Langevin(2.0, 20.0), generators(400)

    def potential(moved):
        return Forces(-spring * moved.structures.positions)

    now, squares, kinetic = potential(walkers), [], []
    for n in range(600):
        walkers, now = step.step(walkers, now, Surroundings(potential, 300.0, rngs))
        if n >= 200:
            squares.append((walkers.structures.positions**2).mean())
            kinetic.append(walkers.temperature_K.mean())
    assert spring * np.mean(squares) == pytest.approx(BOLTZMANN_EV_K * 300.0, rel=0.03)
    assert np.mean(kinetic) == pytest.approx(300.0, rel=0.03)


def test_constant_pressure_gives_the_volume_of_an_ideal_gas():
    """p(V) of N free atoms is V^N exp(-P V / k_B T), with the mean (N + 1) k_B T / P."""
    n, temperature, pressure_GPa = 8, 300.0, 0.05
    side = ((n + 1) * BOLTZMANN_EV_K * temperature / (pressure_GPa * ase.units.GPa)) ** (1 / 3) * 1.3
    atoms = Atoms(f"Cu{n}", np.random.default_rng(0).uniform(0, side, (n, 3)), cell=[side] * 3, pbc=True)
    walkers, rngs = walkers_of(*[atoms] * 200, temperature_K=temperature), generators(200)
    barostat = Barostat(Langevin(2.0, 20.0), pressure_GPa, 1.0 / pressure_GPa, 0.2)

    def potential(moved):
        return Forces(np.zeros_like(moved.structures.positions), np.zeros((len(moved), 3, 3)))

    now, volumes = potential(walkers), []
    for step in range(1500):
        walkers, now = barostat.step(walkers, now, Surroundings(potential, temperature, rngs))
        if step >= 500:
            volumes.append(np.abs(np.linalg.det(walkers.structures.cells)))
    expected = (n + 1) * BOLTZMANN_EV_K * temperature / (pressure_GPa * ase.units.GPa)
    assert np.mean(volumes) == pytest.approx(expected, rel=0.03)
    spread = np.sqrt(n + 1) * BOLTZMANN_EV_K * temperature / (pressure_GPa * ase.units.GPa)
    assert np.std(volumes) == pytest.approx(spread, rel=0.08)


def test_constant_energy_keeps_the_energy():
    walkers, model = walkers_of(CU4), EmtModel()

    def energy(now):
        return model.predict(now.structures, frozenset()).mean["energy"] + now.kinetic_eV

    found = run(model, walkers, course(300))
    assert energy(found.walkers) == pytest.approx(energy(walkers), abs=2e-3)


def test_temperatures_go_from_the_first_to_the_last():
    ramp = course(100, temperature_K=(300.0, 900.0))
    assert [ramp.temperature_at(step) for step in (0, 50, 100)] == [300.0, 600.0, 900.0]
    assert pytest.approx(9.648533e-3, rel=1e-6) == ACCELERATION


# --- what is no chemistry


@pytest.mark.parametrize(
    ("atoms", "forces", "words"),
    [
        (Atoms("H2", [[0, 0, 0], [0, 0, 0.2]]), 0.0, "closer than"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 5.0]]), 0.0, "no other within"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), 60.0, "a force is beyond 50 eV/Angstrom"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), np.nan, "not a finite number"),
        (bulk("Cu", cubic=True).repeat(1), 0.0, "volume has changed"),
        (Atoms("CuH", [[0, 0, 0], [3.5, 0, 0]], cell=[3.6, 9, 9], pbc=True), 0.0, "closer than"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), 10.0, ""),
        (Atoms("Ar"), 0.0, ""),
    ],
)
def test_frames_that_are_no_chemistry_are_named(atoms, forces, words):
    structure = Structure.from_atoms(atoms)
    volume = 200.0 if structure.cell is not None and len(atoms) == 4 else None
    found = fault_of(structure, np.full((len(atoms), 3), forces), Limits(50.0, volume))
    assert words in found
    assert bool(found) == bool(words)


def test_a_trajectory_that_explodes_is_thrown_away():
    walkers = walkers_of(CU3, CU3)
    fast = replace(walkers, velocities=walkers.velocities * np.repeat([1.0, 60.0], 3)[:, None])
    found = run(EmtModel(), fast, course(60))
    assert found.fates == [Fate.COMPLETE, Fate.UNPHYSICAL]
    assert found.faults[1]
    assert found.ends[1] < 60


def test_a_frame_of_too_high_an_energy_is_thrown_away_where_it_is_reached():
    walkers = walkers_of(CU3, CU3)
    energies = [EmtModel().predict(StructureSet.from_structures([Structure.from_atoms(a)]), ()).mean for a in (CU3,)]
    start = float(energies[0]["energy"][0])
    whole = run(EmtModel(), walkers, course(60))
    ceilings = np.array([start - 1e-3, np.inf])
    found = run(EmtModel(), walkers, replace(course(60), energy_limits_eV=ceilings))
    assert found.fates == [Fate.UNPHYSICAL, Fate.COMPLETE]
    assert (found.ends[0], found.faults[0]) == (0, "the energy is beyond pool.explore.max_energy_eV_atom")
    np.testing.assert_array_equal(found.walkers.structures[1].positions, whole.walkers.structures[1].positions)
    # It counts before the uncertainty: such a frame is never labelled.
    unsure = run(EmtModel(), walkers, replace(course(60, 0.0), energy_limits_eV=ceilings))
    assert unsure.fates == [Fate.UNPHYSICAL, Fate.UNCERTAIN]


def test_an_uncertainty_that_is_no_number_ends_a_trajectory():
    found = run(Springs(1.0, uncertainty=np.nan), walkers_of(CU3), course(10, 1.0))
    assert found.faults == ["the uncertainty is not a finite number"]


# --- thresholds


@given(st.lists(st.floats(0, 1e3), min_size=2, max_size=50), st.floats(0.1, 10.0))
def test_the_threshold_is_the_median_and_three_scaled_deviations(values, factor):
    array = np.array(values)
    middle = (
        sorted(values)[len(values) // 2] if len(values) % 2 else sum(sorted(values)[len(values) // 2 - 1 :][:2]) / 2
    )
    deviations = sorted(abs(v - middle) for v in values)
    half = len(values) // 2
    spread = deviations[half] if len(values) % 2 else (deviations[half - 1] + deviations[half]) / 2
    assert outlier_threshold(array) == pytest.approx(middle + 3 * 1.4826 * spread, rel=1e-9, abs=1e-12)
    assert outlier_threshold(factor * array) == pytest.approx(factor * outlier_threshold(array), rel=1e-9, abs=1e-9)


def test_no_threshold_without_a_finite_uncertainty():
    with pytest.raises(QuarryError, match="no threshold"):
        outlier_threshold(np.array([np.nan]))
