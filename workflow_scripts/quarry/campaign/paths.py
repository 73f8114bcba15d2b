"""Every path of a campaign, in one place. With no arguments the iteration paths are patterns for the rules."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from quarry.campaign.iterations import folder_name, iteration_of
from quarry.campaign.loop import RULES, ArmPlan, Place, files_in, product_of, stages_of

MANIFEST = "campaign.json"
"""The file by which a folder is known as a campaign's."""


class CampaignPaths:
    """Paths of one campaign, relative to the working directory.

    root: folder of its files; None: that of its name among the results.
    """

    def __init__(self, name: str, root: str | None = None) -> None:
        self.root = root or f"results/{name}"
        self.pool = f"{self.root}/pool"
        self.structures = f"{self.pool}/structures.h5"
        self.features = f"{self.pool}/features.h5"
        self.baseline = f"{self.pool}/baseline.h5"
        self.pool_labels = f"{self.pool}/labels.h5"
        self.normal_modes = f"{self.pool}/normal_modes.json"
        self.reference = f"{self.pool}/reference.extxyz"
        self.filtered = f"{self.pool}/filtered.csv"
        self.spectrum_settings = f"{self.root}/spectrum_settings.json"
        self.dataset_settings = f"{self.root}/dataset_settings.json"
        self.verification = f"{self.root}/verification"
        self.uses = f"{self.root}/uses"
        self.manifest = f"{self.root}/{MANIFEST}"
        self.lease = f"{self.root}/.lease.json"
        self.last_run = f"{self.root}/last_run.json"
        self.failed = f"{self.root}/failed"
        self.set_aside = f"{self.root}/set_aside"
        self.retries = f"{self.root}/retries.json"
        self.rejected = f"{self.root}/left_out.json"
        self.forecast = f"{self.root}/forecast"
        self.figures = f"{self.root}/figures"
        self.logs = f"{self.root}/logs"
        self.receipts = f"{self.root}/receipts"
        self.product = [f"{self.root}/{file}" for file in files_in(Place.CAMPAIGN)]

    @property
    def names(self) -> set[str]:
        """Every file and folder of the campaign beside the arms: no arm can have such a name."""
        inside = [path for value in vars(self).values() for path in ([value] if isinstance(value, str) else value)]
        return {path.removeprefix(f"{self.root}/").partition("/")[0] for path in inside if path != self.root}

    def arm(self, arm: str = "{arm}", file: str = "") -> str:
        """Return a path in an arm's folder."""
        return f"{self.root}/{arm}/{file}".rstrip("/")

    def iteration(self, file: str = "", arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return a path in an iteration's folder."""
        return f"{self.root}/{arm}/{folder_name(iteration)}/{file}".rstrip("/")

    def batch(self, arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of an iteration's batch table."""
        return self.iteration("batch.csv", arm, iteration)

    def planned(self, arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of what an iteration's jobs are predicted to take."""
        return self.iteration("planned.csv", arm, iteration)

    def job_input(self, job: str = "{job}", arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of a label job's input."""
        return f"{self.job_inputs(arm, iteration)}/{job}.extxyz"

    def job_inputs(self, arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the folder of the inputs of an iteration's label jobs."""
        return self.iteration(RULES["select_batch"].folder, arm, iteration)

    def label(self, job: str = "{job}", arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of a label job's records."""
        return self.iteration(f"labels/{job}.json", arm, iteration)

    def attempts(self, arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the folder of what happened to an iteration's labels before they had a record."""
        return self.iteration("attempts", arm, iteration)

    def facts(self, arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of an iteration's facts."""
        return self.iteration("facts.json", arm, iteration)

    def cost(self, arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of an iteration's cost."""
        return self.iteration("cost.json", arm, iteration)

    def recomputed(self, check: str = "{check}", seed: int | str = "{seed}", number: int | str = "{number}") -> str:
        """Return the path of a label that is computed again."""
        return f"{self.verification}/{check}/seed_{seed}/{number}.json"

    def use(self, file: str) -> str:
        """Return the path of a result of a use of the potential (``quarry.config.uses``)."""
        return f"{self.uses}/{file}"

    def use_step(self, file: str) -> str:
        """Return the path of a file that the results of uses are put together from."""
        return f"{self.uses}/steps/{file}"

    def outputs(self, rule: str, arm: str = "{arm}", iteration: int | str = "{iteration}") -> dict[str, str]:
        """Return what a rule makes, by the names that it gives its files (``quarry.campaign.loop``)."""
        stage = RULES[rule]
        return {name: self._file(stage.place, file, arm, iteration) for name, file in stage.outputs.items()}

    def parts(self, rule: str, arm: str, iteration: int | str, plan: ArmPlan) -> list[str]:
        """Return what the jobs of a rule with several of them an iteration make; none where the arm has no such jobs."""
        stage = RULES[rule]
        return [self.iteration(file, arm, iteration) for file in stage.files(plan)]

    def benchmark(self, rule: str, arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of what Snakemake measured of a rule's job."""
        return self._file(RULES[rule].place, RULES[rule].benchmark, arm, iteration)

    def _file(self, place: Place, file: str, arm: str, iteration: int | str) -> str:
        if place is Place.ITERATION:
            return self.iteration(file, arm, iteration)
        if place is Place.ARM:
            return self.arm(arm, file)
        folders = {Place.POOL: self.pool, Place.CAMPAIGN: self.root, Place.FIGURES: self.figures}
        return f"{folders[place]}/{file}"

    def stages(self, arm: str, iteration: int, plan: ArmPlan) -> list[list[str]]:
        """Return the files of an iteration's rules, but for labels, in the order in which they are made."""
        return [[self.iteration(file, arm, iteration) for file in stage.files(plan)] for stage in stages_of(plan)]


PACKED = "packed.zip"
"""What was packed of a finished iteration (``quarry.campaign.packed``)."""


def receipts_folder(outputs: Sequence[str]) -> Path:
    """Return the folder of the receipt that accounts for a job's outputs: that of their iteration, pool, arm or campaign."""
    common = os.path.commonpath([Path(output).parent for output in outputs])
    for file in product_of("describe_model"):
        # They all lie in a folder that another rule's files lie in too.
        if outputs[0].endswith(f"/{file}"):
            common = outputs[0].removesuffix(f"/{file}")
    return (iteration_of(outputs[0]) or Path(common)) / "receipts"
