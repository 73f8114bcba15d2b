"""Are pooled features of a pretrained network, or the difference to its energies, learnt from fewer labels?

Ethanol at 1000 K (PBE-D3; energies, and forces where the model learns them) and QM9 (B3LYP; energies and HOMO energies), whose
structures and method 7net-0 (crystals, PBE) has not seen. Each seed draws a training set, whose first n structures are learnt,
and 500 test structures; all ways share them. Needs the optional dependency sevenn.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from ase.units import Hartree, kcal, mol
from common import machine, print_table
from pydantic import TypeAdapter
from scipy.stats import t as student

from quarry.config.baselines import NetworkBaseline
from quarry.config.descriptors import Descriptor
from quarry.config.models import Model
from quarry.config.targets import target_of
from quarry.descriptors.cache import FeatureCache
from quarry.descriptors.compute import prepare
from quarry.descriptors.features_file import read_settled, write_features
from quarry.models.base import TrainingData
from quarry.models.baseline_cache import write_baselines
from quarry.models.registry import make_model
from quarry.randomness import generator
from quarry.structures import Structure, StructureSet

N_TEST = 500
BASELINE = NetworkBaseline(kind="sevenn")
MBTR = {"kind": "mbtr", "k2": {"grid": {"minimum": 0.0, "maximum": 1.1, "points": 100, "sigma": 0.02}}}
DISTANCES = {"kind": "inverse_distances"}
GMNN = {"kind": "gmnn", "epochs": 150, "learning_rate": 0.02, "schedule": "linear"}
FINE_TUNED = {"kind": "sevenn", "epochs": 20}


def pooled(pooling: str) -> dict[str, Any]:
    return {"kind": "pretrained", "pooling": pooling}


@dataclass
class Case:
    """A data set, what is learnt of it, and the ways: names with the settings of model and descriptor; the first is plain."""

    name: str
    target: str
    data: TrainingData
    ways: list[tuple[str, dict[str, Any], dict[str, Any] | None]]
    sizes: tuple[int, ...]


def ethanol(folder: Path, pool: int) -> TrainingData:
    data = np.load(folder / "ethanol_zaverkin_1000K.npz")
    rows = np.sort(generator(0, "ethanol").permutation(len(data["R"]))[:pool])
    structures = StructureSet.from_structures([Structure.create(data["Z"], r) for r in data["R"][rows]])
    unit = kcal / mol
    forces = (data["F_kcal_mol_A"][rows] * unit).reshape(-1, 3)
    return TrainingData(structures, {"energy": data["E_kcal_mol"][rows] * unit, "forces": forces})


def qm9(folder: Path, pool: int) -> TrainingData:
    data = np.load(folder / "qm9_homo_b3lyp_128744.npz")
    known = np.flatnonzero(np.isfinite(data["u0_hartree"]))
    rows = np.sort(generator(0, "qm9").permutation(known)[:pool])
    offsets, numbers, places = data["offsets"], data["Z"], data["R"]
    parts = [slice(offsets[row], offsets[row + 1]) for row in rows]
    structures = StructureSet.from_structures([Structure.create(numbers[p], places[p]) for p in parts])
    energies = {"energy": data["u0_hartree"], "homo": data["homo_hartree"]}
    return TrainingData(structures, {name: v[rows].astype(float) * Hartree for name, v in energies.items()})


def cases(folder: Path, pool: int, sizes: tuple[int, ...]) -> list[Case]:
    delta = {"baseline": BASELINE.model_dump()}
    gpr = {"kind": "gpr"}
    one, many = ethanol(folder, pool), qm9(folder, pool)
    return [
        Case(
            "ethanol",
            "energy",
            one,
            [
                ("inverse distances", gpr, DISTANCES),
                ("MBTR", gpr, MBTR),
                ("SOAP", gpr, {"kind": "soap"}),
                ("features (mean)", gpr, pooled("mean")),
                ("features (elements)", gpr, pooled("elements")),
                ("delta, inverse distances", {**gpr, **delta}, DISTANCES),
                ("delta, features (elements)", {**gpr, **delta}, pooled("elements")),
            ],
            sizes,
        ),
        Case(
            "QM9 U0",
            "energy",
            many,
            [
                ("MBTR", gpr, MBTR),
                ("features (sum)", gpr, pooled("sum")),
                ("features (elements)", gpr, pooled("elements")),
                ("delta, MBTR", {**gpr, **delta}, MBTR),
                ("delta, features (elements)", {**gpr, **delta}, pooled("elements")),
            ],
            sizes,
        ),
        Case(
            "QM9 HOMO",
            "homo",
            many,
            [
                ("MBTR", gpr, MBTR),
                ("features (mean)", gpr, pooled("mean")),
                ("features (elements)", gpr, pooled("elements")),
            ],
            sizes,
        ),
        Case(
            "ethanol",
            "energy_forces",
            one,
            [
                ("gmnn", GMNN, None),
                ("gmnn, delta", {**GMNN, **delta}, None),
            ],
            sizes[:1],
        ),
        Case(
            "ethanol (one seed)",
            "energy_forces",
            one,
            [("gmnn", GMNN, None), ("sevenn, fine-tuned, 20 epochs", FINE_TUNED, None)],
            sizes[:1],
        ),
    ]


def interval(values: list[float], unit: str = "") -> str:
    """Return mean and half the 95 % interval of the mean over seeds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.3g}{unit}"
    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return f"{mean:.3g} ± {half:.2g}{unit}"


