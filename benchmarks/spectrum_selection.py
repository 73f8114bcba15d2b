"""ML-NEA: does active selection need fewer labels than the ensemble's own order for the same spectrum?

All geometries of an ensemble are labelled beforehand: RESULTS is the folder of a campaign with dataset.h5, and
pool/reference.extxyz as the equilibrium. For every strategy and seed KREG learns N of them and predicts the others; the
spectrum of labels and predictions together is compared with that of all labels. The seed permutes the ensemble, so that
`sequence` differs between seeds too; all strategies begin with the same labels. As in ML-NEA the last 20 % of the labels,
in their order, choose the hyperparameters. Beside it: the spectrum of the labelled structures alone (QC-NEA).
"""

import argparse
from dataclasses import dataclass

import numpy as np
from common import machine, print_table

from quarry.config.models import Kreg
from quarry.config.query import Query
from quarry.config.targets import TARGETS
from quarry.descriptors.distances import inverse_distances
from quarry.models.registry import make_regression
from quarry.models.regression import RegressionData, RegressionPrediction
from quarry.query.base import PoolView
from quarry.query.strategies import make_strategy
from quarry.randomness import generator
from quarry.spectra.cross_section import CrossSection, largest_deviation, nuclear_ensemble, relative_integral_change
from quarry.stages.proposal import joint_std
from quarry.structures.files import read_job_input
from quarry.structures.labelled import LabelledSet

STEP_EV = 0.005


@dataclass
class Labelled:
    """Geometries with their labels, the equilibrium first, and a way to spectra."""

    data: RegressionData
    delta_eV: float

    @staticmethod
    def read(results: str, n_states: int, delta_eV: float, tracked: bool) -> "Labelled":
        """Read the labels of a campaign; followed: states by their character and not by energy."""
        found = LabelledSet.read(f"{results}/dataset.h5")
        parts = [found.properties[name] for name in ("excitation_energies", "oscillator_strengths")]
        if tracked:
            order = found.properties["state_order"].astype(np.int64)
            parts = [np.take_along_axis(part, order, axis=1) for part in parts]
        values = np.concatenate([part[:, :n_states] for part in parts], axis=1)
        equilibrium = read_job_input(f"{results}/pool/reference.extxyz")[0].structure
        rows = np.flatnonzero(np.isfinite(values).all(axis=1))
        rows = rows[np.argsort(found.structures.ids[rows] != equilibrium.structure_id, kind="stable")]
        structures = found.structures.subset(rows)
        assert structures.ids[0] == equilibrium.structure_id
        return Labelled(RegressionData(structures, inverse_distances(structures, equilibrium), values[rows]), delta_eV)

    def spectrum(self, values: np.ndarray) -> CrossSection:
        """Return the spectrum of energies and strengths, shape (n, 2 n_states)."""
        energies, strengths = np.split(np.maximum(values, 0.0), 2, axis=1)
        return nuclear_ensemble(energies, strengths, self.delta_eV, STEP_EV)


def predicted(known: Labelled, chosen: np.ndarray, with_std: bool) -> tuple[RegressionPrediction, np.ndarray]:
    """Train on rows in their order; return predictions for all other rows, and these."""
    model = make_regression(Kreg(kind="kreg"), TARGETS["excitations"])
    learnt = int(0.8 * len(chosen))
    model.fit(known.data.subset(chosen[:learnt]), known.data.subset(chosen[learnt:]), generator(0, "fit"))
    others = np.setdiff1d(np.arange(len(known.data)), chosen)
    rest = known.data.subset(others)
    return model.predict(rest.structures, rest.features, with_std), others


def walk(known: Labelled, strategy: str, seed: int, sizes: list[int]) -> list[list[float]]:
    """Return [deviation of ML-NEA, its largest one, deviation of QC-NEA] at each number of labels."""
    order = np.concatenate([[0], 1 + generator(seed, "ensemble").permutation(len(known.data) - 1)])
    chosen, errors = order[: sizes[0]], []
    whole = known.spectrum(known.data.targets[1:])
    query = Query(strategy=strategy, initial=1, batch={"schedule": "constant", "size": 1})  # type: ignore[arg-type]
    for step, size in enumerate(sizes):
        prediction, others = predicted(known, chosen, "std" in query.reads)
        values = known.data.targets.copy()
        values[others] = prediction.mean
        mixed, labelled = known.spectrum(values[1:]), known.spectrum(known.data.targets[chosen[chosen > 0]])
        measures = (relative_integral_change(mixed, whole), largest_deviation(mixed, whole))
        errors.append([*measures, relative_integral_change(labelled, whole)])
        if step + 1 == len(sizes):
            break
        candidates = order[np.isin(order, others)]
        place = np.searchsorted(others, candidates)
        std = None if prediction.std is None else joint_std(prediction.std, known.data.targets[chosen])[place]
        view = PoolView(known.data.features[candidates], std=std, labelled=known.data.features[chosen])
        rng = generator(seed, strategy, size)
        picked = make_strategy(query).select(view, sizes[step + 1] - size, rng)
        chosen = np.concatenate([chosen, candidates[picked]])
    return errors


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", help="folder of a campaign whose whole pool is labelled")
    parser.add_argument("--states", type=int, default=6)
    parser.add_argument("--order", choices=("energy", "overlap"), default="energy")
    parser.add_argument("--delta_eV", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--step", type=int, default=50)
    parser.add_argument("--most", type=int, default=300)
    default = ["sequence", "uncertainty", "uncertainty_clusters", "max_min", "uncertainty_max_min"]
    parser.add_argument("--strategies", nargs="+", default=default)
    arguments = parser.parse_args()
    tracked = arguments.order == "overlap"
    known = Labelled.read(arguments.results, arguments.states, arguments.delta_eV, tracked)
    sizes = list(range(arguments.step, arguments.most + 1, arguments.step))
    print(machine())
    print(
        f"{len(known.data) - 1} geometries, {arguments.states} states, {arguments.seeds} seeds, delta {arguments.delta_eV} eV"
    )
    found = {
        name: np.array([walk(known, name, seed, sizes) for seed in range(arguments.seeds)])
        for name in arguments.strategies
    }
    titles = (
        "integral of |difference| / integral, %",
        "largest deviation / maximum, %",
        "the same integral for QC-NEA, %",
    )
    for measure, title in enumerate(titles):
        rows: list[list[object]] = []
        for name, values in found.items():
            of = 100 * values[:, :, measure]
            rows.append([name, *(f"{m:.2f} ± {s:.2f}" for m, s in zip(of.mean(0), of.std(0, ddof=1), strict=True))])
        print_table(title, ["strategy", *map(str, sizes)], rows)
    gains = []
    for name, values in found.items():
        difference = 100 * (values - found["sequence"])[:, :, 0]
        cells = zip(difference.mean(0), difference.std(0, ddof=1) / np.sqrt(arguments.seeds), strict=True)
        gains.append([name, *(f"{m:+.2f} ± {s:.2f}" for m, s in cells)])
    print_table(
        "difference to sequence, seed by seed (mean ± its standard error), %", ["strategy", *map(str, sizes)], gains
    )
