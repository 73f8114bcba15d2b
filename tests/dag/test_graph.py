"""The job graph: what runs on fresh, half-done and finished campaigns, and what never runs again."""

import csv
import re
import subprocess
import sys

import pytest
import yaml

from quarry.campaign.file_count import files_at_end
from quarry.campaign.loop import LABELS, LOOP, RULES, ArmPlan, stages_of
from quarry.campaign.paths import CampaignPaths
from quarry.config import load_configuration
from support.campaigns import REPOSITORY, CampaignFolder, stand_in_configuration
from support.graph import all_rules, graph_of, jobs_of, rules_to_run

PER_ITERATION = {"select_batch", "merge_labels", "train_model", "evaluate_model", "assess_iteration"}
PRODUCTS = {
    "collect_results",
    "describe_model",
    "publish_results",
    "publish_model",
    "describe_dataset",
    "draw_figures",
    "write_overview",
    "all",
}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    return CampaignFolder.create(tmp_path_factory.mktemp("fresh") / "campaign")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = CampaignFolder.create(tmp_path_factory.mktemp("finished") / "campaign")
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    return folder


@pytest.fixture(scope="module")
def half_done(finished, tmp_path_factory):
    """Cut in the middle of the last batch."""
    folder = finished.copy(tmp_path_factory.mktemp("half") / "campaign").unpack("main")
    iteration = folder.results / "main" / "iter_002"
    for file in (
        "dataset.h5",
        "failures.csv",
        "outliers.csv",
        "audit.csv",
        "model/model.h5",
        "predictions.h5",
        "metrics.json",
        "facts.json",
        "cost.json",
    ):
        (iteration / file).unlink()
    next((iteration / "labels").glob("*.json")).unlink()
    for file in folder.results.glob("*.*"):
        if file.name != "campaign.json":
            file.unlink()
    return folder


def test_fresh(fresh):
    rules = rules_to_run(fresh)
    assert rules == {"build_pool": 1, "select_batch": 1, **dict.fromkeys(PRODUCTS, 1)}
    assert "label_structure" not in rules, "nobody knows the batch yet"


def test_arms_share_pool_and_wait_for_the_first(fresh, tmp_path):
    folder = fresh.copy(tmp_path / "arms")
    folder.configure(stand_in_configuration(arms={"random": {"query": {"strategy": "random"}}}))
    rules = rules_to_run(folder)
    assert rules["build_pool"] == 1
    assert rules["select_batch"] == 1, "the second arm waits for the labels of the first"
    assert rules["collect_results"] == 2


def test_half_done(half_done):
    rules = rules_to_run(half_done)
    assert rules["label_structure"] == 1
    assert rules["select_batch"] == rules["score_pool"] == rules["build_pool"] == 0
    assert {rule for rule in rules if rule in PER_ITERATION} == {
        "merge_labels",
        "train_model",
        "evaluate_model",
        "assess_iteration",
    }


def test_finished_iterations_are_left_out_of_a_run_and_shown_in_an_inspection(finished):
    assert not rules_to_run(finished)
    sealed = {wildcards.get("iteration") for _, wildcards, _ in graph_of(finished)} - {None}
    assert sealed == set(), "a run does not look at finished iterations"
    rules = all_rules(finished)
    assert rules["label_structure"] == len(finished.calls()) == 12
    assert all(rules[rule] == 3 for rule in PER_ITERATION)
    assert rules["score_pool"] == rules["propose_batch"] == 2


def test_the_table_of_rules_says_what_the_graph_says(finished):
    """Which rules an iteration has, in which order they run, and every file that they make."""
    paths, order = CampaignPaths("toy"), [stage.rule for stage in LOOP]
    found: dict[int, set[str]] = {}
    for job in jobs_of(finished, "inspection"):
        iteration = job.wildcards.get("iteration")
        if job.rule in RULES and job.rule != LABELS.rule:
            stage = RULES[job.rule]
            made = list(paths.outputs(job.rule, job.wildcards.get("arm", "main"), iteration or "").values())
            made += [paths.iteration(stage.folder, "main", iteration)] if stage.folder else []
            assert sorted(job.outputs) == sorted(made), job.rule
        elif job.rule != LABELS.rule:
            assert not job.outputs, f"{job.rule} makes files that no receipt accounts for"
        if iteration is not None:
            found.setdefault(int(iteration), set()).add(job.rule)
            for rule, wildcards in job.needs:
                if wildcards.get("iteration") == iteration:
                    assert order.index(rule) < order.index(job.rule)
    for iteration, rules in found.items():
        assert rules == {stage.rule for stage in stages_of(ArmPlan(scored=True, proposed=iteration > 0))}


