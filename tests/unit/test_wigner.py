"""Normal modes against finite differences and the literature; the Wigner distribution against its analytic moments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import constants, stats
from scipy.spatial.transform import Rotation

from quarry.config.methods import PyscfMethod
from quarry.errors import QuarryError
from quarry.labeling.engines.pyscf_engine import PyscfEngine
from quarry.sampling import normal_modes as module
from quarry.sampling.modes import NormalModes, with_fixed_signs
from quarry.sampling.normal_modes import AnalyticHessian, DisplacedHessian, compute_normal_modes
from quarry.sampling.wigner import coordinate_variances, sample_wigner
from quarry.structures import Structure

METHOD = PyscfMethod(xc="hf", basis="sto-3g")
BOLTZMANN_EV = constants.k / constants.e
INVERSE_CM_EV = constants.h * constants.c * 100 / constants.e
HESSIAN_EV_A2 = 27.211386245988 / 0.529177210903**2


@pytest.fixture(scope="module")
def water() -> NormalModes:
    start = Structure.create([8, 1, 1], np.array([[0.0, 0.0, 0.1173], [0.0, 0.7572, -0.4692], [0.0, -0.7572, -0.4692]]))
    lines: list[str] = []
    modes = compute_normal_modes(start, AnalyticHessian(METHOD, 1), lines.append)
    assert lines[0].startswith("optimisation step 0: -20")
    assert lines[-1].startswith("frequencies (1/cm): 2169.8 ")
    return modes


@pytest.fixture(scope="module")
def hydrogen() -> NormalModes:
    start = Structure.create([1, 1], np.array([[0.0, 0.0, 0.0], [0.3, 0.4, 0.6]]))
    return compute_normal_modes(start, AnalyticHessian(METHOD, 1), lambda _: None)


@pytest.fixture(scope="module")
def water_hessian(water: NormalModes) -> np.ndarray:
    """The Hessian at the minimum, eV/Angstrom^2, shape (9, 9): the modes' own ingredient, but not the modes."""
    hessian = PyscfEngine(METHOD).hessian(water.equilibrium, 1)
    return hessian.transpose(0, 2, 1, 3).reshape(9, 9) * HESSIAN_EV_A2


def test_modes_of_forces_are_those_of_second_derivatives(water):
    """An engine without a Hessian has one by differences of its forces."""
    engine = PyscfEngine(METHOD.model_copy(update={"forces": True, "convergence_hartree": 1e-10}))
    found = compute_normal_modes(water.equilibrium, DisplacedHessian(engine, 1), lambda _: None, optimise=False)
    np.testing.assert_allclose(found.frequencies_cm, water.frequencies_cm, atol=0.5)
    np.testing.assert_allclose(found.modes, water.modes, atol=2e-3)
    assert found.method["hessian_step_A"] == module.STEP_A


def coth(x: np.ndarray) -> np.ndarray:
    return 1.0 / np.tanh(x)


def mean_potentials_eV(frequencies_cm: np.ndarray, temperature_K: float) -> np.ndarray:
    quanta = frequencies_cm * INVERSE_CM_EV
    if temperature_K == 0:
        return quanta / 4
    return quanta / 4 * coth(quanta / (2 * BOLTZMANN_EV * temperature_K))


def displacements(modes: NormalModes, temperature_K: float, size: int, seed: int = 3) -> np.ndarray:
    sample = sample_wigner(modes, temperature_K, size, np.random.default_rng(seed))
    return sample.positions.reshape(size, -1, 3) - modes.equilibrium.positions


def test_water_frequencies_match_the_literature(water: NormalModes) -> None:
    # HF/STO-3G: 2170, 4140, 4391 1/cm (NIST CCCBDB, water, HF/STO-3G, unscaled).
    assert water.frequencies_cm == pytest.approx([2170, 4140, 4391], abs=1.0)
    bond = np.linalg.norm(water.equilibrium.positions[1] - water.equilibrium.positions[0])
    # r = 0.9894 Angstrom, E = -74.965901 hartree at the minimum (the same source).
    assert bond == pytest.approx(0.9894, abs=3e-4)
    assert water.energy_eV / 27.211386245988 == pytest.approx(-74.965901, abs=2e-6)


