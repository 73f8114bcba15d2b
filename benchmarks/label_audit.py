"""What does the audit of labels find, from how many labels on, and does it cry wolf?

``.venv/bin/python benchmarks/label_audit.py --data FOLDER`` runs it over the data sets of ``data_sets.py`` that are in the folder
(and, always, over springs and Morse bonds whose labels are exact), as they are and with mistakes planted in them, and prints both
tables of docs/labels.md, each entry over ``--seeds`` random draws. ``--cost`` prints what an audit costs.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from common import print_table
from data_sets import audited_sets

from quarry.labeling.audit.audit import audit_labels
from quarry.labeling.audit.balance import TOLERANCE_EV_PER_A
from quarry.labeling.audit.findings import ERROR
from quarry.randomness import generator
from quarry.structures import Structure, StructureSet
from quarry.structures.labelled import LabelledSet
from support.toys import EQUILIBRIUM, NUMBERS, energy_and_forces

SIZES = (5, 10, 20, 50, 100, 300, 1000)
HARTREE_PER_BOHR, BOHR, KCAL_MOL = 51.422067476, 0.529177210903, 0.0433641043
TOY, ETHANOL = "water, Morse bonds", "ethanol, rMD17"


def water(rng: np.random.Generator, size: int) -> LabelledSet:
    """Distorted waters with the energies and forces of a potential in closed form."""
    structures = [Structure.create(NUMBERS, EQUILIBRIUM + rng.normal(0, 0.08, (3, 3))) for _ in range(size)]
    labels = [energy_and_forces(structure.positions) for structure in structures]
    return LabelledSet(
        StructureSet.from_structures(structures),
        np.full(size, "train"),
        np.zeros(size, dtype=np.int64),
        {"energy": np.array([e for e, _ in labels]), "forces": np.concatenate([f for _, f in labels])},
    )


def some(rng: np.random.Generator, labels: LabelledSet, share: float) -> np.ndarray:
    """Return which labels a mistake is planted in: at least one."""
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[rng.permutation(len(labels))[: max(1, round(share * len(labels)))]] = True
    return chosen


def energies(labels: LabelledSet, values: np.ndarray) -> LabelledSet:
    """Return labels with other energies."""
    return replace(labels, properties={**labels.properties, "energy": values})


def forces(labels: LabelledSet, values: np.ndarray) -> LabelledSet:
    """Return labels with other forces."""
    return replace(labels, properties={**labels.properties, "forces": values})


def of_atoms(labels: LabelledSet, chosen: np.ndarray) -> np.ndarray:
    """Return which atoms belong to chosen structures."""
    return np.repeat(chosen, np.diff(labels.structures.offsets))


def reordered(labels: LabelledSet) -> np.ndarray:
    """Return the forces of every label in the opposite order of its atoms."""
    offsets = labels.structures.offsets
    return np.concatenate([labels.properties["forces"][a:b][::-1] for a, b in pairwise(offsets)])


def with_copies(rng: np.random.Generator, labels: LabelledSet) -> LabelledSet:
    """Return labels whose last one is the mirror image of the first one, and 0.1 eV higher."""
    size = len(labels.structures[0])
    first = labels.structures[0]
    mirrored = Structure(first.numbers, first.positions * [1, 1, -1] + 1.0, first.charge, first.multiplicity)
    structures = [*list(labels.structures)[:-1], mirrored]
    E, F = labels.properties["energy"].copy(), labels.properties["forces"].copy()
    E[-1], F[-size:] = E[0] + 0.1, F[:size] * [1, 1, -1]
    return replace(forces(energies(labels, E), F), structures=StructureSet.from_structures(structures))


def faults() -> Iterator[tuple[str, str, Callable[[np.random.Generator, LabelledSet], LabelledSet]]]:
    """Yield each mistake: its name, the beginning of the check that must find it, and what it does to labels."""
    pull = np.array([1.5, 0.0, 0.0])
    works, props = "energies_and_forces", lambda labels: (labels.properties["energy"], labels.properties["forces"])
    yield "gradient in place of forces", works, lambda rng, x: forces(x, -props(x)[1])
    yield "forces in hartree/bohr", works, lambda rng, x: forces(x, props(x)[1] / HARTREE_PER_BOHR)
    yield "gradient in hartree/bohr", works, lambda rng, x: forces(x, -props(x)[1] / HARTREE_PER_BOHR)
    yield "forces in kcal/mol/Angstrom", works, lambda rng, x: forces(x, props(x)[1] / KCAL_MOL)
    yield "energies in kcal/mol", works, lambda rng, x: energies(x, props(x)[0] / KCAL_MOL)
    yield "forces in eV/bohr", works, lambda rng, x: forces(x, props(x)[1] * BOHR)
    yield "energies of other structures", works, lambda rng, x: energies(x, rng.permutation(props(x)[0]))
    yield "forces in another atom order", "net_", lambda rng, x: forces(x, reordered(x))
    yield "net force of 1.5 eV/A", "net_", lambda rng, x: forces(x, props(x)[1] + pull / 3)
    yield (
        "net force of 1.5 eV/A on 5 %",
        "net_",
        lambda rng, x: forces(x, props(x)[1] + pull / 3 * of_atoms(x, some(rng, x, 0.05))[:, None]),
    )
    yield (
        "energies near -40,000 eV in single precision",
        "precision",
        lambda rng, x: energies(x, (props(x)[0] - 4e4).astype(np.float32).astype(np.float64)),
    )
    yield "energies with 3 decimals", "precision", lambda rng, x: energies(x, np.round(props(x)[0], 3))
    yield "energy + 3e5 eV in 1 of 20", "absurd_", lambda rng, x: energies(x, props(x)[0] + 3e5 * some(rng, x, 0.05))
    yield (
        "forces x 1e6 in 1 of 20",
        "absurd_",
        lambda rng, x: forces(x, props(x)[1] * np.where(of_atoms(x, some(rng, x, 0.05)), 1e6, 1.0)[:, None]),
    )
    yield "mirror image + 0.1 eV", "copies", with_copies


Draw = Callable[[np.random.Generator, int], LabelledSet]
"""Draws so many labels by chance."""


def findings_of(labels: LabelledSet, seed: int) -> list:
    """Return what an audit with the default tolerances finds."""
    return audit_labels(labels, generator(seed, "audit"), TOLERANCE_EV_PER_A, 1e-4)


def first_size(
    draw: Draw, fault: Callable[[np.random.Generator, LabelledSet], LabelledSet], check: str, seeds: int, most: int
) -> str:
    """Return from how many labels on a mistake is found in 95 % of the draws."""
    for size in (size for size in SIZES if size <= most):
        missed = 0
        for seed in range(seeds):
            rng = np.random.default_rng(1000 * size + seed)
            rows = findings_of(fault(rng, draw(rng, size)), seed)
            missed += not any(row.check.startswith(check) and row.bad for row in rows)
            if missed > 0.05 * seeds:
                break
        else:
            return str(size)
    return "not found"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the data sets")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cost", action="store_true")
    options = parser.parse_args()
    sets = {name: make() for name, make in audited_sets(options.data).items()} if options.data else {}

    def draws(whole: LabelledSet) -> Draw:
        return lambda rng, size: whole.subset(np.sort(rng.permutation(len(whole))[:size]))

    rows: list[list[object]] = []
    for name, whole in {TOY: None, **sets}.items():
        counts, audits = [0, 0], 0
        said: set[str] = set()
        sizes = [*SIZES, *([len(whole)] if whole is not None else [])]
        for size in (n for n in sizes if whole is None or n <= len(whole)):
            for seed in range(options.seeds if size <= 300 else min(3, options.seeds)):
                rng = np.random.default_rng(1000 * size + seed)
                found = findings_of(water(rng, size) if whole is None else draws(whole)(rng, size), seed)
                audits += 1
                counts[0] += any(row.severity == ERROR for row in found)
                counts[1] += any(row.bad for row in found)
                said |= {row.check for row in found if row.bad}
        rows.append(
            [name, "any" if whole is None else len(whole), audits, counts[0], counts[1], ", ".join(sorted(said))]
        )
    print_table(
        f"Labels as they are: audits of {', '.join(map(str, SIZES))} and all labels",
        ["labels", "how many", "audits", "with errors", "with errors or warnings", "checks"],
        rows,
    )
    both: dict[str, tuple[Draw, int]] = {TOY: (water, 1000)}
    both |= {name: (draws(sets[name]), len(sets[name])) for name in sets if "forces" in sets[name].properties}
    rows = [
        [
            fault,
            *(first_size(draw, plant, check, options.seeds, most) for draw, most in both.values()),
            check.rstrip("_"),
        ]
        for fault, check, plant in faults()
    ]
    print_table("Labels from which on a mistake is found (95 % of the draws)", ["mistake", *both, "check"], rows)
    if options.cost:
        rows = []
        for size in (1000, 10_000):
            start = time.process_time()
            findings_of(water(np.random.default_rng(0), size), 0)
            rows.append([TOY, size, time.process_time() - start])
        for name, whole in sets.items():
            start = time.process_time()
            findings_of(whole, 0)
            rows.append([name, len(whole), time.process_time() - start])
        print_table("Cost of an audit", ["labels", "how many", "CPU (s)"], rows)


if __name__ == "__main__":
    main()
