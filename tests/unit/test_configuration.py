"""The campaign file: every mistake in one line that names the key; arms; manual and schema; identity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from quarry.config import load_configuration
from quarry.config.campaign import inputs_of
from quarry.config.manual import manual, schema
from quarry.errors import QuarryError
from quarry.files import canonical_json
from support.configurations import ABSENT, FILES, WIGNER, changed, load

CONFIG = Path(__file__).parents[2] / "config"
MISTAKES = [
    # changes, key that the message must name, words that it must hold
    ({"name": ABSENT}, "name", "missing"),
    ({"name": "a b"}, "name", "'a b'"),
    ({"name": "../up"}, "name", "'../up'"),
    ({"name": 3}, "name", "put text in quotes"),
    ({"seed": -1}, "seed", "-1"),
    ({"seed": 1.5}, "seed", "1.5"),
    ({"seed": True}, "seed", "True"),
    ({"sed": 3}, "sed", "did you mean 'seed'?"),
    ({"zzz": 3}, "zzz", "known here: name, seed, pool"),
    ({"target": "enrgy"}, "target", "'enrgy' is not one of 'energy', 'energy_forces', 'homo'"),
    ({"pool": ABSENT}, "pool", "missing"),
    ({"pool": "water.xyz"}, "pool", "water.xyz"),
    ({"pool.source": ABSENT}, "pool", "'source' is missing"),
    ({"pool.source": "wigne"}, "pool", "'wigne' is not one of 'wigner', 'file'"),
    ({"pool.molecule": ABSENT}, "pool", "the key molecule is missing"),
    ({"pool.size": 0}, "pool.size", "greater than 0"),
    ({"pool.size": "100"}, "pool.size", "'100'"),
    ({"pool.temperature_K": -1}, "pool.temperature_K", "-1"),
    ({"pool.temperature": 300}, "pool.temperature", "did you mean 'temperature_K'?"),
    ({"pool.charge": 0.5}, "pool.charge", "0.5"),
    ({"pool.multiplicity": 0}, "pool.multiplicity", "greater than 0"),
    ({"pool.geometry_method": {"xc": "hf"}}, "pool.geometry_method.basis", "missing"),
    ({"pool.files": ["a.xyz"]}, "pool.files", "unknown key"),
    ({"labeling.engine": ABSENT}, "labeling", "'engine' is missing"),
    ({"labeling.engine": "orca"}, "labeling", "'orca' is not one of 'pyscf', 'ase', 'command', 'replay', 'function'"),
    ({"labeling.method": ABSENT}, "labeling.method", "missing"),
    ({"labeling.method.xc": ABSENT}, "labeling.method.xc", "missing"),
    ({"labeling.method.functional": "pbe"}, "labeling.method.functional", "unknown key"),
    ({"labeling.method.grid_level": 10}, "labeling.method.grid_level", "less than or equal to 9"),
    ({"labeling.method.grid": 3}, "labeling.method.grid", "did you mean 'grid_level'?"),
    ({"labeling.method.convergence_hartree": 0}, "labeling.method.convergence_hartree", "greater than 0"),
    ({"labeling.method.max_cycles": 0}, "labeling.method.max_cycles", "greater than 0"),
    ({"labeling.method.density_fitting": "true"}, "labeling.method.density_fitting", "True or False with a capital"),
    ({"labeling.method.dispersion": "d5"}, "labeling.method.dispersion", "'d5' is not one of 'd3bj' or 'd4'"),
    ({"labeling.max_failed_fraction": 1.5}, "labeling.max_failed_fraction", "1.5"),
    ({"labeling.retries": -1}, "labeling.retries", "-1"),
    ({"labeling.retry": 1}, "labeling.retry", "did you mean 'retries'?"),
    ({"descriptor": ABSENT}, "descriptor", "missing"),
    ({"descriptor.kind": "fingerprint"}, "descriptor.kind", "'fingerprint' is not one of"),
    (
        {"descriptor": {"kind": "coulomb_matrix", "reference": "a.xyz"}},
        "descriptor.reference",
        "unknown key",
    ),
    ({"model": {"kind": "gp"}}, "model.kind", "'gp' is not one of 'gpr'"),
    ({"model": {"subset": -1}}, "model.subset", "-1"),
    ({"model": {"noise": 0}}, "model.noise", "greater than 0"),
    ({"model": {"nois": 0}}, "model.nois", "did you mean 'noise'?"),
    ({"query.strategy": "uncertain"}, "query.strategy", "'uncertain' is not one of 'random', 'sequence'"),
    ({"query.initial": 0}, "query.initial", "greater than 0"),
    ({"query.batch": ABSENT}, "query.batch", "missing"),
    ({"query.batch": 5}, "query.batch", "5"),
    ({"query.batch.schedule": ABSENT}, "query.batch", "'schedule' is missing"),
    ({"query.batch.schedule": "linear"}, "query.batch", "'linear' is not one of 'constant', 'doubling', 'fraction'"),
    ({"query.batch.size": 0}, "query.batch.size", "greater than 0"),
    ({"query.batch": {"schedule": "doubling", "size": 2.5}}, "query.batch.size", "2.5"),
    ({"query.batch.sise": 5}, "query.batch.sise", "did you mean 'size'?"),
    (
        {"query.batch": {"schedule": "fraction", "fraction": 0.5, "size": 5}},
        "query.batch.size",
        "it belongs to schedule: constant or doubling",
    ),
    ({"validation": {"fraction": 1.0}}, "validation.fraction", "less than 1"),
    ({"validation": {"folds": 1}}, "validation.folds", "greater than or equal to 2"),
    ({"validation": {"fold": 5}}, "validation.fold", "did you mean 'folds'?"),
    ({"test": ABSENT}, "test", "missing"),
    ({"test.size": -1}, "test.size", "-1"),
    ({"stop": {}, "test.size": 1}, "test.size = 1", "set test.size to 2 or more"),
    ({"stop": {"rrmse": None}}, "stop", "set at least one of rrmse, target_rmse"),
    ({"stop.rrmse": 0}, "stop.rrmse", "greater than 0"),
    ({"stop.rrmse": 10}, "stop.rrmse", "less than 5"),
    ({"resources": {"label": {"memory_MB": 8}}}, "resources.label.memory_MB", "greater than or equal to 100"),
    ({"stop.rrmse": float("nan")}, "stop.rrmse", "finite number"),
    ({"stop.patience": 0}, "stop.patience", "greater than 0"),
    ({"stop.patiense": 1}, "stop.patiense", "did you mean 'patience'?"),
    ({"stop.rrmse_bound": "lower"}, "stop.rrmse_bound", "'lower' is not one of 'value' or 'upper'"),
    ({"stop.metric": "train"}, "stop.metric", "'train' is not one of"),
    ({"stop.target_rmse": "0.5 kcal"}, "stop.target_rmse", "one of the units eV, meV, hartree"),
    ({"stop.target_rmse": "0.5"}, "stop.target_rmse", "one of the units"),
    ({"stop.target_rmse": "0.5 MeV"}, "stop.target_rmse", "one of the units eV"),
    ({"stop.target_rmse": "1.2.3 eV"}, "stop.target_rmse", "1.2.3"),
    ({"stop.target_rmse": -0.5}, "stop.target_rmse", "greater than 0"),
    ({"stop.target_rmse": "0 eV"}, "stop.target_rmse", "greater than 0"),
    ({"stop.target_rmse": "0.5 eV", "target": "dipole"}, "stop.target_rmse", "plain number"),
    ({"stop.max_labels": 29}, "stop.max_labels = 29", "at least 30"),
    ({"stop.max_labels": 0}, "stop.max_labels", "greater than 0"),
    ({"stop.max_core_hours": -1.0}, "stop.max_core_hours", "-1.0"),
    ({"stop.max_iterations": 1.5}, "stop.max_iterations", "1.5"),
    ({"stop.metric": "cross_validation", "validation": {"folds": 11}}, "validation.folds = 11", "lower it"),
    (
        {"stop.metric": "validation", "validation": {"fraction": 0.1}},
        "validation.fraction = 0.1",
        "raise query.initial",
    ),
    ({"stop.metric": "validation", "validation": {"fraction": 0.99}}, "validation.fraction", "none to train"),
    ({"query.initial": 81}, "query.initial + test.size = 101", "the pool's 100 structures"),
    ({"arms": {"main": {}}}, "arms", "'main' cannot name an arm"),
    ({"arms": {"Random": {}}}, "arms", "'Random' cannot name an arm"),
    ({"arms": {"a-b": {}}}, "arms", "'a-b' cannot name an arm"),
    ({"arms": {"a": {"query": {"initial": 3}}}}, "arms: arms.a.query.initial", "share the initial batch"),
    ({"arms": {"a": {"pool": {}}}}, "arms.a.pool", "known here: query, model, seed"),
    ({"arms": {"a": {"sead": 1}}}, "arms.a.sead", "did you mean 'seed'?"),
    ({"arms": {"a": {"seed": -1}}}, "arms.a.seed", "-1"),
    ({"arms": {"a": {"query": {"strategy": "rand"}}}}, "arms.a.query.strategy", "'rand' is not one of"),
    ({"arms": {"a": {"query": {"stratgy": "random"}}}}, "arms.a.query.stratgy", "did you mean 'strategy'?"),
    ({"arms": {"a": {"query": {"batch": {"size": 0}}}}}, "arms.a.query.batch.size", "greater than 0"),
    ({"arms": {"a": {"model": {"subsets": 1}}}}, "arms.a.model.subsets", "did you mean 'subset'?"),
    ({"arms": {"a": None}}, "arms.a", "dictionary"),
    ({"control": {"seeds": []}}, "control.seeds", "at least 1"),
    ({"control": {"seeds": [1, 1]}}, "control.seeds", "different whole numbers"),
    ({"control": {"repeats": [0]}}, "control.repeats", "0 is arm main's own seed"),
    ({"control": {}, "arms": {"random_0": {}}}, "arms.random_0", "control makes an arm of this name"),
    ({"control": {}, "query.strategy": "random"}, "control", "selects at random itself"),
    ({"search": {}}, "search", "set minimum, maximum or both"),
    ({"search": {"minimum": 1.0, "maximum": "500 meV"}}, "search", "must be below maximum"),
    ({"search": {"minimum": "1 furlong"}}, "search", "units"),
    ({"resources": {"label": {"threads": 0}}}, "resources.label.threads", "greater than 0"),
    ({"resources": {"label": {"memory_mb": 1}}}, "resources.label.memory_mb", "did you mean 'memory_MB'?"),
    ({"resources": {"labels": {}}}, "resources.labels", "did you mean 'label'?"),
    ({"resources": {"model": {"walltime_min": "1h"}}}, "resources.model.walltime_min", "'1h'"),
]
MISTAKES_IN_FILES = [
    ({"pool.files": []}, "pool.files", "at least 1"),
    ({"pool.files": "a.xyz"}, "pool.files", "list"),
    ({"pool.size": 3}, "pool.size", "it belongs to source: wigner"),
    ({"labeling.method": {}}, "labeling.method", "unknown key"),
    ({"labeling.arguments": [1]}, "labeling.arguments", "dictionary"),
    ({"pool": WIGNER["pool"]}, "pool.geometry_method", "give a PySCF method"),
    (
        {
            "pool": WIGNER["pool"],
            "labeling": {"engine": "ase", "calculator": "ase.calculators.emt:EMT", "properties": ["energy"]},
        },
        "pool.geometry_method",
        "give a PySCF method",
    ),
]


@pytest.mark.parametrize(
    ("base", "changes", "key", "words"),
    [
        *((WIGNER, *mistake) for mistake in MISTAKES),
        *((FILES, *mistake) for mistake in MISTAKES_IN_FILES),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else None,
)
def test_a_mistake_is_one_line_that_names_the_key(base, changes, key, words):
    with pytest.raises(QuarryError) as caught:
        load_configuration(changed(base, changes), "mine.yaml")
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    assert message.startswith(f"mine.yaml: {key}"), message
    assert words in message


def test_the_bases_of_the_table_are_right():
    assert load(WIGNER).pool.source == "wigner"
    assert load(FILES).pool.source == "file"


def test_many_mistakes_are_counted():
    with pytest.raises(QuarryError, match=r"name: .*; pool: .*; labeling: .* \(and 3 more\)$"):
        load_configuration({}, "mine.yaml")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"labeling": {"engine": "function"}}, "labeling.function: "),
        ({"labeling.function": "no colon"}, "labeling.function: "),
        ({"query.batch": {"schedule": "fraction", "fraction": -1.0}}, "query.batch.fraction: "),
        ({"pool.files": [3]}, "pool.files.0: "),
        ({"pool.files": [{"pth": "a.xyz"}]}, "pool.files.0.p"),
        ({"stop.target_rmse": True}, "stop.target_rmse: "),
        ({"arms": {"file": {"seeed": 1}}}, "arms.file.seeed: "),
    ],
)
def test_a_key_is_named_as_the_user_wrote_it(changes, key):
    with pytest.raises(QuarryError) as caught:
        load_configuration(changed(FILES, changes), "mine.yaml")
    assert str(caught.value).startswith(f"mine.yaml: {key}")
    assert ".str" not in str(caught.value) and "FileSlice" not in str(caught.value)


@pytest.mark.parametrize("batch", [5, None])
def test_the_batch_of_an_arm_that_is_no_section_is_one_line(batch):
    with pytest.raises(QuarryError, match=r"arms\.a\.query\.batch"):
        load(arms={"a": {"query": {"batch": batch}}})


def test_the_name_of_an_arm_fits_the_rules():
    with pytest.raises(QuarryError, match="cannot name an arm"):
        load(arms={"é": {}})


@pytest.mark.parametrize("key", ["pool.temperature_K", "labeling.method.convergence_hartree"])
def test_infinite_numbers_are_refused(key):
    try:
        configuration = load_configuration(changed(WIGNER, {key: float("inf")}), "mine.yaml")
    except QuarryError:
        return
    canonical_json(configuration.identity())


class TestArms:
    def test_main_comes_first_and_has_the_settings_of_the_campaign(self):
        configuration = load(arms={"b": {}, "a": {}})
        assert configuration.arm_names == ["main", "b", "a"]
        for name in configuration.arm_names:
            assert configuration.arm(name).query == configuration.query
            assert configuration.arm(name).model == configuration.model
            assert configuration.arm(name).seed == configuration.seed

    def test_an_override_replaces_single_keys(self):
        arm = load(seed=7, arms={"a": {"query": {"strategy": "random"}, "model": {"subset": 9}, "seed": 8}}).arm("a")
        assert (arm.query.strategy, arm.query.initial, arm.query.batch.size) == ("random", 10, 5)
        assert (arm.model.kind, arm.model.subset, arm.seed) == ("gpr", 9, 8)

    def test_a_batch_size_keeps_the_schedule(self):
        batch = load(arms={"a": {"query": {"batch": {"size": 9}}}}).arm("a").query.batch
        assert (batch.schedule, batch.size) == ("constant", 9)

    def test_another_schedule_brings_its_own_keys(self):
        batch = load(arms={"a": {"query": {"batch": {"schedule": "fraction", "fraction": 0.5}}}}).arm("a").query.batch
        assert (batch.schedule, batch.fraction) == ("fraction", 0.5)

    def test_seed_zero_is_a_seed(self):
        assert load(seed=7, arms={"a": {"seed": 0}}).arm("a").seed == 0

    def test_an_arm_does_not_change_the_campaign(self):
        configuration = load(arms={"a": {"query": {"strategy": "random", "batch": {"size": 9}}}})
        configuration.arm("a")
        assert configuration.query.strategy == "uncertainty_clusters" and configuration.query.batch.size == 5

    def test_needs_scores(self):
        strategies = ["random", "uncertainty", "clusters", "uncertainty_clusters"]
        needs = [load(query__strategy=s).query.needs_scores for s in strategies]
        assert needs == [False, True, False, True]


def test_control_arms():
    """Random arms with the seeds that are named, repeats of main with others; they may be added to a campaign."""
    with_control = load(control={"seeds": [4, 5], "repeats": [8]})
    assert with_control.arm_names == ["main", "random_4", "random_5", "main_8"]
    settings = {name: with_control.arm(name) for name in with_control.arm_names}
    assert [s.seed for s in settings.values()] == [with_control.seed, 4, 5, 8]
    strategies = {name: s.query.strategy for name, s in settings.items()}
    assert strategies["main_8"] == strategies["main"] and strategies["random_4"] == strategies["random_5"] == "random"
    assert all(s.query.batch == with_control.query.batch for s in settings.values())
    before, now = load().identity(), with_control.identity()
    assert {key for key in before if before[key] != now[key]} == {"arms"} and set(now["arms"]) == {*settings} - {"main"}


class TestManual:
    def test_the_manual_on_disk_is_that_of_the_models(self):
        assert (CONFIG / "README.md").read_text() == manual(), "run `make manual`"

    def test_the_schema_on_disk_is_that_of_the_models(self):
        assert json.loads((CONFIG / "schema.json").read_text()) == schema(), "run `make manual`"
        assert (CONFIG / "schema.json").read_text() == json.dumps(schema(), indent=1) + "\n"

    def test_every_key_has_a_row_with_a_meaning(self):
        rows = {
            line.split("|")[1].strip(): line.split("|")[4].strip() for line in manual().splitlines() if "| `" in line
        }
        definitions = [schema(), *schema()["$defs"].values()]
        keys = {f"`{key}`" for definition in definitions for key in definition.get("properties", {})}
        assert rows.keys() == keys
        assert {key for key, meaning in rows.items() if not meaning} <= {
            "`source`",
            "`engine`",
            "`schedule`",
            "`method`",
            "`kind`",
        }


@pytest.mark.parametrize("path", sorted(CONFIG.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_campaign_file_of_the_project_is_right(path):
    load_configuration(yaml.safe_load(path.read_text()), path.name)


def test_the_default_campaign_has_its_inputs():
    configuration = load_configuration(yaml.safe_load((CONFIG / "config.yaml").read_text()), "config.yaml")
    assert [str(p) for p in inputs_of(configuration, CONFIG) if not p.is_file()] == []


def test_inputs_are_relative_to_the_campaign_file():
    base = Path("campaigns")
    assert inputs_of(load(), base) == [base / "water.xyz"]
    assert inputs_of(load(FILES), base) == [base / "a.xyz", base / "b.xyz"]
    assert inputs_of(load(descriptor__reference="eq.xyz"), base) == [base / "water.xyz", base / "eq.xyz"]
