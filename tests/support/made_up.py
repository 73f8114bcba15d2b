"""Results of campaigns that never ran: files as they lie on disk at some moment, written without Snakemake."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from quarry.campaign.batch_table import BatchRow, write_batch
from quarry.campaign.last_run import begin_run
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.planned import PlannedJob, write_planned
from quarry.config.loading import load_configuration
from quarry.labeling.claims import Claim, Claims
from quarry.labeling.store import place_of
from quarry.processes import this_process
from quarry.stopping.facts import Cost, Facts
from support.campaigns import stand_in_configuration

METHOD = "0123456789abcdef"


class MadeUp:
    """A campaign's results below a working directory."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        """settings: of the configuration's section stop."""
        self.folder = folder
        self.paths = CampaignPaths("toy", str(folder / "results" / "toy"))
        self.store = folder / "label_store" / METHOD
        for path in (self.paths.arm("main"), self.store, folder / ".snakemake"):
            Path(path).mkdir(parents=True)
        manifest = {
            "campaign_id": "1",
            "identity": {},
            "method_id": METHOD,
            "quarry": "0.1.0",
            "stores": ["label_store"],
        }
        Path(self.paths.manifest).write_text(json.dumps(manifest))
        self.settings = stand_in_configuration(stop={"rrmse": None, **settings})

    def begin_run(self, **machine: Any) -> None:
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            given = {"cores": 2, "jobs": None, "log": ".snakemake/log/1.snakemake.log", **machine}
            begin_run(self.paths.last_run, load_configuration(self.settings, "here"), (), given)
        finally:
            os.chdir(before)

    def iteration(self, number: int, labels: int, rmse_eV: float = 0.05, reused: int = 0, arm: str = "main") -> None:
        """Finish an iteration with so many labels in its batch, of which some came from the store."""
        ids = [f"{number:04x}{k:016x}" for k in range(labels)]
        self.batch(number, ids, arm)
        before = Facts.read(self.paths.facts(arm, number - 1)).n_labels if number else 0
        Facts(
            arm, number, "query", before + labels, 10, before + labels, 0, 100_000, 1000, "energy", "test",
            {"test": {"rmse": rmse_eV, "rmse_low": 0.9 * rmse_eV, "rmse_high": 1.1 * rmse_eV, "n": 10}},
            1.0 if number == 0 else 0.5, 0.1, 0.9,
        ).write(self.paths.facts(arm, number))  # fmt: skip
        hours = (labels - reused) / 3600
        Cost(labels - reused, reused, 0, hours, hours, 0.01, 1.0).write(self.paths.cost(arm, number))
        for file in ("dataset.h5", "metrics.json", "model/model.h5"):
            path = Path(self.paths.iteration(file, arm, number))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")

    def batch(self, number: int, ids: list[str], arm: str = "main", predicted_s: float | None = None) -> None:
        """Choose a batch. predicted_s: of a label."""
        Path(self.paths.iteration("", arm, number)).mkdir(parents=True)
        write_batch(self.paths.batch(arm, number), [BatchRow(name, "train", name) for name in ids])
        write_planned(self.paths.planned(arm, number), [PlannedJob(name, 1, predicted_s) for name in ids])

    def label(self, structure_id: str) -> None:
        """Finish a label: it is in the store."""
        path = place_of(self.store, structure_id)
        path.parent.mkdir(exist_ok=True)
        path.write_text("[]")

    def fail(self, structure_id: str, message: str = "no end after 50 cycles") -> None:
        Path(self.paths.failed).mkdir(exist_ok=True)
        attempts = [{"message": message, "status": "scf_not_converged"}]
        Path(self.paths.failed, f"{structure_id}.json").write_text(json.dumps(attempts))

    def claim(self, structure_id: str) -> Claim:
        """Let this process compute a label."""
        claim = Claims(self.store, 20.0).acquire(structure_id)
        assert claim is not None
        return claim

    def lease(self, age_s: float = 0.0, **changes: Any) -> None:
        """Let this process, or another one (changes), run the campaign."""
        path = Path(self.paths.lease)
        path.write_text(json.dumps({**this_process(), "token": "t", "folder": ["x", 1], **changes}))
        os.utime(path, (time.time() - age_s, time.time() - age_s))

    def finish(self, arm: str = "main", reason: str = "the budget of max_labels = 9 is spent") -> None:
        rows = [["iteration", "stop_reason"]]
        while Path(self.paths.facts(arm, len(rows) - 1)).exists():
            rows.append([str(len(rows) - 1), ""])
        rows[-1][1] = reason
        text = "".join(f"{','.join(row)}\n" for row in rows)
        Path(self.paths.outputs("collect_results", arm)["history"]).write_text(text)

    def state(self) -> dict[str, tuple[int, bytes]]:
        """Return every file and folder with its time and content."""
        found = [self.folder, *self.folder.rglob("*")]
        return {str(p): (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in found}
