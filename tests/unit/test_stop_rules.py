"""The rule that nothing informative is left, and rules of the user's own."""

from __future__ import annotations

import sys

import pytest

from quarry.config import load_configuration
from quarry.config.learning import Uninformative
from quarry.errors import QuarryError
from quarry.stopping.own_rules import own_rules
from quarry.stopping.progress import Progress, Query
from quarry.stopping.rules import stop_reason
from support.campaigns import stand_in_configuration
from support.progress import configuration, cost, query, series


class TestUninformative:
    """The rule looks at what the query said of the candidates, not at errors."""

    def after(self, queries, **rule):
        conf = configuration(uninformative={"std": 0.1}, max_iterations=99)
        changed = Uninformative.model_validate({"std": 0.1, **rule})
        conf = conf.model_copy(update={"stop": conf.stop.model_copy(update={"uninformative": changed})})
        history = series([1.0] * len(queries))
        reason = stop_reason(Progress(history, [cost()] * len(queries), conf, queries))
        return reason.words if reason else None

    def test_two_batches_of_sure_candidates_end_the_arm(self):
        assert self.after([None, query(1.0), query(0.12)]) is None
        assert self.after([None, query(0.12), query(1.0), query(0.12)]) is None, "not in a row"
        words = self.after([None, query(1.0), query(0.12), query(0.11)])
        assert words.startswith(
            "nothing informative was left to choose from: the 95 % quantile of the candidates' standard deviations 0.088 is "
            "below 0.1 eV, 2 iterations in a row"
        )

    def test_what_must_be_below_is_a_setting(self):
        one = [None, query(0.12)]
        assert self.after(one, patience=1) is not None
        assert self.after(one, patience=1, of="max") is None
        assert self.after([None, query(0.09)], patience=1, of="max") is not None
        assert self.after([None, query(0.24)], patience=1, of="median") is not None

    def test_a_threshold_has_its_unit(self):
        assert self.after([None, query(0.12)], patience=1, std="90 meV") is None
        assert self.after([None, query(0.12)], patience=1, std="100 meV") is not None

    def test_candidates_that_the_model_cannot_judge_are_not_sure(self):
        assert self.after([None, query(0.12, unfamiliar=10)], patience=1) is not None
        assert self.after([None, query(0.12, unfamiliar=11)], patience=1) is None
        assert self.after([None, query(0.09, unfamiliar=1)], patience=1, of="max") is None

    def test_without_a_query_nobody_knows(self):
        """Iteration 0, a batch of retries, one that an earlier version chose, a strategy that asked for no uncertainty."""
        for unknown in (None, query()):
            assert self.after([unknown, unknown, unknown]) is None
            assert self.after([None, query(0.12), unknown]) is None

    def test_a_strategy_that_looks_at_no_uncertainty_is_refused(self):
        changes = {"query": {"strategy": "random", "initial": 3, "batch": {"schedule": "constant", "size": 3}}}
        settings = stand_in_configuration(stop={"uninformative": {"std": 0.1}}, **changes)
        with pytest.raises(QuarryError, match=r"stop\.uninformative: query\.strategy: random does not look"):
            load_configuration(settings, "campaign.yaml")
        for std in ("1 parsec", -0.1):
            with pytest.raises(QuarryError, match=r"stop\.uninformative\.std"):
                configuration(uninformative={"std": std})

    @staticmethod
    def told(batch, above, unfamiliar=0, by="median"):
        """A query whose batch and candidates are so informative."""
        chosen = [{"structure_id": str(n), f"informativeness_by_{by}": value} for n, value in enumerate(batch)]
        return Query(
            "oed_energy", 200, unfamiliar, chosen, {f"informativeness_by_{by}": {"max": 9.0, "above_1": above}}
        )

    def test_a_batch_that_tells_the_model_little_ends_the_arm(self):
        rule = {"std": None, "informativeness": 1.0}
        little, much = self.told([1.5, 0.3], 0.5), self.told([1.5, 0.6], 0.5)
        assert self.after([None, little, much], **rule) is None
        assert self.after([None, much, little], **rule) is None
        assert self.after([None, little, little], **rule) == (
            "nothing informative was left to choose from: the batch's mean informativeness (by the median of the training set) "
            "0.9 is below 1, 2 iterations in a row; the model's RMSE is 1 eV"
        )
        assert self.after([None, little, little], **rule, threshold="mean") is None
        assert self.after([None, self.told([0.3], 0.5, by="mean")], **rule, threshold="mean", patience=1)
        unknown = self.told([0.3], 0.5, unfamiliar=1)
        unknown.chosen.insert(0, {"structure_id": "strange"})
        assert self.after([None, unknown], **rule, patience=1) is None

    def test_few_candidates_that_tell_it_something_end_the_arm(self):
        rule = {"std": None, "share_informative": 0.05, "patience": 1}
        assert self.after([None, self.told([2.0], 0.05)], **rule) is None
        assert self.after([None, self.told([2.0], 0.04)], **rule) == (
            "nothing informative was left to choose from: the share of candidates above the median of the training set 0.04 is "
            "below 0.05; the model's RMSE is 1 eV"
        )
        assert self.after([None, self.told([2.0], 0.04, unfamiliar=3)], **rule) is None
        assert self.after([None, self.told([0.5], 0.5)], **rule, informativeness=1.0) is not None, (
            "one of them is enough"
        )
        assert self.after([None, query(0.01)], **rule) is None

    def test_a_batch_without_a_structure_ends_the_arm(self):
        """All candidates were left out (query.min_informativeness), whatever the section stop says."""
        none = Query("oed_energy", 200, 0, uninformative=200)
        words = self.after([None, none])
        assert words.startswith("nothing informative was left to choose from: none of 200 candidates has")
        some = Query("oed_energy", 200, 0, [{"structure_id": "one"}], uninformative=199)
        assert self.after([None, some]) is None and self.after([None, query()]) is None

    def test_limits_that_nobody_could_meet_are_refused(self):
        for limit in ({"informativeness": 1.0}, {"share_informative": 0.05}):
            with pytest.raises(
                QuarryError, match=rf"stop\.uninformative\.{next(iter(limit))}: query\.strategy: .* does not ask"
            ):
                load_configuration(stand_in_configuration(stop={"uninformative": limit}), "campaign.yaml")
        with pytest.raises(QuarryError, match=r"stop\.uninformative.*set at least one of std, informativeness"):
            load_configuration(stand_in_configuration(stop={"uninformative": {}}), "campaign.yaml")

    def test_a_query_is_read_as_it_was_written(self, tmp_path):
        path = tmp_path / "query.json"
        assert Query.read(path) is None
        written = query(0.1, chosen=[{"structure_id": "a", "std": 0.09}], thresholds={"share": 0.5})
        written.write(path)
        assert Query.read(path) == written
        path.write_text(path.read_text().replace("200", "201"))
        with pytest.raises(ValueError, match="damaged query"):
            Query.read(path)


