"""What the studies of potentials share: a potential trained with a number of steps, batches by a strategy, errors."""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, print_table

from quarry.config.gmnn import Gmnn
from quarry.config.query import INFORMATIVENESS, Query, criteria
from quarry.models.base import STD, TrainingData
from quarry.models.gmnn.model import GaussianMomentModel
from quarry.query.base import PoolView, Ranks
from quarry.query.strategies import chosen_by, make_strategy, needs_of
from quarry.randomness import generator


def trained(
    data: TrainingData, validation: TrainingData, steps: int, seed: int, **settings: Any
) -> GaussianMomentModel:
    """Return a potential that made so many steps from random weights, down a cosine to a learning rate of zero."""
    size = settings.get("batch_size", 32)
    epochs = max(1, round(steps / -(-len(data) // size)))
    section = Gmnn.model_validate(
        {"kind": "gmnn", "epochs": epochs, "schedule": "cosine", "patience": epochs, **settings}
    )
    model = GaussianMomentModel(section, tuple(data.targets))
    model.fit(data, validation, generator(seed, "train", len(data)))
    return model


def chosen(
    strategy: str, model: GaussianMomentModel, data: TrainingData, candidates: Any, train: Any, n: int, rng: Any
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return which of the candidates (rows of data) a strategy takes, and what it ranks them by (None: nothing).

    strategy: its name; of one that looks at features, "name:embedding".
    """
    name, _, embedding = strategy.partition(":")
    query = Query.model_validate(
        {"strategy": name, "initial": 1, "batch": {"schedule": "constant", "size": 1}}
        | ({"embedding": embedding} if embedding else {})
    )
    made = make_strategy(query)
    needs = needs_of(query, made)
    fields: dict[str, Any] = {}
    if "embedding" in needs:
        both = data.structures.subset(np.concatenate([candidates, train]))
        maps = model.features(both, embedding, rng)
        fields = {"embedding": maps[: len(candidates)], "labelled_embedding": maps[len(candidates) :]}
    wanted = criteria(needs)
    if wanted:
        of = model.informativeness(data.structures.subset(candidates), data.structures.subset(train), wanted)
        fields |= {INFORMATIVENESS + name: of[name].values for name in wanted}
        fields |= {f"labelled_{INFORMATIVENESS}{name}": of[name].known for name in wanted}
    view = PoolView(features=np.zeros((len(candidates), 0)), **fields)
    picked = chosen_by(made, name, view, n, rng)
    return candidates[picked], made.score(view) if isinstance(made, Ranks) and wanted else None


def force_errors(model: GaussianMomentModel, data: TrainingData, unit: float) -> dict[str, Any]:
    """Return errors of forces and energies of some structures; forces: mean absolute error of each structure."""
    found = model.predict(data.structures, frozenset(data.targets))
    energies = np.abs(found.mean["energy"] - data.targets["energy"]) / unit
    result: dict[str, Any] = {
        "energy_mae": energies.mean(),
        "energy_rmse": rms(energies),
        "energy_maxe": energies.max(),
    }
    if "forces" in data.targets:
        off = np.abs(found.mean["forces"] - data.targets["forces"]) / unit
        result |= {"forces_mae": off.mean(), "forces_rmse": rms(off), "forces_maxe": off.max()}
    return {name: float(value) for name, value in result.items()}


def errors_of_structures(model: GaussianMomentModel, data: TrainingData, unit: float) -> np.ndarray:
    """Return the mean absolute error of the force components of each structure, shape (n,)."""
    off = np.abs(model.predict(data.structures, frozenset({"forces"})).mean["forces"] - data.targets["forces"])
    return mean_of_structures(off, data) / unit


def mean_of_structures(values: np.ndarray, data: TrainingData) -> np.ndarray:
    """Return the mean over the atoms and directions of each structure, shape (n,). values: (n_atoms, 3)."""
    sizes = np.diff(data.structures.offsets)
    return np.bincount(np.repeat(np.arange(len(sizes)), sizes), values.mean(axis=1)) / sizes


def committee_spread(
    data: TrainingData, validation: TrainingData, others: TrainingData, steps: int, seed: int, **settings: Any
) -> dict[str, np.ndarray]:
    """Return how much three short-trained networks differ in the energy and the forces of each structure (equation 24)."""
    model = trained(data, validation, steps, seed, uncertainty="committee", members=3, calibrate=False, **settings)
    std = model.predict(others.structures, frozenset({*data.targets, STD})).std
    forces = {"forces": mean_of_structures(std["forces"], others)} if "forces" in std else {}
    return {"energy": std["energy"], **forces}


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def sizes_upto(first: int, last: int, fraction: float = 0.1) -> list[int]:
    """Return the sizes of training sets that grow by a fraction."""
    sizes = [first]
    while sizes[-1] < last:
        sizes.append(sizes[-1] + int(np.ceil(round(fraction * sizes[-1], 9))))
    return sizes


def add_options(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """Add what ``split`` and ``study`` read. defaults: of those that the studies choose apart."""
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", required=True, help="file that rows are appended to; what it has is not done again")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--strategies", nargs="*", help="name, or name:embedding")
    parser.add_argument("--initial", type=int)
    parser.add_argument("--upto", type=int)
    parser.add_argument("--fraction", type=float, default=0.1, help="labels of a batch, of those that are there")
    parser.add_argument("--pool", type=int)
    parser.add_argument("--test", type=int)
    parser.add_argument("--validation", type=int)
    parser.add_argument("--steps", type=int, help="of a training that only selects")
    parser.add_argument("--long-steps", type=int, help="of a training that is measured")
    parser.add_argument("--long-at", type=int, nargs="*", help="labels at which errors are measured")
    parser.add_argument("--batch-size", type=int, default=8, help="structures of a step")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--correlated-at", type=int, help="labels of the correlations; 0: none")
    parser.add_argument("--correlated", type=int, default=1000, help="structures of the correlations")
    parser.add_argument("--committee-steps", type=int, help="of each network of a committee")
    parser.set_defaults(**defaults)


def split(n: int, options: argparse.Namespace, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows of the test set, of what early stopping looks at, and of the pool, in random order."""
    order = generator(seed, "split").permutation(n)
    pool = order[options.test + options.validation :][: options.pool]
    return order[: options.test], order[options.test : options.test + options.validation], pool


def study(data: TrainingData, options: argparse.Namespace, seed: int, unit: float, **settings: Any) -> None:
    """Write what each strategy selects (kind "train"), and the errors of potentials of it (kind "long"), of one seed."""
    test, validation, pool = split(len(data), options, seed)
    sizes, held = sizes_upto(options.initial, options.upto, options.fraction), data.subset(validation)
    known = [row for row in noted(options.rows) if row["seed"] == seed]
    sets = {row["strategy"]: np.array(row["rows"]) for row in known if row["kind"] == "train"}
    measured = {(row["strategy"], row["n"], row["steps"]) for row in known if row["kind"] == "long"}

    def select(strategy: str) -> np.ndarray:
        """Return a training set in the order in which its structures were taken."""
        train = pool[: sizes[-1] if strategy == "random" else sizes[0]]
        for step, size in enumerate(sizes[1:] if strategy != "random" else []):
            rng, rest = generator(seed, strategy, step), np.setdiff1d(pool, train)
            model = trained(data.subset(train), held, options.steps, seed, **settings)
            picked, _ = chosen(strategy, model, data, rest, train, size - len(train), rng)
            train = np.concatenate([train, picked])
        return train

    def measure(train: np.ndarray) -> dict[str, float]:
        model = trained(data.subset(train), held, options.long_steps, seed, **settings)
        places = {"test": test, "rest": np.setdiff1d(pool, train)}
        found = {place: force_errors(model, data.subset(rows), unit) for place, rows in places.items()}
        return {f"{place}_{name}": value for place, errors in found.items() for name, value in errors.items()}

    for strategy in options.strategies:
        if strategy not in sets:
            began = time.process_time()
            sets[strategy] = select(strategy)
            row = {"seed": seed, "strategy": strategy, "kind": "train", "rows": sets[strategy].tolist()}
            note(options.rows, {**row, "cpu_s": time.process_time() - began})
    # All strategies have the same first structures.
    for size in sorted(options.long_at, reverse=True):
        for strategy in options.strategies if size > sizes[0] else options.strategies[:1]:
            if (strategy, size, options.long_steps) not in measured:
                began = time.process_time()
                row = {"seed": seed, "strategy": strategy, "kind": "long", "n": size, "steps": options.long_steps}
                row |= measure(sets[strategy][:size])
                note(options.rows, {**row, "cpu_s": time.process_time() - began})


def cell(values: list[float], digits: int = 3) -> str:
    """Return the mean, and the standard deviation over seeds where there are several."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}" if values else "-"


def show_errors(rows: list[dict[str, Any]], measures: dict[str, str], steps: int) -> None:
    """Print the errors of all rows of potentials that made so many steps. measures: their titles."""
    print(f"{machine()}, torch {torch.__version__}; seeds {sorted({row['seed'] for row in rows})}")
    long = [row for row in rows if row["kind"] == "long" and row["steps"] == steps]
    for where, place in {"test": "the fixed test set", "rest": "all structures that were not selected"}.items():
        table = []
        for n in sorted({row["n"] for row in long}):
            for strategy in dict.fromkeys(row["strategy"] for row in long):
                some = [row for row in long if row["n"] == n and row["strategy"] == strategy]
                if some:
                    table.append([n, strategy, len(some), *(cell([r[f"{where}_{m}"] for r in some]) for m in measures)])
        head = ["labels", "strategy", "seeds", *measures.values()]
        print_table(f"Errors on {place}, kcal/mol (/Angstrom), {steps} steps", head, table)


def show_correlations(rows: list[dict[str, Any]]) -> None:
    """Print all rows of correlations, and what all rows took."""
    found = [row for row in rows if row["kind"] == "correlation"]
    if found:
        names = [name for name in found[0] if name not in ("seed", "kind", "n", "cpu_s")]
        table = [[name, cell([row[name] for row in found])] for name in names]
        print_table(f"Pearson correlations at {found[0]['n']} labels", ["of", "value"], table)
    print(f"\n{sum(row.get('cpu_s', 0.0) for row in rows):.0f} CPU-s for the rows")


def note(path: str, row: dict[str, Any]) -> None:
    """Append a row to a file, so that nothing is lost when a long run ends early."""
    with open(path, "a") as handle:
        handle.write(json.dumps(row) + "\n")


def noted(path: str) -> list[dict[str, Any]]:
    """Return the rows of such a file."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()] if Path(path).exists() else []
