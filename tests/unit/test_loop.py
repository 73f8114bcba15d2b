"""The table of rules: what it says of files and receipts (tests/dag compares it with Snakemake's graph)."""

from quarry.campaign.closing import _shown
from quarry.campaign.loop import LOOP, RULES, ArmPlan, Place, files_in, outputs_of, product_of, rule_of, stages_of
from quarry.campaign.paths import CampaignPaths, receipts_folder


def test_the_receipt_of_a_rule_lies_in_its_folder():
    """Whatever the order of its files, and wherever in an iteration they lie."""
    paths = CampaignPaths("toy")
    folders = {
        Place.POOL: "results/toy/pool",
        Place.ITERATION: "results/toy/main/iter_002",
        Place.ARM: "results/toy/main",
        Place.CAMPAIGN: "results/toy",
        Place.FIGURES: "results/toy/figures",
    }
    for rule, stage in RULES.items():
        outputs = list(paths.outputs(rule, "main", 2).values())
        for files in (outputs, outputs[::-1]) if outputs else ():
            assert str(receipts_folder(files)) == f"{folders[stage.place]}/receipts", rule


def test_what_an_iteration_has():
    everything = stages_of(ArmPlan(scored=True, members=2, sampled=True, explorations=2))
    assert [stage.rule for stage in everything] == [stage.rule for stage in LOOP]
    first = [stage.rule for stage in stages_of(ArmPlan(scored=True, proposed=False, sampled=True, explorations=2))]
    assert first == [
        r.rule
        for r in LOOP
        if r.rule not in ("explore", "sample_candidates", "score_pool", "propose_batch", "train_member")
    ]
    assert stages_of(ArmPlan())[0].rule == "propose_batch"


def test_files_of_receipts():
    assert outputs_of("explore_001") == ["trajectories/001.h5"]
    assert outputs_of("train_member_012") == ["model/members/012.h5"]
    assert outputs_of("merge_labels") == ["dataset.h5", "failures.csv", "outliers.csv", "audit.csv"]
    assert outputs_of("merge_labels_3") == outputs_of("no_rule") == []
    assert "structures.h5" in files_in(Place.POOL) and "features.h5" in files_in(Place.POOL)


def test_files_of_one_folder_are_shown_together():
    made = product_of("publish_results") + product_of("publish_spectrum")
    assert _shown(made) == [*product_of("publish_results"), "ensemble.h5", "cross-section/"]


def test_a_rule_is_known_under_the_name_that_a_module_gives_it():
    """By name and files: receipts of a module are those of the rules."""
    paths = CampaignPaths("toy", "labelling/results/toy")
    for rule, stage in RULES.items():
        part = "002" if stage.part else ""
        outputs = [path.format(**{stage.part: part}) for path in paths.outputs(rule, "main", 2).values()]
        for name in (rule, f"quarry_{rule}", f"{rule}_of_water", f"train_model_{rule}"):
            if outputs:
                assert rule_of(name, outputs, part) == rule, name
    assert rule_of("quarry_choose_probes", list(paths.outputs("select_batch", "forecast", 0).values())) not in RULES
    assert rule_of("my_rule", ["results/toy/main/iter_002/facts.json"]) == "my_rule"


def test_benchmarks_are_named_as_receipts():
    """So that a start finds the file whose time is among those of a job's outputs."""
    paths = CampaignPaths("toy")
    for rule, stage in RULES.items():
        if not stage.resources:
            assert not stage.benchmark
            continue
        files = list(paths.outputs(rule, "main", 2).values())
        benchmark = paths.benchmark(rule, "main", 2)
        assert benchmark.startswith(f"{receipts_folder(files).parent}/benchmarks/{rule}") and benchmark.endswith(".tsv")
