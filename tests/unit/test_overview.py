"""The overview: its findings, pictures, citations and page."""

import base64
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from quarry.campaign.paths import CampaignPaths
from quarry.campaign.receipts import write_receipt
from quarry.config.base import Section as Configured
from quarry.config.dynamics import Bias, Explore
from quarry.config.gmnn import Gmnn
from quarry.config.loading import load_configuration
from quarry.config.query import STRATEGIES
from quarry.labeling.audit.findings import Finding as AuditFinding
from quarry.reporting import overview_plots as plots
from quarry.reporting.page import Figure, Finding, Page, Section, Table, Tile
from quarry.reporting.plots import STYLE, draw_bands
from quarry.stages.overview.files import EXPLORING, LABELS, POOL, Campaign
from quarry.stages.overview.files import TRAINING as MODELS
from quarry.stages.overview.findings import Evidence, findings_of
from quarry.stages.overview.front import asked
from quarry.stages.overview.methods import ALWAYS, bibtex, citations, level_of_theory, paragraph, references
from quarry.stopping.facts import Cost
from support.campaigns import stand_in_configuration
from support.progress import configuration, facts

METHOD = {"xc": "b3lyp", "basis": "6-31g*"}


def evidence(errors=None, ended="rrmse", **changes):
    """Evidence of a campaign about which there is nothing to say but that no random arm ran."""
    good = {"rmse": 0.01, "rmse_low": 0.009, "rmse_high": 0.011, "n": 100, "rmse_over_std": 0.05, "coverage_95": 0.95}
    last = facts(3, errors={"test": {**good, "rmse_over_std_high": 0.06, **(errors or {})}})
    return replace(Evidence(configuration(rrmse=0.1), [last], ended), **changes)


def about(evidence):
    return {finding.what: finding for finding in findings_of(evidence)}


def test_nothing_to_say_but_that_no_random_arm_ran():
    found = findings_of(evidence())
    assert [(finding.severity, finding.what) for finding in found] == [
        ("note", "Nothing says whether labels were saved")
    ]
    assert "control: {seeds: [0, 1, 2]}" in found[0].remedy


@pytest.mark.parametrize(
    ("errors", "said", "severity"),
    [
        ({"rmse_high": None}, "The RMSE is not well known", "warning"),
        ({"rmse_low": 0.004, "rmse_high": 0.02}, "The RMSE is not well known", "warning"),
        ({"rmse_over_std": 0.9, "rmse_over_std_high": 1.2}, "no better than the mean", "error"),
        ({"coverage_95": 0.80}, "uncertainties are too small", "warning"),
        ({"coverage_95": 1.0, "n": 400}, "uncertainties are too large", "note"),
    ],
)
def test_what_errors_show(errors, said, severity):
    found = [finding for what, finding in about(evidence(errors)).items() if said in what]
    assert len(found) == 1 and found[0].severity == severity and found[0].evidence and found[0].remedy


@pytest.mark.parametrize(("coverage", "n"), [(0.90, 10), (1.0, 10), (0.92, 100)])
def test_a_coverage_that_chance_explains_is_no_finding(coverage, n):
    assert not any("uncertainties" in what for what in about(evidence({"coverage_95": coverage, "n": n})))


@pytest.mark.parametrize(("before", "severity"), [(0.002, "warning"), (0.006, "note"), (0.0085, None), (0.02, None)])
def test_a_last_model_that_is_worse_than_an_earlier_one_is_told(before, severity):
    """Hydrogen fluoride, converged: 0.148 meV with 199 labels, 0.669 meV with 200 of them in the model that is published."""
    now = evidence()
    found = about(replace(now, facts=[facts(1, rmse=before), facts(2, rmse=0.5), *now.facts]))
    told = found.get("By the test set an earlier model was better than the last one, which is published")
    assert (told.severity if told else None) == severity
    if severity == "warning":
        assert "RMSE 10 meV (9 to 11) with 200 training labels; 2 meV (1.8 to 2.2) with 100" in told.evidence


