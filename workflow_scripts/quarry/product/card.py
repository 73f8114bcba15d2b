"""The card of a data set: what is in it, how it was made, and how it is read. The same campaign gives the same words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from quarry import __version__
from quarry.campaign.manifest import in_one_line, labels_in_words, said
from quarry.config.targets import Target, target_of
from quarry.files import sha256_of
from quarry.product.campaign_data import CampaignData
from quarry.product.split import COPY_OF_TEST, LEFT_OUT, PARTS, TEST, SplitRule
from quarry.properties import PROPERTIES, Property
from quarry.stopping.messages import r2_text
from quarry.structures.compositions import formulas_of
from quarry.structures.frames import reference_atoms

SHOWN = 12
"""Formulas, and findings of the audit, that the card names."""
SHAPES = {
    "scalar": "number",
    "vector": "3 numbers",
    "tensor": "3 x 3 numbers",
    "per_atom": "number of each atom",
    "per_atom_vector": "3 numbers of each atom",
    "per_state": "number of each state",
    "per_atom_state_vector": "3 numbers of each atom in each state",
}
WITHOUT_LICENSE = (
    "none stated: without one nobody but its author may use the data (dataset.license in the campaign file, "
    "e.g. CC-BY-4.0)"
)


@dataclass(frozen=True)
class ProductFile:
    """A file of the product. name: in the campaign's folder. words: what it is. size: bytes."""

    name: str
    words: str
    sha256: str
    size: int

    @staticmethod
    def of(root: Path, name: str, words: str) -> ProductFile:
        """Return a file of a campaign's folder with its checksum."""
        path = root / name
        return ProductFile(name, words, sha256_of(path), path.stat().st_size)


def title_of(data: CampaignData) -> str:
    """Return the title of the data set."""
    return str(data.settings.get("title") or f"Data set of the Quarry campaign {data.root.resolve().name}")


def description_of(data: CampaignData) -> str:
    """Return in one paragraph what the data set is."""
    labelled = data.labelled
    own = data.settings.get("description")
    counts = ", ".join(f"{len(data.rows([part]))} {part}" for part in PARTS)
    names = ", ".join(name for name in labelled.properties if _count(data, name))
    made = f"{int(labelled.used.sum())} labelled structures ({counts}) with {names}; labels by {level_of_theory(data.manifest)}."
    return f"{str(own).rstrip('.')}. {made}" if own else made


def level_of_theory(manifest: Mapping[str, Any]) -> str:
    """Return the method of the labels in one line, with its hash."""
    # Of a manifest without the section there is the method as the label store has it.
    labeling = manifest["identity"].get("labeling") or manifest.get("method", {})
    return labels_in_words(labeling, manifest["method_id"])


def card_of(data: CampaignData, files: Sequence[ProductFile]) -> str:
    """Return the card as Markdown. files: of the product, with checksums; none for a campaign that has none yet."""
    sections = [
        [f"# {title_of(data)}", "", description_of(data)],
        _at_a_glance(data),
        _properties(data),
        _structures(data),
        _making(data),
        _quality(data),
        _splits(data),
        _reading(data),
        _files(files),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _at_a_glance(data: CampaignData) -> list[str]:
    settings, manifest = data.settings, data.manifest
    creators = "; ".join(_person(creator) for creator in settings.get("creators", []))
    rows = [
        ("licence", settings.get("license") or WITHOUT_LICENSE),
        ("made by", creators or "not stated (dataset.creators in the campaign file)"),
        *([("cite", settings["cite"])] if settings.get("cite") else []),
        ("campaign", f"{data.root.resolve().name}, id {manifest['campaign_id']}, begun {manifest.get('created', '?')}"),
        ("state", data.words.partition(": ")[2]),
        ("software", f"Quarry {manifest.get('quarry', '?')} (campaign), {__version__} (this card)"),
    ]
    return ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows)]