def ratio(values: list[float], plain: list[float]) -> str:
    """Return the geometric mean of the ratio of two ways' errors over seeds, with its 95 % interval."""
    logs = np.log(np.array(values) / np.array(plain))
    if len(logs) < 2:
        return f"{np.exp(logs[0]):.2f}"
    half = student.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    low, high = np.exp(logs.mean() - half), np.exp(logs.mean() + half)
    return f"{np.exp(logs.mean()):.2f} ({low:.2f} to {high:.2f})"


class Features:
    """The features and the baseline of each data set, computed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}

    def _once(self, name: str, make: Callable[[str], Any]) -> str:
        path = self.folder / f"{name}.h5"
        if not path.exists():
            begin = time.process_time()
            make(str(path))
            self.seconds[name] = time.process_time() - begin
        return str(path)

    def of(self, case: Case, settings: dict[str, Any]) -> FeatureCache:
        section: Descriptor = TypeAdapter(Descriptor).validate_python(settings)
        pool, reference = case.data.structures, case.data.structures[0]

        def make(path: str) -> None:
            write_features(path, pool, None, prepare(pool, section, reference), section.kind)

        name = f"{case.name.split()[0]} {settings['kind']} {settings.get('pooling', '')}".strip()
        path = self._once(name, make)
        return FeatureCache(section, read_settled(path), reference, path)

    def baseline(self, case: Case) -> str:
        def make(path: str) -> None:
            write_baselines(path, case.data.structures, [BASELINE], None, "forces" in case.data.targets)

        return self._once(f"{case.name.split()[0]} baseline", make)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--pool", type=int, default=1000, help="structures of each data set, from which seeds draw")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 200, 400])
    parser.add_argument("--sets", nargs="+", default=["ethanol", "QM9"])
    parser.add_argument("--ways", nargs="+", help="some of them, the plain one among them")
    parser.add_argument("--targets", nargs="+", default=["energy", "homo", "energy_forces"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        features = Features(Path(folder))
        for case in cases(arguments.data, arguments.pool, tuple(arguments.sizes)):
            if case.target not in arguments.targets or case.name.split()[0] not in arguments.sets:
                continue
            ways = [way for way in case.ways if arguments.ways is None or way[0] in arguments.ways]
            target, begin = target_of(case.target), time.process_time()
            wanted = frozenset(target.learnt)
            seeds = arguments.seeds[:1] if "one seed" in case.name else arguments.seeds
            found: dict[tuple[str, int, str], list[float]] = {}
            for way, network, descriptor in ways:
                section: Model = TypeAdapter(Model).validate_python(network)
                cache = None if descriptor is None else features.of(case, descriptor)
                known = features.baseline(case) if section.baseline is not None else None
                for seed in seeds:
                    order = generator(seed, case.name).permutation(len(case.data))
                    test = case.data.subset(order[:N_TEST])
                    for n in case.sizes:
                        trained = make_model(section, target, cache, None, known)
                        chosen = case.data.subset(order[N_TEST : N_TEST + n])
                        targets = {name: chosen.targets[name] for name in target.learnt}
                        data = TrainingData(chosen.structures, targets)
                        trained.fit(data, None, generator(seed, "train"))
                        said = trained.predict(test.structures, wanted).mean
                        for name in target.learnt:
                            off = 1e3 * (said[name] - test.targets[name])
                            found.setdefault((way, n, f"{name} RMSE"), []).append(float(np.sqrt(np.mean(off**2))))
                            found.setdefault((way, n, f"{name} MAE"), []).append(float(np.mean(np.abs(off))))
            plain = case.ways[0][0]
            rows: list[list[object]] = []
            for way in (way[0] for way in ways):
                for n in case.sizes:
                    row: list[object] = [way, n]
                    for name in target.learnt:
                        errors = [found[way, n, f"{name} {kind}"] for kind in ("MAE", "RMSE")]
                        row += [interval(values) for values in errors]
                        row.append("" if way == plain else ratio(errors[1], found[plain, n, f"{name} RMSE"]))
                    rows.append(row)
            head = [
                "way",
                "labels",
                *(f"{name} {what}" for name in target.learnt for what in ("MAE", "RMSE", "RMSE / plain")),
            ]
            print_table(f"{case.name}, {case.target} (meV, meV/Angstrom), {len(seeds)} seeds", head, rows)
            print(f"\n{time.process_time() - begin:.0f} CPU-s", flush=True)
        print("\nfeatures and baselines, CPU-s:", {name: round(value, 1) for name, value in features.seconds.items()})
