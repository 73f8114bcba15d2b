"""What is seen first: what was asked, why it ended, the numbers that matter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from quarry import __version__
from quarry.campaign.paths import CampaignPaths
from quarry.config.campaign import MAIN_ARM, Configuration
from quarry.config.pool import DynamicsPool
from quarry.reporting.page import Page, Tile
from quarry.reporting.plots import unit_for
from quarry.stages.overview import methods
from quarry.stages.overview.files import EXPLORING, LABELS, POOL, TRAINING, Campaign
from quarry.stages.overview.sections import metric_of, sections, unit_of
from quarry.stopping.messages import interval_text, r2_interval_text, r2_text


def write_overview(
    configuration: Configuration, paths: CampaignPaths, ended: tuple[str, str], figures: Mapping[str, str], output: str
) -> None:
    """Write the page. ended: rule and words of the stop of arm main. figures: files that other rules drew, by their names."""
    campaign = Campaign(configuration, paths, ended)
    with tempfile.TemporaryDirectory() as folder:
        page = Page(
            title=f"Labeling campaign {configuration.name}",
            asked=asked(campaign),
            ended=f"Ended: {ended[1]}." if ended[1] else "Not ended yet.",
            made=_made(campaign),
            tiles=list(_tiles(campaign)),
            sections=list(sections(campaign, figures, Path(folder))),
        )
        page.write(output)


def asked(campaign: Campaign) -> str:
    """Return in a sentence what a campaign is for."""
    configuration, first = campaign.configuration, campaign.facts[0]
    others = [arm for arm in configuration.arm_names if arm != MAIN_ARM]
    beside = f" Beside it ran the arms {', '.join(others)}." if others else ""
    goal = configuration.goal
    words = " and ".join([goal.words, *(name.replace("_", " ") for name in goal.beside)])
    descriptor = f" ({configuration.descriptor.kind})" if configuration.descriptor else ""
    origin = f"from {first.pool_size:,} structures"
    if isinstance(configuration.pool, DynamicsPool):
        origin = f"from {first.pool_size:,} initial structures and from what {configuration.pool.explore.noun} of the model find"
    return (
        f"To learn the {words} with {configuration.model.kind}{descriptor}: labels by "
        f"{methods.level_of_theory(configuration, campaign.manifest)}, chosen by {configuration.query.strategy} "
        f"{origin}.{beside}"
    )


def _made(campaign: Campaign) -> str:
    versions = campaign.versions
    named = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()) if name != "quarry")
    begun = str(campaign.manifest.get("created", ""))[:10]
    last = max((record.finished for record in campaign.records), default="")[:10]
    when = f"Begun {begun}" + (f", last label {last}" if last else ", no label computed") + "."
    return f"Quarry {__version__}{f'; labels by {named}' if named else ''}. {when}"


def _tiles(campaign: Campaign) -> Iterator[Tile]:
    last, costs, configuration = campaign.facts[-1], campaign.costs, campaign.configuration
    errors = campaign.evidence.errors
    yield Tile(
        "labels of arm main",
        f"{last.n_labels:,}"
        + (f" of at most {configuration.stop.max_labels:,}" if configuration.stop.max_labels else ""),
        f"{sum(c.labels_new for c in costs):,} computed, {sum(c.labels_reused for c in costs):,} reused, "
        f"{last.n_failed:,} failed; {last.n_train:,} to learn from, {last.n_test:,} to test",
    )
    noun = configuration.pool.explore.noun if isinstance(configuration.pool, DynamicsPool) else "sampling"
    words = {LABELS: "labels", TRAINING: "models", EXPLORING: noun, POOL: "pool"}
    parts = [f"{words[name]} {hours:.3g}" for name, hours in campaign.spent.items() if hours]
    yield Tile("core-hours", f"{sum(campaign.spent.values()):.3g}", ", ".join(parts))
    if "accuracy" in errors:
        ends = interval_text(errors.get("accuracy_low"), errors.get("accuracy_high"), ".3f")
        yield Tile(f"{metric_of(last)} accuracy", f"{errors['accuracy']:.3f}", f"95 %: {ends}")
    elif "rmse" in errors:
        scale, unit = unit_for(last.goal, errors["rmse"])
        ends = interval_text(errors.get("rmse_low"), errors.get("rmse_high"), ".3g", scale)
        beside = [f"95 %: {ends}", f"MAE {scale * errors['mae']:.3g}", f"of {errors.get('n', '?')} structures"]
        beside += [
            f"{name.replace('_', ' ')} {errors[f'{name}_rmse']:.3g} {unit_of(name)}".rstrip()
            for name in last.goal.beside
            if errors.get(f"{name}_rmse") is not None
        ]
        yield Tile(
            f"{metric_of(last)} {last.goal.error_name}",
            f"{scale * errors['rmse']:.3g} {unit}".strip(),
            "; ".join(beside),
        )
        if errors.get("r2") is not None:
            ends = r2_interval_text(errors.get("r2_low"), errors.get("r2_high"))
            yield Tile("R²", r2_text(errors["r2"]), f"95 %: {ends}; RMSE / std {errors['rmse_over_std']:.2g}")
    if len(campaign.facts) > 1 and last.rmse is not None:
        limit = f"; the limit is {configuration.stop.rrmse:g}" if configuration.stop.rrmse is not None else ""
        yield Tile(
            "rRMSE", f"{last.rrmse:.3g}", f"95 %: {interval_text(last.rrmse_low, last.rrmse_high, '.2g')}{limit}"
        )
    saved = _saved(campaign)
    if saved is not None:
        yield saved


def _saved(campaign: Campaign) -> Tile | None:
    row = campaign.history[-1]
    if not campaign.configuration.controls or not row.get("labels_saved"):
        return None
    low, high = (float(row[name]) if row.get(name) else None for name in ("labels_saved_low", "labels_saved_high"))
    said = f"95 %: {interval_text(low, high, '.0f')}; verdict: {row.get('verdict', '')}"
    return Tile("labels saved against random", f"{float(row['labels_saved']):.0f}", said)
