"""A paragraph on methods for a paper, and the BibTeX of what it asks to cite."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quarry import __version__
from quarry.config.base import Section
from quarry.config.campaign import Configuration
from quarry.config.pool import DynamicsPool, WignerPool
from quarry.config.query import ConstantBatch, DoublingBatch
from quarry.dynamics.files import threshold_words
from quarry.stopping.facts import Facts
from quarry.stopping.messages import how_good

REFERENCES = Path(__file__).with_name("references.bib")
ALWAYS = ("molder2021snakemake",)
"""What every campaign stands on."""


def references() -> dict[str, str]:
    """Return every entry of the bibliography by its name."""
    entries = re.split(r"\n(?=@)", REFERENCES.read_text().strip())
    return {entry.partition("{")[2].partition(",")[0]: entry for entry in entries}


def citations(section: Section) -> list[str]:
    """Return what a configuration asks to cite, each name once: of a section, and of all sections in it."""
    return list(dict.fromkeys([*ALWAYS, *_of(section)]))


def _of(value: Any) -> Iterator[str]:
    if isinstance(value, Section):
        yield from value.citations()
        for name in type(value).model_fields:
            yield from _of(getattr(value, name))
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _of(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _of(part)


def bibtex(configuration: Configuration) -> str:
    """Return the entries of what a campaign asks to cite."""
    known = references()
    return "\n".join(known[name] for name in citations(configuration))


def level_of_theory(configuration: Configuration, manifest: Mapping[str, Any]) -> str:
    """Return what labels were computed with, in a few words. manifest: of the campaign."""
    labeling = configuration.labeling
    method = getattr(labeling, "method", None)
    if method is None or not hasattr(method, "xc"):
        named = next(
            (str(value) for key in ("calculator", "command", "function") if (value := getattr(labeling, key, None))), ""
        )
        return f"{labeling.engine}{f': {named}' if named else ''}"
    dispersion = {"d3bj": "-D3(BJ)", "d4": "-D4"}.get(method.dispersion or "", "")
    return f"{method.xc.upper()}{dispersion}/{method.basis} ({labeling.engine})"


def paragraph(
    configuration: Configuration,
    facts: Facts,
    iterations: int,
    versions: Mapping[str, str],
    manifest: Mapping[str, Any],
    ended: str,
) -> str:
    """Return how the campaign was done, in sentences that a paper can take. facts: of the last iteration of arm main."""
    names = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()) if name != "quarry")
    model, query = configuration.model, configuration.query
    size = {
        ConstantBatch: "of {0.size} structures",
        DoublingBatch: "of {0.size}, {0.size} x 2, {0.size} x 4 ... structures",
    }
    batch = size.get(type(query.batch), "of a fraction {0.fraction:g} of the training set").format(query.batch)
    descriptor = f" with the descriptor {configuration.descriptor.kind}" if configuration.descriptor else ""
    pool = configuration.pool
    first = f"From a pool of {facts.pool_size:,} structures (source: {getattr(pool, 'source', 'file')}), {query.initial} were"
    source = ""
    if isinstance(pool, DynamicsPool):
        first = f"{query.initial} geometries ({_initial(pool)}) were"
        source = f" {_explored(pool, facts)}"
    sentences = [
        f"Labels ({level_of_theory(configuration, manifest)}{f'; {names}' if names else ''}) were computed in a labeling "
        f"campaign of Quarry {__version__}, a Snakemake workflow.",
        f"{first} labelled first.",
        f"In each of {iterations - 1} further iterations a model ({model.kind}{descriptor}) was trained,{source} and the "
        f"strategy {query.strategy} chose a batch {batch}.",
        f"{facts.n_labels:,} structures were labelled in all, of which {facts.n_train:,} are training structures"
        + (f" and {facts.n_test:,} the test set, drawn at random before the first batch" if facts.n_test else "")
        + (f"; {facts.n_failed} labels failed" if facts.n_failed else "")
        + ".",
        f"The campaign ended because {ended}." if ended else "The campaign has not ended.",
        f"At the end {how}."
        if (how := how_good(facts.errors.get(facts.metric), facts.goal.unit)) and not ended
        else "",
        f"Every random choice follows from the seed {configuration.seed}.",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _initial(pool: DynamicsPool) -> str:
    """Return in words what a campaign of dynamics begins with."""
    initial = pool.initial_pool
    if not isinstance(initial, WignerPool):
        return "given"
    return f"drawn from the Wigner distribution at {initial.temperature_K:g} K"


def _explored(pool: DynamicsPool, facts: Facts) -> str:
    """Return in words how structures were found, with the last iteration's threshold."""
    explore, seen = pool.explore, facts.exploration or {}
    grown = (
        "more of the same were drawn until they gained little or errors were small; then "
        if pool.grows_by is not None
        else ""
    )
    limit = f" ({threshold_words(seen)})" if "threshold" in seen else ""
    asked = (
        f"the first frame whose uncertainty ({explore.uncertainty}) was beyond the threshold{limit} was a candidate,"
    )
    if explore.sampler is not None:
        sampled = f"{explore.trajectories} {explore.noun} (sampler {explore.sampler.kind})"
        return f"{grown}{sampled} were followed on it, of each {asked}"
    kelvin = " to ".join(f"{value:g}" for value in dict.fromkeys(explore.temperature_K))
    return (
        f"{grown}{explore.trajectories} trajectories ({explore.ensemble}, {kelvin} K, {explore.length_fs:g} fs in steps of "
        f"{explore.time_step_fs:g} fs) ran on it, of each {asked}"
    )