def test_failures_audit_budget_cost_and_warnings():
    row = {"status": "out_of_memory", "retried": ""}
    rows = [dict(row), dict(row), {**row, "retried": "x"}]
    audit = [
        AuditFinding("a", "net_force", "error", 2.0, 0.1, "eV/Angstrom", "the net force is 2"),
        AuditFinding("", "copies", "note", 0, 0, "1", "fine"),
    ]
    last = facts(3, warnings=["hyperparameters at a bound", "1 of 9 structures carries 77 % of the squared error"])
    found = about(Evidence(configuration(rrmse=0.1), [last], "max_labels", rows, audit, None, 1.0, 3.0, (9, 9)))
    failed = found["2 labels failed: out of memory"]
    assert "resources.label.memory_MB" in failed.remedy and "snakemake retry_failed" in failed.remedy
    assert found["The audit of the labels: net force"].severity == "error"
    assert "A budget ended the campaign, not convergence" in found
    cost = found["The models cost more than the labels"].evidence
    assert cost == "3 core-hours for models, 1 for 9 labels; 9 more were there already"
    assert found["Said by the last iteration"].evidence == "hyperparameters at a bound"
    assert findings_of(Evidence(configuration(rrmse=0.1), [last], "max_labels", rows, audit))[0].severity == "error"


def test_a_hessian_and_trajectories_are_no_cost_of_models(tmp_path):
    """Parts of the core-hours add up to those of the history."""
    paths, hour = CampaignPaths("toy", str(tmp_path)), {"wall_s": 3600.0, "threads": 1}
    last = facts(0)
    last.write(paths.facts("main", 0))
    Cost(3, 1, 0, 2.0, 2.0, 9.5, 1.0).write(paths.cost("main", 0))
    hessian = Path(paths.pool) / "receipts" / "compute_normal_modes.json"
    write_receipt(hessian, "compute_normal_modes", [], {**hour, "wall_s": 18000.0})
    for rule in ("train_model", "evaluate_model", "explore", "merge_labels"):
        write_receipt(Path(paths.iteration("receipts", "main", 0)) / f"{rule}.json", rule, [], hour)
    campaign = Campaign(configuration(rrmse=0.1), paths, ("", ""))
    assert campaign.spent == pytest.approx({LABELS: 2.0, EXPLORING: 1.0, POOL: 5.0, MODELS: 3.5})
    assert sum(campaign.spent.values()) == pytest.approx(2.0 + 9.5)
    assert campaign.hours[POOL] == [5.0] and campaign.hours["the rest"] == [1.0]


@pytest.mark.parametrize(("counts", "said"), [((9, 0), True), ((9, 20), False), ((0, 9), False)])
def test_labels_that_were_there_already_are_not_called_cheap(counts, said):
    found = about(evidence(label_hours=1.0, model_hours=3.0, counts=counts))
    assert ("The models cost more than the labels" in found) == said


WEAK = "The uncertainty that chooses structures hardly says which ones the model is wrong about"


@pytest.mark.parametrize(
    ("rank", "n", "query", "said"),
    [
        (0.05, 100, {"strategy": "uncertainty"}, True),
        # 0.1 +- 0.2 may be 0.3; of 100 structures it may not.
        (0.1, 80, {"strategy": "uncertainty"}, False),
        (0.9, 100, {"strategy": "uncertainty"}, False),
        (0.05, 100, {"strategy": "random"}, False),
        (0.0, 8, {"strategy": "uncertainty"}, False),
        (-1.0, 11, {"strategy": "uncertainty"}, True),
    ],
)
def test_an_uncertainty_that_ranks_nothing_is_said_where_it_chooses(rank, n, query, said):
    query |= {"initial": 5, "batch": {"schedule": "constant", "size": 2}}
    settings = load_configuration(stand_in_configuration(query=query, stop={"rrmse": 0.1}), "campaign.yaml")
    found = about(evidence({"rank_correlation": rank, "n": n}, configuration=settings))
    assert (WEAK in found) == said
    if said and n == 100:
        assert "0.05 (-0.15 to 0.24, 95 %) over 100" in found[WEAK].evidence


def test_of_trajectories_the_uncertainty_that_ends_them_counts():
    """The default campaign of dynamics, and one that looks at forces."""
    pool, ranks = (
        {"source": "dynamics", "molecule": "h2.xyz"},
        {"rank_correlation": 0.9, "forces_rank_correlation": 0.0},
    )
    for uncertainty, said in (("energy", False), ("forces", True)):
        given = {
            "name": "h2",
            "pool": {**pool, "explore": {"uncertainty": uncertainty}},
            "labeling": {"engine": "pyscf"},
        }
        settings = load_configuration({**given, "labeling": {**given["labeling"], "method": METHOD}}, "campaign.yaml")
        assert (WEAK in about(evidence(ranks, configuration=settings))) == said


@pytest.mark.parametrize(
    ("verdict", "said"),
    [("wasted", "Labels were wasted"), ("none", "No labels were shown to be saved"), ("saved", None)],
)
def test_verdicts(verdict, said):
    settings = load_configuration(
        stand_in_configuration(control={"seeds": [0, 1, 2]}, stop={"rrmse": 0.1}), "campaign.yaml"
    )
    savings = {"columns": [{"verdict": verdict}], "words": ["12 labels"]}
    found = about(evidence(configuration=settings, savings=savings))
    assert set(found) == ({said} if said else set())


