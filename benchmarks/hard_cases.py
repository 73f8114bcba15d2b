"""Do the SCF recovery steps rescue what the plain run does not, and to the right energy?

Real molecules that SCF procedures find hard (tests/support/hard_cases.py), in small basis sets. Each is labelled by the
engine with its default ladder and `stability: internal`, and computed once more by a bare PySCF script that shares nothing
with it: second-order solver from other guesses, tight convergence, PySCF's own stability analysis. It starts from two
guesses, and from a third one where neither has led to the energy of the label.

Several minima exist in just these cases. dE is taken to the nearest independent energy; the lowest one stands beside it.

With `--machines` the question is another one: does a label depend on rounding? Each molecule is labelled with one and two
threads and every kernel of OpenBLAS that the processor has, from the engine's start orbitals and from ones that are turned a
little; the table has the lowest and the highest energy of all these labels, and the steps that gave them.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import itertools
import sys
import time
import warnings
from collections import Counter

from common import machine, print_table
from pyscf import dft, gto, lib, scf

from quarry.labeling.engines.pyscf_calculator import DEFAULT_RECOVERY
from quarry.labeling.engines.pyscf_engine import PyscfEngine
from quarry.labeling.engines.pyscf_runs import HARTREE_EV
from support.hard_case_runs import Job, run
from support.hard_cases import HARD_CASES, HardCase
from support.machines import machines

GUESSES = ("atom", "huckel", "minao")
SAME_HARTREE = 1e-6
SEEDS = (0, 1, 2)
"""Of the start orbitals: 0 are the engine's."""


def independent(case: HardCase, guess: str) -> float | None:
    """Return the energy (hartree) of a tight second-order calculation after following internal instabilities."""
    structure, method = case.structure, case.method
    atoms = list(zip(structure.numbers.tolist(), structure.positions.tolist(), strict=True))
    molecule = gto.M(atom=atoms, basis=method.basis, spin=structure.multiplicity - 1, verbose=0)
    calculation = dft.KS(molecule, xc=method.xc) if method.xc != "hf" else scf.HF(molecule)
    if structure.multiplicity > 1:
        calculation = calculation.to_uks() if method.xc != "hf" else calculation.to_uhf()
    calculation.init_guess = guess
    solver = calculation.newton()
    solver.conv_tol, solver.conv_tol_grad, solver.max_cycle = 1e-11, 1e-5, 50
    solver.kernel()
    for _ in range(5):
        orbitals, _, stable, _ = solver.stability(return_status=True)
        if stable:
            break
        before = solver.e_tot
        solver.kernel(orbitals, solver.mo_occ)
        if abs(before - solver.e_tot) < 1e-7:
            break
    return float(solver.e_tot) if solver.converged else None


def examine(case: HardCase) -> tuple[list[object], str, bool]:
    """Return the table's row of a case, the step that solved it, and whether plain did."""
    method = case.method.model_copy(update={"forces": False})
    start = time.process_time()
    result = PyscfEngine(method, stability="internal").label(case.structure, 1)
    cpu = time.process_time() - start
    steps = [a for a in result.attempts if a["name"] != "stability"]
    plain, last = steps[0], steps[-1]
    rescuer = last["name"] if last["converged"] else "none"
    cycles = " + ".join(str(a["cycles"]) for a in steps)
    row: list[object] = [
        case.name,
        f"{method.xc}/{method.basis}",
        "yes" if plain["converged"] else "no",
        rescuer,
        cycles,
        cpu,
    ]
    if result.status != "ok":
        return [*row, "-", "-", "-", "-", "-", "-", result.message], rescuer, plain["converged"]
    stability = result.details["stability"]
    first, final = (stability["energies"][k] / HARTREE_EV for k in (0, -1))
    known: list[float] = []
    for number, guess in enumerate(GUESSES):
        if number >= 2 and any(abs(final - e) <= SAME_HARTREE for e in known):
            break
        try:
            energy = independent(case, guess)
        except Exception as error:
            print(f"{case.name}: independent run from {guess}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        known += [] if energy is None else [energy]
    remarks = []
    if first - final > SAME_HARTREE:
        remarks.append(f"the first solution was unstable, {first - final:.1e} above")
    if any(abs(final - e) > SAME_HARTREE for e in known):
        remarks.append("several solutions")
    if (result.properties["gap"] or 0) < 0:
        remarks.append("not filled in order")
    row += [f"{first:.7f}", stability["followed"], f"{final:.7f}"]
    if known:
        nearest, lowest = min(known, key=lambda e: abs(final - e)), min(known)
        row += [f"{nearest:.7f}", f"{lowest:.7f}", f"{final - nearest:+.1e}"]
    else:
        row += ["none converged", "-", "-"]
    return [*row, "; ".join(remarks)], rescuer, plain["converged"]


def compare_machines(cases: list[HardCase]) -> None:
    """Print how the labels of each case differ between machines and start orbitals."""
    rows = []
    for case in cases:
        jobs = [Job(case.name, seed, {"grid_level": 1}, {"stability": "internal"}) for seed in SEEDS]
        start = time.perf_counter()
        found = [label for machine in machines() for label in run(jobs, machine)]
        statuses = Counter(label["status"] for label in found)
        steps = Counter(next((a["name"] for a in label["attempts"] if a["converged"]), "none") for label in found)
        energies = sorted(label["energy_hartree"] for label in found if label["energy_hartree"] is not None)
        minima = sum(high - low > SAME_HARTREE for low, high in itertools.pairwise(energies)) + bool(energies)
        ends = [f"{energy:.7f}" for energy in (energies[0], energies[-1])] if energies else ["-", "-"]
        spread = f"{energies[-1] - energies[0]:.1e}" if energies else "-"
        words = [", ".join(f"{name} {count}" for name, count in counted.most_common()) for counted in (statuses, steps)]
        rows.append([case.name, *words, minima, *ends, spread, time.perf_counter() - start])
        print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    names = ", ".join(f"{m.threads} x {m.core_type or 'own kernel'}" for m in machines())
    head = ["molecule (Angstrom, spin)", "labels", "solved by", "solutions", "lowest", "highest", "spread", "wall s"]
    print_table(f"Labels on {names}, {len(SEEDS)} start orbitals each (hartree, grid level 1)", head, rows)


def main() -> None:
    warnings.simplefilter("ignore")
    scf.hf.MUTE_CHKFILE = True
    lib.num_threads(1)
    print(f"{machine()}; 1 thread; engine's defaults, ladder {', '.join(DEFAULT_RECOVERY)}", flush=True)
    wanted = [argument for argument in sys.argv[1:] if argument != "--machines"]
    if "--machines" in sys.argv:
        compare_machines([case for case in HARD_CASES if not wanted or any(name in case.name for name in wanted)])
        return
    rows, rescuers, rescued = [], Counter[str](), 0
    start = time.process_time()
    for case in HARD_CASES:
        if wanted and not any(name in case.name for name in wanted):
            continue
        row, rescuer, plain = examine(case)
        print(*row, sep=" | ", file=sys.stderr, flush=True)
        rows.append(row)
        rescuers[rescuer] += 1
        rescued += not plain and rescuer != "none"
    head = ["molecule (Angstrom, spin)", "level", "plain converges", "solved by", "cycles of each step", "CPU-s"]
    head += [
        "E of the ladder",
        "followed",
        "E after stability",
        *(f"independent, {g}" for g in GUESSES),
        "dE",
        "remarks",
    ]
    print_table(f"{len(rows)} hard cases (energies in hartree)", head, rows)
    failed = len(rows) - rescuers["plain"]
    print_table(
        "What solved them",
        ["step", "cases"],
        [[name, rescuers[name]] for name in (*DEFAULT_RECOVERY, "none")],
    )
    print(f"\nThe plain run fails on {failed} of {len(rows)}; the ladder rescues {rescued} of them.")
    print(f"All runs together: {time.process_time() - start:.0f} CPU-s.")


if __name__ == "__main__":
    main()
