"""What the studies of potentials share: a potential trained with a number of steps, batches by a strategy, errors."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from quarry.config.models import Gmnn
from quarry.config.query import INFORMATIVENESS, Query, criteria
from quarry.models.base import TrainingData
from quarry.models.gmnn.model import GaussianMomentModel
from quarry.query.base import PoolView
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
    """Return which of the candidates (rows of data) a strategy takes, and what it ranks them by (None: nothing)."""
    query = Query.model_validate(
        {"strategy": strategy, "initial": 1, "batch": {"schedule": "constant", "size": 1}}
        | ({"embedding": "gradient"} if strategy == "lcmd" else {})
    )
    made = make_strategy(query)
    needs = needs_of(query, made)
    fields: dict[str, Any] = {}
    if "embedding" in needs:
        both = data.structures.subset(np.concatenate([candidates, train]))
        maps = model.features(both, "gradient", rng)
        fields = {"embedding": maps[: len(candidates)], "labelled_embedding": maps[len(candidates) :]}
    wanted = criteria(needs)
    if wanted:
        of = model.informativeness(data.structures.subset(candidates), data.structures.subset(train), wanted)
        fields |= {INFORMATIVENESS + name: of[name].values for name in wanted}
        fields |= {f"labelled_{INFORMATIVENESS}{name}": of[name].known for name in wanted}
    view = PoolView(features=np.zeros((len(candidates), 0)), **fields)
    picked = chosen_by(made, strategy, view, n, rng)
    return candidates[picked], made.score(view) if wanted else None


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
    off = np.abs(model.predict(data.structures, frozenset({"forces"})).mean["forces"] - data.targets["forces"]).mean(
        axis=1
    )
    sizes = np.diff(data.structures.offsets)
    return np.bincount(np.repeat(np.arange(len(sizes)), sizes), off) / sizes / unit


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def sizes_upto(first: int, last: int, fraction: float = 0.1) -> list[int]:
    """Return the sizes of training sets that grow by a fraction."""
    sizes = [first]
    while sizes[-1] < last:
        sizes.append(sizes[-1] + int(np.ceil(round(fraction * sizes[-1], 9))))
    return sizes


def note(path: str, row: dict[str, Any]) -> None:
    """Append a row to a file, so that nothing is lost when a long run ends early."""
    with open(path, "a") as handle:
        handle.write(json.dumps(row) + "\n")


def noted(path: str) -> list[dict[str, Any]]:
    """Return the rows of such a file."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()] if Path(path).exists() else []
