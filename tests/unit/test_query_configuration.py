"""Which strategy fits which model, target and search: every mistake is one line that names those that fit."""

from __future__ import annotations

from typing import Any

import pytest

from quarry.config import load_configuration
from quarry.config.models import Gpr, Kreg, Mlp
from quarry.config.query import STRATEGIES
from quarry.errors import QuarryError
from support.configurations import WIGNER, changed

MLP = {"kind": "mlp"}
COMMITTEE = {"kind": "mlp", "uncertainty": "committee", "members": 3}
DROPOUT = {"kind": "mlp", "uncertainty": "mc_dropout"}
SEARCH = {"minimum": "-5.55 eV"}
CLASSES = {"property": "homo", "boundaries": [-5.5], "names": ["low", "high"]}

ALWAYS = {"random", "sequence", "clusters", "max_min"}
BATCHES = {"lcmd", "k_means_plus_plus", "maxdet", "bait"}
BY_STD = {"uncertainty", "uncertainty_clusters", "uncertainty_max_min"}
BY_MEAN, BY_BOTH = {"property_search", "greedy_mean"}, {"probability_in_range", "expected_gain"}

FITTING = [
    ({}, ALWAYS | BATCHES | BY_STD),
    ({"search": SEARCH}, ALWAYS | BATCHES | BY_STD | BY_MEAN | BY_BOTH),
    ({"model": MLP}, ALWAYS | BATCHES),
    ({"model": MLP, "search": SEARCH}, ALWAYS | BATCHES | BY_MEAN),
    ({"model": COMMITTEE}, ALWAYS | BATCHES | BY_STD),
    ({"model": DROPOUT, "search": SEARCH}, ALWAYS | BATCHES | BY_STD | BY_MEAN | BY_BOTH),
    ({"model": MLP, "target": "class", "classification": CLASSES}, ALWAYS | BATCHES | {"predictive_entropy"}),
    (
        {"model": COMMITTEE, "target": "class", "classification": CLASSES},
        ALWAYS | BATCHES | {"predictive_entropy", "vote_entropy"},
    ),
]


def load(**changes: Any):
    fields = {"target": "homo", "query.strategy": "random", "stop": {"max_iterations": 3}, **changes}
    return load_configuration(changed(WIGNER, fields), "mine.yaml")


def accepted(strategy: str, **changes: Any) -> bool:
    try:
        load(**{**changes, "query.strategy": strategy})
    except QuarryError as error:
        text = str(error)
        assert text.startswith(f"mine.yaml: query.strategy: {strategy} ") and "\n" not in text
        return False
    return True


@pytest.mark.parametrize(("changes", "fitting"), FITTING)
def test_a_strategy_is_taken_exactly_where_it_fits(changes, fitting):
    assert {name for name in STRATEGIES if accepted(name, **changes)} == fitting


@pytest.mark.parametrize(("changes", "fitting"), FITTING)
def test_the_message_names_those_that_fit(changes, fitting):
    misfit = next(name for name in STRATEGIES if name not in fitting)
    with pytest.raises(QuarryError) as caught:
        load(**{**changes, "query.strategy": misfit})
    named = str(caught.value).partition("these fit: ")[2]
    assert set(named.split(", ")) == fitting