def test_map_is_that_of_principal_components():
    pool = np.random.default_rng(0).normal(size=(50, 6)) * np.array([5.0, 2.0, 1.0, 1.0, 0.5, 0.1])
    there, chosen, shares = plots.principal_map(pool, pool[:7])
    reference = PCA(2, svd_solver="full").fit(pool)
    assert np.abs(there) == pytest.approx(np.abs(reference.transform(pool)))
    assert shares == pytest.approx(tuple(reference.explained_variance_ratio_))
    assert chosen == pytest.approx(there[:7])
    line, _, shares = plots.principal_map(np.arange(5.0)[:, None], np.zeros((1, 1)))
    assert line[:, 1] == pytest.approx(0.0) and shares == pytest.approx((1.0, 0.0))


def test_running_at_once_counts_jobs():
    rng = np.random.default_rng(1)
    runs = [plots.Run(begin, begin + length, 0) for begin, length in rng.uniform(size=(40, 2))]
    points = np.linspace(-0.1, 2.1, 60)
    expected = [sum(run.begin <= point < run.end for run in runs) for point in points]
    assert plots.running_at_once(runs, points).tolist() == expected


def test_bands_leave_the_axes_their_room():
    """Without intervals, without open ends and with lower ends of zero: invisible lines made the layout press the axes flat."""
    for low, high in (([np.nan] * 3, [np.nan] * 3), ([0.0, 0.5, np.nan], [2.0, 1.0, np.nan]), ([0.5] * 3, [2.0] * 3)):
        with plt.rc_context(STYLE):
            figure, axis = plt.subplots(constrained_layout=True)
            table = pd.DataFrame({"n_train": [1, 2, 3], "rmse": [1.0, 0.8, 0.7], "rmse_low": low, "rmse_high": high})
            axis.plot(table["n_train"], table["rmse"])
            draw_bands(axis, {"main": table})
            axis.set_yscale("log")
            figure.canvas.draw()
            assert axis.get_position().height > 0.7
            plt.close(figure)


def sections_of(kind):
    for child in kind.__subclasses__():
        yield child
        yield from sections_of(child)


def test_every_citation_is_in_the_bibliography_and_every_entry_is_cited():
    declared = {name for kind in sections_of(Configured) for name in kind.cites}
    declared |= {name for traits in STRATEGIES.values() for name in traits.cites}
    dispersed = [
        load_configuration(
            stand_in_configuration(
                labeling={"engine": "pyscf", "method": {"xc": "pbe", "basis": "sto-3g", "dispersion": d}}
            ),
            "c",
        )
        for d in ("d3bj", "d4")
    ]
    declared |= {name for one in dispersed for name in citations(one)}
    asked = {
        "zaverkin2024bias": (Bias(), Bias(strength=0.0)),
        "lei2018conformal": (Explore(calibration="conformal"), Explore()),
        "kellner2024shallow": (Gmnn(kind="gmnn", uncertainty="shallow_ensemble"), Gmnn(kind="gmnn")),
    }
    for name, (with_it, without) in asked.items():
        assert name in with_it.citations() and name not in without.citations()
    declared |= set(asked)
    assert declared | set(ALWAYS) == set(references())
    assert {"grimme2011damping", "sun2020pyscf"} <= set(citations(dispersed[0]))
    for name, entry in references().items():
        assert re.fullmatch(r"@\w+\{" + name + r",\n(  .+\n)+\}", entry), entry


def test_methods_name_what_was_done():
    settings = configuration(rrmse=0.1)
    text = paragraph(
        settings, [facts(i) for i in range(4)], {"pyscf": "2.14.0", "quarry": "1"}, {}, "rRMSE 0.05 is below 0.1"
    )
    for words in (
        "pyscf 2.14.0",
        "1,000 structures",
        "3 further iterations",
        "210 structures",
        "rRMSE 0.05 is below 0.1",
        "seed",
    ):
        assert words in text, words
    assert "molder2021snakemake" in bibtex(settings)


def test_methods_name_the_method_of_a_calculator():
    """TBLite alone says no level of theory."""
    labeling = {"engine": "ase", "calculator": "tblite.ase:TBLite", "arguments": {"method": "GFN2-xTB", "verbosity": 0}}
    settings = load_configuration(
        {"name": "water", "pool": {"source": "dynamics", "molecule": "water.xyz"}, "labeling": labeling}, "here"
    )
    assert level_of_theory(settings, {}) == "ase: tblite.ase:TBLite, method GFN2-xTB"


