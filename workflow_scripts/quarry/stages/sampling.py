"""The candidates of an iteration where a sampler makes them from the last model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quarry.config.pool import SamplerPool
from quarry.labeling.engines.registry import make_engine
from quarry.randomness import generator
from quarry.sampling.samplers import sampled_structures
from quarry.stages.arm_models import ArmModels
from quarry.stages.filtering import Candidate, PoolFilter, counts_of
from quarry.stages.pool_checks import check_structures
from quarry.structures.files import read_job_input, write_pool
from quarry.structures.labelled import LabelledSet


@dataclass(frozen=True)
class LastIteration:
    """What a sampler starts from: the files of the last model, of the data set, and of the pool's reference geometry."""

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
    reference = read_job_input(last.reference)[0].structure
    pool_filter = PoolFilter(configuration.pool_filters, reference)
    pool_filter.know(labelled.structures)
    pool_filter.add(Candidate("sample", number, structure) for number, structure in enumerate(found))
    if len(pool_filter):
        engine = make_engine(configuration.labeling, base)
        check_structures(configuration, base, engine, pool_filter.kept, known=reference)
    write_pool(output, pool_filter.kept, {"sampled": len(found)})
    rejected = f" ({counts_of(pool_filter.rejected)} rejected)" if pool_filter.rejected else ""
    return f"{len(found)} structures sampled, {len(pool_filter)} of them candidates{rejected}"
