"""Networks of other packages as the benchmarks train them, for ethanol, in environments of their own: no Quarry is imported.

The cutoff is 4 Angstrom, torchani has its own; the network of mace is a small one, since its defaults are for a GPU. One thread.
"""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
# e3nn reads constants of its own, which it pickled.
os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")

import numpy as np

CUTOFF_A, ELEMENTS = 4.0, (1, 6, 8)


def ani() -> Any:
    """Return torchani's network."""
    from torchani.arch import simple_ani

    return simple_ani(["H", "C", "O"], lot="none", self_energies="zero", repulsion=False, periodic_table_index=False)


def ani_derivatives(model: Any, numbers: np.ndarray, positions: Any, learn: bool) -> tuple[Any, Any]:
    """Return energies and forces of geometries of one molecule. positions: tensor of shape (n, n_atoms, 3), Angstrom."""
    import torch

    species = torch.tensor([[ELEMENTS.index(int(z)) for z in numbers]]).repeat(len(positions), 1)
    x = positions.clone().requires_grad_(True)
    energy = model((species, x)).energies
    return energy, -torch.autograd.grad(energy.sum(), x, create_graph=learn)[0]


def squares(found: tuple[Any, Any], energies: Any, forces: Any) -> Any:
    """Return the loss of energies and forces, as mace weighs them."""
    return ((found[0] - energies) ** 2).mean() + 100 * ((found[1] - forces) ** 2).mean()


def small_mace(scale: float) -> Any:
    """Return a network of mace: 32 scalar channels, 2 interactions, l <= 2, correlation 3. scale: of atomic energies (eV)."""
    import torch
    from e3nn import o3
    from mace.modules import ScaleShiftMACE, interaction_classes

    block = interaction_classes["RealAgnosticResidualInteractionBlock"]
    return ScaleShiftMACE(
        r_max=CUTOFF_A,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=2,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=len(ELEMENTS),
        hidden_irreps=o3.Irreps("32x0e"),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(ELEMENTS)),
        avg_num_neighbors=7.0,
        atomic_numbers=list(ELEMENTS),
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=scale,
        atomic_inter_shift=0.0,
    )


def mace_graphs(numbers: np.ndarray, positions: np.ndarray, energies: np.ndarray, forces: np.ndarray) -> list[Any]:
    """Return geometries with labels (eV, eV/Angstrom) as mace wants them."""
    from mace.data import AtomicData, Configuration
    from mace.tools import AtomicNumberTable

    table, weights = AtomicNumberTable(list(ELEMENTS)), {"energy": 1.0, "forces": 1.0}
    return [
        AtomicData.from_config(
            Configuration(
                atomic_numbers=numbers,
                positions=place,
                properties={"energy": energy, "forces": force},
                property_weights=weights,
            ),
            z_table=table,
            cutoff=CUTOFF_A,
        )
        for place, energy, force in zip(positions, energies, forces, strict=True)
    ]


def mace_loss() -> Any:
    """Return mace's loss of energies and forces."""
    from mace.modules import WeightedEnergyForcesLoss

    return WeightedEnergyForcesLoss(1.0, 100.0)


def write_frames(
    path: Path, numbers: np.ndarray, positions: np.ndarray, energies: np.ndarray, forces: np.ndarray
) -> None:
    """Write geometries with labels (eV, eV/Angstrom) as extended XYZ."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    frames = []
    for place, energy, force in zip(positions, energies, forces, strict=True):
        atoms = Atoms(numbers, place)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=force)
        frames.append(atoms)
    write(path, frames)


def apax_settings(folder: Path, name: str, epochs: int, batch: int) -> dict[str, Any]:
    """Return apax's configuration of GM-NN. folder: with ``train.extxyz`` and ``validation.extxyz``. name: of the run."""
    return {
        "n_epochs": epochs,
        "seed": 1,
        "data": {
            "directory": str(folder / name),
            "experiment": "e",
            "train_data_path": str(folder / "train.extxyz"),
            "val_data_path": str(folder / "validation.extxyz"),
            "batch_size": batch,
            "valid_batch_size": batch,
            "energy_unit": "eV",
            "pos_unit": "Ang",
        },
        "model": {"name": "gmnn", "basis": {"name": "gaussian", "n_basis": 7, "r_max": CUTOFF_A}, "nn": [256, 128]},
        "loss": [{"name": "energy"}, {"name": "forces", "weight": 100}],
        "metrics": [{"name": "forces", "reductions": ["mae"]}],
    }


def timed(run: Callable[[], Any], repeats: int = 1) -> list[float]:
    """Return the processor seconds of each of some runs."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return times


def set_one_thread() -> None:
    """Let torch compute on one thread."""
    import torch

    torch.set_num_threads(1)


def count(parameters: Iterable[Any]) -> int:
    """Return how many numbers the arrays or tensors of a network hold."""
    return sum(int(np.prod(part.shape)) for part in parameters)