def test_a_campaign_of_dynamics_says_where_its_structures_come_from():
    labeling = {"engine": "pyscf", "method": {"xc": "b3lyp", "basis": "6-31g*"}}
    pool = {"source": "dynamics", "molecule": "water.xyz"}
    settings = load_configuration({"name": "water", "pool": pool, "labeling": labeling}, "here")
    for one, found in ((settings, True), (configuration(rrmse=0.1), False)):
        campaign = SimpleNamespace(configuration=one, facts=[facts(0)], manifest={})
        assert ("trajectories of the model find" in asked(campaign)) is found
    seen = {"threshold": 0.00262, "unit": "eV", "trajectories": 100}
    begun = replace(facts(0), n_labels=98, n_train=49, phase="initial")
    grown = replace(facts(1), n_labels=141, phase="initial")
    explored = [replace(facts(i), n_labels=141 + i, phase="query", exploration=seen) for i in (2, 3)]
    text = paragraph(settings, [begun, grown, *explored], {}, {}, "")
    assert "pool of" not in text
    for words in (
        "98 geometries (drawn from the Wigner distribution at 500 K) were labelled first, 49 of them to learn from",
        "In 1 further iteration 43 more of the same were labelled and learnt, until they gained little",
        "In each of 2 further iterations 100 trajectories (nve, 300 K, 1000 fs in steps of 0.5 fs) ran on the last model; of",
        "uncertainty (energy) was beyond the threshold (0.00262 eV: median + 3 scaled median absolute deviations of the first "
        "model explored with on the test set, not below 1 meV/atom) was a candidate",
        "chose at most 50 of them",
    ):
        assert words in text, (words, text)
    assert "bias" not in text


def test_methods_name_a_bias_and_a_threshold_that_is_given():
    explore = {"ensemble": "langevin", "uncertainty": "forces", "calibration": "conformal", "bias": {"strength": 0.25}}
    pool = {"source": "dynamics", "molecule": "water.xyz", "explore": {**explore, "threshold": "1.5 eV/Angstrom"}}
    given = {"name": "water", "pool": pool, "labeling": {"engine": "pyscf", "method": METHOD}}
    settings = load_configuration(given, "here")
    last = replace(facts(1), phase="query", exploration={"threshold": 1.5, "unit": "eV/Angstrom"})
    text = paragraph(settings, [facts(0), last], {}, {}, "")
    assert "with a bias force along the gradient of its uncertainty (energy, 0.25 of its forces)" in text
    assert (
        "uncertainty (forces, as a conformal bound of the error) was beyond the threshold (1.5 eV/Angstrom) was" in text
    )


def test_traces_are_drawn_against_time(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.append(figure))
    plots.plot_traces({5: np.array([[0, 0.1, 0.2], [2000, 0.3, 0.2]])}, 0.5, 1.0, "eV", tmp_path / "t.svg")
    axis = figures[0].axes[0]
    assert axis.get_xlabel() == "time (fs)" and axis.lines[0].get_xdata().tolist() == [0.0, 1000.0]


def test_page_stands_by_itself_and_is_escaped(tmp_path):
    plots.plot_core_hours({"labels": [1.0, 2.0], "training": [0.5, 0.1]}, tmp_path / "c.svg")
    page = Page(
        "a <b> & c",
        "asked",
        "ended",
        "made",
        [Tile("labels", "12", "of 20")],
        [
            Section("Empty one"),
            Section(
                "Cost",
                figures=[Figure("hours", tmp_path / "c.svg", 'of "main"')],
                tables=[Table("t", ["x"], [["1 < 2"]])],
            ),
            Section("Issues found", findings=[Finding("error", "wrong", "because", "do")]),
        ],
    )
    page.write(tmp_path / "1.html")
    page.write(tmp_path / "2.html")
    text = (tmp_path / "1.html").read_text()
    assert text == (tmp_path / "2.html").read_text()
    assert "a &lt;b&gt; &amp; c" in text and "1 &lt; 2" in text and "Empty one" not in text
    assert not re.search(r"(src|href)=\"(?!data:|#)", text) and "http" not in text.replace("http-equiv", "")
    picture = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', text)
    root = ElementTree.fromstring(base64.b64decode(picture[1]))
    words = {"".join(node.itertext()) for node in root.iter() if node.tag.endswith("text")}
    assert {"core-hours", "iteration", "training"} <= words
