"""The candidates of an iteration where a sampler makes them from the last model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quarry.config.pool import SamplerPool
from quarry.labeling.engines.registry import make_engine
from quarry.randomness import generator
from quarry.sampling.samplers import sampled_structures
from quarry.stages.arm_models import ArmModels
from quarry.stages.filtering import Candidate, Sieve, counts_of
from quarry.stages.pool_checks import check_structures
from quarry.structures.files import read_leaf, write_pool
from quarry.structures.labelled import LabelledSet


@dataclass(frozen=True)
class LastIteration:
    """What a sampler starts from: files of the last model and the data set, and of the pool's reference geometry."""

    model: str
    dataset: str
    reference: str


def sample_candidates(models: ArmModels, iteration: int, last: LastIteration, output: str) -> str:
    """Let the sampler make the candidates of an iteration; write those that pass the filters; return a line about them.

    Structures that are labelled, and copies of them, are no candidates. Raises QuarryError if a structure is one that engine or
    descriptor cannot take.
    """
    configuration, base = models.configuration, models.base or Path()
    pool = configuration.pool
    assert isinstance(pool, SamplerPool)
    labelled = LabelledSet.read(last.dataset)
    training = labelled.subset(labelled.indices("train"))
    rng = generator(models.settings.seed, models.arm, iteration, "sample")
    found = sampled_structures(pool, base, models.load(last.model), training, iteration, rng)
    sieve = Sieve(configuration.pool_filters, read_leaf(last.reference)[0].structure)
    sieve.know(labelled.structures)
    sieve.add(Candidate("sample", number, structure) for number, structure in enumerate(found))
    if len(sieve):
        check_structures(configuration, base, make_engine(configuration.labeling, base), sieve.kept)
    write_pool(output, sieve.kept, {"sampled": len(found)})
    left_out = f" ({counts_of(sieve.left_out)} left out)" if sieve.left_out else ""
    return f"{len(found)} structures sampled, {len(sieve)} of them candidates{left_out}"
