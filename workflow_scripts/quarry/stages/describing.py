"""The model as a product: what it is and what it has seen, written beside it (``quarry.models.folder``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase.data import chemical_symbols

from quarry import __version__
from quarry.campaign.manifest import labels_in_words
from quarry.files import sha256_of, write_text
from quarry.hdf5_files import new_hdf5
from quarry.models.descriptor_model import GROUP
from quarry.models.folder import MODEL, TRAINING, Description
from quarry.properties import PROPERTIES
from quarry.stages.arm_models import ArmModels
from quarry.stopping.facts import Facts
from quarry.structures.compositions import formulas_of
from quarry.structures.files import write_structure_group
from quarry.structures.labelled import LabelledSet

SHOWN = 12
"""Compositions that the page names."""


def describe_model(
    models: ArmModels, model: str, dataset: str, facts: str, manifest: Mapping[str, Any], output: Mapping[str, str]
) -> None:
    """Write what whoever uses the model must know.

    model, dataset: of the arm's product. facts: of its last iteration. manifest: of the campaign. output: paths of description,
    training and readme.
    """
    labelled = LabelledSet.read(dataset)
    known = labelled.structures.subset(labelled.indices("train"))
    known = known.subset(np.argsort(known.ids, kind="stable"))
    traits, target = models.traits, models.target
    learns_descriptor = traits.needs_descriptor and models.configuration.descriptor is not None
    with new_hdf5(output["training"]) as handle:
        write_structure_group(handle.create_group("structures"), known)
        if learns_descriptor and models.descriptor is not None and not _has_descriptor(model):
            models.descriptor.write(handle.create_group(GROUP))
    descriptor = models.configuration.descriptor if learns_descriptor else None
    names = traits.predicts(target, descriptor is not None and descriptor.has_derivatives)
    description = Description(
        quarry=__version__,
        campaign=models.configuration.name,
        arm=models.arm,
        model=models.settings.model.model_dump(mode="json"),
        target=target.name,
        n_states=target.n_states,
        classes=[] if models.configuration.classification is None else list(models.configuration.classification.names),
        descriptor=None if descriptor is None else descriptor.model_dump(mode="json"),
        units={name: PROPERTIES[name].unit if name in PROPERTIES else target.unit for name in names},
        labeling=models.configuration.identity()["labeling"],
        method=dict(manifest["method"]),
        method_id=manifest["method_id"],
        elements=[chemical_symbols[number] for number in np.unique(known.numbers)],
        states=np.unique(np.stack([known.charges, known.multiplicities], axis=1), axis=0).tolist(),
        compositions=formulas_of(known),
        periodic=np.unique(known.pbc.sum(axis=1)).tolist(),
        n_train=len(known),
        errors=Facts.read(facts).errors,
        files={MODEL: sha256_of(model), TRAINING: sha256_of(output["training"])},
    )
    description.write(output["description"])
    write_text(output["readme"], page(description))


def page(description: Description) -> str:
    """Return the README of the folder."""
    kind, formulas = description.model["kind"], description.compositions
    shown = ", ".join(sorted(formulas)[:SHOWN]) + (
        f" and {len(formulas) - SHOWN} more" if len(formulas) > SHOWN else ""
    )
    states = ", ".join(f"{charge} with multiplicity {multiplicity}" for charge, multiplicity in description.states)
    lines = [
        f"# Model of campaign {description.campaign}, arm {description.arm}",
        "",
        "```python",
        "from quarry.calculator import QuarryCalculator",
        "",
        f'atoms.calc = QuarryCalculator("results/{description.campaign}/model")  # this folder, wherever it lies',
        "```",
        "",
        f"- Model: `{kind}`, trained on {description.n_train} structures by Quarry {description.quarry}.",
        *(f"- Needs {what}." for what in _needs(description)),
        f"- Predicts: {_listed(description.units)}.",
        f"- Labels: {labels_in_words(description.labeling, description.method_id)}.",
        f"- Has seen the elements {', '.join(description.elements) or 'none'}; charge {states}; compositions {shown or 'none'}.",
        *(
            f"- Errors ({metric}): {_errors(found, description)}."
            for metric, found in sorted(description.errors.items())
        ),
        "",
        "Other elements, charges and multiplicities are refused. Files: `model.h5` (the model), `training.h5` (its training",
        "structures), `model.json` (all of the above, and the SHA-256 of both). Keep them together.",
        "",
    ]
    return "\n".join(lines)


def _needs(description: Description) -> Iterator[str]:
    """Yield what is not in the folder: files and classes of the user's, which ``base`` of the calculator finds."""
    kind, baseline = description.model["kind"], description.model.get("baseline")
    if ":" in kind:
        yield f"the class `{kind}`, importable from the working directory or the folder `base=`"
    if baseline is not None:
        name = baseline.get("calculator") or baseline["model"]
        yield f"its baseline (`{baseline['kind']}`, `{name}`), to which it adds a difference; files of it in the folder `base=`"


def _listed(units: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({unit})" if unit not in ("", "1") else name for name, unit in units.items())


def _errors(found: Mapping[str, Any], description: Description) -> str:
    """Return the main errors of a metric in words."""
    main = next(iter(description.units))
    wanted: Iterable[tuple[str, str, str]] = [
        ("rmse", f"RMSE of {main}", main),
        ("mae", "MAE", main),
        ("maxe", "largest", main),
        ("forces_rmse", "RMSE of forces", "forces"),
        ("forces_mae", "MAE", "forces"),
        ("accuracy", "accuracy", ""),
    ]
    parts = [
        " ".join(f"{words} {found[key]:.4g} {description.units.get(name, '')}".split())
        for key, words, name in wanted
        if isinstance(found.get(key), float)
    ]
    return f"{', '.join(parts)}, of {found.get('n', '?')} structures"


def _has_descriptor(model: str) -> bool:
    with h5py.File(Path(model), "r") as handle:
        return GROUP in handle
