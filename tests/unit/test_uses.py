"""What potentials are used for, beside numbers from elsewhere: closed forms, ASE's own vibrations, rotated copies."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.optimize import BFGS
from ase.vibrations import Infrared, Vibrations
from scipy import constants
from scipy.spatial.transform import Rotation

from quarry.config.uses import MolecularDynamics, Optimise, Uses
from quarry.errors import QuarryError
from quarry.randomness import generator
from quarry.structures import Structure, StructureSet
from quarry.uses.dipoles import DipoleModel
from quarry.uses.minima import atoms_of, bonds_A, deviation_A, geometry_json, relax
from quarry.uses.reference import LabelCalculator
from quarry.uses.spectra import absorption, window_width_fs
from quarry.uses.trajectories import Trajectory, run
from quarry.uses.vibrations import differences, displaced, hessian, intensities_km_mol, vibrations


def of_emt(formula: str) -> Atoms:
    atoms = molecule(formula, calculator=EMT())
    atoms.info.update(charge=0, multiplicity=1)
    return atoms


def all_forces(atoms: Atoms, displacement_A: float) -> np.ndarray:
    found = []
    for positions in displaced(atoms.positions, displacement_A):
        moved = Atoms(atoms.numbers, positions, calculator=atoms.calc)
        found.append(moved.get_forces())
    return np.array(found)


class Charges(Calculator):
    """Springs between atoms, and a dipole of fixed charges."""

    implemented_properties = ("energy", "forces", "dipole")

    def __init__(self, spring: float, length: float, charges: list[float]) -> None:
        super().__init__()
        self.spring, self.length, self.charges = spring, length, np.array(charges)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        arm = self.atoms.positions[1] - self.atoms.positions[0]
        stretch = np.linalg.norm(arm) - self.length
        pull = self.spring * stretch * arm / np.linalg.norm(arm)
        self.results = {
            "energy": 0.5 * self.spring * stretch**2,
            "forces": np.array([pull, -pull]),
            "dipole": self.charges @ self.atoms.positions,
        }


def test_an_oscillator_has_the_frequency_of_its_spring_and_mass():
    atoms = Atoms("CO", [[0, 0, 0], [0.3, 0.4, 1.2]], calculator=Charges(80.0, 1.3, [0.2, -0.2]))
    found = vibrations(hessian(all_forces(atoms, 0.005), 0.005), atoms.positions, atoms.get_masses())
    reduced = np.prod(atoms.get_masses()) / atoms.get_masses().sum()
    omega = np.sqrt(80.0 * constants.e / constants.angstrom**2 / (reduced * constants.atomic_mass))
    # Five rigid motions of a straight molecule are gone.
    assert found.frequencies_cm == pytest.approx([omega / (200 * np.pi * constants.c)], rel=1e-4)
    assert np.sum(atoms.get_masses()[:, None] * found.modes[0] ** 2) == pytest.approx(1.0)


@pytest.mark.parametrize("calculator", [EMT(), LennardJones(sigma=1.0, epsilon=0.5, rc=10.0)], ids=["emt", "lj"])
def test_frequencies_are_those_of_ase(calculator, tmp_path):
    atoms = Atoms("OHH", [[0, 0, 0], [0.9, 0.5, 0], [-0.9, 0.5, 0.1]], calculator=calculator)
    BFGS(atoms, logfile=None).run(fmax=1e-5)
    other = Vibrations(atoms, name=str(tmp_path / "vib"), delta=0.005)
    other.run()
    mine = vibrations(hessian(all_forces(atoms, 0.005), 0.005), atoms.positions, atoms.get_masses())
    assert len(mine.frequencies_cm) == 3
    assert mine.frequencies_cm == pytest.approx(other.get_frequencies().real[-3:], rel=1e-4)


def test_intensities_are_those_of_ase(tmp_path):
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.3]], calculator=Charges(80.0, 1.3, [0.2, -0.2]))
    other = Infrared(atoms, name=str(tmp_path / "ir"), delta=0.01)
    other.run()
    other.read()
    wanted = float(other.intensities[-1]) * 42.255  # km/mol per (D/Angstrom)^2/u
    dipoles = np.array([atoms.calc.charges @ positions for positions in displaced(atoms.positions, 0.01)])
    found = vibrations(hessian(all_forces(atoms, 0.01), 0.01), atoms.positions, atoms.get_masses())
    assert intensities_km_mol(differences(dipoles, 0.01), found) == pytest.approx([wanted], rel=2e-3)


def test_a_saddle_has_an_imaginary_frequency():
    found = vibrations(np.diag([-1.0, 0, 0, -1.0, 0, 0]) + np.diag([1.0, 0, 0], 3) + np.diag([1.0, 0, 0], -3),
                       np.array([[0.0, 0, 0], [1.0, 0, 0]]), np.ones(2))  # fmt: skip
    assert found.frequencies_cm[0] < -100


def test_a_relaxed_molecule_is_at_rest_and_stays_what_it_was():
    start = of_emt("H2O")
    start.rattle(0.05, seed=1)
    before = start.positions.copy()
    found = relax(start, Optimise(force_limit_eV_A=1e-3))
    assert found.largest_force_eV_A < 1e-3 and found.steps > 0
    assert (start.positions == before).all()
    assert set(bonds_A(found.atoms)) == {"O0-H1", "O0-H2"}
    again = atoms_of(geometry_json(found.atoms))
    assert (again.numbers == start.numbers).all() and again.positions == pytest.approx(found.atoms.positions)


def test_a_cell_is_relaxed_where_that_is_asked_for():
    copper = bulk("Cu", a=3.7)
    copper.calc = EMT()
    copper.info.update(charge=0, multiplicity=1)
    kept, relaxed = (relax(copper, Optimise(cell=cell, force_limit_eV_A=1e-4)) for cell in (False, True))
    assert kept.atoms.cell.lengths() == pytest.approx(copper.cell.lengths())
    # The lattice constant of EMT copper.
    assert relaxed.atoms.cell.lengths()[0] * np.sqrt(2) == pytest.approx(3.59, abs=0.01)
    assert "Cu0-Cu0" in bonds_A(relaxed.atoms) and "cell_lengths_A" in relaxed.to_json()


def test_a_relaxation_without_end_says_what_to_change():
    start = of_emt("H2O")
    start.rattle(0.1, seed=1)
    with pytest.raises(QuarryError, match=r"no minimum after 1 steps .* raise max_steps"):
        relax(start, Optimise(max_steps=1, force_limit_eV_A=1e-6))


def test_what_a_relaxation_leaves_of_forces_is_little_beside_errors_of_frequencies():
    """A bond as of hydrogen fluoride, begun beside its minimum: at 0.01 eV/Angstrom it was left there, 2.5 1/cm off."""
    morse = MorsePotential(epsilon=6.1, r0=0.935, rho0=2.2 * 0.935, rcut1=5.0, rcut2=6.0)
    found = []
    for length in (0.935, 0.93485, 0.93515):
        atoms = Atoms("HF", [[0, 0, 0], [0, 0, length]], info={"charge": 0, "multiplicity": 1}, calculator=morse)
        atoms = relax(atoms, Optimise()).atoms
        found.append(
            vibrations(hessian(all_forces(atoms, 0.01), 0.01), atoms.positions, atoms.get_masses()).frequencies_cm[0]
        )
    assert found == pytest.approx([found[0]] * 3, abs=0.3)


@pytest.mark.filterwarnings("error")
def test_deviation_of_straight_molecules_is_found_in_silence():
    one, other = np.array([[0, 0, 0], [0, 0, 0.94]]), np.array([[0.1, 0, 0], [1.02, 0, 0]])
    assert deviation_A(one, other) == pytest.approx(0.01)


def test_deviation_knows_no_rotation():
    positions = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
    turned = Rotation.from_rotvec([1.0, 2, 3]).apply(positions) + 5
    assert deviation_A(positions, turned) == pytest.approx(0, abs=1e-10)
    assert deviation_A(positions, positions * 1.1) > 0.05


def test_a_trajectory_keeps_its_energy_and_can_be_repeated():
    start = relax(of_emt("H2O"), Optimise()).atoms
    start.calc = EMT()
    settings = MolecularDynamics(length_ps=0.2, equilibration_ps=0.1, time_step_fs=0.25, frame_fs=1, reference_frames=0)
    one, same = (run(start, settings, generator(1, "md"), lambda line: None) for _ in range(2))
    assert (one.positions_A == same.positions_A).all() and len(one.times_fs) == 201
    drift, spread = one.energy_drift()
    assert abs(drift) < 5 and spread < 2
    assert 30 < one.temperature_K.mean() < 900


def test_vibrations_have_the_temperature_of_the_thermostat():
    """Half of the free motions' energy is kinetic in a harmonic molecule; its rotation takes none and gives none."""
    found = []
    for seed in range(12):
        atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.3]], calculator=Charges(80.0, 1.3, [0.0, 0.0]))
        atoms.info.update(charge=0, multiplicity=1)
        settings = MolecularDynamics(
            length_ps=0.2, equilibration_ps=1.0, time_step_fs=1, frame_fs=1, reference_frames=0
        )
        made = run(atoms, settings, generator(seed, "md"), lambda line: None)
        arms = made.positions_A[:, 1] - made.positions_A[:, 0]
        turned = np.arccos(np.clip(arms[0] @ arms[-1] / np.linalg.norm(arms[0]) / np.linalg.norm(arms[-1]), -1, 1))
        assert turned < 1e-3
        found.append(made.temperature_K.mean())
    # The mean of 12 numbers of an exponential distribution.
    assert 100 < np.mean(found) < 600


