"""A training step and predictions of other packages' potentials, for ``potential_speed.py``: each runs in its own environment.

    OTHER/bin/python benchmarks/other_potentials.py apax ethanol_zaverkin_1000K.npz 30

32 ethanols with energies and forces, a network of each package's defaults but for the cutoff of 4 Angstrom (torchani: its own;
mace: a small one, since its defaults are for a GPU). Prints JSON: version, what the network is, its parameters, CPU-seconds of
the first step and prediction (with compilation), of each further step and of each prediction of all structures. One thread.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
# e3nn reads constants of its own, which it pickled.
os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")

import numpy as np

BATCH, CUTOFF_A, RATE = 32, 4.0, 1e-3
Parts = tuple[str, int, Callable[[], Any], Callable[[], Any]]
"""What the network is, its parameters, a training step, predictions."""


def torchani(data: Any) -> Parts:
    import torch
    from torchani.arch import simple_ani

    torch.set_num_threads(1)
    index = {1: 0, 6: 1, 8: 2}
    model = simple_ani(["H", "C", "O"], lot="none", self_energies="zero", repulsion=False, periodic_table_index=False)
    species = torch.tensor([[index[int(z)] for z in data["Z"]]] * BATCH)
    positions = torch.tensor(data["R"][:BATCH], dtype=torch.float32)
    energies, forces = torch.zeros(BATCH), torch.zeros(positions.shape)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, amsgrad=True)

    def derivatives(learn: bool) -> tuple[Any, Any]:
        x = positions.clone().requires_grad_(True)
        energy = model((species, x)).energies
        return energy, -torch.autograd.grad(energy.sum(), x, create_graph=learn)[0]

    def step() -> None:
        energy, force = derivatives(True)
        loss = ((energy - energies) ** 2).mean() + 100 * ((force - forces) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return "ANI as simple_ani makes it", _count(model), step, lambda: derivatives(False)


def mace(data: Any) -> Parts:
    import torch
    from e3nn import o3
    from mace.data import AtomicData, Configuration
    from mace.modules import ScaleShiftMACE, WeightedEnergyForcesLoss, interaction_classes
    from mace.tools import AtomicNumberTable
    from mace.tools.torch_geometric import Batch

    torch.set_num_threads(1)
    table = AtomicNumberTable([1, 6, 8])
    model = ScaleShiftMACE(
        r_max=CUTOFF_A,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=2,
        interaction_cls=interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=interaction_classes["RealAgnosticResidualInteractionBlock"],
        num_interactions=2,
        num_elements=3,
        hidden_irreps=o3.Irreps("32x0e"),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(3),
        avg_num_neighbors=7.0,
        atomic_numbers=[1, 6, 8],
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    weights = {"energy": 1.0, "forces": 1.0}
    structures = [
        Configuration(
            atomic_numbers=data["Z"],
            positions=positions,
            properties={"energy": 0.0, "forces": np.zeros_like(positions)},
            property_weights=weights,
        )
        for positions in data["R"][:BATCH].astype(float)
    ]
    batch = Batch.from_data_list([AtomicData.from_config(s, z_table=table, cutoff=CUTOFF_A) for s in structures])
    loss_of = WeightedEnergyForcesLoss(1.0, 100.0)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, amsgrad=True)

    def step() -> None:
        optimiser.zero_grad()
        loss_of(batch, model(batch.to_dict(), training=True)).backward()
        optimiser.step()

    what = "MACE of 32 scalar channels, 2 interactions, l <= 2, correlation 3"
    return what, _count(model), step, lambda: model(batch.to_dict(), compute_force=True)


def apax(data: Any) -> Parts:
    import jax
    from apax.config import parse_config
    from apax.optimizer import get_opt
    from apax.train.checkpoints import create_params
    from apax.train.metrics import initialize_metrics
    from apax.train.run import initialize_datasets, initialize_loss_fn
    from apax.train.trainer import make_step_fns
    from ase import Atoms, units
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write
    from flax.training.train_state import TrainState

    unit = units.kcal / units.mol
    folder = Path(tempfile.mkdtemp())
    frames = []
    for k in range(2 * BATCH):
        atoms = Atoms(data["Z"], data["R"][k])
        atoms.calc = SinglePointCalculator(
            atoms, energy=data["E_kcal_mol"][k] * unit, forces=data["F_kcal_mol_A"][k] * unit
        )
        frames.append(atoms)
    for name, some in (("train", frames[:BATCH]), ("validation", frames[BATCH:])):
        write(folder / f"{name}.extxyz", some)
    config = parse_config(
        {
            "n_epochs": 1000,
            "seed": 1,
            "data": {
                "directory": str(folder),
                "experiment": "speed",
                "train_data_path": str(folder / "train.extxyz"),
                "val_data_path": str(folder / "validation.extxyz"),
                "batch_size": BATCH,
                "valid_batch_size": BATCH,
                "energy_unit": "eV",
                "pos_unit": "Ang",
            },
            "model": {"name": "gmnn", "basis": {"name": "gaussian", "n_basis": 7, "r_max": CUTOFF_A}, "nn": [256, 128]},
            "loss": [{"name": "energy"}, {"name": "forces", "weight": 100}],
            "metrics": [{"name": "forces", "reductions": ["mae"]}],
        }
    )
    config.data.model_version_path.mkdir(parents=True, exist_ok=True)
    train, _, statistics = initialize_datasets(config)
    sample, box = train.init_input()
    model = config.model.get_builder()(config.model.model_dump()).build_energy_derivative_model(
        scale=statistics.elemental_scale, shift=statistics.elemental_shift, apply_mask=True, init_box=box
    )
    many = jax.vmap(model.apply, in_axes=(None, 0, 0, 0, 0, 0))
    params, _ = create_params(model, jax.random.PRNGKey(1), sample, 1)
    metrics = initialize_metrics(config.metrics)
    optimiser = get_opt(params, 1000, 1, **config.optimizer.model_dump())
    train_step, predict = make_step_fns(initialize_loss_fn(config.loss), metrics, many, False)
    batch = next(train.shuffle_and_batch(None))
    carry = [(TrainState.create(apply_fn=many, params=params, tx=optimiser), metrics.empty())]

    def step() -> None:
        state, loss = train_step(carry[0], batch)
        carry[0] = state
        jax.block_until_ready(loss)

    size = sum(int(np.size(part)) for part in jax.tree_util.tree_leaves(params))
    none = metrics.empty()
    return "GM-NN as apax makes it", size, step, lambda: jax.block_until_ready(predict(params, batch, none))


def _count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


PACKAGES = {"torchani": torchani, "mace": mace, "apax": apax}


def timed(run: Callable[[], Any], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return times


if __name__ == "__main__":
    package, file, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    what, parameters, step, predict = PACKAGES[package](np.load(file))
    first = sum(timed(run, 1)[0] for run in (step, predict))
    for run in (step, predict):
        timed(run, 3)
    found = {
        "version": version("mace-torch" if package == "mace" else package),
        "network": what,
        "parameters": parameters,
        "first_s": first,
        "step_s": timed(step, count),
        "predict_s": timed(predict, count),
    }
    print(json.dumps(found))
