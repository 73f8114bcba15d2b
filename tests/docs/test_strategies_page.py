"""The page on strategies: its table is the program's, and its own strategy runs."""

import re

import numpy as np
import yaml

from quarry.config.query import STRATEGIES, Query
from quarry.query.base import PoolView
from quarry.query.strategies import chosen_by, make_strategy, needs_of
from support.campaigns import REPOSITORY

PAGE = REPOSITORY / "docs" / "strategies.md"
TEXT = PAGE.read_text()
ROWS = [row.split("|") for row in TEXT.partition("|---")[2].partition("\n\n")[0].splitlines()[1:]]


def test_the_table_has_every_strategy():
    assert [row[1].strip().strip("`") for row in ROWS] and {row[1].strip().strip("`") for row in ROWS} == set(
        STRATEGIES
    )


def test_what_the_table_says_a_strategy_needs_is_what_it_reads():
    message = {
        "std": "standard deviations",
        "range": "`search`",
        "embedding": "embedding",
        "votes": "committee",
        "probabilities": "classes",
        "informativeness_energy": "what an energy would tell",
        "informativeness_forces": "what forces would tell",
    }
    for row in ROWS:
        traits = STRATEGIES[row[1].strip().strip("`")]
        named = {field for field, word in message.items() if word in row[4]}
        if "distance" in traits.options:
            named.discard("embedding")
        assert named - {"probabilities"} == set(traits.reads) - {"mean", "probabilities"}, row[1]
        assert ("classes" in row[4]) == bool({"votes", "probabilities"} & set(traits.reads)), row[1]


def test_the_user_defined_strategy_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    code, section = (re.search(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)[1] for kind in ("python", "yaml"))
    name = re.match(r"# (\w+\.py)\n", code)[1]
    (tmp_path / name).write_text(code)
    query = Query.model_validate(yaml.safe_load(section)["query"])
    strategy = make_strategy(query, tmp_path)
    assert needs_of(query, strategy) == {"mean"}
    features = np.array([[0.0], [0.2], [3.0], [4.0], [5.0]])
    pool = PoolView(features, mean=np.array([0.0, 1.0, 3.0, 2.0, 4.0]), labelled=np.array([[0.1]]))
    assert chosen_by(strategy, query.strategy, pool, 4, np.random.default_rng(0)).tolist() == [3, 2, 4, 0]


def test_linked_files_exist():
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert targets and all((PAGE.parent / target).exists() for target in targets)