def test_hydrogen_frequency_from_finite_differences_of_forces(hydrogen: NormalModes) -> None:
    engine, step = PyscfEngine(METHOD), 2e-3
    axis = np.diff(hydrogen.equilibrium.positions, axis=0)[0]
    axis /= np.linalg.norm(axis)
    pulls = []
    for sign in (1, -1):
        stretched = hydrogen.equilibrium.positions + sign * step / 2 * np.outer([-1, 1], axis)
        forces = np.array(engine.label(Structure(hydrogen.equilibrium.numbers, stretched), 1).properties["forces"])
        pulls.append(forces[1] @ axis)
    stiffness = -(pulls[0] - pulls[1]) / (2 * step) * constants.e / constants.angstrom**2
    reduced_mass = 1.008 / 2 * constants.atomic_mass
    wavenumber = np.sqrt(stiffness / reduced_mass) / (2 * np.pi * constants.c * 100)
    assert hydrogen.frequencies_cm == pytest.approx([wavenumber], rel=2e-4)
    assert len(hydrogen.frequencies_cm) == 1


def test_modes_are_normalised_as_documented_and_diagonalise_the_hessian(
    water: NormalModes, water_hessian: np.ndarray
) -> None:
    overlap = np.einsum("i,kix,lix->kl", water.masses_u, water.modes, water.modes)
    assert overlap == pytest.approx(np.eye(3), abs=1e-8)
    flat = water.modes.reshape(3, 9)
    omega = 2 * np.pi * constants.c * 100 * water.frequencies_cm
    expected = omega**2 * constants.atomic_mass * constants.angstrom**2 / constants.e  # eV / (Angstrom^2 u)
    assert flat @ water_hessian @ flat.T == pytest.approx(np.diag(expected), rel=1e-5, abs=1e-5 * expected.max())


@pytest.mark.parametrize("temperature_K", [0.0, 300.0, 5000.0])
def test_mean_potential_energy_of_the_samples(
    water: NormalModes, water_hessian: np.ndarray, temperature_K: float
) -> None:
    size = 20_000
    flat = displacements(water, temperature_K, size).reshape(size, 9)
    potential = 0.5 * np.einsum("na,ab,nb->n", flat, water_hessian, flat)
    parts = mean_potentials_eV(water.frequencies_cm, temperature_K)
    # Each part is <V> times chi-squared of one degree of freedom, of variance 2.
    error = np.sqrt(2 * (parts**2).sum() / size)
    assert potential.mean() == pytest.approx(parts.sum(), abs=4 * error)
    assert 4 * error < 0.04 * parts.sum()


def test_normal_coordinates_are_independent_and_normal(water: NormalModes) -> None:
    size = 20_000
    moved = displacements(water, 300.0, size)
    coordinates = np.einsum("i,kix,nix->nk", water.masses_u, water.modes, moved)
    variances = coordinate_variances(water.frequencies_cm, 300.0)
    assert coordinates.var(axis=0) == pytest.approx(variances, rel=4 * np.sqrt(2 / size))
    correlation = np.corrcoef(coordinates.T)
    assert np.abs(correlation - np.eye(3)).max() < 4.5 / np.sqrt(size)
    for k in range(3):
        assert stats.kstest(coordinates[:, k] / np.sqrt(variances[k]), "norm").pvalue > 1e-3


def test_centre_of_mass_and_orientation_stay(water: NormalModes) -> None:
    moved = displacements(water, 300.0, 200)
    assert np.abs(np.einsum("i,nix->nx", water.masses_u, moved)).max() / water.masses_u.sum() < 2e-6
    # Eckart condition: no rotation to first order.
    turned = np.einsum("i,nix->nx", water.masses_u, np.cross(water.equilibrium.positions, moved))
    assert np.abs(turned).max() < 5e-5


def test_zero_point_width_of_hydrogen(hydrogen: NormalModes) -> None:
    size = 20_000
    sample = sample_wigner(hydrogen, 0.0, size, np.random.default_rng(1))
    lengths = np.linalg.norm(np.diff(sample.positions.reshape(size, 2, 3), axis=1)[:, 0], axis=1)
    omega = 2 * np.pi * constants.c * 100 * hydrogen.frequencies_cm[0]
    width = np.sqrt(constants.hbar / (2 * 1.008 / 2 * constants.atomic_mass * omega)) / constants.angstrom
    assert width == pytest.approx(0.078, abs=0.001)
    assert lengths.std() == pytest.approx(width, rel=4 / np.sqrt(2 * size))