def _properties(data: CampaignData) -> list[str]:
    lines = [
        "## Labels",
        "",
        "Positions are in Angstrom. Stress is positive where the cell wants to shrink, as in ASE.",
        "",
        "| property | unit | shape | structures | smallest | largest | in extended XYZ |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, values in data.labelled.properties.items():
        entry, known = PROPERTIES[name], values[np.isfinite(values)]
        span = (f"{known.min():.6g}", f"{known.max():.6g}") if len(known) else ("", "")
        row = (name, entry.unit, SHAPES[entry.shape], _count(data, name), *span, _extxyz_names(entry))
        lines.append(f"| {' | '.join(map(str, row))} |")
    return lines


def _extxyz_names(entry: Property) -> str:
    return f"`{entry.name}`, `{entry.reference}`" if entry.ase else f"`{entry.key}`"


def _structures(data: CampaignData) -> list[str]:
    structures = data.labelled.structures.subset(np.flatnonzero(data.labelled.used))
    if structures.features is not None:
        return ["## Structures", "", f"Rows of a table of {structures.features.shape[1]} features, without atoms."]
    formulas = formulas_of(structures)
    common = sorted(formulas, key=lambda name: (-formulas[name], name))
    shown = ", ".join(f"{name} ({formulas[name]})" for name in common[:SHOWN])
    more = f" and {len(common) - SHOWN} more formulas" if len(common) > SHOWN else ""
    states = Counter(zip(structures.charges.tolist(), structures.multiplicities.tolist(), strict=True))
    charges = ", ".join(f"charge {c} with multiplicity {m} ({n})" for (c, m), n in sorted(states.items()))
    sizes = np.diff(structures.offsets)
    atoms = len(reference_atoms(data.labelled))
    return [
        "## Structures",
        "",
        f"- Elements: {', '.join(chemical_symbols[number] for number in np.unique(structures.numbers))}.",
        f"- Formulas: {shown}{more}.",
        f"- Atoms in a structure: {sizes.min()} to {sizes.max()}." if len(sizes) else "- No structure.",
        f"- Charges and multiplicities 2S + 1: {charges}.",
        f"- Periodic: {int(structures.pbc.any(axis=1).sum())} of {len(structures)}.",
        f"- Free atoms as references (config_type=IsolatedAtom): {atoms or 'none'}.",
    ]


def _making(data: CampaignData) -> list[str]:
    identity, manifest = data.manifest["identity"], data.manifest
    query, pool = identity.get("query", {}), identity.get("pool", {})
    schedule = query.get("batch") or {}
    batches = ", ".join(f"{key} {value}" for key, value in schedule.items())
    inputs = [f"`{name}` (SHA-256 {digest[:16]}...)" for name, digest in manifest.get("inputs", {}).items()]
    counts = Counter(data.labelled.iterations.tolist())
    each = ", ".join(str(counts[iteration]) for iteration in range(data.iteration + 1))
    why = data.history[-1]["stop_reason"] if data.history else "not finished"
    lines = [
        "## How it was made",
        "",
        f"- Labels by {level_of_theory(manifest)}.",
        f"- Structures from: {_origin(pool)}.",
        f"- Chosen by: strategy {query.get('strategy', '?')}, {query.get('initial', '?')} at first, then batches ({batches}), "
        f"by a model `{identity.get('model', {}).get('kind', '?')}` of {_target(identity.get('target'))}; "
        f"seed {identity.get('seed')}.",
        f"- Test set: {identity.get('test', {}).get('size', '?')} structures drawn at random before anything else.",
        f"- Labels of iterations 0 to {data.iteration}: {each}.",
        f"- End: {why}.",
    ]
    return lines + ([f"- Input files: {', '.join(inputs)}."] if inputs else [])


def _quality(data: CampaignData) -> list[str]:
    found = [row for row in data.audit if row.get("severity") in ("error", "warning")]
    kinds = Counter((row["severity"], row["check"]) for row in found)
    failed = Counter(row["status"] for row in data.failures if not row.get("retried"))
    audit = ", ".join(f"{number} x {check} ({severity})" for (severity, check), number in sorted(kinds.items()))
    if not data.audit:
        audit = "no table of an audit"
    lines = [
        "## Are the labels right?",
        "",
        f"- Audit (net forces, energies against forces, precision, absurd values, copies): {audit or 'nothing found'}.",
        *(f"  - {_cell(row['words'])}" for row in found[:SHOWN]),
        f"- Failed labels, which are not in the data set: "
        f"{', '.join(f'{number} {status}' for status, number in sorted(failed.items())) or 'none'}.",
        f"- Left out by hand (labeling.leave_out): {int((~data.labelled.used).sum()) or 'none'}.",
    ]
    return [*lines, *_last_model(data)]


def _last_model(data: CampaignData) -> Iterator[str]:
    """Yield how good the campaign's model is, from the last row of the history; numbers that it lacks are left out."""
    row = data.history[-1] if data.history else {}
    last = {name: float(text) for name, text in row.items() if _is_number(text)}
    if "rmse" not in last:
        return
    named = data.manifest["identity"].get("target")
    try:
        target = target_of(named)
    except (KeyError, TypeError, ValueError):  # of another version
        target = Target("", (), (), unit="")
    high = f"{last['rmse_high']:.3g}" if "rmse_high" in last else "open"
    what = f"of the {target.words} " if target.words else ""
    found = [f"{target.error_name} {what}{last['rmse']:.4g} {target.unit}".rstrip()]
    found[0] += f" (95 %: {last.get('rmse_low', 0.0):.3g} to {high})"
    for name in target.beside:
        if f"{name}_rmse" in last:
            unit = PROPERTIES[name].unit.removeprefix("1")
            found.append(f"RMSE of {name.replace('_', ' ')} {last[f'{name}_rmse']:.4g} {unit}".rstrip())
    found += [f"R2 {r2_text(last['r2'])}"] if "r2" in last else []
    metric = row.get("metric", "?")
    of = f"{last['n_test']:.0f} test structures" if metric == TEST and "n_test" in last else metric.replace("_", "-")
    yield f"- The campaign's last model, measured by {of}: {', '.join(found)}."


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _splits(data: CampaignData) -> list[str]:
    identity = data.manifest["identity"]
    rule = SplitRule.of_identity(identity)
    how = (
        f"the last {100 * rule.share:g} % of the training labels in the order in which they were chosen"
        if rule.order == "sequence"
        else f"{100 * rule.share:g} % of the training labels, on average, by a hash of their ids and the seed: a label stays on "
        "its side when others come"
    )
    files = [f"| {part} | {len(data.rows([part]))} | `{part}.extxyz` |" for part in PARTS]
    apart = [
        f"| {part} | {len(data.rows([part]))} | {where} |"
        for part, where in ((COPY_OF_TEST, "`dataset.extxyz` alone"), (LEFT_OUT, "`dataset.h5` alone"))
        if len(data.rows([part]))
    ]
    return [
        "## Splits",
        "",
        f"The test set is the campaign's own. Validation: {how}. Copies (rotated, mirrored, equal atoms in another order) are on "
        "one side. The training labels were chosen by a strategy: they are no random sample of the pool.",
        "",
        "| part | labels | file |",
        "|---|---|---|",
        *files,
        *apart,
    ]


def _reading(data: CampaignData) -> list[str]:
    if data.labelled.structures.features is not None:
        return []
    return [
        "## How to read it",
        "",
        "```python",
        "import ase.io",
        "",
        'frames = ase.io.read("dataset.extxyz", ":")  # frames[0].get_potential_energy(), .get_forces(), .info["total_charge"]',
        "```",
        "",
        "```console",
        "mace_run_train --train_file train.extxyz --valid_file validation.extxyz --test_file test.extxyz ...",
        "quarry export --format table --to dataset.csv     # pandas.read_csv; also ase-db, qcschema, hdf5, extxyz",
        "```",
        "",
        "SevenNet: `load_trainset_path: ['train.extxyz']` and `load_validset_path: ['validation.extxyz']` in its input file.",
        "fairchem: `charge` and `spin` are in each frame. `dataset.h5`: docs/dataset.md of Quarry says every field, shape, unit.",
    ]


def _files(files: Sequence[ProductFile]) -> list[str]:
    if not files:
        return []
    rows = [f"| `{file.name}` | {file.words} | {file.size} | `{file.sha256}` |" for file in files]
    return ["## Files", "", "| file | what | bytes | SHA-256 |", "|---|---|---|---|", *rows]


def _count(data: CampaignData, name: str) -> int:
    return sum(name in data.labelled.label(row) for row in np.flatnonzero(data.labelled.used).tolist())


def _person(creator: Mapping[str, Any]) -> str:
    more = [creator["affiliation"]] if creator.get("affiliation") else []
    more += [f"https://orcid.org/{creator['orcid']}"] if creator.get("orcid") else []
    return f"{creator['name']} ({', '.join(more)})" if more else str(creator["name"])


def _origin(pool: Mapping[str, Any]) -> str:
    """Return where the pool comes from, in one line."""
    files = [str(entry.get("path", "?") if isinstance(entry, Mapping) else entry) for entry in pool.get("files") or []]
    rest = {key: value for key, value in pool.items() if key not in ("source", "files")}
    words = [f"source {pool.get('source', '?')}", *([f"files {', '.join(files)}"] if files else [])]
    return "; ".join([*words, *([_in_words(rest, "; ")] if any(said(rest)) else [])])


def _in_words(section: Mapping[str, Any], between: str) -> str:
    return between.join(f"{'.'.join(keys)} {in_one_line(value)}" for keys, value in said(section))


def _target(target: Any) -> str:
    return ", ".join(map(str, target)) if isinstance(target, list) else str(target)


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
