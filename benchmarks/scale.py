"""Resume, job start and size: a campaign of 20 x 1,000 labels, and 10,000 labels in one iteration.

The campaign on disk is made by the library's own stages without Snakemake, with stand-in labels and placeholders for the
models (a Gaussian process on 20,000 labels is another question); what is measured then is a real run of Snakemake.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import MEASURED, SNAKEMAKE, machine, print_table

from quarry.campaign.batch_table import BatchRow, read_batch
from quarry.campaign.campaign import Campaign
from quarry.campaign.invocation import Invocation
from quarry.campaign.loop import ArmPlan
from quarry.campaign.manifest import make_manifest, save
from quarry.campaign.receipts import write_receipt
from quarry.config import load_configuration
from quarry.files import sha256_of
from quarry.labeling.engines.base import Engine
from quarry.labeling.engines.registry import make_engine
from quarry.labeling.ledger import LabelLedger
from quarry.labeling.record import LabelRecord, encode_records
from quarry.labeling.store import LabelStore, method_id_of
from quarry.labeling.wanted import Wanted
from quarry.randomness import generator
from quarry.stages.auditing import AuditSettings
from quarry.stages.batch import BatchFiles, draw_initial, select_batch
from quarry.stages.merging import Merged, MergeRules, merge_labels
from quarry.stages.planning import make_planner
from quarry.stages.pool import build_features, build_pool
from quarry.stopping.facts import Cost, Facts
from quarry.structures import Structure
from quarry.structures.files import read_pool
from support.campaigns import CampaignFolder, stand_in_configuration

MERGED = ("dataset.h5", "failures.csv", "outliers.csv", "audit.csv")
SUBMIT = """#!{python}
# A scheduler of one line: runs the job at once and writes down what it used.
import json, resource, subprocess, sys
code = subprocess.run(["bash", sys.argv[-1]], capture_output=True).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open("jobs.jsonl", "a") as handle:
    handle.write(json.dumps({{"cpu_s": used.ru_utime + used.ru_stime, "peak_MB": used.ru_maxrss / 1024}}) + "\\n")
print(1)
"""


def make_campaign(path: Path, iterations: int, batch: int, stored: int) -> tuple[CampaignFolder, Campaign]:
    """Make a campaign whose pool is larger than all its labels; the first `stored` structures have stored labels."""
    size = iterations * batch + 200
    configuration = stand_in_configuration(
        query={"strategy": "random", "initial": batch, "batch": {"schedule": "constant", "size": batch}},
        test={"size": 10},
        stop={"rrmse": None, "max_iterations": iterations},
    )
    configuration["labeling"]["arguments"] = {"calls": ""}
    folder = CampaignFolder.create(path, configuration, size)
    campaign = Campaign(load_configuration(configuration, "benchmark"), path, Invocation.RUN)
    outputs = (campaign.paths.structures, campaign.paths.reference, campaign.paths.filtered)
    build_pool(campaign.configuration, path, None, *outputs)
    paths, descriptor = campaign.paths, campaign.configuration.descriptor
    assert descriptor is not None
    build_features(paths.structures, paths.reference, descriptor, paths.features)
    engine = make_engine(campaign.configuration.labeling)
    method = engine.method_identity()
    store = LabelStore("label_store", method_id_of(method), method)
    for structure in list(read_pool(campaign.paths.structures))[:stored]:
        record = stored_record(engine, structure, method)
        file = store.path(record.structure_id)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_records([record]))
    inputs = {"pool.extxyz": sha256_of("pool.extxyz")}
    save(paths.manifest, make_manifest(campaign.configuration.identity(), inputs, method, method_id_of(method)))
    return folder, campaign


def stored_record(engine: Engine, structure: Structure, method: dict[str, Any]) -> LabelRecord:
    """Return a record of a label that another campaign computed."""
    return LabelRecord(
        structure.structure_id,
        method_id_of(method),
        method,
        "ok",
        "",
        engine.label(structure, 1).properties,
        [],
        {"wall_s": 0.01, "cpu_s": 0.01, "threads": 1, "tasks": 1, "size": engine.size(structure)},
        {"campaign_id": "benchmark"},
        "here",
        engine.versions(),
        "2026-01-01T00:00:00+00:00",
    )


def write_iterations(campaign: Campaign, iterations: int, batch: int) -> None:
    """Write finished iterations as their jobs would, with placeholders for the model's files."""
    paths, configuration = campaign.paths, campaign.configuration
    method = make_engine(configuration.labeling).method_identity()
    store = LabelStore("label_store", method_id_of(method), method)
    ids = [str(i) for i in read_pool(paths.structures).ids]
    rows = draw_initial(configuration, paths.structures)
    rest = [i for i in generator(0, "benchmark").permutation(ids) if i not in {r.structure_id for r in rows}]
    for t in range(iterations):
        names = (
            "batch.csv",
            "batch.h5",
            "planned.csv",
            "batch",
            "reused.csv",
        )
        at = {name: paths.iteration(name, "main", t) for name in names}
        if t:
            rows = [BatchRow(str(i), "train", str(i)) for i in rest[(t - 1) * batch : t * batch]]
            Path(paths.iteration("proposal.csv", "main", t)).parent.mkdir(parents=True, exist_ok=True)
            text = "structure_id,score\n" + "".join(f"{r.structure_id},\n" for r in rows)
            Path(paths.iteration("proposal.csv", "main", t)).write_text(text)
            Path(paths.iteration("query.json", "main", t)).write_text("{}\n")
        planner = make_planner(configuration, ".", "main", t, paths)
        files = BatchFiles(*(at[name] for name in ("batch.csv", "batch.h5", "planned.csv", "reused.csv", "batch")))
        select_batch(rows, [paths.structures], store, LabelLedger(paths.failed), planner, files)
        labels = [paths.label(r.job, "main", t) for r in read_batch(at["batch.csv"])]
        rules = MergeRules(method_id_of(method), Wanted(), 0.2, 6.0, AuditSettings())
        merged = [Merged(*(paths.iteration(name, "main", n) for name in MERGED)) for n in (t - 1, t)]
        previous, output = merged[0] if t else None, merged[1]
        merge_labels(at["batch.csv"], at["batch.h5"], labels, t, previous, output, rules, LabelLedger(paths.failed))
        for name in ("model/model.h5", "predictions.h5", "metrics.json"):
            file = Path(paths.iteration(name, "main", t))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("placeholder\n")
        n = (t + 1) * batch
        left = len(ids) - n - 10
        facts = Facts(
            arm="main",
            iteration=t,
            phase="query",
            n_train=n,
            n_test=10,
            n_labels=n + 10,
            n_failed=0,
            pool_size=len(ids),
            pool_left=left,
            target="energy",
            metric="test",
            errors={},
            rrmse=0.5,
            rrmse_low=0.4,
            rrmse_high=0.6,
        )
        facts.write(paths.facts("main", t))
        Cost(0, batch, 0, 0.0, 0.0, 0.0, 0.0).write(paths.cost("main", t))
        outputs = [f for stage in paths.stages("main", t, ArmPlan(proposed=t > 0)) for f in stage]
        write_receipt(
            Path(paths.iteration("receipts/all.json", "main", t)), "all", outputs, {"wall_s": 0.0, "threads": 1}
        )