@given(wavenumber=st.floats(10, 5000), temperature_K=st.just(0.0) | st.floats(1e-3, 3000))
@settings(max_examples=100, deadline=None)
def test_variance_limits(wavenumber: float, temperature_K: float) -> None:
    frequency = np.array([wavenumber])
    variance = coordinate_variances(frequency, temperature_K)
    assert variance >= coordinate_variances(frequency, 0.0) * (1 - 1e-12)
    omega = 2 * np.pi * constants.c * 100 * wavenumber
    potential = 0.5 * omega**2 * variance[0] * constants.atomic_mass * constants.angstrom**2 / constants.e
    assert potential == pytest.approx(mean_potentials_eV(frequency, temperature_K)[0], rel=1e-9)
    # Classical limit: k_B T / 2 per mode.
    hot = 100 * wavenumber * INVERSE_CM_EV / BOLTZMANN_EV
    potential = 0.5 * omega**2 * coordinate_variances(frequency, hot)[0] * constants.atomic_mass * constants.angstrom**2
    assert potential == pytest.approx(constants.k * hot / 2, rel=1e-4)


def test_samples_depend_on_the_generator_only(water: NormalModes) -> None:
    one, again, other = (sample_wigner(water, 300, 50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one.ids == again.ids).all()
    assert not set(one.ids) & set(other.ids)
    longer = sample_wigner(water, 300, 80, np.random.default_rng(1))
    assert (longer.ids[:50] == one.ids).all()


def test_samples_keep_charge_and_multiplicity(hydrogen: NormalModes) -> None:
    cation = Structure.create([1, 1], hydrogen.equilibrium.positions, charge=1, multiplicity=2)
    modes = NormalModes(cation, hydrogen.frequencies_cm, hydrogen.modes, hydrogen.masses_u, 0.0, {})
    sample = sample_wigner(modes, 300, 3, np.random.default_rng(0))
    assert list(sample.charges) == [1] * 3
    assert list(sample.multiplicities) == [2] * 3


def test_a_large_pool_is_drawn_in_one_go(water: NormalModes) -> None:
    sample = sample_wigner(water, 300, 30_000, np.random.default_rng(0))
    assert len(set(sample.ids)) == 30_000


def test_files_have_the_same_bytes_and_read_back(water: NormalModes, tmp_path: Path) -> None:
    water.write(tmp_path / "a.json")
    back = NormalModes.read(tmp_path / "a.json")
    back.write(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert back.equilibrium.structure_id == water.equilibrium.structure_id
    assert (back.modes == water.modes).all()
    assert back.method == PyscfEngine(METHOD).method_identity()
    one, other = (sample_wigner(m, 300, 5, np.random.default_rng(0)) for m in (water, back))
    assert (one.ids == other.ids).all()


@pytest.mark.parametrize("content", ["", "{}", '{"format": 99}', '{"format": 1, "numbers": [1]}', "[]"])
def test_damaged_files_are_reported(tmp_path: Path, content: str) -> None:
    path = tmp_path / "modes.json"
    path.write_text(content)
    with pytest.raises(QuarryError, match="no normal modes file"):
        NormalModes.read(path)
    with pytest.raises(QuarryError, match="no normal modes file"):
        NormalModes.read(tmp_path / "missing.json")


def test_linear_molecule_has_3n_minus_5_modes(capfd: pytest.CaptureFixture[str]) -> None:
    # Started bent by a few degrees and in no particular direction.
    start = np.array([[-1.1, 0.05, 0.02], [0.0, 0.0, 0.0], [1.1, 0.12, 0.03]])
    modes = compute_normal_modes(Structure.create([8, 6, 8], start), AnalyticHessian(METHOD, 1), lambda _: None)
    assert len(modes.frequencies_cm) == 4
    assert modes.frequencies_cm[0] == pytest.approx(modes.frequencies_cm[1], abs=0.5)
    assert np.abs(modes.equilibrium.positions[:, :2]).max() == 0.0
    assert np.abs(modes.modes[:2, :, 2]).max() < 1e-6
    assert capfd.readouterr().err == "", "PySCF warns of atoms without a basis"


def test_saddle_point_is_refused_with_its_frequencies() -> None:
    straight = Structure.create([8, 1, 1], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.95], [0.0, 0.0, -0.95]]))
    with pytest.raises(QuarryError, match=r"imaginary frequencies \(2\d\d\di, 2\d\d\di 1/cm\)"):
        compute_normal_modes(straight, AnalyticHessian(METHOD, 1), lambda _: None)