class TestOwnRules:
    MODULE = """
def few_new(progress, at_most):
    new = progress.last.n_train - (progress.facts[-2].n_train if len(progress.facts) > 1 else 0)
    return f"only {new} structures  were new" if new <= at_most else None

class Sure:
    def __init__(self, std=0.1):
        self.std = std

    def __call__(self, progress):
        query = progress.query(progress.last.iteration)
        return "sure" if query and query.distributions["std"]["max"] < self.std else None

def fails(progress):
    return 1 / 0

def number(progress):
    return 3
"""

    @pytest.fixture
    def made(self, tmp_path):
        """Return a function that makes rules of a module in the campaign file's folder."""
        (tmp_path / "rules_of_a_test.py").write_text(self.MODULE)

        def make(*rules, **stop):
            named = [{"rule": f"rules_of_a_test:{rule}", "arguments": arguments} for rule, arguments in rules]
            conf = configuration(rules=named, **stop)
            return conf, own_rules(conf, tmp_path)

        yield make
        sys.modules.pop("rules_of_a_test", None)
        sys.path[:] = [folder for folder in sys.path if folder != str(tmp_path.resolve())]

    def test_functions_and_classes_are_asked(self, made):
        conf, rules = made(("few_new", {"at_most": 50}), ("Sure", {}))
        history = series([1.0, 0.5])
        reason = stop_reason(Progress(history, [cost()] * 2, conf, [None, query(1.0)]), rules)
        assert reason.rule == "rules_of_a_test:few_new" and reason.words.startswith("only 50 structures were new")
        conf, rules = made(("few_new", {"at_most": 49}), ("Sure", {"std": 0.2}))
        assert stop_reason(Progress(history, [cost()] * 2, conf, [None, query(0.3)]), rules) is None
        reason = stop_reason(Progress(history, [cost()] * 2, conf, [None, query(0.1)]), rules)
        assert reason.rule == "rules_of_a_test:Sure"

    def test_they_are_asked_before_the_budgets(self, made):
        conf, rules = made(("few_new", {"at_most": 50}), max_iterations=1)
        reason = stop_reason(Progress(series([1.0, 0.5]), [cost()] * 2, conf), rules)
        assert reason.rule == "rules_of_a_test:few_new"

    @pytest.mark.parametrize(
        ("rule", "arguments", "words"),
        [
            ("few_nev", {}, r"stop.rules\[0\]: cannot import 'rules_of_a_test:few_nev'.*did you mean"),
            ("few_new", {}, r"stop.rules\[0\].arguments: rules_of_a_test:few_new needs the argument 'at_most'"),
            ("Sure", {"sdt": 1.0}, r"stop.rules\[0\].arguments: .*did you mean 'std'"),
        ],
    )
    def test_what_cannot_be_used_is_one_line(self, made, rule, arguments, words):
        with pytest.raises(QuarryError, match=words) as caught:
            made((rule, arguments))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("rule", "words"), [("fails", "failed .*division by zero"), ("number", "must return why.*int")]
    )
    def test_what_fails_is_one_line(self, made, rule, words):
        conf, rules = made((rule, {}))
        with pytest.raises(QuarryError, match=words):
            stop_reason(Progress(series([1.0]), [cost()], conf), rules)
