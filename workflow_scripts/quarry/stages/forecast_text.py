"""A forecast in words and small tables."""

from __future__ import annotations

from quarry.campaign.planned import JOB_START_S
from quarry.config.campaign import Configuration
from quarry.labeling.cost_model import EXPONENT_SD
from quarry.stages.forecast import ArmForecast, Forecast
from quarry.stopping.rules import CORE_HOURS


def forecast_text(forecast: Forecast, configuration: Configuration, cores: int) -> str:
    """Return what the terminal shows. cores: of this run."""
    lines = [f"Forecast of the campaign {configuration.name}", ""]
    lines += [_row("fit", _fit(forecast))]
    for arm in forecast.arms:
        name = "labels" if len(forecast.arms) == 1 else f"labels {arm.arm}"
        lines += [_row(name, _labels(arm))]
    per_job = f" of {forecast.new / forecast.jobs:.3g} labels" if 0 < forecast.jobs < forecast.new else ""
    cores_of_job = forecast.model.cores
    lines += [
        _row("jobs", f"{forecast.jobs} label jobs{per_job}, {cores_of_job} core{'s' * (cores_of_job > 1)} each"),
        _row("core-hours", _core_hours(forecast)),
        _row("longest", _longest(forecast, configuration)),
        _row(
            "files",
            f"{forecast.files[0]:,} at the end, up to {forecast.files[1]:,} before (results, store, .snakemake)",
        ),
    ]
    lines += _budget(forecast, configuration)
    lines += ["", f"  {'cores':>12}  {'labels done after':>18}  {'with 90 % certainty':>20}"]
    for count, (median, high) in forecast.end_s.items():
        here = " (this run)" if count == cores else ""
        lines.append(f"  {count:>12}  {duration(median):>18}  {duration(high):>20}{here}")
    return "\n".join([*lines, "", *_remarks(forecast, configuration)]) + "\n"


def _row(name: str, text: str) -> str:
    return f"  {name:<12}{text}"


def _fit(forecast: Forecast) -> str:
    model = forecast.model
    size = model.measure.replace("_", " ")
    law = f"time grows with ({size})^{model.time.exponent:.1f} (+- {model.time.exponent_sd:.1f})"
    if model.time.exponent_sd > 0.9 * EXPONENT_SD:
        # Then the exponent is the prior's.
        law = "nearly of one size" if len(_sizes(forecast)) < 2 else f"nearly of one size; others by {law}"
    text = f"{model.n} labels: {law}, scatter {100 * model.time.scatter:.0f} %"
    return text if model.same_cores else f"{text}; made on other core numbers, taken to scale perfectly"


def _sizes(forecast: Forecast) -> set[float]:
    """Return the distinct sizes of the labels to come."""
    return {size for arm in forecast.arms for sizes in arm.sizes for size in sizes}


def _labels(arm: ArmForecast) -> str:
    total, count = sum(arm.batches), len(arm.batches)
    if arm.stopped is not None:
        head = f"none: it has stopped ({arm.stopped})."
        return f"{head} Up to {arm.ends_by}: {total} more" if total else head
    if not total:
        return f"none: {arm.ends_by} is reached"
    shown = ", ".join(map(str, arm.batches[:4])) + (" ..." if count > 4 else "")
    known = f"; {arm.known} of them are in the store" if arm.known else ""
    given = f"; {arm.given} of them are given (labeling.known)" if arm.given else ""
    return f"{total} in {count} iteration{'s' * (count > 1)} ({shown}) up to {arm.ends_by}{known}{given}"


def _core_hours(forecast: Forecast) -> str:
    median, high = forecast.label_core_hours
    spent = f"; spent so far: {_number(forecast.spent_core_hours)}" if forecast.spent_core_hours else ""
    return f"{_number(median)} (90 %: below {_number(high)}) for labels{spent}"


def _longest(forecast: Forecast, configuration: Configuration) -> str:
    resources = configuration.resources.label
    time, memory = forecast.longest_s, forecast.memory_MB
    text = (
        f"{duration(time[0])} (90 %: below {duration(time[1])}) and {memory[0]:.0f} MB (90 %: below {memory[1]:.0f} MB) "
        f"for the largest structure; resources.label gives {resources.walltime_min} min and {resources.memory_MB} MB"
    )
    tight = [
        key
        for key, high, given in (
            ("walltime_min", time[1] / 60, resources.walltime_min),
            ("memory_MB", memory[1], resources.memory_MB),
        )
        if high > 0.8 * given
    ]
    return f"{text}: raise {' and '.join(tight)}" if tight else text


def _budget(forecast: Forecast, configuration: Configuration) -> list[str]:
    if forecast.budget_labels is None:
        return []
    median, sure = forecast.budget_labels
    text = f"stop.{CORE_HOURS.stated(configuration.stop)} buys {median} more labels (90 %: at least {sure})"
    if sure < forecast.new:
        text += "; it " + ("is likely to end" if median < forecast.new else "may end") + " the campaign before"
    return [_row("budget", text)]


def _remarks(forecast: Forecast, configuration: Configuration) -> list[str]:
    stop = configuration.stop
    remarks = [
        f"Iterations wait for each other, {JOB_START_S:g} s per job for its start are counted, time in a queue is not."
    ]
    if forecast.train_core_hours is None:
        remarks.append("Training and scoring are not included: no iteration is finished yet.")
    else:
        remarks.append(
            f"Training and scoring would add {_number(forecast.train_core_hours)} core-hours at the last iteration's cost."
        )
    if stop.rrmse is not None or stop.target_rmse is not None:
        remarks.append("The campaign ends earlier when its error-based stop rules hold.")
    if len(forecast.arms) > 1:
        remarks.append("Labels that arms share are counted for each of them: the true cost may be lower.")
    if len(_sizes(forecast)) > 1:
        remarks.append("Of later batches the sizes are taken to be those of random structures of the rest of the pool.")
    if any(arm.given for arm in forecast.arms):
        remarks.append("Of later batches the labels that are given are counted as if structures were drawn at random.")
    return [f"  {remark}" for remark in remarks]


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Return a time (s) as a text in seconds, minutes, hours or days."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2g} s"