def test_coarse_grid_does_not_drive_the_molecule_away() -> None:
    # At level 1 the net force on water is 0.003 eV/Angstrom, six times the limit of the optimisation.
    start = Structure.create([8, 1, 1], np.array([[0.0, 0.0, 0.12], [0.0, 0.77, -0.47], [0.0, -0.77, -0.47]]))
    coarse = PyscfMethod(xc="pbe", basis="sto-3g", grid_level=1)
    modes = compute_normal_modes(start, AnalyticHessian(coarse, 1), lambda _: None)
    assert np.abs(modes.equilibrium.positions.mean(axis=0) - start.positions.mean(axis=0)).max() < 1e-5


def test_rigid_motion_is_taken_out_of_forces_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    positions = rng.standard_normal((5, 3))
    forces = module._without_rigid_motion(rng.standard_normal((5, 3)), positions)
    assert forces.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-12)
    assert np.cross(positions, forces).sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-12)
    assert module._without_rigid_motion(forces, positions) == pytest.approx(forces, abs=1e-12)
    line = np.outer(np.arange(3.0), [1.0, 2.0, -1.0])
    along = np.outer([1.0, -2.0, 1.0], [1.0, 2.0, -1.0])
    assert module._without_rigid_motion(along, line) == pytest.approx(along, abs=1e-12)


def test_signs_of_modes_are_fixed() -> None:
    modes = np.random.default_rng(4).standard_normal((6, 4, 3))
    flipped = modes * np.array([1, -1, 1, -1, -1, 1])[:, None, None]
    assert (with_fixed_signs(modes) == with_fixed_signs(flipped)).all()


def test_distance_from_a_line() -> None:
    line = np.outer([0.0, 1.0, 2.5], Rotation.from_rotvec([0.3, 0.2, 0.9]).apply([1.0, 0.0, 0.0]))
    assert module._distance_from_line(line).max() < 1e-12
    # Heights 0, h, 0 over a base line: the best line runs at h / 3, so that the distances are h / 3, 2 h / 3, h / 3.
    bent = np.array([[-1, 0, 0], [0, 0.03, 0], [1, 0, 0]])
    assert module._distance_from_line(bent) == pytest.approx([0.01, 0.02, 0.01], abs=1e-12)


@pytest.mark.parametrize(
    ("numbers", "positions", "multiplicity", "pattern"),
    [
        ([2], [[0.0, 0, 0]], 1, "single atom"),
        ([8, 1], [[0.0, 0, 0], [0, 0, 1]], 1, "invalid_structure.*multiplicity 1"),
    ],
)
def test_mistakes_of_the_start_geometry(
    numbers: list[int], positions: list[list[float]], multiplicity: int, pattern: str
) -> None:
    start = Structure.create(numbers, np.array(positions), multiplicity=multiplicity)
    with pytest.raises(QuarryError, match=pattern):
        compute_normal_modes(start, AnalyticHessian(METHOD, 1), lambda _: None)


def test_optimisation_that_does_not_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STEPS", 1)
    start = Structure.create([1, 1], np.array([[0.0, 0, 0], [0, 0, 1.5]]))
    with pytest.raises(QuarryError, match="not converged after 1 steps"):
        compute_normal_modes(start, AnalyticHessian(METHOD, 1), lambda _: None)


def test_mistakes_of_sampling(hydrogen: NormalModes) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(QuarryError, match="temperature_K"):
        sample_wigner(hydrogen, -1.0, 5, rng)
    bad = NormalModes(hydrogen.equilibrium, np.array([-300.0]), hydrogen.modes, hydrogen.masses_u, 0.0, {})
    with pytest.raises(QuarryError, match="300i"):
        sample_wigner(bad, 300.0, 5, rng)
    atom = Structure.create([2], np.zeros((1, 3)))
    with pytest.raises(QuarryError, match="single atom"):
        sample_wigner(NormalModes(atom, np.zeros(0), np.zeros((0, 1, 3)), np.ones(1), 0.0, {}), 300.0, 5, rng)
