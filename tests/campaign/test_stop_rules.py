"""A stop rule of the user's own, and the rule that nothing informative is left, through the whole loop."""

import pytest

from quarry.stopping.progress import Query
from support.campaigns import CampaignFolder, stand_in_configuration

RULES = '''"""Ends a campaign when the model was sure of what it chose."""


class Sure:
    def __init__(self, std):
        self.std = std

    def __call__(self, progress):
        query = progress.query(progress.last.iteration)
        if query is None:
            return None
        largest = max(one["std"] for one in query.chosen)
        return f"the largest std of the batch, {largest:.3g} eV, is below {self.std:g} eV" if largest < self.std else None
'''


def configuration(**stop):
    return stand_in_configuration(stop={"rrmse": None, **stop})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = CampaignFolder.create(tmp_path_factory.mktemp("rules") / "campaign")
    (folder.path / "my_rules.py").write_text(RULES)
    return folder


def test_a_rule_that_fails_in_a_run_is_one_line(tmp_path):
    """Snakemake's own words, and a traceback, are not shown; with the rule corrected the same command goes on."""
    folder = CampaignFolder.create(tmp_path / "campaign", configuration(rules=[{"rule": "mine:fails"}]), size=20)
    (folder.path / "mine.py").write_text(
        "def fails(progress):\n    return 'enough' if progress.last.iteration and progress.missing else None\n"
    )
    broken = folder.run()
    assert broken.code == 1
    (line,) = [line for line in broken.lines if "stop.rules[0]" in line]
    assert line.startswith("Quarry: stop.rules[0]: mine:fails failed (AttributeError: ") and line.endswith(
        "; correct it"
    )
    assert not any(words in broken.text for words in ("Traceback", "InputFunctionException", "QuarryError"))
    assert [line for line in broken.lines if "broke off; finished labels are kept" in line]
    (look,) = [line for line in folder.run("-n").lines if "stop.rules[0]" in line]
    assert look == line
    (folder.path / "mine.py").write_text("def fails(progress):\n    return 'enough'\n")
    calls = folder.calls()
    assert folder.run().code == 0 and folder.calls() == calls and len(calls) == 9
    assert ',"enough; ' in (folder.results / "history.csv").read_text().splitlines()[-1]


def test_a_rule_by_import_path_ends_the_campaign(folder):
    def own(std):
        return {"rule": "my_rules:Sure", "arguments": {"std": std}}

    folder.configure(configuration(rules=[{"rule": "my_rules:Shure"}]))
    refused = folder.run("-n")
    assert refused.code == 1
    assert [
        line for line in refused.lines if "stop.rules[0]: cannot import 'my_rules:Shure'" in line and "Sure" in line
    ]

    folder.configure(configuration(rules=[own(1e3)], max_iterations=3))
    outcome = folder.run()
    assert outcome.code == 0, outcome.text[-3000:]
    (said,) = [line for line in outcome.lines if "arm main" in line]
    assert "9 labels in 2 iterations; stopped: the largest std of the batch, " in said and "is below 1000 eV" in said
    assert "the largest std of the batch" in (folder.results / "history.csv").read_text().splitlines()[-1]
    query = Query.read(folder.results / "main" / "iter_001" / "query.json")
    assert query.candidates == 54 and len(query.chosen) == 3
    assert query.distributions["std"]["max"] >= max(one["std"] for one in query.chosen)

    # Other rules on the finished campaign: a tighter one, and it goes on; the first one again, and it is finished.
    folder.configure(configuration(uninformative={"std": "10 eV", "of": "max", "patience": 2}, max_iterations=3))
    longer = folder.run()
    assert longer.code == 0, longer.text[-3000:]
    goes_on, said = [line for line in longer.lines if "arm main" in line]
    assert "arm main had ended (the largest std of the batch" in goes_on and goes_on.endswith("so it goes on")
    assert (
        "12 labels in 3 iterations; stopped: nothing informative was left to choose from: the largest of the " in said
    )
    assert "is below 10 eV, 2 iterations in a row" in said
    folder.configure(configuration(rules=[own(1e3)]))
    assert folder.run().nothing_to_do
    assert len(folder.calls()) == len(set(folder.calls())) == 12
