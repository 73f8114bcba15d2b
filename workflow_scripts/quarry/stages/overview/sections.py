"""The sections of the overview."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.campaign.failure_table import REMEDIES
from quarry.config.campaign import MAIN_ARM
from quarry.config.descriptors import Descriptor
from quarry.config.pool import DynamicsPool
from quarry.descriptors.cache import FeatureCache
from quarry.descriptors.features_file import read_features
from quarry.errors import QuarryError
from quarry.labeling.audit.findings import Finding as AuditFinding
from quarry.labeling.audit.findings import by_check, worst_of
from quarry.labeling.record import LabelRecord
from quarry.properties import PROPERTIES
from quarry.reporting import overview_plots as plots
from quarry.reporting.page import Figure, Section, Table
from quarry.reporting.plots import unit_for
from quarry.stages.evaluation import read_predictions
from quarry.stages.overview import methods
from quarry.stages.overview.files import Campaign
from quarry.stages.overview.findings import findings_of
from quarry.stopping.facts import Facts
from quarry.structures import StructureSet
from quarry.structures.files import read_pool_ids
from quarry.structures.labelled import LabelledSet
from quarry.structures.structure import IdIndex

CAPTIONS = {
    "learning_curve": (
        "Learning curve",
        "Error against the number of training labels, of all arms (band: 95 % interval over the evaluated structures), and the "
        "relative change of the error from iteration to iteration (rRMSE).",
    ),
    "parity": (
        "Parity and calibration",
        "Predictions of the last model against labels. Of a model with uncertainties also its errors against its own standard "
        "deviation, and how many errors lie within the interval that it says, for every level (below the diagonal it is too "
        "sure).",
    ),
    "savings": (
        "Labels saved",
        "Arm main beside the random arms, and the training labels saved at equal error with their 95 % interval.",
    ),
    "function": (
        "The model of one variable",
        "Before the first query, after it and at the end; shaded: two standard deviations.",
    ),
    "spectrum": (
        "Absorption spectra",
        "ML-NEA: the whole ensemble, labels and predictions. QC-NEA: its labelled members alone. Shaded: 95 % intervals over "
        "the members.",
    ),
}
"""Title and caption of the figures that other rules draw."""
SIDE_BY_SIDE = ("parity", "savings", "function")
"""Those whose panels stand side by side."""


def sections(campaign: Campaign, figures: Mapping[str, str], folder: Path) -> Iterator[Section]:
    """Yield the sections in their order, empty ones too. figures: as of ``write_overview``. folder: for those drawn here."""
    found = findings_of(campaign.evidence)
    none = ["Nothing was found that a reader should know before believing the numbers."] if not found else []
    yield Section("Issues found", words=none, findings=found)
    drawn = {name: _drawn(name, path) for name, path in figures.items()}
    learning = [drawn[name] for name in ("learning_curve", "parity", "savings", "function") if name in drawn]
    yield Section("Learning", figures=[*learning, *_error_figure(campaign, folder)], tables=[_iterations(campaign)])
    if "spectrum" in drawn:
        yield Section("Spectrum", figures=[drawn["spectrum"]])
    yield Section("What was selected", figures=list(_selection(campaign, folder)))
    yield _exploration(campaign, folder)
    yield Section("Labels", tables=[*_failure_table(campaign), *_audit_table(campaign.evidence.audit)])
    yield _cost(campaign, folder)
    text = methods.paragraph(
        campaign.configuration, campaign.facts, campaign.versions, campaign.manifest, campaign.ended[1]
    )
    yield Section("Methods", words=[text], literal=methods.bibtex(campaign.configuration))


def _drawn(name: str, path: str) -> Figure:
    title, caption = CAPTIONS[name]
    return Figure(title, Path(path), caption, wide=name in SIDE_BY_SIDE)


def _error_figure(campaign: Campaign, folder: Path) -> Iterator[Figure]:
    last = campaign.facts[-1]
    found = read_predictions(campaign.paths.iteration("predictions.h5", MAIN_ARM, last.iteration), last.metric)
    if found is None or last.goal.classes or np.ndim(found["mean"]) != 1 or not len(found["mean"]):
        return
    off = np.asarray(found["mean"]) - np.asarray(found["label"])
    scale, unit = unit_for(last.goal, float(np.abs(off).max()))
    path = folder / "errors.svg"
    plots.plot_errors(scale * off, unit, path)
    text = f"Errors of the last model on {len(off)} {metric_of(last)} structures. Dashed: plus and minus the RMSE."
    yield Figure("Distribution of the errors", path, text)


COLUMNS = {
    "iteration": "iteration",
    "phase": "phase",
    "n_train": "training labels",
    "labels_new": "new",
    "labels_reused": "reused",
    "labels_failed": "failed",
    "rmse": "RMSE",
    "accuracy": "accuracy",
    "rrmse": "rRMSE",
    "coverage_95": "within 95 %",
    "core_hours_total": "core-hours so far",
}
"""Columns of the history that the table has where they say something, and their headings."""


def _iterations(campaign: Campaign) -> Table:
    rows, goal = campaign.history, campaign.facts[-1].goal
    unit = _readable(goal.unit)
    heads = {name: f"RMSE ({unit})" if name == "rmse" and unit else head for name, head in COLUMNS.items()}
    # Errors of what is learnt beside the main property, behind its own.
    place = list(heads).index("rmse") + 1
    beside = {f"{name}_rmse": f"RMSE of {name.replace('_', ' ')} ({unit_of(name)})" for name in goal.beside}
    heads = dict([*list(heads.items())[:place], *beside.items(), *list(heads.items())[place:]])
    shown = [name for name in heads if any(row.get(name) for row in rows)]
    cells = [[_short(row.get(name, "")) for name in shown] for row in rows]
    return Table("Iterations of arm main; all columns are in history.csv.", [heads[name] for name in shown], cells)


def unit_of(name: str) -> str:
    """Return the unit of a property as a page has it; empty: none."""
    return _readable(PROPERTIES[name].unit.removeprefix("1"))


def _readable(unit: str) -> str:
    return unit.replace("*", " ").replace("Angstrom", "Å")


def _short(text: str) -> str:
    try:
        return text if text.isdigit() else f"{float(text):.4g}"
    except ValueError:
        return text


def _selection(campaign: Campaign, folder: Path) -> Iterator[Figure]:
    features, last = Path(campaign.paths.features), campaign.facts[-1]
    if not features.exists():
        return
    labelled = LabelledSet.read(campaign.paths.iteration("dataset.h5", MAIN_ARM, last.iteration))
    train = labelled.indices("train")
    ids = read_pool_ids(campaign.paths.structures)
    structures, iterations = labelled.structures.subset(train), labelled.iterations[train]
    is_sampled = campaign.configuration.pool.is_sampled
    if is_sampled:
        selected = _features_of(structures, str(features), campaign.configuration.descriptor)
    else:
        there, rows = IdIndex(ids).find(structures.ids)
        selected, iterations = read_features(str(features), rows[there]), iterations[there]
    if selected is None or not len(selected):
        return
    step = -(-len(ids) // plots.MOST_SHOWN)
    everywhere = read_features(str(features), np.arange(0, len(ids), step))
    path = folder / "selection.svg"
    plots.plot_selection(everywhere, selected, iterations, path)
    pool = "the initial pool" if is_sampled else "the pool"
    some = f"every {step}th structure of {pool}" if step > 1 else pool
    text = (
        "Training structures on the first two principal components of the descriptor, by the iteration that chose them. "
        f"Grey: {some}."
    )
    yield Figure("Map of the pool and the batches", path, text)


def _features_of(structures: StructureSet, path: str, descriptor: Descriptor | None) -> NDArray[np.float64] | None:
    """Return the features of structures, in the pool (path: of its features) or not; None: the descriptor cannot be made here."""
    try:
        return None if descriptor is None else FeatureCache.of_pool(path, descriptor).of(structures)
    except (QuarryError, ImportError, OSError):
        return None


def _exploration(campaign: Campaign, folder: Path) -> Section:
    found = [(f.iteration, f.exploration) for f in campaign.facts if f.exploration.get("trajectories")]
    if not found:
        return Section("Trajectories")
    path = folder / "fates.svg"
    plots.plot_exploration(found, path)
    text = (
        "How the trajectories ended: at a frame that the model is unsure of (a candidate, near-duplicates of others apart), at "
        "one that is no chemistry (thrown away), or at their full length."
    )
    return Section(
        "Trajectories", figures=[Figure("Ends of trajectories", path, text), *_traces(campaign, found, folder)]
    )


def _traces(campaign: Campaign, found: Sequence[tuple[int, Mapping[str, Any]]], folder: Path) -> Iterator[Figure]:
    from quarry.dynamics.files import Trajectories

    traces, (_, last) = {}, found[-1]
    for iteration in dict.fromkeys((found[0][0], found[-1][0])):
        path = Path(campaign.paths.iteration("trajectories/000.h5", MAIN_ARM, iteration))
        if path.exists() and len(trace := Trajectories.read(path).trace):
            traces[iteration] = trace
    if traces:
        path = folder / "traces.svg"
        assert isinstance(campaign.configuration.pool, DynamicsPool)
        step_fs, threshold = campaign.configuration.pool.explore.time_step_fs, float(last.get("threshold", np.nan))
        plots.plot_traces(traces, step_fs, threshold, str(last.get("unit", "")), path)
        yield Figure(
            "Uncertainty along the trajectories",
            path,
            "Of the trajectories of the first job that were still running: median and largest, in the first and the last "
            "iteration with trajectories. Dashed: the threshold of the last one.",
        )


def _failure_table(campaign: Campaign) -> Iterator[Table]:
    rows = campaign.evidence.failures
    if not rows:
        return
    classes = sorted({row["status"] for row in rows})
    cells = []
    for status in classes:
        some = [row for row in rows if row["status"] == status]
        hours = sum(float(row["core_hours"] or 0) for row in some)
        again = sum(bool(row["retried"]) for row in some)
        cells.append([status.replace("_", " "), str(len(some)), str(again), f"{hours:.3g}", REMEDIES.get(status, "")])
    heads = ["failure", "labels", "tried again", "core-hours", "what may help"]
    yield Table("Failed labels by class; each stands in failures.csv.", heads, cells)


def _audit_table(audit: Sequence[AuditFinding]) -> Iterator[Table]:
    if not audit:
        return
    cells = []
    for (severity, check), rows in by_check(audit).items():
        named = sum(bool(row.structure_id) for row in rows)
        cells.append([severity, check.replace("_", " "), str(named) if named else "all together", worst_of(rows).words])
    yield Table(
        "Audit of the labels, the worst of each kind; each stands in audit.csv.",
        ["severity", "check", "labels", "what"],
        cells,
    )


def _cost(campaign: Campaign, folder: Path) -> Section:
    path = folder / "core_hours.svg"
    plots.plot_core_hours(campaign.hours, path)
    text = (
        "Core-hours of each iteration of arm main: wall time times cores; labels that were there already cost none. The pool: "
        "its structures, normal modes, features. The rest: jobs that read and write files, which the history does not count."
    )
    figures, words = [Figure("Where the core-hours went", path, text)], []
    runs = _runs(campaign.records)
    if runs:
        path = folder / "time_line.svg"
        plots.plot_time_line(runs, path)
        text = (
            "Label jobs that ran at the same time, of all arms; a colour and number for each iteration. Gaps are models, the "
            "workflow and waiting."
        )
        figures.append(Figure("Time line of the labels", path, text))
        words = [_span(runs)]
    return Section("Cost", words=words, figures=figures)


def _runs(records: Sequence[LabelRecord]) -> list[plots.Run]:
    """Return when labels ran, from the end and the duration that each record has."""
    ends = [datetime.fromisoformat(record.finished).timestamp() / 3600 for record in records]
    begins = [end - float(record.cost["wall_s"]) / 3600 for end, record in zip(ends, records, strict=True)]
    first = min(begins, default=0.0)
    return [
        plots.Run(begin - first, end - first, int(record.origin.get("iteration", 0)))
        for begin, end, record in zip(begins, ends, records, strict=True)
    ]


def _span(runs: Sequence[plots.Run]) -> str:
    """Return a sentence about how much of the time labels ran."""
    last, busy, end = max(run.end for run in runs), 0.0, 0.0
    for run in sorted(runs, key=lambda run: run.begin):
        busy += max(0.0, run.end - max(run.begin, end))
        end = max(end, run.end)
    together = sum(run.end - run.begin for run in runs)
    return (
        f"From the first to the last label that was computed here {_duration(last)} passed. Labels ran in "
        f"{100 * busy / last:.0f} % of it, {together / busy:.1f} at a time on average; the rest went to models, the workflow, "
        "and waiting for the queue or for whoever started it again."
    )


def _duration(hours: float) -> str:
    if hours < 1 / 30:
        return f"{3600 * hours:.0f} seconds"
    return (
        f"{60 * hours:.0f} minutes" if hours < 2 else f"{hours:.1f} hours" if hours < 72 else f"{hours / 24:.1f} days"
    )


def metric_of(facts: Facts) -> str:
    """Return which structures an error is of, in words."""
    return facts.metric.replace("_", "-")
