"""Bad input: one clear line that says what to change, before any job starts, and an exit code that is not 0."""

import copy
import time

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from quarry.config.loading import load_configuration
from quarry.config.units import BOHR_A
from quarry.errors import QuarryError
from quarry.stages.preflight import check
from support.campaigns import CampaignFolder, stand_in_configuration

PYSCF = stand_in_configuration(labeling={"engine": "pyscf", "method": {"xc": "b3lyp", "basis": "sto-3g"}})


def change(path, value, base=None):
    """Return a configuration with one value changed; path like 'pool.files'. None removes the key."""
    configuration = copy.deepcopy(base or stand_in_configuration())
    *parents, key = path.split(".")
    node = configuration
    for parent in parents:
        node = node[parent]
    if value is None:
        node.pop(key)
    else:
        node[key] = value
    return configuration


def pyscf(path, value):
    return change(path, value, PYSCF)


WIGNER = {"source": "wigner", "molecule": "pool.extxyz", "size": 10, "geometry_method": {"xc": "hf", "basis": "sto-3g"}}

TABLE = {"source": "table", "files": ["nan.csv"], "features": ["x"]}
ROWS = change("descriptor", {"kind": "table"})

CASES = {
    "unknown key": (change("sede", 1), "sede: unknown key; did you mean 'seed'?"),
    "unknown nested key": (change("query.inital", 3), "query.inital: unknown key; did you mean 'initial'?"),
    "misspelt value": (change("query.strategy", "uncertainity"), "'uncertainity' is not one of"),
    "misspelt schedule": (change("query.batch.schedule", "dubling"), "'dubling' is not one of"),
    "wrong type": (change("query.initial", "three"), "query.initial: input should be a valid integer (got 'three')"),
    "wrong unit": (change("stop.target_rmse", "3 kcal"), "units eV, meV, hartree"),
    "wrong unit in the key": (change("pool", {**WIGNER, "temperature_C": 27}), "did you mean 'temperature_K'?"),
    "negative size": (change("query.batch.size", -3), "query.batch.size: input should be greater than 0 (got -3)"),
    "zero size": (change("query.initial", 0), "query.initial: input should be greater than 0 (got 0)"),
    "number that YAML reads as text": (change("model", {"noise": "1e-3"}), "write it with a decimal point, e.g. 1.0e-3"),
    "missing key": (change("descriptor", None), "descriptor: missing, but model.kind: gpr learns from one; add this section"),
    "missing pool file": (change("pool.files", ["nothing.xyz"]), "nothing.xyz does not exist or cannot be read"),
    "unreadable pool file": (change("pool.files", ["garbage.xyz"]), "ASE cannot read"),
    "empty pool file": (change("pool.files", ["empty.xyz"]), "empty.xyz"),
    "empty slice": (change("pool.files", [{"path": "pool.extxyz", "index": "5:5"}]), "holds no structure"),
    "several structures as a molecule": (change("pool", WIGNER), "pool.molecule: "),
    "pool too small": (change("query.initial", 60), "query.initial + test.size = 63 is more than the pool's 60"),
    "too small without duplicates": (
        change("pool.files", ["pool.extxyz", "pool.extxyz"], change("query.initial", 60)),
        "60 duplicates rejected",
    ),
    "budget too small": (change("stop.max_labels", 5), "below the initial batch and test set"),
    "no end": (change("stop", {"rrmse": False}), "stop.rrmse"),
    "unknown import path": (change("labeling.function", "no_such_module:f"), "labeling.function"),
    "odd electrons": (pyscf("pool.multiplicity", 2), "10 electrons (charge 0) cannot have multiplicity 2"),
    "unknown functional": (pyscf("labeling.method.xc", "b3lip"), "labeling.method.xc"),
    "unknown basis": (pyscf("labeling.method.basis", "6-31h*"), "labeling.method.basis"),
    "unknown element for the basis": (pyscf("pool.files", ["gold.xyz"]), "Au"),
    "unknown dispersion": (pyscf("labeling.method.dispersion", "d5"), "labeling.method.dispersion: 'd5' is not one of"),
    "dispersion without parameters": (
        change("labeling.method.dispersion", "d4", pyscf("labeling.method.xc", "gga_x_wc")),
        "labeling.method.dispersion",
    ),
    "functional that PySCF refuses": (pyscf("labeling.method.xc", "wb97x-d"), "HYB_GGA_XC_WB97X_D"),
    "VV10 functional": (pyscf("labeling.method.xc", "wb97x-v"), "allow_vv10"),
    "periodic structures": (pyscf("pool.files", ["crystal.extxyz"]), "periodic"),
    "different molecules": (change("pool.files", ["pool.extxyz", "gold.xyz"]), "use kind: coulomb_matrix"),
    "misspelt arm": (change("arms", {"random": {"query": {"strategy": "rnd"}}}), "arms.random.query.strategy"),
    "search without a range": (change("query.strategy", "property_search"), "needs the range to search; set search.minimum"),
    "strategy that does not fit the model": (change("query.strategy", "vote_entropy"), "these fit: random, sequence"),
    "embedding that the model has not": (
        change("query", {**stand_in_configuration()["query"], "strategy": "lcmd", "embedding": "last_layer"}),
        "model.kind: gpr has kernel",
    ),
    "committee of one": (
        change("model", {"kind": "mlp", "uncertainty": "committee", "members": 1}),
        "members = 1: a committee needs at least 2",
    ),
    "dropout of zero": (
        change("model", {"kind": "mlp", "uncertainty": "mc_dropout", "dropout": 0.0}),
        "dropout = 0 gives mc_dropout no",
    ),
    "uncertainty of a single network": (change("model", {"kind": "mlp"}), "set model.uncertainty: committee or mc_dropout"),
    "classes of a regression": (change("target", "class"), "classification"),
    "class that no label can be": (
        change(
            "classification",
            {"property": "energy", "boundaries": [1.0, 1.0], "names": ["a", "b", "c"]},
            change("target", "class", change("model", {"kind": "mlp"}, change("query.strategy", "random"))),
        ),
        "[1.0, 1.0] must ascend",
    ),
    "coordinates in bohr": (change("pool.files", ["bohr.extxyz"]), "pool: the coordinates look like bohr"),
    "coordinates in nm": (change("pool.files", ["nm.extxyz"]), "pool: the coordinates look like nm"),
    "atoms in one place, the filter off": (
        change("pool.files", ["pool.extxyz", "double.xyz"], change("filters", {"min_distance_factor": None})),
        "pool: atoms 1 and 3 of frame 2 of double.xyz are in one place (0.000 Angstrom apart; 1 of 62 structures",
    ),
    "NaN in a table of features": (change("pool", TABLE, ROWS), "not finite in row 3"),
    "text in a table of features": (change("pool", {**TABLE, "files": ["text.csv"]}, ROWS), "text.csv"),
    "unknown column": (change("pool", {**TABLE, "features": ["z"]}, ROWS), "z"),
    "tables of other lengths": (change("pool", {**TABLE, "files": ["one.npz", "two.npz"], "features": ["f"]}, ROWS), "two.npz"),
    "descriptor that does not fit a table": (change("pool", TABLE), "does not fit pool.source: table"),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = CampaignFolder.create(tmp_path_factory.mktemp("bad") / "campaign")
    (folder.path / "empty.xyz").touch()
    (folder.path / "garbage.xyz").write_text("this is\nno structure\nat all\n")
    (folder.path / "gold.xyz").write_text("".join(f"2\n\nAu 0 0 0\nAu 0 0 2.{i}\n" for i in range(8)))
    (folder.path / "nan.csv").write_text("x\n" + "".join(f"{x}\n" for x in (0.0, 1.0, "nan", *range(3, 20))))
    (folder.path / "text.csv").write_text("x\n" + "".join(f"{x}\n" for x in (0.0, 1.0, "blue", *range(3, 20))))
    frames = read(folder.path / "pool.extxyz", ":")
    for name, scale in (("bohr", 1 / BOHR_A), ("nm", 0.1)):
        write(folder.path / f"{name}.extxyz", [Atoms("OHH", scale * frame.positions) for frame in frames])
    (folder.path / "double.xyz").write_text("3\n\nO 0 0 0\nH 0 0 0.99\nH 0 0.97 0\n3\n\nO 0 0 0\nH 0 0 0.98\nH 0 0 0\n")
    for name, width in (("one", 2), ("two", 3)):
        np.savez(folder.path / f"{name}.npz", f=np.random.default_rng(0).normal(size=(10, width)))
    (folder.path / "crystal.extxyz").write_text(
        "".join(
            f'2\nLattice="3 0 0 0 3 0 0 0 {3 + i / 10}" Properties=species:S:1:pos:R:3 pbc="T T T"\nHe 0 0 0\nHe 0 0 1.5\n'
            for i in range(8)
        )
    )
    return folder


def check_refused(folder, outcome, message):
    assert outcome.code != 0
    assert len(outcome.lines) == 1, outcome.text
    assert message in outcome.lines[0]
    assert "Traceback" not in outcome.text
    assert not folder.results.exists()
    assert not (folder.path / "label_store").exists()


THROUGH_SNAKEMAKE = (
    "unknown nested key",
    "missing pool file",
    "unknown functional",
    "misspelt arm",
    "search without a range",
)
"""One of each kind (configuration, files, chemistry, arms, strategy); the others ask the same two functions directly."""


@pytest.mark.parametrize("case", THROUGH_SNAKEMAKE)
def test_one_line_before_any_job(folder, case):
    configuration, message = CASES[case]
    folder.configure(configuration)
    check_refused(folder, folder.run(), message)


@pytest.mark.parametrize("case", [case for case in CASES if case not in THROUGH_SNAKEMAKE])
def test_configuration(folder, case, monkeypatch):
    """What `open_campaign` asks before it prints the line: the configuration alone, then with its files and chemistry."""
    configuration, message = CASES[case]
    monkeypatch.chdir(folder.path)
    with pytest.raises(QuarryError) as caught:
        check(load_configuration(configuration, "campaign.yaml"), folder.path)
    assert message in str(caught.value) and "\n" not in str(caught.value).strip()


def test_false_as_text_on_the_command_line(folder):
    folder.configure(PYSCF)
    outcome = folder.run("--config", "labeling={method: {density_fitting: false}}")
    check_refused(folder, outcome, "write True or False with a capital")


ALONE = {
    "missing file": (
        ["--configfile", "campain.yaml"],
        "--configfile: campain.yaml does not exist; did you mean campaign.yaml?",
    ),
    "two files": (
        ["--configfile", "campaign.yaml", "campaign.yaml"],
        "--configfile: a campaign file stands alone; give one",
    ),
    "target behind the file": (
        ["-n", "--configfile", "campaign.yaml", "retry_failed"],
        "snakemake retry_failed --configfile campaign.yaml",
    ),
    "syntax": (["--configfile", "syntax.yaml"], "syntax.yaml, line 2: this is not YAML"),
    "key twice, by a cluster's profile": (
        ["--workflow-profile", "slurm", "--configfile", "twice.yaml"],
        "twice.yaml, line 2: name is there twice (first in line 1); remove one",
    ),
    "dotted key": (
        ["--configfile", "campaign.yaml", "--config", "stop.max_labels=50"],
        "written --config 'stop={max_labels: 50}'",
    ),
    "misspelt target": (["forcast", "--configfile", "campaign.yaml"], "no target 'forcast'; did you mean 'forecast'?"),
    "resources of no rule": (
        ["--configfile", "campaign.yaml", "--set-resources", "label_structre:runtime=5"],
        "did you mean 'label_structure'?",
    ),
    "time as resource": (
        ["-n", "--configfile", "campaign.yaml", "--set-resources", "label_structure:runtime=02:00:00"],
        "write minutes or a time with unit, e.g. 120 or 2h",
    ),
    "file in place of the working directory": (
        ["-n", "--configfile", "campaign.yaml", "--directory", "campaign.yaml/below"],
        "campaign.yaml is no folder; name a folder",
    ),
    "list in itself": (
        ["-n", "--configfile", "itself.yaml"],
        "itself.yaml, line 1: pool.files: this is part of itself",
    ),
    "file in place of the results": (
        ["-n", "--configfile", "campaign.yaml", "--config", "name=occupied", "labeling={store: pool.extxyz}"],
        "labeling.store: pool.extxyz cannot be written",
    ),
    "arm with a folder's name": (
        ["-n", "--configfile", "campaign.yaml", "--config", "arms={failed: {}}"],
        "arms.failed: a folder of the campaign has this name",
    ),
}


@pytest.mark.parametrize("case", ALONE)
def test_one_line_alone(folder, case):
    """The whole output: Snakemake's line about the profile, and ours. (All: tests/unit/test_campaign_file.py and beside it.)"""
    folder.configure(stand_in_configuration())
    (folder.path / "syntax.yaml").write_text("files: [a\nname: b\n")
    (folder.path / "itself.yaml").write_text("pool: {files: &f [*f]}\n")
    (folder.path / "twice.yaml").write_text("name: a\nname: b\n")
    arguments, message = ALONE[case]
    outcome = folder.run_as_given(*arguments)
    check_refused(folder, outcome, message)
    assert [line[:14] for line in outcome.text.splitlines()][:-1] == ["Using workflow"], outcome.text


def test_a_profile_that_is_none(folder):
    """Snakemake goes on without any profile: with its own defaults, and on this machine."""
    folder.configure(stand_in_configuration())
    outcome = folder.run_as_given("--workflow-profile", "slrum", "--configfile", "campaign.yaml")
    known = "cluster-generic, default, slurm"
    check_refused(folder, outcome, f"there is no profile 'slrum' (there are {known}); did you mean 'slurm'?")


def test_without_a_campaign_file_elsewhere_it_says_which_campaign_this_is(tmp_path):
    outcome = CampaignFolder(tmp_path).run_as_given("--list-target-rules")
    assert outcome.code == 0
    assert outcome.text.splitlines()[1].startswith(
        "Quarry: no --configfile is given, so this is the default campaign, water ("
    )


def test_another_configuration(tmp_path):
    """Results of another configuration are refused, and the line says what differs; what may change may change."""
    folder = CampaignFolder.create(tmp_path / "campaign")
    # As long as no label has succeeded it would be begun anew.
    assert folder.run("results/toy/main/iter_000/dataset.h5").code == 0
    folder.configure(stand_in_configuration(seed=4, query={**stand_in_configuration()["query"], "strategy": "random"}))
    outcome = folder.run()
    assert outcome.code != 0 and len(outcome.lines) == 1
    assert 'query.strategy ("uncertainty_clusters" there, "random" now); seed (3 there, 4 now)' in outcome.lines[0]
    folder.configure(stand_in_configuration())
    (folder.path / "pool.extxyz").write_text((folder.path / "pool.extxyz").read_text().replace("0.", "0.0", 1))
    outcome = folder.run()
    assert outcome.code != 0 and "content of pool.extxyz" in outcome.lines[0]


def test_second_snakemake_on_the_same_campaign(tmp_path):
    configuration = stand_in_configuration()
    configuration["labeling"]["arguments"] = {"seconds": 2.0}
    folder = CampaignFolder.create(tmp_path / "campaign", configuration)
    first = folder.start("-c1")
    try:
        deadline = time.monotonic() + 60
        while not (folder.results / ".lease.json").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        second = folder.run("-c1")
        assert second.code != 0
        assert len(second.lines) == 1
        assert f"is being run by process {first.pid} on " in second.lines[0]
        assert folder.run("-n").code == 0, "a dry run beside a running campaign is harmless"
    finally:
        first.terminate()
        first.wait(timeout=60)
