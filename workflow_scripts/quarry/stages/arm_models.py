"""The models of an arm: how they are made and read, and what they learn. What all stages that have to do with them share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quarry.config.baselines import LearnsDifference
from quarry.config.campaign import ArmSettings, Configuration
from quarry.config.checks import model_incompatibility
from quarry.config.model_traits import ModelTraits
from quarry.config.models import OwnModel
from quarry.config.targets import Target
from quarry.descriptors.cache import FeatureCache
from quarry.errors import QuarryError
from quarry.models.base import Model, Prediction, TrainingData, has_rows_of_atoms, rows_of_property
from quarry.models.registry import load_model, make_model
from quarry.stages.targets import training_data
from quarry.structures import StructureSet
from quarry.structures.compositions import unfamiliar
from quarry.structures.labelled import LabelledSet


@dataclass(frozen=True, eq=False)
class ArmModels:
    """The models of an arm.

    pool: ``pool/structures.h5``, or the candidates of an iteration. features: ``pool/features.h5``; empty in a campaign without
    a descriptor, or where the model's file says how it is computed. base: folder of the campaign file, for user-defined
    classes and for files. baseline: ``pool/baseline.h5``; None: what a baseline says is computed where it is needed.
    """

    configuration: Configuration
    arm: str
    pool: str
    features: str = ""
    base: Path | None = None
    baseline: str | None = None

    @property
    def target(self) -> Target:
        """What is learnt."""
        return self.configuration.goal

    @cached_property
    def settings(self) -> ArmSettings:
        """The arm's settings."""
        return self.configuration.arm(self.arm)

    @cached_property
    def traits(self) -> ModelTraits:
        """What the arm's model can do; the class of a user-defined one says it."""
        settings = self.settings.model
        if not isinstance(settings, OwnModel):
            return settings.traits
        from quarry.models.own import own_class

        traits: ModelTraits = own_class(settings, self.base).traits
        return traits

    @cached_property
    def descriptor(self) -> FeatureCache | None:
        """The descriptor of structures, where the campaign has one."""
        if not self.features or self.configuration.descriptor is None:
            return None
        return FeatureCache.of_pool(self.features, self.configuration.descriptor, self.base)

    def make(self, for_means: bool = False) -> Model:
        """Return an untrained model. for_means: without what only its standard deviations need."""
        settings = self.settings.model
        if for_means and isinstance(settings, LearnsDifference):
            settings = settings.of_means
        return make_model(settings, self.target, self.descriptor, self.base, self.baseline)

    def load(self, path: str | Path) -> Model:
        """Read a trained model. Raises QuarryError for a file that is damaged or of another kind."""
        return load_model(path, self.settings.model, self.target, self.descriptor, self.base, self.baseline)

    def judged(self, known: StructureSet, others: StructureSet) -> NDArray[np.int64]:
        """Return the rows of the others, shape (m,), that a model which has learnt the known structures can judge."""
        if not self.traits.known_elements:
            return np.arange(len(others))
        return np.flatnonzero(~unfamiliar(known, others, compositions=False))

    def ask(self, model: Model, known: StructureSet, structures: StructureSet, want: frozenset[str]) -> Prediction:
        """Predict properties of structures by a model that has learnt the known ones; NaN where it cannot judge.

        want: as of ``Model.predict``.
        """
        rows = self.judged(known, structures)
        if len(rows) == len(structures):
            return model.predict(structures, want)
        found = model.predict(structures.subset(rows), want)

        def spread(values: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
            whole = {}
            for name, array in values.items():
                count = len(structures.numbers) if has_rows_of_atoms(name) else len(structures)
                whole[name] = np.full((count, *array.shape[1:]), np.nan)
                whole[name][rows_of_property(name, structures, rows)] = array
            return whole

        return Prediction(
            spread(found.mean), spread(found.std), noise_variance=found.noise_variance, std_factor=found.std_factor
        )

    def data(self, dataset: LabelledSet, role: str) -> TrainingData:
        """Return the labels of a role (train, test) that have the target."""
        return training_data(dataset, role, self.pool, self.configuration)

    def training(self, dataset: LabelledSet) -> TrainingData:
        """Return the training labels in the order of their ids, so that a model depends on which they are, not on when they came.

        Where the last labels validate (validation.order: sequence), their order is what the user asks for.
        """
        data = self.data(dataset, "train")
        if self.configuration.validation.order == "sequence":
            return data
        return data.subset(np.argsort(data.structures.ids, kind="stable"))

    def learnt(self, dataset: str) -> TrainingData:
        """Return ``training`` of a file. Raises QuarryError if there is nothing to learn."""
        data = self.training(LabelledSet.read(dataset))
        if not len(data):
            raise QuarryError(f"{dataset}: no training label succeeded, nothing to train on; see failures.csv")
        return data


def check_own_models(configuration: Configuration, base: Path) -> dict[str, int]:
    """Return the GPUs that each user-defined model needs, by arm. base: folder of the campaign file.

    Raises QuarryError if one cannot be used, or not for the target.
    """
    gpus = {}
    for name in configuration.arm_names:
        models = ArmModels(configuration, name, pool="", base=base)
        if models.settings.model.is_user_defined:
            models.make()
            lack = model_incompatibility(configuration, name, models.traits)
            if lack:
                raise QuarryError(lack)
            gpus[name] = models.traits.gpus
    return gpus


def models_of(snakemake: Any, configuration: Configuration, arm: str = "") -> ArmModels:
    """Return the models that a job has to do with.

    snakemake: the object of a script, with the inputs structures and features, and the folder of the campaign file as params
    base. arm: that of a rule without one in its wildcards.
    """
    given = snakemake.input
    base = Path(snakemake.params.base)
    arm, baseline = arm or snakemake.wildcards.arm, given.get("baseline") or None
    return ArmModels(configuration, arm, given.structures, given.features or "", base, baseline)
