"""A paragraph on methods for a paper, and the BibTeX of what it asks to cite."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quarry import __version__
from quarry.config.base import Section
from quarry.config.campaign import Configuration
from quarry.config.dynamics import NAMED_THRESHOLDS
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
        # What a calculator is told by words: its method, its basis.
        told = [f"{key} {value}" for key, value in getattr(labeling, "arguments", {}).items() if isinstance(value, str)]
        return f"{labeling.engine}: {', '.join([named, *told])}" if named else labeling.engine
    dispersion = {"d3bj": "-D3(BJ)", "d4": "-D4"}.get(method.dispersion or "", "")
    return f"{method.xc.upper()}{dispersion}/{method.basis} ({labeling.engine})"


def paragraph(
    configuration: Configuration,
    facts: Sequence[Facts],
    versions: Mapping[str, str],
    manifest: Mapping[str, Any],
    ended: str,
) -> str:
    """Return how the campaign was done, in sentences that a paper can take. facts: of all iterations of arm main."""
    names = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()) if name != "quarry")
    last = facts[-1]
    sentences = [
        f"Labels ({level_of_theory(configuration, manifest)}{f'; {names}' if names else ''}) were computed in a labeling "
        f"campaign of Quarry {__version__}, a Snakemake workflow.",
        *(_dynamics if isinstance(configuration.pool, DynamicsPool) else _chosen)(configuration, facts),
        f"{last.n_labels:,} structures were labelled in all, of which {last.n_train:,} are training structures"
        + (f" and {last.n_test:,} the test set, drawn at random before the first batch" if last.n_test else "")
        + (f"; {last.n_failed} labels failed" if last.n_failed else "")
        + ".",
        f"The campaign ended because {ended}." if ended else "The campaign has not ended.",
        f"At the end {how}." if (how := how_good(last.errors.get(last.metric), last.goal.unit)) and not ended else "",
        f"Every random choice follows from the seed {configuration.seed}.",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _model(configuration: Configuration) -> str:
    return f"{configuration.model.kind}{f' with the descriptor {d.kind}' if (d := configuration.descriptor) else ''}"


def _times(count: int, what: str = "iteration") -> str:
    return f"{count} further {what}{'' if count == 1 else 's'}"


def _chosen(configuration: Configuration, facts: Sequence[Facts]) -> Iterator[str]:
    """Yield how batches were chosen from a pool."""
    query, pool = configuration.query, configuration.pool
    size = {
        ConstantBatch: "of {0.size} structures",
        DoublingBatch: "of {0.size}, {0.size} x 2, {0.size} x 4 ... structures",
    }
    batch = size.get(type(query.batch), "of a fraction {0.fraction:g} of the training set").format(query.batch)
    yield (
        f"From a pool of {facts[-1].pool_size:,} structures (source: {getattr(pool, 'source', 'file')}), {query.initial} were "
        "labelled first."
    )
    yield (
        f"In each of {_times(len(facts) - 1)} a model ({_model(configuration)}) was trained, and the strategy {query.strategy} "
        f"chose a batch {batch}."
    )


def _dynamics(configuration: Configuration, facts: Sequence[Facts]) -> Iterator[str]:
    """Yield how a campaign of dynamics found its structures: counts are those of the labels that it has."""
    pool, query = configuration.pool, configuration.query
    assert isinstance(pool, DynamicsPool)
    initial = pool.initial_pool
    drawn = (
        f"drawn from the Wigner distribution at {initial.temperature_K:g} K"
        if isinstance(initial, WignerPool)
        else "given"
    )
    first, later = facts[0], facts[1:]
    yield (
        f"{first.n_labels:,} geometries ({drawn}) were labelled first, {first.n_train:,} of them to learn from, with a model "
        f"({_model(configuration)})."
    )
    grown = [one for one in later if one.phase == "initial"]
    if grown:
        more = grown[-1].n_labels - first.n_labels
        yield (
            f"In {_times(len(grown))} {more:,} more of the same were labelled and learnt, until they gained little or errors "
            "were small."
        )
    explored = [one for one in later if one.phase != "initial"]
    if explored:
        each = "each of " if len(explored) > 1 else ""
        bound = ", as a conformal bound of the error" if pool.explore.calibration == "conformal" else ""
        at_most = f"at most {query.batch.size} of them" if isinstance(query.batch, ConstantBatch) else "a batch of them"
        yield (
            f"In {each}{_times(len(explored))} {_walks(pool)} on the last model{_bias(pool)}; of each, the first frame whose "
            f"uncertainty ({pool.explore.uncertainty}{bound}) was beyond the threshold ({_threshold(pool, explored[-1])}) was a "
            f"candidate, and the strategy {query.strategy} chose {at_most} to be labelled and learnt."
        )


def _walks(pool: DynamicsPool) -> str:
    explore = pool.explore
    if explore.sampler is not None:
        return f"{explore.trajectories} {explore.noun} (sampler {explore.sampler.kind}) were followed"
    kelvin = " to ".join(f"{value:g}" for value in dict.fromkeys(explore.temperature_K))
    return (
        f"{explore.trajectories} trajectories ({explore.ensemble}, {kelvin} K, {explore.length_fs:g} fs in steps of "
        f"{explore.time_step_fs:g} fs) ran"
    )


def _bias(pool: DynamicsPool) -> str:
    bias = pool.explore.bias
    if bias is None or not bias.acts:
        return ""
    return f" with a bias force along the gradient of its uncertainty ({bias.uncertainty}, {bias.strength:g} of its forces)"


def _threshold(pool: DynamicsPool, facts: Facts) -> str:
    """Return the last threshold with its unit, and where it is from."""
    found, explore = threshold_words(facts.exploration) if "threshold" in facts.exploration else "", pool.explore
    if explore.threshold not in NAMED_THRESHOLDS:
        return found or str(explore.threshold)
    by = "the first model explored with" if explore.threshold == "first" else "each model"
    least = {
        "energy": f"{1e3 * explore.least_energy_eV_atom:g} meV/atom",
        "forces": f"{explore.least_force_eV_A:g} eV/Angstrom",
    }
    floor = f", not below {least[explore.uncertainty]}" if explore.uncertainty in least else ""
    where = f"median + 3 scaled median absolute deviations of {by} on the test set{floor}"
    return f"{found}: {where}" if found else where
