"""How well does KREG learn a dissociation curve, beside the figures that MLatom prints, and what are gradients worth?

--hydrogen: archive (npz) of bond lengths R_A (Angstrom) and full configuration interaction energies E_fci_hartree of H2, 451
points. MLatom 2.1's KREG, 361 sub-training and 90 validation points: sigma 0.148445, lambda 1.89e-12, RMSE 4.80e-7 hartree
on the validation points and 4.90e-7 on all. Which points those were is not said; here: every fifth validates, the last 90
(longest bonds), or 90 at random.
--ethanol: archive of a revised-MD17 molecule: Z, train_R, train_E_eV, train_F_eV_A and the same for test. Hyperparameters by
the last fifth of the training structures, which are drawn at random.
"""

import argparse
import os
import time

from common import machine, print_table

from quarry.campaign.job import set_threads

PUBLISHED: list[object] = ["MLatom 2.1", "", "0.148445", "1.89e-12", "4.80e-07", "", "4.90e-07"]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hydrogen", help="npz file")
    parser.add_argument("--ethanol", help="npz file")
    parser.add_argument("--structures", type=int, nargs="+", default=[50, 100, 200], help="of ethanol, for training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--lowest", type=int, default=-50, help="log2 of the smallest regularisation, beside -25")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    set_threads(arguments.threads)

    import numpy as np

    from quarry.config.models import Kreg
    from quarry.config.targets import TARGETS
    from quarry.descriptors.distances import inverse_distances
    from quarry.models.metrics import rmse
    from quarry.models.registry import make_regression
    from quarry.models.regression import RegressionData
    from quarry.randomness import generator
    from quarry.structures import Structure, StructureSet

    def settings(lowest: int) -> Kreg:
        return Kreg.model_validate({"kind": "kreg", "log2_regularisation": {"minimum": lowest, "maximum": -1}})

    def hydrogen(path: str) -> list[list[object]]:
        with np.load(path) as archive:
            lengths, energies = archive["R_A"], archive["E_fci_hartree"]
        structures = StructureSet.from_structures(
            Structure.create([1, 1], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, r]])) for r in lengths
        )
        features = inverse_distances(structures, structures[int(np.argmin(energies))])
        data = RegressionData(structures, features, energies)
        every, n_held = np.arange(len(data)), 90
        validations = {"every fifth": every[4::5], "last": every[-n_held:]}
        for seed in arguments.seeds:
            drawn = generator(seed, "hydrogen").choice(len(data), n_held, replace=False)
            validations[f"random, seed {seed}"] = np.sort(drawn)
        rows: list[list[object]] = [PUBLISHED]
        for name, held in validations.items():
            parts = data.subset(np.setdiff1d(every, held)), data.subset(held)
            for lowest in (-25, arguments.lowest):
                model = make_regression(settings(lowest), TARGETS["energy"])
                model.fit(*parts, generator(0))
                found = model.hyperparameters
                alone = make_regression(
                    Kreg(kind="kreg", sigma=found["sigma"], regularisation=found["regularisation"]), TARGETS["energy"]
                )
                alone.fit(parts[0], None, generator(0))
                errors = [rmse(m.predict(structures, features, False).mean - energies) for m in (alone, model)]
                numbers = [
                    f"{found['sigma']:.6f}",
                    f"{found['regularisation']:.2e}",
                    f"{found['validation_error']:.2e}",
                ]
                rows.append([name, lowest, *numbers, *(f"{error:.2e}" for error in errors)])
        return rows

    def ethanol(path: str) -> list[list[object]]:
        with np.load(path) as archive:
            parts = {}
            for part in ("train", "test"):
                frames = archive[f"{part}_R"]
                structures = StructureSet.from_structures(Structure.create(archive["Z"], frame) for frame in frames)
                parts[part] = (structures, archive[f"{part}_E_eV"], archive[f"{part}_F_eV_A"].reshape(-1, 3))
        reference = parts["train"][0][0]
        train, test = (
            RegressionData(structures, inverse_distances(structures, reference), energies, forces=forces)
            for structures, energies, forces in parts.values()
        )
        energies_alone = RegressionData(train.structures, train.features, train.targets)
        rows: list[list[object]] = []
        order = generator(arguments.seeds[0], "ethanol").permutation(len(train))
        for n in arguments.structures:
            for name, data in (("energies", energies_alone), ("energies and gradients", train)):
                model = make_regression(settings(-25), TARGETS["energy_forces"])
                start = time.process_time()
                model.fit(data.subset(order[:n]), None, generator(0))
                fitted = time.process_time()
                found = model.predict(test.structures, test.features)
                predicted = time.process_time()
                assert found.forces is not None and found.std is not None and test.forces is not None
                errors = found.mean - test.targets
                figures = [1e3 * rmse(errors), 1e3 * rmse(found.forces - test.forces), rmse(errors / found.std)]
                chosen = model.hyperparameters
                numbers = [f"{chosen['sigma']:.3g}", f"{chosen['regularisation']:.2e}"]
                rows.append([n, name, *numbers, *figures, fitted - start, predicted - fitted])
        return rows

    print(machine())
    if arguments.hydrogen:
        head = [
            "validation points",
            "lowest log2 lambda",
            "sigma",
            "lambda",
            "RMSE validation",
            "RMSE all, sub-training alone",
        ]
        print_table("H2, 451 points, hartree", [*head, "RMSE all"], hydrogen(arguments.hydrogen))
    if arguments.ethanol:
        head = [
            "structures",
            "learnt",
            "sigma",
            "lambda",
            "energy RMSE / meV",
            "force RMSE / meV/A",
            "RMS of error / std",
        ]
        print_table(
            "Ethanol, 1000 test structures", [*head, "training CPU-s", "prediction CPU-s"], ethanol(arguments.ethanol)
        )
