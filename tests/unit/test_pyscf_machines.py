"""Labels that rounding must not decide: hard cases with other kernels, threads and start orbitals, each in its own process."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.hard_case_runs import Job, run
from support.machines import Machine, core_types

COARSE = {"grid_level": 0}
JOBS = [
    # PySCF takes the convergence of its seventh cycle back, with some kernels only; the label was lost then.
    *(Job("F2 2.8, singlet", seed, COARSE, {"recovery": ["plain"]}) for seed in range(3)),
    Job("F2 2.8, singlet", 0, COARSE, {"recovery": ["plain"], "looks": True}),
    # Several minima, 1 eV apart: rounding chose between them, as the guess favours none.
    *(Job("CN 2.6, doublet", seed, COARSE, {"recovery": ["plain"]}) for seed in range(2)),
    # A flat direction, along which the grid's noise is followed up and down.
    Job("OH 2.5, doublet", 1, COARSE, {"recovery": ["plain"], "stability": "internal"}),
    Job("F2 2.8, singlet", 1, {**COARSE, "max_cycles": 3}, {"recovery": ["plain"]}),
]


def test_hard_cases_give_the_same_label_on_every_machine() -> None:
    oldest = [Machine(1, name) for name in core_types()[:1]]
    found = [run(JOBS, machine) for machine in (Machine(1), Machine(2), *oldest)]
    for job, labels in zip(JOBS, zip(*found, strict=True), strict=True):
        same_molecule = [
            label
            for other, *more in zip(JOBS, *found, strict=True)
            if (other.name, other.method) == (job.name, job.method)
            for label in more
        ]
        status = "scf_not_converged" if "max_cycles" in job.method else "ok"
        assert [label["status"] for label in labels] == [status] * len(labels), labels
        assert len({label["details"].get("stability", {}).get("external") for label in labels}) == 1
        if status == "ok":
            energies = [label["energy_hartree"] for label in same_molecule]
            # What the integration grid leaves along a flat direction.
            assert energies == pytest.approx([energies[0]] * len(energies), abs=2e-6), job


def test_only_kernels_that_the_processor_has_are_tried(tmp_path: Path) -> None:
    cpu = tmp_path / "cpuinfo"
    cpu.write_text("processor : 0\nflags\t\t: fpu sse4_2 avx avx2 fma\n")
    assert core_types(cpu) == ["Nehalem", "Sandybridge", "Haswell", "Zen"]
    cpu.write_text("Features : asimd\n")
    assert core_types(cpu) == core_types(tmp_path / "missing") == []
