"""Ethanol: force error against CPU-seconds of training, beside torchani, mace and apax on the same structures.

    python benchmarks/potential_accuracy.py --data FOLDER --rows rows.jsonl --budgets 30 90 [--torchani PYTHON] [--mace PYTHON]
    [--apax PYTHON]

200 structures are learnt and 500 others predicted. Each program runs in its own environment, on one thread, in steps of eight
structures, down a cosine to a learning rate of zero: the first steps say how many fit into a budget. Compilation and imports do
not count. Learning rates: several for each program (``RATES``); the table has the best of them at each budget. Rows go to a file.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from networks_of_others import (
    ani,
    ani_derivatives,
    apax_settings,
    mace_graphs,
    mace_loss,
    set_one_thread,
    small_mace,
    squares,
    timed,
    write_frames,
)

TRAIN, TEST, BATCH, TRIED = 200, 500, 8, 30
FEW, MORE = 5, 55
"""Epochs of two runs of apax, whose difference tells what an epoch takes."""
RATES = {"gmnn": (0.01, 0.03), "torchani": (1e-3, 3e-3), "mace": (3e-3, 1e-2), "apax": (0.005, 0.02)}
EV = 0.0433641153
Sets = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]


def sets(folder: Path) -> tuple[np.ndarray, Sets]:
    """Return atomic numbers, and positions, energies and forces (eV, Angstrom) of the structures to learn and to predict."""
    data = np.load(folder / "ethanol_zaverkin_1000K.npz")
    order = np.random.default_rng(0).permutation(len(data["R"]))

    def of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return data["R"][rows].astype(float), EV * data["E_kcal_mol"][rows], EV * data["F_kcal_mol_A"][rows]

    return data["Z"].astype(int), {"train": of(order[:TRAIN]), "test": of(order[TRAIN : TRAIN + TEST])}


def learn(step: Callable[[np.ndarray, float], None], budget_s: float, rate: float, fresh: Callable[[], None]) -> int:
    """Make as many steps as fit into a budget, from fresh weights; return their number. step: of some rows, at a rate."""
    rng = np.random.default_rng(1)

    def rows() -> np.ndarray:
        return rng.permutation(TRAIN)[:BATCH]

    for _ in range(5):
        step(rows(), 0.0)
    count = max(1, int(budget_s / sum(timed(lambda: step(rows(), 0.0), TRIED)) * TRIED))
    fresh()
    for number in range(count):
        step(rows(), 0.5 * rate * (1 + math.cos(math.pi * number / count)))
    return count


def torch_steps(make: Callable[[], Any], loss: Callable[[Any, np.ndarray], Any]) -> tuple[list[Any], Any, Any]:
    """Return a list with the model, a step and what makes it anew, of AMSGrad. loss: of the model on some rows."""
    import torch

    set_one_thread()
    state: list[Any] = []

    def fresh() -> None:
        torch.manual_seed(1)
        model = make()
        state[:] = [model, torch.optim.Adam(model.parameters(), lr=1e-3, amsgrad=True)]

    def step(rows: np.ndarray, rate: float) -> None:
        state[1].param_groups[0]["lr"] = rate
        state[1].zero_grad()
        loss(state[0], rows).backward()
        state[1].step()

    fresh()
    return state, step, fresh


def torchani(numbers: np.ndarray, parts: Sets, budget_s: float, rate: float) -> tuple[int, np.ndarray]:
    import torch

    positions, energies, forces = (torch.tensor(part, dtype=torch.float32) for part in _centred(parts["train"]))

    def loss(model: Any, rows: np.ndarray) -> Any:
        return squares(ani_derivatives(model, numbers, positions[rows], True), energies[rows], forces[rows])

    state, step, fresh = torch_steps(ani, loss)
    count, others = learn(step, budget_s, rate, fresh), torch.tensor(parts["test"][0], dtype=torch.float32)
    return count, ani_derivatives(state[0], numbers, others, False)[1].detach().numpy()


def mace(numbers: np.ndarray, parts: Sets, budget_s: float, rate: float) -> tuple[int, np.ndarray]:
    import torch
    from mace.tools.torch_geometric import Batch

    torch.set_default_dtype(torch.float32)
    scale = float(np.sqrt(np.mean(parts["train"][2] ** 2)))
    known, others = (mace_graphs(numbers, *_centred(parts[name])) for name in ("train", "test"))
    loss_of = mace_loss()

    def loss(model: Any, rows: np.ndarray) -> Any:
        batch = Batch.from_data_list([known[row] for row in rows])
        return loss_of(batch, model(batch.to_dict(), training=True))

    state, step, fresh = torch_steps(lambda: small_mace(scale), loss)
    count = learn(step, budget_s, rate, fresh)
    found = []
    for start in range(0, len(others), 50):
        batch = Batch.from_data_list(others[start : start + 50])
        found.append(state[0](batch.to_dict(), compute_force=True)["forces"].detach().numpy())
    return count, np.concatenate(found).reshape(parts["test"][2].shape)


def gmnn(numbers: np.ndarray, parts: Sets, budget_s: float, rate: float) -> tuple[int, np.ndarray]:
    from potentials import trained

    from quarry.models.base import TrainingData
    from quarry.structures import Structure, StructureSet

    def examples(part: tuple[np.ndarray, np.ndarray, np.ndarray]) -> TrainingData:
        structures = StructureSet.from_structures(Structure.create(numbers, positions) for positions in part[0])
        return TrainingData(structures, {"energy": part[1], "forces": part[2].reshape(-1, 3)})

    data = examples(parts["train"])
    # One structure to look at after each epoch: what others do not do either.
    few, settings = data.subset(np.arange(1)), {"batch_size": BATCH, "learning_rate": rate}
    trained(data, few, 25, 1, **settings)
    [hundred_s] = timed(lambda: trained(data, few, 100, 1, **settings))
    count = int(100 * budget_s / hundred_s)
    model = trained(data, few, count, 1, **settings)
    found = model.predict(examples(parts["test"]).structures, frozenset({"forces"})).mean["forces"]
    return count, found.reshape(parts["test"][2].shape)


def apax(numbers: np.ndarray, parts: Sets, budget_s: float, rate: float) -> tuple[int, np.ndarray]:
    import tempfile

    from apax.md import ASECalculator
    from apax.train.run import run
    from ase import Atoms

    folder = Path(tempfile.mkdtemp())
    write_frames(folder / "train.extxyz", numbers, *parts["train"])
    write_frames(folder / "validation.extxyz", numbers, *(part[:BATCH] for part in parts["train"]))

    def train(epochs: int, name: str) -> float:
        config = {**apax_settings(folder, name, epochs, BATCH), "optimizer": {"nn_lr": rate, "emb_lr": rate}}
        [seconds] = timed(partial(run, config, log_level="error"))
        return seconds

    # The first run compiles what later ones find; each of these compiles the rest anew, which takes as long in both.
    train(FEW, "first")
    short, longer = train(FEW, "short"), train(MORE, "longer")
    epoch_s = (longer - short) / (MORE - FEW)
    if epoch_s <= 0:
        raise SystemExit(f"{MORE} epochs took no longer ({longer:.1f} s) than {FEW} ({short:.1f} s)")
    epochs = max(1, int(budget_s / epoch_s))
    train(epochs, "whole")
    calculator = ASECalculator(folder / "whole" / "e")
    found = []
    for positions in parts["test"][0]:
        atoms = Atoms(numbers, positions)
        atoms.calc = calculator
        found.append(atoms.get_forces())
    return epochs * TRAIN // BATCH, np.array(found)


def _centred(part: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return part[0], part[1] - part[1].mean(), part[2]


PROGRAMS = {"gmnn": gmnn, "torchani": torchani, "mace": mace, "apax": apax}


def measure(program: str, folder: Path, budget_s: float, rate: float) -> dict[str, Any]:
    """Return what a program reaches."""
    numbers, parts = sets(folder)
    count, forces = PROGRAMS[program](numbers, parts, budget_s, rate)
    off = (forces - parts["test"][2]) / EV
    errors = {"mae": float(np.abs(off).mean()), "rmse": float(np.sqrt(np.mean(off**2)))}
    return {"program": program, "budget_s": budget_s, "rate": rate, "steps": count, **errors}


def show(rows: list[dict[str, Any]]) -> None:
    """Print the best of the learning rates at each budget."""
    from common import machine, print_table

    print(machine())
    table = []
    for program, budget in sorted({(row["program"], row["budget_s"]) for row in rows}):
        some = [row for row in rows if (row["program"], row["budget_s"]) == (program, budget)]
        best = min(some, key=lambda row: row["mae"])
        table.append([program, budget, best["steps"], best["rate"], best["mae"], best["rmse"]])
    print_table(
        f"Forces of {TEST} ethanols, {TRAIN} learnt, kcal/mol/Angstrom; the best of the learning rates that were tried",
        ["", "CPU-s", "steps of 8", "learning rate", "MAE", "RMSE"],
        table,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--budgets", type=float, nargs="*", default=[30, 90])
    for name in PROGRAMS:
        parser.add_argument(
            f"--{name}", default=sys.executable if name == "gmnn" else "", help="Python of its environment"
        )
    parser.add_argument("--one", nargs=3, metavar=("PROGRAM", "BUDGET", "RATE"), help="measure one, and print it")
    options = parser.parse_args()
    if options.one:
        program, budget, rate = options.one
        print(json.dumps(measure(program, options.data, float(budget), float(rate))))
        sys.exit()
    for program, rates in RATES.items():
        python = getattr(options, program)
        for budget in options.budgets if python else []:
            for rate in rates:
                command = [python, "-W", "ignore", __file__, "--data", str(options.data), "--rows", str(options.rows)]
                command += ["--one", program, str(budget), str(rate)]
                one = {**os.environ, "OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
                done = subprocess.run(command, capture_output=True, text=True, check=False, env=one)
                if done.returncode:
                    print(f"{program}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                    continue
                with open(options.rows, "a") as handle:
                    handle.write(done.stdout.strip().splitlines()[-1] + "\n")
    show([json.loads(line) for line in options.rows.read_text().splitlines()])