def test_drift_is_the_slope_of_the_energy_of_an_atom():
    times = np.arange(101) * 10.0
    energies = 5.0 + 2e-3 * times / 1000 * 3 + 1e-3 * (-1.0) ** np.arange(101)
    made = Trajectory(times, energies, np.zeros(101), np.zeros(101), np.zeros((101, 3, 3)))
    drift, spread = made.energy_drift()
    assert drift == pytest.approx(2.0, rel=0.02) and spread == pytest.approx(1 / 3, rel=0.01)


def test_a_known_signal_gives_its_line():
    """Absorption at the oscillator's wavenumber, as wide as asked for, with the area of the double harmonic approximation."""
    wavenumber, temperature, step_fs = 1500.0, 300.0, 2.0
    omega = 200 * np.pi * constants.c * wavenumber
    # A classical oscillator of 1 u at this temperature, averaged over phases by three in a row: <Q^2> = kT / omega^2.
    width = np.sqrt(constants.k * temperature / constants.atomic_mass) / omega / constants.angstrom
    times = np.arange(10000) * step_fs * 1e-15
    dipoles = np.zeros((len(times), 3))
    dipoles[:, 1] = 0.3 * np.sqrt(2) * width * np.cos(omega * times) + 4.0
    x, y = absorption(dipoles, step_fs, temperature, 20.0)
    peak = x[np.argmax(y)]
    assert peak == pytest.approx(wavenumber, abs=2)
    half = x[y > y.max() / 2]
    assert half[-1] - half[0] == pytest.approx(20, abs=3)
    assert np.trapezoid(y, x) == pytest.approx(974.88 * 0.3**2, rel=0.02)
    assert y[x < 1300].max() < 1e-3 * y.max()


