"""A pool with features, and a model trained on some of its labels, shared by the tests of the stages."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms

from quarry.labeling.audit.findings import write_audit
from quarry.labeling.outliers import write_outliers
from quarry.stages.pool import build_features, build_pool
from quarry.stages.training import train_model
from quarry.structures.files import read_pool
from support.arms import models_in
from support.campaigns import WATER
from support.disk import ITERATIONS, Disk, write_iteration
from support.model_folders import DISTANCES, GMNN, LCMD, labels_of, published, waters
from support.stages import (
    ROWS,
    SIZE,
    configuration,
    write_dataset,
    write_failures,
)


@pytest.fixture(scope="module")
def pool_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(1)
    frames = [Atoms("OHH", WATER + rng.normal(0, 0.08, (3, 3))) for _ in range(SIZE)]
    ase.io.write(folder / "pool.extxyz", [*frames, frames[3]])
    outputs = [str(folder / name) for name in ("structures.h5", "reference.extxyz", "filtered.csv")]
    line = build_pool(configuration(), folder, None, *outputs)
    assert line == f"pool: {SIZE} structures, 1 duplicates dropped"
    build_features(
        str(folder / "structures.h5"),
        str(folder / "reference.extxyz"),
        configuration().descriptor,
        str(folder / "features.h5"),
    )
    return folder


@pytest.fixture(scope="module")
def structures(pool_folder) -> str:
    return str(pool_folder / "structures.h5")


@pytest.fixture(scope="module")
def features(pool_folder) -> str:
    return str(pool_folder / "features.h5")


@pytest.fixture(scope="module")
def pool(structures):
    return read_pool(structures)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pool, features) -> Path:
    """A folder with a data set, no failures, and a model."""
    folder = tmp_path_factory.mktemp("trained")
    write_dataset(folder / "dataset.h5", pool, ROWS)
    write_failures(folder / "failures.csv", [])
    write_outliers(folder / "outliers.csv", [])
    write_audit(folder / "audit.csv", [])
    lines = train_model(models_in(configuration(), features), str(folder / "dataset.h5"), str(folder / "model.h5"))
    assert lines == ["gpr trained on 12 labels"]
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished campaign of stub files with true receipts."""
    folder = tmp_path_factory.mktemp("finished")
    with contextlib.chdir(folder):
        for t in range(ITERATIONS):
            write_iteration(Disk.paths, "main", t)
    return folder / "results"


@pytest.fixture
def disk(finished, tmp_path, monkeypatch) -> Disk:
    """A copy of it, in the working directory."""
    shutil.copytree(finished, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return Disk()


@pytest.fixture(scope="session")
def kreg_folder(tmp_path_factory) -> Path:
    made = waters()
    folder = tmp_path_factory.mktemp("kreg")
    labels = labels_of(made, "energy", "forces")
    return published(folder, made, labels, target="energy_forces", model={"kind": "kreg"}, descriptor=DISTANCES)


@pytest.fixture(scope="session")
def gmnn_folder(tmp_path_factory) -> Path:
    made = waters()
    folder = tmp_path_factory.mktemp("gmnn")
    labels = labels_of(made, "energy", "forces")
    return published(folder, made, labels, target="energy_forces", model=GMNN, query=LCMD, descriptor=None)


@pytest.fixture(params=["kreg_folder", "gmnn_folder"])
def potential(request) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder
