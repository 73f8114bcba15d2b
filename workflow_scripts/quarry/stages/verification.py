"""Labels computed again, as they are or rotated and translated, and compared with the recorded ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from quarry import __version__
from quarry.config.campaign import Configuration
from quarry.config.verification import Verification
from quarry.csv_tables import write_items
from quarry.errors import QuarryError
from quarry.files import write_json
from quarry.labeling.attempts import MACHINE_FAULT
from quarry.labeling.limits import Allocation, limits_of_job
from quarry.labeling.record import LabelRecord
from quarry.labeling.store import LabelStore, StoreError
from quarry.labeling.worker import Limits
from quarry.properties import PROPERTIES, Property
from quarry.randomness import generator
from quarry.stages.displaced import SLOPE, displaced_copies, has_forces, random_direction
from quarry.stages.labeling import make_worker
from quarry.structures import Structure
from quarry.structures.labelled import LabelledSet

VERIFY, CHECK_ROTATIONS, CHECK_FORCES = "verify", "check_rotations", "check_forces"
ABSENT = "absent"
"""Status of a number beyond the last labelled structure."""
PER_ATOM = "_per_atom"
"""End of the names of tolerances that are multiplied by the number of atoms."""
TRANSLATION_A = 2.0
"""Standard deviation of the translations of copies."""
AGREE = "forces agree with the energies of displaced copies"


@dataclass(frozen=True)
class Comparison:
    """One property of one label, recorded and computed again.

    source: where the recorded value stands: dataset (the product) or store. recorded, recomputed: the value, or of
    several numbers the one that differs most (NaN where there is none). verdict: agrees, differs or
    failed. conditions: what was not the same for both (program versions, threads), or why the label failed.
    """

    structure_id: str
    quantity: str
    source: str
    recorded: float
    recomputed: float
    difference: float
    tolerance: float
    unit: str
    verdict: str
    conditions: str

    @property
    def bad(self) -> bool:
        """Whether the label differs, or could not be computed again."""
        return self.verdict != "agrees"


def draw_structure(configuration: Configuration, check: str, labels: LabelledSet, number: int) -> Structure | None:
    """Return the number-th structure (from 0) of a check's random order of all labels; None beyond the last."""
    order = generator(configuration.seed, check, configuration.verification.seed).permutation(len(labels))
    return labels.structures[int(order[number])] if number < len(order) else None


def rotated_copy(structure: Structure, rng: np.random.Generator) -> tuple[Structure, NDArray[np.float64]]:
    """Return a randomly rotated and translated copy and the rotation matrix R, shape (3, 3), of x' = R x + t.

    Not rounded to the step of a pool's positions: moved by up to half of it, a copy would be another geometry. A row of a
    table pool stays what it is.
    """
    rotation = Rotation.random(rng=rng).as_matrix()
    positions = structure.positions @ rotation.T + rng.normal(0.0, TRANSLATION_A, 3)
    cell = None if structure.cell is None else structure.cell @ rotation.T
    copy = Structure(
        structure.numbers,
        positions,
        structure.charge,
        structure.multiplicity,
        cell=cell,
        pbc=structure.pbc,
        features=structure.features,
    )
    return copy, rotation


def recompute_label(
    configuration: Configuration,
    base: str,
    check: str,
    number: int,
    dataset: str,
    output: str,
    allocation: Allocation,
) -> str:
    """Compute a label of a check's sample, reading and writing no store; return a line about it.

    base: folder of the campaign file. allocation: what the job has. A calculation that fails is written down as such.
    """
    labels = LabelledSet.read(dataset)
    structure = draw_structure(configuration, check, labels, number)
    if structure is None:
        write_json(output, {"status": ABSENT})
        return "fewer labels than the sample asks for"
    if check == CHECK_FORCES and not has_forces(labels, structure):
        write_json(output, {"status": ABSENT})
        return f"{structure.structure_id} has no forces to check"
    wanted, rotation = structure, np.eye(3)
    if check == CHECK_ROTATIONS:
        seed = configuration.verification.seed
        wanted, rotation = rotated_copy(structure, generator(configuration.seed, check, seed, structure.structure_id))
    copies = [wanted]
    direction = np.zeros((0, 3))
    if check == CHECK_FORCES:
        seed = configuration.verification.seed
        direction = random_direction(structure, generator(configuration.seed, check, seed, structure.structure_id))
        copies = displaced_copies(structure, configuration.verification.displacement_A * direction)
    worker = make_worker(configuration, base, allocation)
    limits = limits_of_job(allocation.memory_MB, allocation.walltime_min)
    outcomes = []
    try:
        for copy in copies:
            outcome = worker.label(copy, Limits(limits.memory_MB, limits.end), lambda elapsed_s, peak_MB: None)
            if outcome.result.status == MACHINE_FAULT:
                raise QuarryError(f"{structure.structure_id}: to be tried again: {outcome.result.message}")
            outcomes.append(outcome)
            if outcome.result.status != "ok":
                break
    finally:
        worker.close()
    status, message, properties = outcome.result.status, outcome.result.message, outcome.result.properties
    if check == CHECK_FORCES and status == "ok":
        ends = [float(done.result.properties.get("energy", np.nan)) for done in outcomes]
        properties = {SLOPE: (ends[0] - ends[1]) / (2 * configuration.verification.displacement_A)}
    answer = {
        "check": check,
        "structure_id": structure.structure_id,
        "status": status,
        "message": message,
        "properties": properties if status == "ok" else {},
        "rotation": rotation.tolist(),
        "direction": direction.tolist(),
        "threads": allocation.threads,
        "versions": {"quarry": __version__, **outcome.versions},
        "wall_s": round(sum(done.wall_s for done in outcomes), 3),
    }
    write_json(output, answer)
    return f"{structure.structure_id}: {status} {message}".rstrip()


def compare_labels(
    settings: Verification, check: str, recomputed: Sequence[str], dataset: str, store: LabelStore
) -> list[Comparison]:
    """Compare recomputed labels with the data set, and in check verify with the store's records too.

    The properties with a tolerance for the check: all but counts and strengths, and no dipole of rotated copies (that of an
    ion depends on the origin). Of labels of displaced copies (check_forces) the slope of the energy is compared with the
    recorded forces.
    """
    labels = LabelledSet.read(dataset)
    rows: list[Comparison] = []
    for path in recomputed:
        answer = json.loads(Path(path).read_bytes())
        if answer["status"] == ABSENT:
            continue
        structure_id = answer["structure_id"]
        record = _stored(store, structure_id)
        conditions = _conditions(answer, record)
        if answer["status"] != "ok":
            why = "; ".join(part for part in (f"{answer['status']}: {answer['message']}", conditions) if part)
            rows.append(_failed(structure_id, why))
            continue
        index = int(labels.structures.index_of([structure_id])[0])
        if answer.get("check") == CHECK_FORCES:
            forces = labels.record(index)["forces"]
            rows.append(
                _slope_compared(structure_id, forces, answer, settings.displacement_tolerance_eV_per_A, conditions)
            )
            continue
        sources: dict[str, Mapping[str, Any]] = {"dataset": labels.record(index)}
        if check == VERIFY and record is not None:
            sources["store"] = record.properties
        tolerances = _tolerances(settings, check, len(labels.structures[index]))
        found = [
            Comparison(structure_id, quantity, source, old, new, difference, tolerance, unit, verdict, conditions)
            for source, recorded in sources.items()
            for quantity, (tolerance, unit) in tolerances.items()
            for old, new, difference, verdict in _compared(quantity, recorded, answer, tolerance)
        ]
        rows += found or [_failed(structure_id, "no property to compare")]
    return rows


def _tolerances(settings: Verification, check: str, atoms: int) -> dict[str, tuple[float, str]]:
    """Return tolerance and unit of each property that a check compares."""
    rotated = check == CHECK_ROTATIONS
    own = settings.rotation_tolerances if rotated else settings.tolerances
    found: dict[str, tuple[float, str]] = {}
    for entry in PROPERTIES.values():
        key_or_number = entry.rotated if rotated else entry.recomputed
        if isinstance(key_or_number, str):
            share = atoms if key_or_number.endswith(PER_ATOM) else 1
            key_or_number = float(getattr(settings, key_or_number)) * share
        tolerance = own.get(entry.name, key_or_number)
        if tolerance is not None:
            found[entry.name] = (tolerance, "" if entry.unit == "1" else entry.unit)
    return found


def _compared(
    quantity: str, recorded: Mapping[str, Any], answer: Mapping[str, Any], tolerance: float
) -> Iterator[tuple[float, float, float, str]]:
    """Yield (recorded, recomputed, difference, verdict) if there is a recorded value."""
    if recorded.get(quantity) is None:
        return
    old = np.asarray(recorded[quantity], dtype=float)
    if np.isnan(old).all():
        return
    given = answer["properties"].get(quantity)
    new = np.full(old.shape, np.nan) if given is None else np.asarray(given, dtype=float)
    if new.shape == old.shape:
        new = rotated_back(PROPERTIES[quantity], new, np.asarray(answer["rotation"]))
    else:
        yield float(old.flat[0]), float("nan"), float("nan"), "differs"
        return
    differences = np.abs(new - old)
    # A value that only one side has is the largest difference of all.
    worst = int(np.argmax(np.where(np.isnan(differences), np.inf, differences)))
    difference = float(differences.flat[worst])
    yield float(old.flat[worst]), float(new.flat[worst]), difference, "agrees" if difference <= tolerance else "differs"


def rotated_back(entry: Property, values: NDArray[np.float64], rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the numbers that a property has before the structure is rotated, x' = R x + t.

    values: those of the rotated structure. rotation: R, shape (3, 3). Vectors are v' = R v (as rows, v = v' R), tensors
    s' = R s R^T.
    """
    if entry.rank == 0:
        return values
    return values @ rotation if entry.rank == 1 else rotation.T @ values @ rotation


def _slope_compared(
    structure_id: str, forces: NDArray[np.float64], answer: Mapping[str, Any], tolerance: float, conditions: str
) -> Comparison:
    recorded = -float(np.sum(forces * np.asarray(answer["direction"])))
    new = float(answer["properties"][SLOPE])
    difference = abs(new - recorded)
    verdict = "agrees" if difference <= tolerance else "differs"
    row = (structure_id, SLOPE, "dataset", recorded, new, difference, tolerance, "eV/Angstrom", verdict, conditions)
    return Comparison(*row)


def _stored(store: LabelStore, structure_id: str) -> LabelRecord | None:
    try:
        return store.get(structure_id)
    except StoreError:
        return None


def _conditions(answer: Mapping[str, Any], record: LabelRecord | None) -> str:
    """Return what differs between the recorded calculation and this one, in words."""
    if record is None:
        return "no record in the store"
    names = sorted(record.versions.keys() | answer["versions"].keys())
    pairs = [(name, record.versions.get(name, "absent"), answer["versions"].get(name, "absent")) for name in names]
    pairs.append(("threads", str(record.cost.get("threads", "unknown")), str(answer["threads"])))
    return ", ".join(f"{name} {then} then, {now} now" for name, then, now in pairs if then != now)


def _failed(structure_id: str, why: str) -> Comparison:
    nan = float("nan")
    return Comparison(structure_id, "", "", nan, nan, nan, nan, "", "failed", why)


def write_table(path: str, rows: Sequence[Comparison]) -> None:
    """Write the comparisons as CSV, numbers in full."""
    write_items(path, Comparison, rows)


def summary(rows: Sequence[Comparison]) -> list[str]:
    """Return a line for each label with what differs most, and one for all; the same of slopes, where there are any."""
    lines = []
    slopes = [row for row in rows if row.quantity == SLOPE]
    for part, what in (([row for row in rows if row.quantity != SLOPE], "labels agree"), (slopes, AGREE)):
        labels = list(dict.fromkeys(row.structure_id for row in part))
        worst = [max((row for row in part if row.structure_id == name), key=_severity) for name in labels]
        good = sum(not row.bad for row in worst)
        if part or not rows:
            lines += [*map(_words, worst), f"{good} of {len(labels)} {what} ({len(part)} values compared)"]
    return lines if rows else lines[:1]


def require_agreement(rows: Sequence[Comparison], table: str) -> None:
    """Raise QuarryError with exact numbers if anything is out of its tolerance, or could not be computed."""
    bad = {row.structure_id for row in rows if row.bad}
    if bad:
        message = _words(max((row for row in rows if row.bad), key=_severity))
        raise QuarryError(
            f"{len(bad)} of {len({r.structure_id for r in rows})} labels do not agree; the worst: {message}; table in {table}"
        )


def forget_disagreeing(recomputed: Sequence[str], rows: Sequence[Comparison]) -> None:
    """Remove the recomputed labels that do not agree: once the cause is removed, the next check computes them again."""
    bad = {row.structure_id for row in rows if row.bad}
    for path in recomputed:
        if json.loads(Path(path).read_bytes()).get("structure_id") in bad:
            Path(path).unlink()


def _severity(row: Comparison) -> float:
    return row.difference / row.tolerance if np.isfinite(row.difference) else float("inf")


def _words(row: Comparison) -> str:
    conditions = f" ({row.conditions})" if row.conditions else ""
    if row.verdict == "failed":
        return f"{row.structure_id} could not be computed again{conditions}"
    return (
        f"{row.structure_id} {row.quantity} in the {row.source} {row.recorded!r}, computed again "
        f"{row.recomputed!r} {row.unit}, difference {row.difference:.3g}, tolerance {row.tolerance:.3g}: "
        f"{row.verdict}{conditions}"
    )
