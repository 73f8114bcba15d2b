"""The data set through the loaders of MACE and SevenNet, with their defaults: the same numbers come out.

Each runs as a process of its own, in this environment or that which QUARRY_PYTHON_WITH_MACE or QUARRY_PYTHON_WITH_SEVENN names:
the two want different versions of e3nn.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from quarry.structures.frames import write_extxyz
from support.data_sets import of_all_kinds

MACE = """
import json, sys
import numpy as np
from mace.data import AtomicData
from mace.data.utils import KeySpecification, load_from_xyz
from mace.tools import AtomicNumberTable
import torch
torch.set_default_dtype(torch.float64)
keys = KeySpecification.from_defaults()
references, found = load_from_xyz(sys.argv[1], keys, extract_atomic_energies=True, keep_isolated_atoms=True)
table = AtomicNumberTable([1, 8, 29])
graphs = [AtomicData.from_config(configuration, z_table=table, cutoff=4.0) for configuration in found]
out = [
    {"energy": g.energy.item(), "forces": g.forces.tolist(), "stress": g.stress[0].tolist(), "has_stress": g.stress_weight.item(),
     "total_charge": g.total_charge.item(), "total_spin": g.total_spin.item(), "type": c.config_type}
    for g, c in zip(graphs, found)
]
print("\\n" + json.dumps({"references": references, "frames": out}))
"""
SEVENN = """
import json, sys
import numpy as np
from sevenn.train.dataload import ase_reader, graph_build
frames = ase_reader(sys.argv[1])
graphs = graph_build(frames, 4.0)
out = [
    {"energy": g["total_energy"].item(), "forces": g["force_of_atoms"].tolist(), "stress": g["stress"][0].tolist(),
     "total_charge": int(g["data_info"]["total_charge"]), "total_spin": int(g["data_info"]["total_spin"])}
    for g in graphs
]
print("\\n" + json.dumps({"frames": out}))
"""


def loaded(module, variable, code, tmp_path):
    python = os.environ.get(variable) or (sys.executable if find_spec(module) else None)
    if python is None:
        pytest.skip(f"{module} is not installed, and {variable} names no Python that has it")
    write_extxyz(of_all_kinds(), tmp_path / "dataset.extxyz")
    command = [python, "-c", code, str(tmp_path / "dataset.extxyz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_mace(tmp_path):
    labelled, found = of_all_kinds(), loaded("mace", "QUARRY_PYTHON_WITH_MACE", MACE, tmp_path)
    assert len(found["frames"]) == len(labelled)
    for row, frame in enumerate(found["frames"]):
        structure, label = labelled.structures[row], labelled.label(row)
        assert frame["energy"] == label["energy"] and (np.array(frame["forces"]) == label["forces"]).all()
        assert (frame["total_charge"], frame["total_spin"]) == (structure.charge, structure.multiplicity)
        assert frame["has_stress"] == ("stress" in label)
        if "stress" in label:
            assert np.array(frame["stress"]) == pytest.approx(np.array(label["stress"]), rel=1e-14)
    energies = labelled.properties["energy"]
    assert found["references"] == {"8": energies[3], "1": energies[4]}
    assert [frame["type"] for frame in found["frames"]].count("IsolatedAtom") == 2


def test_sevennet(tmp_path):
    labelled, found = of_all_kinds(), loaded("sevenn", "QUARRY_PYTHON_WITH_SEVENN", SEVENN, tmp_path)
    assert len(found["frames"]) == len(labelled)
    for row, frame in enumerate(found["frames"]):
        structure, label = labelled.structures[row], labelled.label(row)
        # It keeps single precision.
        assert frame["energy"] == pytest.approx(label["energy"], rel=1e-7)
        assert np.array(frame["forces"]) == pytest.approx(np.array(label["forces"]), rel=1e-6)
        assert (frame["total_charge"], frame["total_spin"]) == (structure.charge, structure.multiplicity)
        assert np.isfinite(frame["stress"]).all() == ("stress" in label)
        if "stress" in label:
            # Its own sign, and its own order: xx, yy, zz, xy, yz, zx.
            expected = [-label["stress"][i][j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))]
            assert frame["stress"] == pytest.approx(expected, rel=1e-6)
