"""The folder ``model``: a trained model with all that whoever uses it must know, apart from the campaign that made it.

``model.json`` says what the model is and what it has seen, and has the SHA-256 of the other files: ``model.h5``, the model itself
with its descriptor and reference geometry, and ``training.h5``, its training structures without their labels. Nothing in the
folder is code; a model of the user's own is read by its class, which is imported from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
from pydantic import TypeAdapter, ValidationError

from quarry import __version__
from quarry.config.base import on_device
from quarry.config.descriptors import Descriptor
from quarry.config.model_traits import ModelTraits
from quarry.config.models import Model as ModelSettings
from quarry.config.models import OwnModel
from quarry.config.targets import Target, target_named
from quarry.descriptors.cache import FeatureCache
from quarry.errors import QuarryError, reason_of
from quarry.files import sha256_of, write_json
from quarry.models.base import Model
from quarry.models.descriptor_model import GROUP, DescriptorModel
from quarry.models.registry import check_kind, load_model
from quarry.structures import StructureSet
from quarry.structures.files import read_structure_group

DESCRIPTION, MODEL, TRAINING, README = "model.json", "model.h5", "training.h5", "README.md"
"""The files of the folder."""
FORMAT = 1
"""Of ``model.json``; another one is refused."""


@dataclass(frozen=True)
class Description:
    """What ``model.json`` says.

    quarry: version that published the model. campaign, arm: whose it is. model: its section of the configuration. target,
    n_states, classes: what it learns (``Target.name``). descriptor: section of the configuration, or None. units: of what it
    predicts, by property. labeling: its labels as the configuration has them; method, method_id: what of it changes numbers, and
    its hash. elements: symbols. states: pairs of charge and multiplicity. compositions: number of training structures by
    formula. periodic: which numbers of periodic directions there are. n_train: training structures. errors: those of the last
    iteration (``quarry.stopping.facts``). files: SHA-256 by name.
    """

    quarry: str
    campaign: str
    arm: str
    model: dict[str, Any]
    target: str
    n_states: int
    classes: list[str]
    descriptor: dict[str, Any] | None
    units: dict[str, str]
    labeling: dict[str, Any]
    method: dict[str, Any]
    method_id: str
    elements: list[str]
    states: list[list[int]]
    compositions: dict[str, int]
    periodic: list[int]
    n_train: int
    errors: dict[str, dict[str, Any]]
    files: dict[str, str]
    format: int = FORMAT

    def write(self, path: str | Path) -> None:
        """Write it as JSON; the same description gives the same bytes."""
        write_json(path, asdict(self))

    @staticmethod
    def read(path: Path) -> Description:
        """Read it. Raises QuarryError for a file that is damaged, or of another format."""
        try:
            found = json.loads(path.read_bytes())
            version = found["format"]
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise QuarryError(
                f"{path}: this is not an intact description of a model ({reason_of(error)}); {REMEDY}"
            ) from error
        names = {field.name for field in fields(Description)}
        if version != FORMAT or set(found) != names:
            raise QuarryError(
                f"{path}: Quarry {found.get('quarry', 'of an unknown version')} published this model in format {version}, "
                f"this is Quarry {__version__}, which reads format {FORMAT}; {REMEDY}"
            )
        return Description(**found)

    @property
    def goal(self) -> Target:
        """What the model learns."""
        target = target_named(self.target)
        return replace(target, n_states=self.n_states) if target.transitions else target


REMEDY = "copy it again, or remove the folder and start the campaign again, which makes it anew from what is there"


class ModelFolder:
    """A folder ``model`` whose files are what its description says."""

    def __init__(self, path: Path, description: Description) -> None:
        self.path = path
        self.description = description

    @staticmethod
    def open(given: str | Path) -> ModelFolder:
        """Open a folder. given: itself, its ``model.h5``, or the folder of a campaign's (or an arm's) results that holds it.

        Raises QuarryError if there is none, or a file is damaged, missing or of another version.
        """
        path = Path(given)
        if not path.exists():
            raise QuarryError(f"{path}: there is no such folder; give results/<name>/model of a finished campaign")
        folder = path if path.is_dir() else path.parent
        if not (folder / DESCRIPTION).exists() and (folder / "model" / DESCRIPTION).exists():
            folder = folder / "model"
        if not (folder / DESCRIPTION).is_file():
            raise QuarryError(f"{path}: {_lack(folder, path)}")
        if not path.is_dir() and path.name not in (MODEL, DESCRIPTION):
            raise QuarryError(f"{path}: this is no model; give the folder {folder}")
        description = Description.read(folder / DESCRIPTION)
        for name, digest in description.files.items():
            file = folder / name
            if not file.is_file():
                raise QuarryError(f"{file} is missing; {REMEDY}")
            if sha256_of(file) != digest:
                raise QuarryError(
                    f"{file} is not the file that was published (its SHA-256 is another one: truncated, damaged or replaced); "
                    f"{REMEDY}"
                )
        return ModelFolder(folder, description)

    @cached_property
    def settings(self) -> ModelSettings:
        """The model's section of the configuration."""
        return _validated(ModelSettings, self.description.model, self.path)

    @cached_property
    def descriptor(self) -> Descriptor | None:
        """The section descriptor, of a model that learns from it."""
        if self.description.descriptor is None:
            return None
        found: Descriptor = _validated(Descriptor, self.description.descriptor, self.path)
        return found

    @cached_property
    def training(self) -> StructureSet:
        """The training structures."""
        with h5py.File(self.path / TRAINING, "r") as handle:
            return read_structure_group(handle["structures"])

    def cache(self, base: Path | None = None) -> FeatureCache | None:
        """Return the descriptor that the model learns from, or None. base: folder of files that it reads."""
        if self.descriptor is None:
            return None
        # A model's file of an earlier version has none.
        with h5py.File(self.path / TRAINING, "r") as handle:
            if GROUP in handle:
                return FeatureCache.read(handle[GROUP], base)
        check_kind(self.path / MODEL, self.settings.kind)
        return DescriptorModel.descriptor_in(self.path / MODEL, base)

    def traits(self, base: Path | None = None) -> ModelTraits:
        """Return what the model can do. base: folder with the user's own class, beside the working directory."""
        if not isinstance(self.settings, OwnModel):
            return self.settings.traits
        from quarry.models.own import own_class

        traits: ModelTraits = own_class(self.settings, base).traits
        return traits

    def load(self, device: str = "auto", base: Path | None = None) -> Model:
        """Return the model. device: auto, cpu or cuda, wherever it was trained. base: as of ``traits``.

        Raises QuarryError if there is no GPU for cuda, and as ``load_model`` does.
        """
        settings = on_device(self.settings, device)
        return load_model(self.path / MODEL, settings, self.description.goal, self.cache(base), base)


def _validated(kind: Any, section: Mapping[str, Any], path: Path) -> Any:
    try:
        return TypeAdapter(kind).validate_python(section)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise QuarryError(
            f"{path / DESCRIPTION}: another version of Quarry published this model: it knows a {key} that Quarry {__version__} "
            f"does not ({first['msg']}); {REMEDY}"
        ) from error


def _lack(folder: Path, path: Path) -> str:
    """Return what is wrong with a place that has no description."""
    if (folder / "campaign.json").exists() and not (folder / "model").exists():
        return "this campaign has no model yet; its last run publishes it in the folder model"
    if (folder / MODEL).exists() or (folder / "model" / MODEL).exists():
        return (
            f"there is a {MODEL} but no {DESCRIPTION} beside it; give results/<name>/model of a finished campaign (one that an "
            "earlier version finished gets it when it is started again, which computes no label anew)"
        )
    return f"there is no {DESCRIPTION}; give results/<name>/model of a finished campaign"
