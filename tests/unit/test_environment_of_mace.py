"""The environment of campaigns with mace, made as a user makes it: minutes, a package index and 3 GB, so only where asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from quarry.config.extras import EXTRAS
from support.campaigns import REPOSITORY

ASK = "QUARRY_TEST_ENVIRONMENTS"


@pytest.mark.skipif(not os.environ.get(ASK), reason=f"takes minutes and 3 GB: set {ASK}=1")
@pytest.mark.timeout(3600)
def test_it_is_made_and_its_tests_pass(tmp_path):
    if shutil.disk_usage(tmp_path).free < 10e9:
        pytest.skip("less than 10 GB are free")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    wanted = EXTRAS["mace"].requirements[0]
    asked = subprocess.run(
        [*pip, "download", "--no-deps", "-d", str(tmp_path), wanted], capture_output=True, check=False
    )
    if asked.returncode:
        pytest.skip(f"the package index does not give {wanted}")
    locks = [option for lock in REPOSITORY.glob("requirements*.lock") for option in ("-r", str(lock))]
    subprocess.run([*pip, "install", "-q", *locks], check=True)
    subprocess.run([*pip, "install", "-q", EXTRAS["torch"].requirements[0], wanted], check=True)
    tests = [str(REPOSITORY / "tests" / "unit" / name) for name in ("test_network_packages.py", "test_networks.py")]
    done = subprocess.run(
        [str(python), "-m", "pytest", "-n", "0", "-q", "-rs", *tests],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "mace-torch" not in done.stdout, done.stdout[-3000:]
