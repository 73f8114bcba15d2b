"""Water or ethanol by its own dynamics: labels until fresh trajectories meet nothing uncertain, and how good the potential is.

First run a campaign of dynamics with a gmnn, for water the three lines of docs/dynamics.md, then

    python benchmarks/dynamics_water.py campaign.yaml results/water [--trajectories 20] [--random 0 1 2]

For ethanol with labels of GFN2-xTB, --molecule ethanol prints such a campaign file; it needs tblite in an environment of its own.

1. With the model of each iteration that could explore: so many fresh trajectories, as the campaign runs them (300 K, 1 ps, the
   campaign's threshold), from starts that it never had. How many meet an uncertain frame?
2. With the last model the same trajectories to their full length; frames of them, evenly in time, are labelled, for the test
   only.
3. Harmonic wavenumbers of model and reference, each at its own minimum.
4. --random: the same with models of as many labels drawn from the Wigner distribution of the initial data, trained alike; the
   seed of draw and training. Their threshold is found on the campaign's test set, as the campaign found its own.
"""

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import REPOSITORY, machine, print_table
from numpy.typing import NDArray

ETHANOL = f"""name: ethanol_dynamics
pool: {{source: dynamics, molecule: {REPOSITORY / "config/molecules/ethanol.xyz"}}}
labeling:
  engine: ase
  calculator: tblite.ase:TBLite
  arguments: {{method: GFN2-xTB, verbosity: 0}}
  structures_per_job: 50"""


@dataclass
class Case:
    """A finished campaign: its configuration, folder, the reference's engine, normal modes, and labels of its test set."""

    configuration: Any
    folder: Path
    engine: Any
    modes: Any
    test: Any

    def models(self) -> Any:
        """Return what makes and reads the models of arm main."""
        from quarry.stages.arm_models import ArmModels

        return ArmModels(self.configuration, "main", pool="", base=self.folder)


def case_of(file: Path, folder: Path) -> Case:
    """Return the case of a campaign file and its results."""
    import yaml

    from quarry.config.loading import load_configuration
    from quarry.labeling.engines.registry import make_engine
    from quarry.sampling.modes import NormalModes
    from quarry.structures.labelled import LabelledSet

    configuration = load_configuration(yaml.safe_load(file.read_text()), str(file))
    modes = NormalModes.read(folder / "pool/normal_modes.json")
    known = LabelledSet.read(folder / "main/iter_000/dataset.h5")
    test = known.subset(known.indices("test"))
    return Case(configuration, folder, make_engine(configuration.labeling, file.parent), modes, test)


def labelled(case: Case, structures: Any) -> Any:
    """Return structures with labels of the reference."""
    from quarry.models.base import TrainingData

    found = [case.engine.label(structure, 1) for structure in structures]
    bad = [label.message for label in found if label.status != "ok"]
    if bad:
        raise SystemExit(f"{len(bad)} of {len(found)} labels failed: {bad[0]}")
    forces = np.concatenate([label.properties["forces"] for label in found])
    return TrainingData(structures, {"energy": np.array([x.properties["energy"] for x in found]), "forces": forces})


