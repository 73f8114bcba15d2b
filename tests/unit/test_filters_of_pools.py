"""Filters where the pool is built: from files and Wigner samples, in the preflight, and in the campaign's identity."""

import csv

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from quarry.config.descriptors import CoulombMatrix, InverseDistances
from quarry.config.pool import WignerPool
from quarry.descriptors.compute import compute_features
from quarry.descriptors.features_file import read_features
from quarry.errors import QuarryError
from quarry.randomness import generator
from quarry.sampling.modes import NormalModes
from quarry.sampling.wigner import sample_wigner
from quarry.stages import pool as pool_stage
from quarry.stages import preflight
from quarry.structures.files import read_pool
from quarry.structures.filters import closest_contact
from support.campaigns import WATER
from support.candidates import MOLECULES, structure_of, water
from support.stages import configuration

SMALL = {
    "query": {"strategy": "random", "initial": 2, "batch": {"schedule": "constant", "size": 2}},
    "test": {"size": 2},
}
K1 = {"grid": {"minimum": 1.0, "maximum": 60.0, "points": 20, "sigma": 2.0}}
DISTANCES, COULOMB = InverseDistances(kind="inverse_distances"), CoulombMatrix(kind="coulomb_matrix")


def write_pool_file(path, structures) -> None:
    frames = [Atoms(s.numbers, s.positions) for s in structures]
    frames[0].calc = SinglePointCalculator(frames[0], energy=0.0)
    ase.io.write(path, frames)


