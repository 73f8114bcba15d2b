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
        self.normal_modes = f"{self.pool}/normal_modes.json"
        self.reference = f"{self.pool}/reference.extxyz"
        self.manifest = f"{self.root}/campaign.json"
        self.lease = f"{self.root}/.lease.json"

    def arm(self, arm: str = "{arm}", file: str = "") -> str:
        """Return a path in an arm's folder."""
        return f"{self.root}/{arm}/{file}".rstrip("/")

    def iteration(self, file: str = "", arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return a path in an iteration's folder."""
        return f"{self.root}/{arm}/iter_{padded(iteration)}/{file}".rstrip("/")

    def batch(self, arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of an iteration's batch table."""
        return self.iteration("batch.csv", arm, iteration)

    def leaf(self, job: str = "{job}", arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of a label job's input."""
        return self.iteration(f"batch/{job}.extxyz", arm, iteration)

    def label(self, job: str = "{job}", arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of a label job's records."""
        return self.iteration(f"labels/{job}.json", arm, iteration)

    def facts(self, arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of an iteration's facts."""
        return self.iteration("facts.json", arm, iteration)

    def cost(self, arm: str = "{arm}", iteration: int | str = "{iteration}") -> str:
        """Return the path of an iteration's cost."""
        return self.iteration("cost.json", arm, iteration)

    def stages(self, arm: str, iteration: int, scored: bool) -> list[list[str]]:
        """Return the files of an iteration's jobs in the order in which they are made (labels left out).

        scored: whether the arm's strategy looks at scores of the pool.
        """
        rules = ["score_pool"] * (scored and iteration > 0) + ["propose_batch"] * (iteration > 0)
        rules += ["select_batch", LABELS, "merge_labels", "train_model", "evaluate_model", "assess_iteration"]
        names = [OUTPUTS.get(rule, []) for rule in rules]
        return [[self.iteration(name, arm, iteration) for name in stage] for stage in names]


LABELS = "label_structure"
"""The place of the labels among the stages: they are never removed, so no files stand for them."""

PRODUCT = ["history.csv", "failures.csv", "dataset.h5", "dataset.extxyz", "model/model.h5"]

OUTPUTS: dict[str, list[str]] = {
    "build_pool": ["structures.h5", "reference.extxyz"],
    "build_features": ["features.h5"],
    "score_pool": ["scores.h5"],
    "propose_batch": ["proposal.csv"],
    "select_batch": ["batch.csv", "reused.csv"],
    "merge_labels": ["dataset.h5", "failures.csv"],
    "train_model": ["model/model.h5"],
    "evaluate_model": ["predictions.h5", "metrics.json"],
    "assess_iteration": ["facts.json", "cost.json"],
    "collect_results": PRODUCT,
    "publish_results": PRODUCT,
    "draw_figures": ["learning_curve.svg", "parity.svg", "iterations.html"],
}
"""Files that each rule makes in its iteration, pool, arm, campaign or figures folder. Not the normal modes: made again
they could differ in the last digit, and with them the pool.
"""


def padded(iteration: int | str) -> str:
    """Return the iteration as it stands in paths and wildcards (000, 001 ...); patterns pass unchanged."""
    return f"{iteration:03d}" if isinstance(iteration, int) else iteration


def receipts_folder(output: str | Path) -> Path:
    """Return the folder of the receipts that account for an output: that of its iteration, pool or arm."""
    path = Path(output)
    inside = [parent for parent in path.parents if parent.name[:5] == "iter_" and parent.name[5:].isdigit()]
    return (inside[0] if inside else path.parent) / "receipts"
