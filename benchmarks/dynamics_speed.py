"""Steps of dynamics a second: many trajectories as one calculation, against ASE one by one, and beside torch-sim.

    python benchmarks/dynamics_speed.py [--walkers 1 10 100] [--torch-sim FOLDER]

The potential is a gmnn (with an auxiliary model, as by default) of ethanol, quickly trained on effective medium theory: a step
takes as long whatever the weights are. "with uncertainty": as the campaign explores, with the deviation of the auxiliary model
in each step. "without": the same trajectories on the main network alone, as ASE and torch-sim run them; torch-sim asks the same
predictions of the same network. --torch-sim: folder with torch_sim_atomistic (pip install --target). CPU time, one thread; the
least of repeats, since other work on a machine can only add to it.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import read
from common import REPOSITORY, machine, print_table
from numpy.typing import NDArray

STEPS, REPEATS, STEP_FS, TEMPERATURE_K = 20, 3, 0.2, 300.0


def trained() -> tuple[Any, list[Any]]:
    """Return a potential of ethanol, and geometries."""
    from quarry.config.gmnn import Gmnn
    from quarry.models.base import TrainingData
    from quarry.models.gmnn.model import GaussianMomentModel
    from quarry.structures import Structure, StructureSet

    rng, start = np.random.default_rng(0), read(REPOSITORY / "config/molecules/ethanol.xyz")
    assert isinstance(start, Atoms)
    frames, energies, forces = [], [], []
    for _ in range(64):
        atoms = start.copy()
        atoms.positions += rng.normal(0, 0.03, atoms.positions.shape)
        atoms.calc = EMT()
        frames.append(Structure.from_atoms(atoms))
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    structures = StructureSet.from_structures(frames)
    model = GaussianMomentModel(Gmnn(kind="gmnn", epochs=30, uncertainty="auxiliary"), ("energy", "forces"))
    model.fit(TrainingData(structures, {"energy": np.array(energies), "forces": np.concatenate(forces)}), None, rng)
    return model, frames


def batched(model: Any, frames: list[Any], walkers: int, unsure: bool) -> Callable[[], None]:
    """Return what runs the steps as the campaign does. unsure: with the uncertainty of each frame."""
    from quarry.dynamics.exploration import Course, explore
    from quarry.dynamics.integrators import VelocityVerlet
    from quarry.dynamics.uncertainty import MEASURES, Measure
    from quarry.dynamics.walkers import Walkers, heated
    from quarry.structures import StructureSet

    rngs = [np.random.default_rng(k) for k in range(walkers)]
    start = heated(
        Walkers.at_rest(StructureSet.from_structures([frames[k % len(frames)] for k in range(walkers)])),
        TEMPERATURE_K,
        rngs,
    )
    none = Measure(frozenset({"energy"}), lambda model, structures, found: np.zeros(len(structures)), "eV", "nothing")
    course = Course(STEPS, (TEMPERATURE_K, TEMPERATURE_K), np.inf, 1e6)
    measure = MEASURES["energy"] if unsure else none
    return lambda: check(explore(model, start, VelocityVerlet(STEP_FS), course, measure, rngs).ends)


def check(ends: NDArray[np.int64]) -> None:
    """Refuse trajectories that ended early: their steps would be too quick."""
    assert (ends == STEPS).all(), ends


def one_by_one(model: Any, frames: list[Any], walkers: int) -> Callable[[], None]:
    """Return what runs the steps by ASE, a trajectory after another."""
    from ase.calculators.calculator import Calculator
    from ase.md.velocitydistribution import thermalize_momenta
    from ase.md.verlet import VelocityVerlet
    from ase.units import fs

    from quarry.structures import Structure, StructureSet

    class Quick(Calculator):
        """The model without the checks of ``QuarryCalculator``."""

        implemented_properties = ["energy", "forces"]  # noqa: RUF012 (as ASE declares it)

        def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = None) -> None:
            super().calculate(atoms, properties, system_changes)
            asked = StructureSet.from_structures([Structure(self.atoms.numbers, self.atoms.positions)])
            found = model.predict(asked, frozenset({"energy", "forces"})).mean
            self.results = {"energy": float(found["energy"][0]), "forces": found["forces"]}

    def run() -> None:
        for k in range(walkers):
            atoms = frames[k % len(frames)].to_atoms()
            atoms.calc = Quick()
            thermalize_momenta(atoms, temperature_K=TEMPERATURE_K, rng=np.random.default_rng(k))
            VelocityVerlet(atoms, timestep=STEP_FS * fs).run(STEPS)

    return run


def by_torch_sim(model: Any, frames: list[Any], walkers: int) -> Callable[[], None]:
    """Return what runs the steps by torch-sim, all trajectories at once."""
    import torch_sim
    from torch_sim.models.interface import ModelInterface

    from quarry.structures import StructureSet

    class Potential(ModelInterface):
        """The same network."""

        def __init__(self) -> None:
            super().__init__()
            self._device, self._dtype = torch.device("cpu"), torch.float64
            self._compute_stress, self._compute_forces = False, True

        def forward(self, state: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
            asked = replace(known, positions=state.positions.numpy())
            found = model.predict(asked, frozenset({"energy", "forces"})).mean
            return {"energy": torch.from_numpy(found["energy"]), "forces": torch.from_numpy(found["forces"])}

    known = StructureSet.from_structures([frames[k % len(frames)] for k in range(walkers)])
    # Ids that no other structure has, as the campaign does: nothing is taken from a cache.
    known = replace(known, ids=np.array([f"frame {k}" for k in range(walkers)]))
    molecules = [frames[k % len(frames)].to_atoms() for k in range(walkers)]
    for atoms in molecules:
        atoms.center(vacuum=20.0)
    potential = Potential()
    metal = torch_sim.units.MetalUnits
    step = torch.tensor(STEP_FS * 1e-3 * metal.time, dtype=torch.float64)
    kT = torch.tensor(TEMPERATURE_K * metal.temperature, dtype=torch.float64)
    state = torch_sim.initialize_state(molecules, torch.device("cpu"), torch.float64)
    begin, advance = torch_sim.nve(potential, dt=step, kT=kT, seed=1)

    def run() -> None:
        now = begin(state.clone())
        for _ in range(STEPS):
            now = advance(now)

    return run


def rate(run: Callable[[], None], walkers: int) -> float:
    """Return steps a second of CPU time, all trajectories together, the best of repeats."""
    run()
    times = []
    for _ in range(REPEATS):
        before = time.process_time()
        run()
        times.append(time.process_time() - before)
    return walkers * STEPS / min(times)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walkers", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--torch-sim", help="folder with torch_sim_atomistic")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.torch_sim:
        sys.path.append(arguments.torch_sim)
    model, frames = trained()
    rows = []
    for walkers in arguments.walkers:
        ways = {
            "as the campaign, with uncertainty": batched(model, frames, walkers, True),
            "the same without": batched(model, frames, walkers, False),
            "ASE, one by one": one_by_one(model, frames, min(walkers, 10)),
        }
        if arguments.torch_sim:
            ways["torch-sim"] = by_torch_sim(model, frames, walkers)
        for name, run in ways.items():
            count = min(walkers, 10) if name.startswith("ASE") else walkers
            rows.append([walkers, name, f"{rate(run, count):.0f}"])
            print(rows[-1], file=sys.stderr, flush=True)
    print_table("Ethanol, gmnn: steps a second of CPU time, all trajectories", ["trajectories", "", "steps/s"], rows)
    print(f"\n{machine()}")
