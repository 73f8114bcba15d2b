"""Uses of a trained model, step by step, beside the same with the function that its labels come from."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from quarry.calculator import QuarryCalculator
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.uses import SECTIONS, asked_uses, check_use, write_settings
from quarry.config import load_configuration
from quarry.errors import QuarryError
from quarry.reporting import uses_plots
from quarry.stages import uses, uses_results
from quarry.structures import Structure
from quarry.uses.vibrations import Vibrations
from support.campaigns import stand_in_configuration
from support.model_folders import DISTANCES, LCMD, labels_of, published, waters
from support.stages import configuration
from support.toys import energy_and_forces

CHARGES = np.array([-0.66, 0.33, 0.33])
SETTINGS = {
    "optimise": {"force_limit_eV_A": 0.002},
    "md": {"length_ps": 0.5, "equilibration_ps": 0.1, "time_step_fs": 0.25, "frame_fs": 1.0, "reference_frames": 3},
    "infrared": {"resolution_cm": 80.0},
    "reference_jobs": 2,
}


def with_dipole(structure: Structure) -> dict:
    return {**labels_of([structure], "energy", "forces")[0], "dipole": (CHARGES @ structure.positions).tolist()}


@pytest.fixture(scope="module")
def potential(tmp_path_factory) -> uses.Potential:
    """A Gaussian process with forces of 60 waters."""
    folder, structures = tmp_path_factory.mktemp("uses"), waters(60)
    keys = {"target": "energy_forces", "model": {"kind": "kreg"}, "query": LCMD, "descriptor": DISTANCES}
    model = published(folder, structures, [with_dipole(s) for s in structures], **keys)
    made = configuration(**keys, uses=SETTINGS)
    return uses.Potential(made, folder, folder / "dataset.h5", partial(QuarryCalculator, model))


@pytest.fixture(scope="module")
def steps(potential):
    """Every step of every use: files by their names."""
    folder = potential.base
    files = {name: str(folder / f"{name}.json") for name in ("minimum", "displaced", "reference")}
    files |= {"trajectory": str(folder / "trajectory.npz"), "frames": str(folder / "md.extxyz")}
    asked: list[str] = []

    def labels(structures):
        asked.extend(s.structure_id for s in structures)
        return [with_dipole(s) for s in structures]

    uses.relax_on_model(potential, files["minimum"], print)
    uses.displace_on_model(potential, files["minimum"], files["displaced"])
    uses.run_on_model(potential, files["minimum"], files["trajectory"], files["frames"], print)
    settings = potential.configuration.uses
    uses.relax_by_labels(settings, files["minimum"], labels, files["reference"], print)
    relaxed = len(asked)
    parts = {"displaced": [], "frames": []}
    for part in range(SETTINGS["reference_jobs"]):
        for kind in parts:
            parts[kind].append(str(folder / f"{kind}_{part}.json"))
        uses.displace_by_labels(settings, files["reference"], labels, part, parts["displaced"][-1])
        uses.frames_by_labels(settings, files["minimum"], files["trajectory"], labels, part, parts["frames"][-1])
    return files, parts, (relaxed, len(asked) - relaxed)


def test_minima_are_alike_and_bonds_are_compared(steps, tmp_path):
    files, _, _ = steps
    result = uses_results.optimise_result(files["minimum"], files["reference"])
    assert result["reference"]["largest_force_eV_A"] < 0.002
    assert set(result["difference"]["bonds_A"]) == {"O0-H1", "O0-H2"}
    assert max(map(abs, result["difference"]["bonds_A"].values())) < 2e-3
    assert result["difference"]["rms_distance_A"] < 2e-3
    alone = uses_results.optimise_result(files["minimum"], None)
    assert alone["reference"] is None and alone["model"] == result["model"]
    for number, shown in enumerate((result, alone)):
        uses_plots.plot_minima(shown, str(tmp_path / f"{number}.svg"))
        assert (tmp_path / f"{number}.svg").stat().st_size > 1000


def test_frequencies_are_those_of_the_function(steps, tmp_path):
    files, parts, _ = steps
    model, reference = (files["minimum"], files["displaced"]), (files["reference"], parts["displaced"])
    result = uses_results.frequencies_result(0.01, model, reference)
    assert len(result["model"]["frequencies_cm"]) == 3 and result["model"]["imaginary"] == 0
    assert result["difference"]["largest_cm"] < 20
    # Independent: displaced by hand from the function's own minimum.
    other, count = uses_results.reference_vibrations(0.01, *reference)
    assert count == 18 and sorted(result["reference"]["frequencies_cm"]) == pytest.approx(other.frequencies_cm)
    uses_plots.plot_frequencies(result, str(tmp_path / "f.svg"))


def test_every_label_is_asked_for_once(steps):
    _, parts, (relaxed, others) = steps
    assert relaxed >= 1
    assert others == 18 + 3
    found = [json.loads(Path(part).read_text()) for part in parts["displaced"]]
    rows = [label["row"] for each in found for label in each["labels"]]
    assert sorted(rows) == list(range(18))


def test_a_trajectory_is_measured_by_its_labels(potential, steps, tmp_path):
    files, parts, _ = steps
    result = uses_results.md_result(potential, files["minimum"], files["trajectory"], parts["frames"])
    made = uses.read_trajectory(files["trajectory"])
    last = made.positions_A[-1]
    said = potential.calculator()
    atoms = uses.minimum_of(files["minimum"])
    atoms.positions, atoms.calc = last, said
    assert result["difference"]["energies_eV"][-1] == pytest.approx(
        atoms.get_potential_energy() - energy_and_forces(last)[0], abs=1e-5
    )
    assert result["difference"]["forces_rmse_eV_A"] < 0.2
    # Labels that are off along a diagonal: of an atom's force the length counts.
    wrong = tmp_path / "wrong.json"
    frames = json.loads(Path(parts["frames"][0]).read_text())
    frames["labels"][0]["forces"][0] = (np.array(frames["labels"][0]["forces"][0]) + 1.0).tolist()
    wrong.write_text(json.dumps(frames))
    of_wrong = uses_results.md_result(potential, files["minimum"], files["trajectory"], [str(wrong)])
    assert of_wrong["difference"]["forces_largest_eV_A"] == pytest.approx(3**0.5, abs=0.01)
    assert abs(result["model"]["energy_drift_meV_per_atom_ps"]) < 3
    assert result["model"]["broken_bonds_from_fs"] == {}
    without = uses_results.md_result(potential, files["minimum"], files["trajectory"], [])
    assert without["reference"] is None and without["model"] == result["model"]
    uses_plots.plot_energy(result, made, str(tmp_path / "md.svg"))


def test_lines_lie_where_the_trajectory_absorbs(potential, steps, tmp_path, monkeypatch):
    files, parts, _ = steps
    model, reference = (files["minimum"], files["displaced"]), (files["reference"], parts["displaced"])
    result = uses_results.infrared_result(potential, model, files["trajectory"], reference)
    assert result["dipoles"]["test_rmse_eA"] < 0.01
    own, other = (np.array(result[name]["intensities_km_mol"]) for name in ("model", "reference"))
    assert own == pytest.approx(other, rel=0.2, abs=1.0)
    x, y = (np.array(result["trajectory"][key]) for key in ("wavenumbers_cm", "absorption_km_mol_per_cm"))
    strongest = result["model"]["frequencies_cm"][int(np.argmax(own))]
    near = np.abs(x - strongest) < 250
    assert np.trapezoid(y[near], x[near]) > 0.2 * own.max()
    assert "Gaussian" in result["trajectory"]["window"] and "harmonic" in result["trajectory"]["quantum_correction"]
    temperature_K = result["trajectory"]["temperature_K"]
    assert f"{temperature_K:.0f} K" in drawn_texts(monkeypatch, result, tmp_path)
    frequencies = uses_results.frequencies_result(0.01, model, reference)
    assert frequencies["reference"]["frequencies_cm"] == result["reference"]["frequencies_cm"], "the same in both files"
    md = uses_results.md_result(potential, files["minimum"], files["trajectory"], [])
    assert md["thermostat_K"] == 300.0 and md["model"]["temperature_K"] == temperature_K


def drawn_texts(monkeypatch, result, folder):
    """Return the texts of the legend of the picture, and check that it shows the highest line."""
    figures = []
    monkeypatch.setattr(uses_plots, "save_figure", lambda figure, path: figures.append(figure))
    for highest in (3700.0, 4450.0):
        lines = {**result["model"], "frequencies_cm": [*result["model"]["frequencies_cm"][:-1], highest]}
        uses_plots.plot_infrared({**result, "model": lines}, str(folder / "ir.svg"))
        assert figures[-1].axes[0].get_xlim()[1] > highest
    return " ".join(text.get_text() for text in figures[0].axes[0].get_legend().get_texts())


def test_reference_lines_stand_beside_the_modes_that_they_are_like(monkeypatch, potential, steps):
    """As in frequencies.json, where two modes change places."""
    files, parts, _ = steps
    model, reference = (files["minimum"], files["displaced"]), (files["reference"], parts["displaced"])
    plain = uses_results.infrared_result(potential, model, files["trajectory"], reference)["reference"]
    monkeypatch.setattr(uses_results, "alike", lambda found, others, masses: np.array([1, 0, 2]))
    swapped = uses_results.infrared_result(potential, model, files["trajectory"], reference)["reference"]
    for key in ("frequencies_cm", "intensities_km_mol"):
        assert swapped[key] == [plain[key][row] for row in (1, 0, 2)]


def test_modes_stand_beside_those_that_they_are_like():
    modes = np.eye(3).reshape(3, 1, 3)
    swapped = Vibrations(np.array([1.0, 2, 3]), -modes[[1, 0, 2]])
    order = uses_results.alike(Vibrations(np.array([1.0, 2, 3]), modes), swapped, np.ones(1))
    assert order.tolist() == [1, 0, 2]


def test_frames_are_spread_and_parts_have_each_once():
    assert uses.compared_frames(101, 4) == [25, 50, 75, 100]
    assert sorted(row for part in range(3) for row in uses.rows_of_part(7, part, 3)) == list(range(7))


def test_cells_have_no_molecular_vibrations():
    with pytest.raises(QuarryError, match="frequencies: for molecules alone, and this structure is periodic"):
        uses.refuse_cells(bulk("Cu"), "frequencies")


PBE = {"xc": "pbe", "basis": "sto-3g"}


def campaign(**keys):
    return load_configuration(stand_in_configuration(**keys), "toy.yaml")


@pytest.mark.parametrize(
    ("use", "keys", "says"),
    [
        ("optimise", {"target": "homo"}, "optimise: a potential is wanted, and target: homo has no energies"),
        (
            "frequencies",
            {"descriptor": {"kind": "coulomb_matrix"}},
            "frequencies: model.kind: gpr gives no forces with this descriptor",
        ),
        ("optimise", {"uses": {"optimise": {"cell": True}}}, "uses.optimise.cell needs stresses"),
        (
            "infrared",
            {"labeling": {"engine": "ase", "calculator": "x:Y", "properties": ["energy", "forces"]}},
            "infrared: dipoles are learnt from those of the labels, and labeling.properties gives none; labels with "
            "dipoles are of another method: set it in a campaign file with another name, or take frequencies",
        ),
        # Before the campaign has a label, and not after all of them.
        (
            "infrared",
            {"pool": {"source": "wigner", "molecule": "h3o.xyz", "size": 90, "charge": 1, "geometry_method": PBE}},
            "infrared: dipoles are learnt of neutral molecules alone",
        ),
        (
            "md",
            {
                "uses": {"reference": True},
                "labeling": {"engine": "ase", "calculator": "x:Y", "properties": ["energy"]},
            },
            "md: uses.reference needs forces of the labels, and labeling.properties gives none; set it to false",
        ),
    ],
)
def test_what_is_no_potential_is_refused_in_one_line(use, keys, says):
    with pytest.raises(QuarryError) as error:
        check_use(campaign(**keys), use)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_potential_is_not_refused():
    for use in ("optimise", "frequencies", "md", "infrared"):
        check_use(campaign(), use)


def test_only_uses_that_are_asked_for_are_checked():
    assert asked_uses(["all", "mine_md"], lambda rule: f"mine_{rule}") == ["md"]


def test_settings_are_written_where_they_change(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = CampaignPaths("toy")
    write_settings(campaign(), paths)
    files = {name: tmp_path / paths.use_step(f"{name}.settings") for name in SECTIONS}
    before = {name: file.stat().st_ino for name, file in files.items()}
    write_settings(campaign(uses={"md": {"temperature_K": 350.0}}), paths)
    changed = [name for name, file in files.items() if file.stat().st_ino != before[name]]
    assert changed == ["md"] and '"temperature_K":350.0' in files["md"].read_text().replace(" ", "")


def test_uses_are_no_part_of_the_identity():
    assert campaign(uses={"reference": False}).identity() == campaign().identity()