def test_a_finished_campaign_is_packed_and_shown_as_before(finished, tmp_path):
    """Labels, job inputs, logs and Snakemake's records lie in one file an iteration; the count is what a forecast says."""
    files = [
        p for name in ("results", "label_store", ".snakemake") for p in (finished.path / name).rglob("*") if p.is_file()
    ]
    assert not [p for p in files if p.parent.name in ("labels", "logs") and "iter_" in str(p)]
    # Every look leaves a log, a dry run its inventory, and another command line its own cached checks.
    by_run = {"log": 1, "quarry": 1, "iocache": 0}
    files = [p for p in files if p.parent.name not in by_run]
    configuration = load_configuration(yaml.safe_load((finished.path / "campaign.yaml").read_text()), "campaign.yaml")
    assert len(files) + sum(by_run.values()) == files_at_end(configuration, {"main": 3}, 12)
    shown, before = (folder.run("--summary") for folder in (finished, finished.copy(tmp_path / "loose").unpack()))
    rows = [
        [row.split("\t") for row in sorted(outcome.text.splitlines()) if row.startswith("results/")]
        for outcome in (shown, before)
    ]
    # Not the status: the copy lies elsewhere, and its campaign file with it.
    assert [row[:3] + row[5:] for row in rows[0]] == [row[:3] + row[5:] for row in rows[1]]
    assert [row[4:] for row in rows[0] if "/labels/" in row[0]] == 12 * [["ok", "no update"]]
    assert "missing" not in shown.text
    report = finished.run("--report", str(tmp_path / "report.html"))
    assert report.code == 0 and "Missing metadata" not in report.text, report.text[-2000:]


def test_a_look_at_a_packed_iteration_that_is_to_be_made_again_shows_no_label(finished, tmp_path):
    folder = finished.copy(tmp_path / "truncated")
    (folder.results / "main/iter_001/dataset.h5").write_bytes(b"cut off")
    before = (folder.results / "main/iter_001/packed.zip").read_bytes()
    rules = rules_to_run(folder)
    assert rules["train_model"] and rules["label_structure"] == rules["select_batch"] == 0
    assert (folder.results / "main/iter_001/packed.zip").read_bytes() == before, "a look changes nothing"


def test_strategies_without_scores_do_not_score(finished, tmp_path):
    folder = finished.copy(tmp_path / "random")
    configuration = stand_in_configuration(name="random")
    configuration["query"]["strategy"] = "random"
    folder.configure(configuration)
    assert folder.run().code == 0
    assert all_rules(folder)["score_pool"] == 0
    assert not list(folder.results.rglob("scores.h5"))


