"""A training step and predictions of other packages' potentials, for ``potential_speed.py``: each runs in its own environment.

    OTHER/bin/python benchmarks/other_potentials.py apax ethanol_zaverkin_1000K.npz 30

32 ethanols with energies and forces, a network of each package's defaults but for the cutoff of 4 Angstrom (torchani: its own;
mace: a small one, since its defaults are for a GPU). Prints JSON: version, what the network is, its parameters, CPU-seconds of
the first step and prediction (with compilation), of each further step and of each prediction of all structures. One thread.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from networks_of_others import (
    ani,
    ani_derivatives,
    apax_settings,
    count,
    mace_graphs,
    mace_loss,
    set_one_thread,
    small_mace,
    squares,
    timed,
    write_frames,
)

BATCH, RATE = 32, 1e-3
Parts = tuple[str, int, Callable[[], Any], Callable[[], Any]]
"""What the network is, its parameters, a training step, predictions."""


def torchani(data: Any) -> Parts:
    import torch

    set_one_thread()
    model, positions = ani(), torch.tensor(data["R"][:BATCH], dtype=torch.float32)
    energies, forces = torch.zeros(BATCH), torch.zeros(positions.shape)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, amsgrad=True)

    def step() -> None:
        loss = squares(ani_derivatives(model, data["Z"], positions, True), energies, forces)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    predict = partial(ani_derivatives, model, data["Z"], positions, False)
    return "ANI as simple_ani makes it", count(model.parameters()), step, predict


def mace(data: Any) -> Parts:
    import torch
    from mace.tools.torch_geometric import Batch

    set_one_thread()
    model, loss_of, positions = small_mace(1.0), mace_loss(), data["R"][:BATCH].astype(float)
    batch = Batch.from_data_list(mace_graphs(data["Z"], positions, np.zeros(BATCH), np.zeros_like(positions)))
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, amsgrad=True)

    def step() -> None:
        optimiser.zero_grad()
        loss_of(batch, model(batch.to_dict(), training=True)).backward()
        optimiser.step()

    what = "MACE of 32 scalar channels, 2 interactions, l <= 2, correlation 3"
    return what, count(model.parameters()), step, lambda: model(batch.to_dict(), compute_force=True)


def apax(data: Any) -> Parts:
    import jax
    from apax.config import parse_config
    from apax.optimizer import get_opt
    from apax.train.checkpoints import create_params
    from apax.train.metrics import initialize_metrics
    from apax.train.run import initialize_datasets, initialize_loss_fn
    from apax.train.trainer import make_step_fns
    from ase import units
    from flax.training.train_state import TrainState

    unit, folder = units.kcal / units.mol, Path(tempfile.mkdtemp())
    for name, rows in (("train", slice(BATCH)), ("validation", slice(BATCH, 2 * BATCH))):
        labels = (data["E_kcal_mol"][rows] * unit, data["F_kcal_mol_A"][rows] * unit)
        write_frames(folder / f"{name}.extxyz", data["Z"], data["R"][rows], *labels)
    config = parse_config(apax_settings(folder, "speed", 1000, BATCH))
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

    size = count(jax.tree_util.tree_leaves(params))
    none = metrics.empty()
    return "GM-NN as apax makes it", size, step, lambda: jax.block_until_ready(predict(params, batch, none))


PACKAGES = {"torchani": torchani, "mace": mace, "apax": apax}


if __name__ == "__main__":
    package, file, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3])
    what, parameters, step, predict = PACKAGES[package](np.load(file))
    first = sum(timed(run, 1)[0] for run in (step, predict))
    for run in (step, predict):
        timed(run, 3)
    found = {
        "version": version("mace-torch" if package == "mace" else package),
        "network": what,
        "parameters": parameters,
        "first_s": first,
        "step_s": timed(step, repeats),
        "predict_s": timed(predict, repeats),
    }
    print(json.dumps(found))
