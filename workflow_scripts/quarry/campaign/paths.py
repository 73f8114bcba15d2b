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
        names = [["batch.csv", "reused.csv"], LABELS, ["dataset.h5", "failures.csv"], ["model/model.h5"]]
        names += [["predictions.h5", "metrics.json"], ["facts.json", "cost.json"]]
        if iteration > 0:
            names = [["scores.h5"]] * scored + [["proposal.csv"]] + names
        return [[self.iteration(name, arm, iteration) for name in stage] for stage in names]


LABELS: list[str] = []
"""The place of the labels among the stages: they are never removed, so they are not among the files."""


def padded(iteration: int | str) -> str:
    """Return the iteration as it stands in paths and wildcards (000, 001 ...); patterns pass unchanged."""
    return f"{iteration:03d}" if isinstance(iteration, int) else iteration


def receipts_folder(output: str | Path) -> Path:
    """Return the folder of the receipts that account for an output: that of its iteration, pool or arm."""
    path = Path(output)
    inside = [parent for parent in path.parents if parent.name[:5] == "iter_" and parent.name[5:].isdigit()]
    return (inside[0] if inside else path.parent) / "receipts"