class TestStages:
    def build(self, folder, settings, modes=None):
        outputs = {name: str(folder / file) for name, file in [
            ("structures", "structures.h5"), ("reference", "reference.extxyz"), ("filtered", "filtered.csv")
        ]}  # fmt: skip
        line = pool_stage.build_pool(settings, folder, modes, **outputs)
        with open(outputs["filtered"], newline="") as handle:
            return line, read_pool(outputs["structures"]), list(csv.DictReader(handle))

    def file_pool(self, folder, **filters):
        """Two files of waters: 14 good ones, one torn apart, one crushed, two repeated."""
        good = [water(scale=1 + 0.02 * n) for n in range(14)]
        write_pool_file(folder / "a.extxyz", [good[0], water(scale=0.3), *good[1:7]])
        write_pool_file(folder / "b.extxyz", [good[0], *good[7:], water(shift=2.0), good[3]])
        files = ["a.extxyz", {"path": "b.extxyz", "index": "0:"}]
        return configuration(
            pool={"source": "file", "files": files},
            filters=filters,
            query={"strategy": "random", "initial": 6, "batch": {"schedule": "constant", "size": 2}},
            test={"size": 2},
        )

    def test_file_pool(self, tmp_path):
        line, pool, rows = self.build(tmp_path, self.file_pool(tmp_path, bonds="connected"))
        assert line == (
            "pool: 14 structures, 2 duplicates dropped; rejected by filters: 1 with atoms too close, 1 in several parts "
            f"({tmp_path}/filtered.csv)"
        )
        assert len(pool) == 14
        assert [(r["origin"], r["number"], r["reason"]) for r in rows] == [
            ("a.extxyz", "1", "atoms_too_close"),
            ("b.extxyz@0:", "0", "identical"),
            ("b.extxyz@0:", "8", "not_connected"),
            ("b.extxyz@0:", "9", "identical"),
        ]

    def test_too_few_are_left(self, tmp_path):
        """Known before any job where no descriptor is needed, and else when the pool is built; the counts are named."""
        (tmp_path / "stand_in.py").write_text("def morse(atoms): pass\n")
        settings = self.file_pool(tmp_path, bonds="same", bond_factor=1.1)
        message = (
            r"query.initial \+ test.size = 8 is more than the pool's 6 structures \(2 duplicates, 1 with atoms too close, "
            r"9 with other bonds rejected\); make the pool larger or the others smaller, or loosen filters"
        )
        with pytest.raises(QuarryError, match=message):
            preflight.check(settings, tmp_path)
        with pytest.raises(QuarryError, match=r"10 near-duplicates rejected"):
            self.build(tmp_path, self.file_pool(tmp_path, near_duplicates=0.06))

    def test_one_molecule_is_no_pool(self, tmp_path):
        (tmp_path / "stand_in.py").write_text("def morse(atoms): pass\n")
        settings = self.file_pool(tmp_path)
        one = settings.model_copy(update={"pool": settings.pool.model_copy(update={"files": settings.pool.files[:1]})})
        ase.io.write(tmp_path / one.pool.files[0].path, Atoms("OHH", WATER))
        with pytest.raises(QuarryError, match=r"pool's 1 structures; .* pool: \{source: wigner, molecule: FILE"):
            preflight.check(one, tmp_path)

    def test_periodic_pool_of_an_engine_for_molecules(self, tmp_path):
        """PySCF labels molecules: a pool with cells is refused before any job, whatever passes the filters."""
        cells = [Atoms("He2", [[0, 0, 0], [0, 0, 1.5]], cell=[3, 3, 3 + n / 10], pbc=True) for n in range(8)]
        ase.io.write(tmp_path / "cells.extxyz", cells)
        settings = configuration(
            pool={"source": "file", "files": ["cells.extxyz"]},
            labeling={"engine": "pyscf", "method": {"xc": "hf", "basis": "sto-3g"}},
            query={"strategy": "random", "initial": 2, "batch": {"schedule": "constant", "size": 2}},
        )
        message = "pool: labeling.engine pyscf labels molecules only, but the pool holds periodic structures"
        with pytest.raises(QuarryError, match=message):
            preflight.check(settings, tmp_path)

    def isolated_atoms(self, folder, **filters):
        """Waters, with the atoms that a set of labels may hold for their energies: free, in a large cell; and a crystal."""
        atoms = [
            Atoms("H", info={"multiplicity": 2}),
            Atoms("O", cell=[12, 12, 12], pbc=True, info={"multiplicity": 3}),
        ]
        frames = [
            *(Atoms(s.numbers, s.positions) for s in (water(scale=1 + 0.02 * n) for n in range(8))),
            *atoms,
            bulk("Al"),
        ]
        ase.io.write(folder / "a.extxyz", frames)
        return configuration(
            pool={"source": "file", "files": ["a.extxyz"]},
            filters=filters,
            descriptor={"kind": "soap", "cutoff_A": 3.0},
            **SMALL,
        )

    def test_isolated_atoms_are_no_candidates(self, tmp_path):
        line, pool, rows = self.build(tmp_path, self.isolated_atoms(tmp_path))
        assert "rejected by filters: 2 isolated atoms" in line
        assert len(pool) == 9 and pool.numbers[-1] == 13
        assert [(r["number"], r["reason"], r["value"], r["limit"]) for r in rows] == [
            ("8", "isolated_atom", "1", "2"),
            ("9", "isolated_atom", "1", "2"),
        ]

    def test_isolated_atoms_are_kept_where_asked(self, tmp_path):
        settings = self.isolated_atoms(tmp_path, isolated_atoms="keep")
        _, pool, rows = self.build(tmp_path, settings)
        assert len(pool) == 11 and rows == []

    @pytest.mark.parametrize(
        "descriptor", [{"kind": "mbtr"}, {"kind": "mbtr", "k1": K1}, {"kind": "soap", "cutoff_A": 6.0}]
    )
    def test_atoms_beyond_the_reach_are_not_near_duplicates(self, tmp_path, descriptor):
        """Iodine torn apart: the descriptor sees two atoms and no distance. Seen ones are thinned as ever."""
        distances = [2.6, 2.7, 2.70001, 15.0, 16.0, 18.0, 20.0, 22.0]
        ase.io.write(tmp_path / "i2.extxyz", [Atoms("I2", [[0, 0, 0], [0, 0, r]]) for r in distances])
        settings = configuration(
            pool={"source": "file", "files": ["i2.extxyz"]},
            filters={"near_duplicates": 0.1, "copy_tolerance_A": 1e-6},
            descriptor=descriptor,
            **SMALL,
        )
        _, pool, rows = self.build(tmp_path, settings)
        assert [(row["number"], row["reason"]) for row in rows] == [("2", "near_duplicate")] and len(pool) == 7
        files = [str(tmp_path / name) for name in ("structures.h5", "reference.extxyz")]
        line = pool_stage.build_features(*files, settings.descriptor, str(tmp_path / "features.h5"))
        first = ", ".join(pool.ids[2:5])
        assert line == (
            f"pool: warning: in 5 of 7 structures no two atoms are within the reach of descriptor.kind: {descriptor['kind']} "
            f"({first} ...): the model cannot tell them apart; leave them out (filters.bonds: connected) or widen the "
            "descriptor's cutoff or weighting"
        )

    def test_cells_and_molecules_in_one_pool(self, tmp_path):
        """What passes the checks has features: prepare is what build_features asks."""
        cells = [bulk("Al", a=4.0 + 0.02 * n) for n in range(8)]
        ase.io.write(tmp_path / "a.extxyz", [*cells, Atoms("OHH", WATER)])
        settings = configuration(
            pool={"source": "file", "files": ["a.extxyz"]},
            labeling={"engine": "function", "function": "math:sqrt"},
            descriptor={"kind": "soap", "cutoff_A": 3.0, "radial_functions": 2, "angular_momentum": 1},
            **SMALL,
        )
        preflight.check(settings, tmp_path)
        _, pool, _ = self.build(tmp_path, settings)
        files = [str(tmp_path / name) for name in ("structures.h5", "reference.extxyz")]
        assert pool_stage.build_features(*files, settings.descriptor, str(tmp_path / "features.h5")) == ""
        features = read_features(str(tmp_path / "features.h5"))
        assert len(features) == len(pool) == 9 and np.isfinite(features).all()

    def test_features_of_a_pool_in_several_files(self, tmp_path):
        """The width of the Coulomb matrix comes from the largest molecule of the whole pool."""
        write_pool_file(tmp_path / "a.extxyz", [water(scale=1 + 0.02 * n) for n in range(5)])
        write_pool_file(tmp_path / "b.extxyz", [*(structure_of(molecule(n)) for n in MOLECULES), water(scale=1.001)])
        settings = configuration(
            pool={"source": "file", "files": ["a.extxyz", "b.extxyz"]},
            descriptor={"kind": "coulomb_matrix"},
            filters={"near_duplicates": 0.05},
        )
        with pytest.raises(QuarryError, match=r"the pool's 12 structures \(1 near-duplicates rejected\)"):
            self.build(tmp_path, settings)

    def wigner(self, tmp_path, **filters):
        """A pool of 60 waters, from modes that stretch each bond by about 0.1 Angstrom."""
        equilibrium = water()
        modes = np.zeros((2, 3, 3))
        for n in (0, 1):
            modes[n, n + 1] = (WATER[n + 1] - WATER[0]) / np.linalg.norm(WATER[n + 1] - WATER[0])
        frequencies = np.array([1700.0, 1700.0])
        masses = np.array([16.0, 1.0, 1.0])
        NormalModes(equilibrium, frequencies, modes, masses, 0.0, {}).write(tmp_path / "modes.json")
        return configuration(
            pool={
                "source": "wigner",
                "molecule": "water.xyz",
                "size": 60,
                "geometry_method": {"xc": "hf", "basis": "sto-3g"},
            },
            filters=filters,
        )

    def test_wigner_pool_is_filled_up(self, tmp_path):
        """What a filter takes is drawn anew from the same stream; without filters the pool is the sample."""
        settings = self.wigner(tmp_path, min_distance_factor=0.95)
        line, pool, rows = self.build(tmp_path, settings, str(tmp_path / "modes.json"))
        assert len(pool) == 60 and rows
        assert line.startswith("pool: 60 structures, 0 duplicates dropped; rejected by filters:")
        rng = generator(settings.seed, "pool")
        stream = sample_wigner(NormalModes.read(tmp_path / "modes.json"), 300.0, 600, rng)
        passing = [s for s in stream if closest_contact(s, np.inf) >= 0.95]
        assert list(pool.ids) == [s.structure_id for s in passing[:60]]
        last = list(stream.ids).index(passing[59].structure_id)
        assert [int(r["number"]) for r in rows] == [
            n for n, s in enumerate(stream) if n < last and closest_contact(s, np.inf) < 0.95
        ]
        _, all_samples, none = self.build(tmp_path, self.wigner(tmp_path), str(tmp_path / "modes.json"))
        assert list(all_samples.ids) == list(stream.ids[:60]) and not none

    def test_wigner_pool_that_cannot_be_filled_up(self, tmp_path):
        """Near-duplicates leave room for so many geometries only: the pool says so, and ten times its size is drawn."""
        settings = self.wigner(tmp_path, near_duplicates=0.12)
        line, pool, rows = self.build(tmp_path, settings, str(tmp_path / "modes.json"))
        assert len(pool) + len(rows) == 600 and 5 < len(pool) < 60
        assert f"pool: {len(pool)} structures (600 samples gave no more, pool.size asks for 60)" in line
        features = compute_features(pool, DISTANCES, water())
        gaps = np.linalg.norm(features[:, None] - features, axis=2)[np.triu_indices(len(pool), 1)]
        assert gaps.min() > 0.12
        assert isinstance(settings.pool, WignerPool)


def test_filters_belong_to_the_identity_of_a_campaign():
    """Another pool is another campaign."""
    assert configuration(filters={"bonds": "same"}).identity() != configuration().identity()
    assert configuration(filters={"bond_factor": 1.3}).identity() == configuration().identity()