def fresh(case: Case, model: Any, count: int, threshold: float, frames: int = 0) -> tuple[Counter[str], Any]:
    """Run fresh trajectories; return their fates, and so many frames of them evenly in time.

    The same starts for every model. threshold: eV; infinity runs all of them to their end.
    """
    from quarry.dynamics.exploration import Course, explore
    from quarry.dynamics.uncertainty import MEASURES, Measure
    from quarry.dynamics.walkers import Walkers
    from quarry.randomness import generator
    from quarry.sampling.wigner import sample_wigner_motion
    from quarry.stages.exploring import integrator_of
    from quarry.structures import StructureSet

    settings, measure = case.configuration.pool.explore, MEASURES["energy"]
    rngs = [generator(case.configuration.seed, "fresh", number) for number in range(count)]
    drawn = [sample_wigner_motion(case.modes, settings.temperature_K[0], rng) for rng in rngs]
    walkers = Walkers.at_rest(StructureSet.from_structures(structure for structure, _ in drawn))
    start = Walkers(walkers.structures, np.concatenate([velocity for _, velocity in drawn]), walkers.masses)
    every = max(1, settings.steps * count // frames) if frames else 0
    seen: list[Any] = []
    calls = 0

    def noted(said_by: Any, structures: Any, prediction: Any) -> NDArray[np.float64]:
        nonlocal calls
        calls += len(structures)
        while every and calls // every > len(seen):
            seen.append(structures[len(seen) % len(structures)].rounded())
        return measure.of(said_by, structures, prediction)

    first_K, last_K = settings.temperature_K
    course = Course(settings.steps, (first_K, last_K), threshold, settings.max_force_eV_A)
    watched = Measure(measure.wants, noted, measure.unit, measure.words)
    state = explore(model, start, integrator_of(settings), course, watched, rngs)
    return Counter(str(fate) for fate in state.fates), StructureSet.from_structures(seen) if seen else None


def errors_of(model: Any, truth: Any) -> list[str]:
    """Return RMSE and MAE of energies (meV) and of components of forces (meV/Angstrom)."""
    said = model.predict(truth.structures, frozenset({"energy", "forces"}))
    off = [1e3 * (said.mean[name] - truth.targets[name]) for name in ("energy", "forces")]
    return [f"{value:.2f}" for x in off for value in (np.sqrt(np.mean(x**2)), np.abs(x).mean())]


def wavenumbers(atoms: Any) -> NDArray[np.float64]:
    """Return harmonic wavenumbers (1/cm) at the minimum next to atoms, which have a calculator."""
    from quarry.config.uses import Optimise
    from quarry.sampling.hessian import modes_of
    from quarry.uses.minima import relax

    found = relax(atoms, Optimise(force_limit_eV_A=1e-3, max_steps=500))
    return np.asarray(modes_of(found.atoms).frequencies_cm)


def with_reference(case: Case) -> Any:
    """Return the atoms of the campaign's reference geometry with the reference as their calculator."""
    from ase.calculators.calculator import Calculator, all_changes

    from quarry.structures import Structure

    class Reference(Calculator):
        implemented_properties = ["energy", "forces"]  # noqa: RUF012 (as ASE has it)

        def calculate(
            self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes
        ) -> None:
            super().calculate(atoms, properties, system_changes)
            found = case.engine.label(Structure.from_atoms(atoms), 1).properties
            self.results = {"energy": found["energy"], "forces": np.asarray(found["forces"])}

    atoms = case.modes.equilibrium.to_atoms()
    atoms.calc = Reference()
    return atoms


def with_model(case: Case, model: Any) -> Any:
    """Return the same with a model."""
    from quarry.dynamics.model_calculator import ModelCalculator
    from quarry.dynamics.uncertainty import MEASURES

    start = case.modes.equilibrium
    atoms = start.to_atoms()
    atoms.calc = ModelCalculator(model, MEASURES["energy"], start.charge, start.multiplicity)
    return atoms


def random_model(case: Case, n: int, seed: int, folder: Path) -> Path:
    """Return the file of a model of n random geometries like those of iteration 0, trained as the campaign's."""
    from quarry.randomness import generator
    from quarry.sampling.wigner import sample_wigner

    path = folder / f"random_{n}_{seed}.h5"
    if not path.exists():
        warm = case.configuration.pool.initial_pool.temperature_K
        data = labelled(case, sample_wigner(case.modes, warm, n, generator(seed, "benchmark random", n)))
        model = case.models().make()
        model.fit(data, None, generator(seed, "benchmark train"))
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(path)
    return path


def own_threshold(case: Case, model: Any) -> float:
    """Return the threshold that the campaign would find with a model."""
    from quarry.dynamics.uncertainty import MEASURES
    from quarry.stages.exploring import threshold_of

    return threshold_of(case.configuration.pool.explore, [], model, MEASURES["energy"], case.test.structures)


def report(case: Case, count: int, frames: int, seeds: list[int], kept: Path) -> None:
    """Print the tables."""
    models, title = case.models(), case.configuration.name
    facts = [json.loads(path.read_text()) for path in sorted(case.folder.glob("main/iter_*/facts.json"))]
    paths = sorted(case.folder.glob("main/iter_*/model/model.h5"))[: len(facts)]
    found = [one["exploration"]["threshold"] for one in facts if "threshold" in one["exploration"]]
    last, rows = models.load(str(paths[-1])), []
    threshold = found[0] if found else own_threshold(case, last)
    for number, (fact, path) in enumerate(zip(facts, paths, strict=True)):
        if number + 1 < len(facts) and facts[number + 1]["phase"] == "initial":
            continue
        fates, _ = fresh(case, models.load(str(path)), count, threshold)
        rows.append([number, fact["n_train"] + fact["n_test"], fates["uncertain"], fates["unphysical"]])
        print(rows[-1], flush=True)
    head = ["iteration", "labels, test set included", f"of {count}: uncertain", "unphysical"]
    print_table(f"{title}: fresh trajectories, threshold {1e3 * threshold:.3g} meV", head, rows)
    n = int(facts[-1]["n_train"])
    arms = {"campaign": paths[-1], **{f"random, seed {seed}": random_model(case, n, seed, kept) for seed in seeds}}
    _, seen = fresh(case, last, count, np.inf, frames)
    truth, reference = labelled(case, seen), wavenumbers(with_reference(case))
    rows = []
    for name, path in arms.items():
        model = models.load(str(path))
        own = threshold if name == "campaign" else own_threshold(case, model)
        fates, _ = fresh(case, model, count, own)
        off = wavenumbers(with_model(case, model)) - reference
        off_cm = [f"{np.abs(off).mean():.1f}", f"{np.abs(off).max():.1f}"]
        rows.append([name, n, *errors_of(model, truth), *off_cm, fates["uncertain"], f"{1e3 * own:.3g}"])
    head = ["", "labels learnt", "energy RMSE (meV)", "MAE", "forces RMSE (meV/Angstrom)", "MAE"]
    head += ["wavenumbers, mean error (1/cm)", "largest", f"of {count}: uncertain", "by its threshold (meV)"]
    print_table(f"{title}: {len(seen)} frames of {count} trajectories of the last model", head, rows)
    print(f"\nWavenumbers of the reference (1/cm): {', '.join(f'{x:.0f}' for x in reference)}\n\n{machine()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", type=Path, nargs="?", help="campaign file")
    parser.add_argument("results", type=Path, nargs="?", help="its results folder")
    parser.add_argument("--molecule", choices=["water", "ethanol"], default="water")
    parser.add_argument("--trajectories", type=int, default=20)
    parser.add_argument("--frames", type=int, default=100, help="frames to label")
    parser.add_argument("--random", type=int, nargs="*", default=[0], metavar="SEED")
    parser.add_argument("--keep", type=Path, default=Path("dynamics_water"), help="folder for the random models")
    arguments = parser.parse_args()
    if arguments.results is None:
        if arguments.molecule != "ethanol":
            parser.error("name a campaign file and its results")
        print(ETHANOL)
    else:
        case = case_of(arguments.campaign, arguments.results)
        report(case, arguments.trajectories, arguments.frames, arguments.random, arguments.keep)