MISTAKES: list[tuple[dict[str, Any], str]] = [
    (
        {"query.strategy": "lcdm"},
        "query.strategy: 'lcdm' is not one of 'random', 'sequence', 'uncertainty', .* nor an import path",
    ),
    ({"query.strategy": "property_search"}, "property_search needs the range to search; set search.minimum or"),
    ({"query.strategy": "greedy_mean", "search": None}, "greedy_mean needs the range to search"),
    (
        {"query.strategy": "uncertainty", "model": MLP},
        "uncertainty needs a model that predicts uncertainties; set model.uncertainty: committee or mc_dropout",
    ),
    (
        {"query.strategy": "vote_entropy", "model": DROPOUT, "target": "class", "classification": CLASSES},
        r"needs the votes of a committee \(model.uncertainty: mc_dropout\); set model.uncertainty: committee",
    ),
    ({"query.strategy": "vote_entropy"}, r"needs classes as target .* \(here target: homo, model.kind: gpr\)"),
    (
        {"query.strategy": "uncertainty", "model": COMMITTEE, "target": "class", "classification": CLASSES},
        "uncertainty needs a number as target, not classes",
    ),
    (
        {"query": {"strategy": "lcmd", "embedding": "gradient"}},
        "cannot use the embedding gradient: model.kind: gpr has kernel",
    ),
    (
        {"query": {"strategy": "bait", "embedding": "kernel"}, "model": MLP},
        "cannot use the embedding kernel: model.kind: mlp has gradient, last_layer",
    ),
    ({"query": {"strategy": "max_min", "distance": "last_layer"}}, "max_min cannot use the embedding last_layer"),
    ({"query": {"strategy": "max_min", "distance": "metres"}}, "query.distance: 'metres' is not one of 'features'"),
    ({"query": {"strategy": "random", "share": 0.3}}, "query.share: the strategy random has no such setting"),
    ({"query": {"strategy": "max_min", "embedding": "kernel"}}, "query.embedding: the strategy max_min has no such"),
    ({"query": {"strategy": "lcmd", "arguments": {"a": 1}}}, "query.arguments: the strategy lcmd has no such setting"),
    ({"query": {"strategy": "uncertainty_clusters", "share": 0.0}}, "query.share: .*greater than 0"),
    ({"query": {"strategy": "uncertainty_clusters", "share": 1.5}}, "query.share: .*less than or equal to 1"),
    ({"query": {"strategy": "a:B", "arguments": {"a": float("inf")}}}, "query.arguments: .*only plain values"),
    (
        {"arms": {"a": {"query": {"strategy": "expected_gain"}}}},
        "mine.yaml: arms.a.query.strategy: expected_gain needs",
    ),
    (
        {"arms": {"a": {"model": MLP}}, "query.strategy": "uncertainty"},
        "arms.a.query.strategy: uncertainty needs a model",
    ),
    ({"arms": {"a": {"query": {"share": 0.2}}}}, "arms.a.query.share: the strategy random has no such setting"),
]


@pytest.mark.parametrize(("changes", "words"), MISTAKES)
def test_mistakes_are_one_line(changes, words):
    if "query" in changes:
        section = {**WIGNER["query"], **changes["query"]}
        changes = {**changes, "query": section, "query.strategy": section["strategy"]}
    with pytest.raises(QuarryError, match=words) as caught:
        load(**changes)
    assert "\n" not in str(caught.value)


def test_another_strategy_of_an_arm_leaves_the_settings_of_the_first_behind():
    configuration = load(
        **{"query.strategy": "uncertainty_clusters", "query.share": 0.2},
        arms={
            "a": {"query": {"strategy": "random"}},
            "b": {"query": {"share": 0.3}},
            "c": {"query": {"strategy": "uncertainty_max_min", "distance": "kernel"}},
        },
    )
    share = {name: configuration.arm(name).query.share for name in configuration.arm_names}
    assert share == {"main": 0.2, "a": None, "b": 0.3, "c": None}
    assert configuration.arm("c").query.distance == "kernel"


def test_scores_are_made_where_the_model_is_asked():
    def needs(strategy: str, **options: Any) -> bool:
        query = {**WIGNER["query"], "strategy": strategy, **options}
        return load(**{"query": query, "query.strategy": strategy}, search=SEARCH).query.needs_scores

    names = set(STRATEGIES) - {"vote_entropy", "predictive_entropy", "oed_energy", "oed_forces", "oed_total"}
    assert {name for name in names if needs(name)} == names - ALWAYS
    assert needs("max_min", distance="kernel") and not needs("max_min", distance="features")
    assert needs("package.module:Name", arguments={"a": [1, 2]})


def test_the_embedding_that_is_best_in_the_published_tables_is_the_default():
    configuration = load(**{"query.strategy": "lcmd"}, arms={"net": {"model": MLP}})
    kinds = {
        name: arm.query.embedding_of(arm.model.traits) for name in ("main", "net") if (arm := configuration.arm(name))
    }
    assert kinds == {"main": "kernel", "net": "gradient"}
    assert all(
        made.traits.feature_maps[0] in ("kernel", "gradient") for made in (Gpr(), Mlp(kind="mlp"), Kreg(kind="kreg"))
    )
