"""How long does it take to find the copies in a large pool, and how many are there?

Give tables (npz or HDF5) of geometries: ``.venv/bin/python benchmarks/copies.py qm9.npz``. Without one: 100,000 geometries of
ethanol, 1,000 of them copies.
"""

import argparse
import resource
import time
from pathlib import Path

from ase.build import molecule
from common import print_table
from scipy.spatial.transform import Rotation

from quarry.randomness import generator
from quarry.structures import Structure
from quarry.structures.copies import CopyFinder
from quarry.structures.files import read_files

COUNT, COPIES = 100_000, 1_000
TOLERANCES_A = (1e-4, 1e-3)


def ethanols() -> list[Structure]:
    """Geometries in random order; the last ones are the first ones, turned."""
    rng = generator(0, "copies")
    atoms = molecule("CH3CH2OH")
    positions = atoms.positions + rng.normal(0, 0.05, (COUNT, len(atoms), 3))
    turns = Rotation.random(COPIES, rng=rng).as_matrix()
    positions[-COPIES:] = positions[:COPIES] @ turns.transpose(0, 2, 1)
    return [Structure.create(atoms.numbers, geometry) for geometry in positions]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", type=Path)
    pools = {table.name: list(read_files([(table, ":")], 0, 1)) for table in parser.parse_args().tables}
    rows: list[list[object]] = []
    for name, structures in (pools or {"ethanol, made": ethanols()}).items():
        for tolerance_A in TOLERANCES_A:
            start = time.process_time()
            partners, _ = CopyFinder(tolerance_A).add(structures)
            used = time.process_time() - start
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            rows.append(
                [name, len(structures), f"{tolerance_A:g}", int((partners >= 0).sum()), f"{used:.1f}", f"{peak:.0f}"]
            )
    print_table(
        "Copies in a pool",
        ["pool", "structures", "tolerance (A)", "copies", "CPU (s)", "peak of the process (MB)"],
        rows,
    )


if __name__ == "__main__":
    main()