def test_fast_vibrations_keep_their_area_between_coarse_frames():
    areas = []
    for step_fs in (0.5, 3.0):
        times = np.arange(round(20000 / step_fs)) * step_fs
        dipoles = np.cos(2 * np.pi * constants.c * 3600e2 * times * 1e-15)[:, None] * np.eye(3)[0]
        x, y = absorption(dipoles, step_fs, 300.0, 20.0)
        areas.append(np.trapezoid(y, x))
    assert areas[1] == pytest.approx(areas[0], rel=0.01)


def test_windows_are_inverse_to_resolutions():
    # A Gaussian of 1 ps is 12.5 1/cm wide.
    assert window_width_fs(12.5) == pytest.approx(1000, rel=1e-3)
    with pytest.raises(ValueError, match=r"infrared\.resolution_cm"):
        Uses.model_validate({"md": {"length_ps": 2.0}, "infrared": {"resolution_cm": 1.0}})


def waters(count: int, rng: np.random.Generator) -> tuple[StructureSet, np.ndarray]:
    """Return bent and stretched waters, and dipoles of charges that follow their bonds."""
    frames, dipoles = [], []
    for _ in range(count):
        positions = np.array([[0.0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]) + rng.normal(0, 0.06, (3, 3))
        positions = Rotation.random(rng=rng).apply(positions) + rng.normal(0, 3, 3)
        frame = Structure.create([8, 1, 1], positions)
        lengths = np.linalg.norm(frame.positions[1:] - frame.positions[0], axis=1)
        charges = 0.35 + 0.2 * (lengths - 0.96)
        dipoles.append(charges @ frame.positions[1:] - charges.sum() * frame.positions[0])
        frames.append(frame)
    return StructureSet.from_structures(frames), np.array(dipoles)


def test_dipoles_are_learnt_and_turn_with_the_molecule():
    rng = np.random.default_rng(3)
    known, dipoles = waters(80, rng)
    others, wanted = waters(30, rng)
    model = DipoleModel.fit(known, dipoles, 7)
    off = model.predict(others) - wanted
    assert np.sqrt(np.mean(off**2)) < 0.05 * np.std(wanted)
    turn = Rotation.from_rotvec([0.3, -1, 2])
    one = others[0]
    turned = Structure(one.numbers, turn.apply(one.positions) + 7)
    swapped = Structure(one.numbers, one.positions[[0, 2, 1]])
    first, second, third = model.predict(StructureSet.from_structures([one, turned, swapped]))
    assert second == pytest.approx(turn.apply(first), abs=1e-4) and third == pytest.approx(first, abs=1e-5)


def test_ions_have_no_dipole_to_learn():
    ion = StructureSet.from_structures([Structure.create([1, 1], np.array([[0.0, 0, 0], [0, 0, 1]]), charge=1)])
    with pytest.raises(QuarryError, match="neutral molecules alone"):
        DipoleModel.fit(ion, np.zeros((1, 3)), 1)


def test_cells_are_run_and_labelled_too():
    cell = bulk("Cu", cubic=True)
    cell.rattle(0.02, seed=1)
    cell.info.update(charge=0, multiplicity=1)

    def labels(structures):
        found = []
        for structure in structures:
            atoms = structure.to_atoms()
            atoms.calc = EMT()
            found.append(
                {
                    "energy": atoms.get_potential_energy(),
                    "forces": atoms.get_forces().tolist(),
                    "stress": atoms.get_stress(voigt=False).tolist(),
                }
            )
        return found

    by_labels, direct = cell.copy(), cell.copy()
    by_labels.calc, direct.calc = LabelCalculator(labels), EMT()
    assert by_labels.get_forces() == pytest.approx(direct.get_forces(), abs=1e-5)
    assert by_labels.get_stress() == pytest.approx(direct.get_stress(), abs=1e-6)
    settings = MolecularDynamics(length_ps=0.1, equilibration_ps=0.1, time_step_fs=1, frame_fs=2, reference_frames=0)
    made = run(direct, settings, generator(1, "md"), lambda line: None)
    assert abs(made.energy_drift()[1]) < 1 and 50 < made.temperature_K.mean() < 900


def test_a_label_without_forces_is_told():
    atoms = of_emt("H2O")
    atoms.calc = LabelCalculator(lambda structures: [{"energy": 1.0}])
    assert atoms.get_potential_energy() == 1.0
    with pytest.raises(QuarryError, match="the labels have no forces"):
        atoms.get_forces()