def test_the_members_of_a_committee_are_jobs_of_their_own(finished, tmp_path):
    """They wait for the labels, not for each other; those that are there stay."""
    folder = finished.copy(tmp_path / "committee")
    committee = {"kind": "mlp", "uncertainty": "committee", "members": 3}
    folder.configure(stand_in_configuration(model=committee))
    (folder.results / "campaign.json").unlink()
    model = folder.results / "main" / "iter_000" / "model"
    (model / "members").mkdir()
    (model / "members" / "001.h5").touch()
    (model / "model.h5").unlink()
    jobs = [
        (rule, wildcards.get("member"))
        for rule, wildcards, needed in graph_of(folder)
        if needed and wildcards.get("iteration") == "000"
    ]
    assert sorted(job for job in jobs if job[0] == "train_member") == [("train_member", "000"), ("train_member", "002")]
    assert {rule for rule, _ in jobs} == {"train_member", "train_model", "evaluate_model", "assess_iteration"}
    outcome = folder.run("--dag", "--quiet")
    assert outcome.code == 0
    names = dict(re.findall(r'(\d+)\[label = "(\w+)', outcome.text))
    edges = {(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", outcome.text)}
    assert ("train_member", "train_model") in edges and ("train_member", "train_member") not in edges


@pytest.mark.parametrize("state", ["fresh", "half_done", "finished"])
@pytest.mark.parametrize("option", ["-n", "--dag", "--rulegraph", "--summary"])
def test_looks(state, option, request, tmp_path):
    """Every look works in every state and changes nothing."""
    folder = request.getfixturevalue(state)
    before = {p: p.stat().st_mtime_ns for p in folder.path.rglob("*") if ".snakemake" not in p.parts}
    outcome = folder.run(option)
    assert outcome.code == 0, outcome.text[-2000:]
    expected = {"-n": "dry-run", "--dag": "digraph", "--rulegraph": "digraph", "--summary": "output_file"}[option]
    assert expected in outcome.text or (option == "-n" and state == "finished" and outcome.nothing_to_do)
    after = {p: p.stat().st_mtime_ns for p in folder.path.rglob("*") if ".snakemake" not in p.parts}
    assert after == before


@pytest.mark.parametrize(
    ("state", "absent"),
    [("fresh", "figures/learning_curve.svg"), ("half_done", "overview.html")],
)
def test_a_report_before_the_end_is_one_line(state, absent, request):
    """Not Snakemake's list of every file that is absent; and nothing is written. (Half done: figures of an earlier end.)"""
    folder = request.getfixturevalue(state)
    before = {p: p.stat().st_mtime_ns for p in folder.path.rglob("*") if ".snakemake" not in p.parts}
    outcome = folder.run("--report", "report.html")
    assert outcome.code == 1 and "Missing" not in outcome.text and "Error" not in outcome.text
    (line,) = outcome.lines
    assert line.startswith(f"Quarry: --report: results/toy/{absent} is not there; ")
    assert {p: p.stat().st_mtime_ns for p in folder.path.rglob("*") if ".snakemake" not in p.parts} == before


def test_a_report_of_a_campaign_that_goes_on_is_one_line(finished):
    """Its figures are of the end before; by the rules of that end it is made."""
    outcome = finished.run("--report", "report.html", "--config", "stop={max_iterations: 3}")
    assert outcome.code == 1
    (line,) = outcome.lines
    assert line.startswith("Quarry: --report: arm main goes on after iteration 2, and figures")
    assert not (finished.path / "report.html").exists()


@pytest.mark.parametrize("state", ["fresh", "half_done", "finished"])
def test_pictures_of_the_graph_change_nothing_of_the_campaign(state, request):
    """All that is new are the pictures and the log of their job."""
    folder = request.getfixturevalue(state)

    def files():
        found = (p for p in folder.path.rglob("*") if p.is_file() and ".snakemake" not in p.parts)
        return {p.relative_to(folder.path).as_posix(): p.read_bytes() for p in found}

    before = files()
    outcome = folder.run("dag_pictures")
    assert outcome.code == 0, outcome.text[-2000:]
    after = files()
    drawn = {f"results/toy/figures/dag_{name}.svg" for name in ("rules", "iteration")}
    assert drawn <= set(after) and {name for name in after if name not in before} <= {
        *drawn,
        "results/toy/logs/dag_pictures.log",
    }
    assert {name: after[name] for name in before if name not in drawn} == {
        name: data for name, data in before.items() if name not in drawn
    }
    assert "finished yet" not in outcome.text and "results in" not in outcome.text
    for name in drawn:
        (folder.path / name).unlink()


def test_tightened_and_loosened_stop(finished, tmp_path):
    """Tightened: only new iterations, what is there stays. Loosened: nothing runs."""
    folder = finished.copy(tmp_path / "stop")
    calls, before = len(folder.calls()), folder.products()
    assert not [line for line in folder.run("-n").lines if "arm main" in line], "the same rules need no word"
    for look in ([], ["-n"]):
        outcome = folder.run(*look, "--config", "stop={max_iterations: 1}")
        assert outcome.nothing_to_do
        (line,) = [line for line in outcome.lines if "arm main" in line]
        assert line.startswith("Quarry: arm main stays ended: the budget of max_iterations = 1 is spent")
        assert "(in its history: the budget of max_iterations = 2 is spent" in line
    outcome = folder.run("--config", "stop={max_iterations: 3}")
    assert outcome.code == 0, outcome.text[-2000:]
    (line, _) = [line for line in outcome.lines if "arm main" in line]
    assert line.startswith("Quarry: arm main had ended (the budget of max_iterations = 2 is spent")
    assert line.endswith("; no stop rule ends it there now, so it goes on")
    assert len(folder.calls()) == calls + 3
    after = folder.products()
    assert all(after[name] == data for name, data in before.items() if "/iter_" in name)
    assert "max_iterations = 3" in (folder.results / "history.csv").read_text().splitlines()[-1]


def test_a_loosened_rule_that_holds_only_at_an_earlier_iteration_runs_nothing(finished):
    """RMSE and rRMSE rise and fall: the last iteration alone does not tell whether a looser rule has held."""
    with open(finished.results / "history.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    change = [float(row["rrmse"]) for row in rows]
    earlier = min(change[1:-1])
    rule = {"rrmse": round(earlier + 1e-3, 4), "patience": 1, "max_iterations": "null", "max_labels": 1000}
    # The smallest of test sets cannot show that anything was learnt.
    rule["min_r2"] = "null"
    if change[-1] < earlier:
        pytest.fail("the campaign of this test must have a larger rRMSE at the end than before")
    text = "stop={" + ", ".join(f"{key}: {value}" for key, value in rule.items()) + "}"
    assert finished.run("-n", "--config", text).nothing_to_do


def test_nothing_is_labelled_again_after_edits(finished, tmp_path):
    """Touched, reformatted and changed scripts, a reordered campaign file, a touched pool: no job at all."""
    copy = tmp_path / "checkout"
    parts = ("Snakefile", "rules", "workflow_scripts", "report", "envs", "profiles", "config")
    subprocess.run(["cp", "-a", *(str(REPOSITORY / part) for part in parts), "."], cwd=_made(copy), check=True)
    folder = finished.copy(tmp_path / "campaign")
    run = [
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        str(copy / "Snakefile"),
        "--configfile",
        "campaign.yaml",
        "-c1",
        "-n",
    ]
    for script in (copy / "workflow_scripts").glob("*.py"):
        script.write_text(script.read_text() + "\n\n# another comment\n")
    label = copy / "rules" / "label.smk"
    label.write_text(label.read_text().replace("labelling", "now labelling"))
    configuration = yaml.safe_load((folder.path / "campaign.yaml").read_text())
    reordered = dict(
        reversed([(k, dict(reversed(v.items())) if isinstance(v, dict) else v) for k, v in configuration.items()])
    )
    (folder.path / "campaign.yaml").write_text(
        "# reordered\n" + yaml.safe_dump(reordered, sort_keys=False, default_flow_style=True)
    )
    for _ in range(2):
        process = subprocess.run(run, cwd=folder.path, env=folder.env(), capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr[-2000:]
        assert "Nothing to be done" in process.stdout + process.stderr
        (folder.path / "pool.extxyz").touch()


def _made(path):
    path.mkdir(parents=True)
    return path


HEAVY = ("torch", "pyscf", "ase", "sklearn", "pandas")


def test_what_the_snakefile_imports_is_light(finished):
    """Every job re-reads the Snakefile, so nothing heavy may be imported there."""
    program = f"""
import sys
sys.argv = ["snakemake"]
import quarry.campaign.campaign, quarry.campaign.closing, quarry.campaign.paths
heavy = [name for name in {HEAVY!r} if name in sys.modules]
sys.exit(f"imported at parse time: {{heavy}}" if heavy else 0)
"""
    path = str(REPOSITORY / "workflow_scripts")
    process = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": path, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
