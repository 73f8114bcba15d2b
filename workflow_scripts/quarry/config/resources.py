"""What jobs are given: cores, memory, time."""

from __future__ import annotations

from pydantic import Field

from quarry.config.base import Section

MOST_CORES, MOST_MB, MOST_MINUTES, MOST_GPUS = 1_000_000, 1_000_000_000, 10_000_000, 1000
"""No machine has more, and no queue takes it: a number beyond is a mistake (seconds for minutes, bytes for MB)."""
LEAST_MB = 100
"""Python with numpy alone takes as much: less is a mistake (GB for MB)."""


class StageResources(Section):
    """Cores, memory, time and GPUs of one job. A profile's set-resources win over these, and set-threads for label jobs; the
    threads of other jobs are always these, because their results may differ in the last digits with the number.
    """

    threads: int = Field(default=1, gt=0, le=MOST_CORES)
    """Cores, and threads of the numerical libraries."""
    memory_MB: int = Field(default=2000, ge=LEAST_MB, le=MOST_MB)
    """Memory of the job."""
    walltime_min: int = Field(default=60, gt=0, le=MOST_MINUTES)
    """Time limit of the job."""
    gpus: int | None = Field(default=None, ge=0, le=MOST_GPUS)
    """GPUs that the job asks the cluster for. 0: nothing of a GPU is in its submission. null: 0, but in jobs that train the
    arm's model or predict with it as many as the model says: 1 with model.device: cuda, gpus of its traits for one of your own
    (docs/models.md)."""


class LabelResources(StageResources):
    """Cores, memory, time and GPUs of one label job, and MPI tasks where the engine is a program that takes them."""

    tasks: int = Field(default=1, gt=0, le=MOST_CORES)
    """MPI tasks of a command engine; each has `threads` cores, and memory_MB is that of all together."""

    def threads_of(self, cores: int) -> int:
        """Return the cores of each MPI task of a job with this many cores, at least one."""
        return max(1, cores // self.tasks)


class ModelResources(StageResources):
    """Cores, memory, time and GPUs of one model job, and how short it must be to need no queue. A profile's set-resources win
    over the others; the threads are always these, because results may differ in the last digits with their number.
    """

    beside_main_s: float = Field(default=30.0, ge=0, le=3600)
    """Seconds, on a cluster: training, evaluation, scoring or proposal that took less in the last iteration (all jobs of the
    step together, grown with the third power of the labels) runs beside the main process and waits for no queue; after twice
    the time it is ended and goes to the cluster. 0: never, for sites that forbid work on login nodes. A job that asks for GPUs
    always goes to the cluster. profiles/README.md."""


class Resources(Section):
    """What one job of each stage asks for; no part of the campaign's identity."""

    label: LabelResources = LabelResources()
    """Jobs that label a structure, and the optimisation and Hessian of a wigner pool."""
    features: StageResources = StageResources()
    """Jobs that build the pool and its descriptors."""
    train: ModelResources = ModelResources()
    """Jobs that train a model or a member of a committee."""
    score: ModelResources = ModelResources()
    """Jobs that predict: evaluation, scores of the pool, the proposal of a batch, a spectrum's ensemble."""
    explore: ModelResources = ModelResources()
    """Jobs that make new candidates by a model."""
    model: ModelResources | None = None
    """For features, train and score together: what these do not say themselves; null: nothing."""

    def of(self, stage: str) -> StageResources:
        """Return what a job of a stage (the name of a section) asks for."""
        section: StageResources = getattr(self, stage)
        if self.model is None or stage not in OF_A_MODEL:
            return section
        fields = type(section).model_fields
        given = {key: value for key, value in self.model.model_dump(exclude_unset=True).items() if key in fields}
        return section.model_copy(update={**given, **section.model_dump(exclude_unset=True)})

    def beside_main_s(self, stage: str) -> float:
        """Return the seconds that a job of a stage may take beside the main process; 0: it always goes to the cluster."""
        asked = self.of(stage)
        return asked.beside_main_s if isinstance(asked, ModelResources) else 0.0


OF_A_MODEL = ("features", "train", "score")
"""Stages that ``resources.model`` speaks of."""


class Forecast(Section):
    """What `snakemake forecast` does before it has labels to go by."""

    probes: int = Field(default=5, ge=5)
    """Structures of the first batch, spread over its sizes, that are labelled to measure the cost; they go into the store, so
    that nothing is paid twice."""