def measured_run(folder: CampaignFolder, target: str, *options: str) -> dict[str, float]:
    """Run Snakemake and return what its main process used."""
    command = [sys.executable, "-c", MEASURED, "main.json", *SNAKEMAKE[3:], *options, "--", target]
    process = subprocess.run(command, cwd=folder.path, env=folder.env(), capture_output=True, text=True, check=False)
    if process.returncode:
        sys.exit(process.stdout[-3000:] + process.stderr[-3000:])
    result: dict[str, float] = json.loads((folder.path / "main.json").read_text())
    return result


def resume(iterations: int, batch: int) -> list[list[object]]:
    """One label missing in the last iteration, submitted to a cluster of one line."""
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        folder, campaign = make_campaign(Path(temporary), iterations, batch, iterations * batch + 200)
        write_iterations(campaign, iterations, batch)
        submit = Path("submit.py")
        submit.write_text(SUBMIT.format(python=sys.executable))
        submit.chmod(0o755)
        generic = [
            "--executor",
            "cluster-generic",
            "--jobs",
            "2",
            "--cluster-generic-submit-cmd",
            f"{temporary}/submit.py",
        ]
        for repeat in range(3):
            last = Path(campaign.paths.iteration("", "main", iterations - 1))
            label = sorted((last / "labels").glob("*.json"))[repeat]
            for file in [f for stage in campaign.paths.stages("main", iterations - 1, ArmPlan())[3:] for f in stage]:
                Path(file).unlink(missing_ok=True)
            label.unlink()
            for stored in Path("label_store").glob(f"*/{label.stem[:2]}/{label.name}"):
                stored.unlink()
            Path("jobs.jsonl").unlink(missing_ok=True)
            main = measured_run(folder, "all", *generic, "--until", "merge_labels")
            job = json.loads(Path("jobs.jsonl").read_text().splitlines()[0])
            rows.append(
                [f"{iterations} x {batch}", repeat, main["cpu_s"], main["peak_MB"], job["cpu_s"], job["peak_MB"]]
            )
        os.chdir("/")
    return rows


def one_large_iteration(labels: int, stored: int) -> list[list[object]]:
    """An iteration 0 with many labels, of which `stored` are in the store and the rest are jobs."""
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        folder, campaign = make_campaign(Path(temporary), 1, labels, 0)
        # Which structures are drawn is known from the seed: store the labels of the first of them.
        rows = draw_initial(campaign.configuration, campaign.paths.structures)
        engine = make_engine(campaign.configuration.labeling)
        method = engine.method_identity()
        store = LabelStore("label_store", method_id_of(method), method)
        pool = read_pool(campaign.paths.structures)
        for index in pool.index_of([r.structure_id for r in rows[:stored]]):
            record = stored_record(engine, pool[int(index)], method)
            file = store.path(record.structure_id)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode_records([record]))
        start = time.monotonic()
        main = measured_run(folder, campaign.paths.iteration("dataset.h5", "main", 0), "--cores", "2")
        done = len(list(Path(campaign.paths.iteration("labels", "main", 0)).glob("*.json")))
        os.chdir("/")
        return [[labels, stored, done, main["cpu_s"], main["peak_MB"], time.monotonic() - start]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--large", type=int, default=10000, help="labels of the one large iteration; 0 leaves it out")
    parser.add_argument("--stored", type=int, default=9500, help="of these, how many the store has already")
    arguments = parser.parse_args()
    print(machine())
    if arguments.iterations:
        print_table(
            "Resume with one label missing in the last iteration (cluster-generic, seed 3, three repeats)",
            ["campaign", "repeat", "main process CPU-s", "main process MB", "job CPU-s (start, label, end)", "job MB"],
            resume(arguments.iterations, arguments.batch),
        )
    if arguments.large:
        print_table(
            "One iteration with many labels (2 cores, seed 3)",
            ["labels", "from the store", "labels at the end", "main process CPU-s", "main process MB", "wall s"],
            one_large_iteration(arguments.large, arguments.stored),
        )
