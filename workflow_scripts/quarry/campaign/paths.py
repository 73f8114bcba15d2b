"""Every path of a campaign, in one place. With no arguments the iteration paths are patterns for the rules."""

from __future__ import annotations

from pathlib import Path


class CampaignPaths:
    """Paths of one campaign, relative to the working directory."""

    def __init__(self, name: str, results: str = "results") -> None:
        self.root = f"{results}/{name}"
        self.pool = f"{self.root}/pool"
        self.structures = f"{self.pool}/structures.h5"
        self.features = f"{self.pool}/features.h5"
        self.pool_labels = f"{self.pool}/labels.h5"
        self.normal_modes = f"{self.pool}/normal_modes.json"
        self.reference = f"{self.pool}/reference.extxyz"
        self.filtered = f"{self.pool}/filtered.csv"
        self.spectrum_settings = f"{self.root}/spectrum_settings.json"
        self.verification = f"{self.root}/verification"
        self.manifest = f"{self.root}/campaign.json"
        self.lease = f"{self.root}/.lease.json"
        self.failed = f"{self.root}/failed"
        self.set_aside = f"{self.root}/set_aside"
        self.retries = f"{self.root}/retries.json"
        self.left_out = f"{self.root}/left_out.json"
        self.forecast = f"{self.root}/forecast"
        self.figures = f"{self.root}/figures"
        self.logs = f"{self.root}/logs"
        self.receipts = f"{self.root}/receipts"
        self.product = [f"{self.root}/{file}" for file in [*PRODUCT, *SPECTRUM.values()]]

    @property
    def names(self) -> set[str]:
        """Every file and folder of the campaign's own beside the arms: no arm can have such a name."""
        inside = [path for value in vars(self).values() for path in ([value] if isinstance(value, str) else value)]
        return {path.removeprefix(f"{self.root}/").partition("/")[0] for path in inside if path != self.root}

    def arm(self, arm: str = "{arm}", file: str = "") -> str:
        """Return a path in an arm's folder."""
        return f"{self.root}/{arm}/{file}".rstrip("/")

    def iteration(self, file: str = "", arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return a path in an iteration's folder."""
        return f"{self.root}/{arm}/iter_{padded(iteration)}/{file}".rstrip("/")

    def batch(self, arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of an iteration's batch table."""
        return self.iteration("batch.csv", arm, iteration)

    def planned(self, arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of what an iteration's jobs are predicted to take."""
        return self.iteration("planned.csv", arm, iteration)

    def leaf(self, job: str = "{job}", arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of a label job's input."""
        return self.iteration(f"batch/{job}.extxyz", arm, iteration)

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

    def member(self, member: int | str = "{member}", arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of a committee's member that a job of its own trains."""
        return self.iteration(MEMBER.format(padded(member)), arm, iteration)

    def stages(self, arm: str, iteration: int, scored: bool, proposed: bool, members: int = 0) -> list[list[str]]:
        """Return the files of an iteration's jobs in the order in which they are made (labels left out).

        scored: whether the arm's strategy looks at scores of the pool. proposed: whether the batch comes from a proposal.
        members: of the arm's committee that are trained by jobs of their own.
        """
        rules = ["score_pool"] * (scored and proposed) + ["propose_batch"] * proposed
        rules += ["select_batch", LABELS, "merge_labels", MEMBERS, "train_model", "evaluate_model", "assess_iteration"]
        names = {**OUTPUTS, MEMBERS: [MEMBER.format(padded(member)) for member in range(members)]}
        stages = [names.get(rule, []) for rule in rules if members or rule != MEMBERS]
        return [[self.iteration(name, arm, iteration) for name in stage] for stage in stages]


LABELS = "label_structure"
"""The place of the labels among the stages: they are never removed, so no files stand for them."""

MEMBERS = "train_member"
"""The place of a committee's members among the stages: a job for each."""
MEMBER = "model/members/{}.h5"

PACKED = "packed.zip"
"""What was packed of a finished iteration (``quarry.campaign.packed``)."""

PRODUCT = ["history.csv", "failures.csv", "outliers.csv", "audit.csv", "dataset.h5", "dataset.extxyz", "model/model.h5"]

SPECTRUM = {
    "ensemble": "ensemble.h5",
    "ml_nea": "cross-section/cross-section_ml-nea.dat",
    "qc_nea": "cross-section/cross-section_qc-nea.dat",
    "single_point": "cross-section/cross-section_spc.dat",
    "table": "cross-section/spectra.csv",
    "summary": "cross-section/summary.json",
}
"""Further product of a campaign with a spectrum, by the name that rules give each file."""

OUTPUTS: dict[str, list[str]] = {
    "build_pool": ["structures.h5", "reference.extxyz", "filtered.csv"],
    "build_features": ["features.h5"],
    "collect_pool_labels": ["labels.h5"],
    "score_pool": ["scores.h5"],
    "propose_batch": ["proposal.csv"],
    "select_batch": ["batch.csv", "planned.csv", "reused.csv"],
    "merge_labels": ["dataset.h5", "failures.csv", "outliers.csv", "audit.csv"],
    "train_model": ["model/model.h5"],
    "evaluate_model": ["predictions.h5", "metrics.json"],
    "assess_iteration": ["facts.json", "cost.json"],
    "compare_arms": ["savings.json"],
    "collect_results": PRODUCT,
    "publish_results": PRODUCT,
    "compute_spectrum": [*SPECTRUM.values()],
    "publish_spectrum": [*SPECTRUM.values()],
    "draw_savings": ["savings.svg"],
    "draw_function": ["function.svg"],
    "draw_spectrum": ["spectrum.svg"],
    "draw_figures": ["learning_curve.svg", "parity.svg", "iterations.html", "audit.html"],
}
"""Files that each rule makes in its iteration, pool, arm, campaign or figures folder. Not the normal modes: made again
they could differ in the last digit, and with them the pool.
"""

POOL_RULES = ("build_pool", "build_features", "collect_pool_labels")
ARM_RULES = ("collect_results", "compare_arms", "compute_spectrum")
CAMPAIGN_RULES = ("publish_results", "publish_spectrum")
FIGURE_RULES = ("draw_figures", "draw_savings", "draw_function", "draw_spectrum")
"""Rules by the folder that their outputs lie in."""


def padded(iteration: int | str) -> str:
    """Return the iteration as it stands in paths and wildcards (000, 001 ...); patterns pass unchanged."""
    return f"{iteration:03d}" if isinstance(iteration, int) else iteration


def outputs_of(receipt: str) -> list[str]:
    """Return the files that the job of a receipt (by its name without ending) makes."""
    if receipt.startswith(f"{MEMBERS}_"):
        return [MEMBER.format(receipt.removeprefix(f"{MEMBERS}_"))]
    return OUTPUTS.get(receipt, [])


def receipts_folder(output: str | Path) -> Path:
    """Return the folder of the receipts that account for an output: that of its iteration, pool or arm."""
    return (iteration_of(output) or Path(output).parent) / "receipts"


def iteration_of(path: str | Path) -> Path | None:
    """Return the folder of the iteration in which a path lies, None if it lies in none."""
    parents = Path(path).parents
    return next((parent for parent in parents if parent.name[:5] == "iter_" and parent.name[5:].isdigit()), None)
