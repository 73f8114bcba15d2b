"""What the calculator refuses: structures that its model cannot know, and folders that are not as they were published."""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from quarry.calculator import QuarryCalculator
from quarry.config import installed
from quarry.errors import QuarryError
from quarry.networks import registry
from quarry.structures import Structure
from support.model_folders import DISTANCES, GMNN, LCMD, labels_of, published, rewrite, water, waters, with_model
from support.toys import EQUILIBRIUM, NUMBERS


def refused(atoms: Atoms, folder: Path, match: str) -> None:
    with pytest.raises(QuarryError, match=match) as caught:
        with_model(atoms, folder).get_potential_energy()
    assert "\n" not in str(caught.value)


class TestRefusals:
    def test_elements(self, potential):
        refused(Atoms("SHH", EQUILIBRIUM), potential, r"has not seen element S; it knows H, O$")

    def test_charges_and_multiplicities(self, potential):
        atoms = water()
        atoms.info["charge"] = 1
        refused(atoms, potential, r"has not seen charge 1; it knows charge 0 with multiplicity 1$")
        atoms.info.update(charge=0, spin=3)
        refused(atoms, potential, r"has not seen charge 0 with multiplicity 3; it knows")
        atoms.info = {"charge": 0}
        assert np.isfinite(with_model(atoms, potential).get_potential_energy())
        atoms.info["charge"] = -1
        with pytest.raises(QuarryError, match="charge -1"):
            atoms.get_potential_energy()

    def test_states_that_are_not_said(self, tmp_path):
        made = waters(20)
        made = [Structure.create(NUMBERS, s.positions, *((1, 2) if n % 2 else (0, 1))) for n, s in enumerate(made)]
        folder = published(tmp_path, made, labels_of(made, "energy"), descriptor=DISTANCES)
        refused(
            water(), folder, "charge 0 with multiplicity 1, charge 1 with multiplicity 2, and these atoms do not say"
        )
        atoms = water()
        atoms.calc = QuarryCalculator(folder, charge=1)
        assert np.isfinite(atoms.get_potential_energy())
        with pytest.raises(QuarryError, match="charge: '0' is not a whole number"):
            QuarryCalculator(folder, charge="0")

    def test_positions(self, potential):
        atoms = water()
        atoms.positions[1, 2] = np.nan
        refused(atoms, potential, r"position of atom 1 \(from 0\) is not a finite number")
        atoms.positions[1] = atoms.positions[2] + 1e-3
        refused(atoms, potential, r"atoms 1 and 2 \(from 0\) are in one place \(0.0017 Angstrom apart\)")
        atoms.positions[1] = 1e6
        refused(atoms, potential, "beyond 100000; the structure has come apart")
        atoms = water()
        atoms.pbc = True
        refused(atoms, potential, r"periodic \(pbc\), but its cell spans no volume")

    def test_one_atom_and_atoms_out_of_reach(self, gmnn_folder):
        refused(Atoms("O"), gmnn_folder, "a structure of one atom: the model has learnt no free atom")
        refused(Atoms("OHH", 9 * np.eye(3)), gmnn_folder, "no two atoms are within the model's cutoff")

    def test_another_order_of_atoms(self, kreg_folder):
        refused(Atoms("HOH", EQUILIBRIUM), kreg_folder, "with the atoms O H H in this order; these are H O H")
        cell = water()
        cell.set_cell(5 * np.eye(3))
        cell.pbc = True
        refused(cell, kreg_folder, "inverse_distances is for molecules")

    def test_another_composition_is_warned_of(self, gmnn_folder):
        atoms = with_model(Atoms("OH", [[0, 0, 0], [0.97, 0, 0]]), gmnn_folder)
        with pytest.warns(UserWarning, match=r"HO is not among the compositions .*\(H2O"):
            atoms.get_potential_energy()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            two = water() + Atoms(NUMBERS, EQUILIBRIUM + np.array([3.0, 0, 0]))
            assert np.isfinite(with_model(two, gmnn_folder).get_potential_energy())

    def test_a_gpu_that_is_not_there(self, gmnn_folder):
        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
        with pytest.raises(QuarryError, match="device: cuda, but torch finds no GPU"):
            QuarryCalculator(gmnn_folder, device="cuda")
        with pytest.raises(QuarryError, match="device: 'gpu' is none of auto, cpu, cuda"):
            QuarryCalculator(gmnn_folder, device="gpu")

    def test_a_package_that_is_not_installed(self, tmp_path, monkeypatch):
        """The network of a package (here a stand-in) is a calculator where the package is, and names it where it is not."""
        made, model = waters(20), {"kind": "ani", "epochs": 5}
        labels = labels_of(made, "energy", "forces")
        with monkeypatch.context() as patched:
            patched.setattr(registry, "NETWORKS", {"ani": "support.calculators:ToyNetwork"})
            patched.setattr(installed, "lacking", lambda extra, what: None)
            keys = {"target": "energy_forces", "model": model, "query": LCMD, "descriptor": None}
            folder = published(tmp_path, made, labels, **keys)
            assert with_model(water(), folder).get_forces().shape == (3, 3)
        monkeypatch.setattr(installed, "find_spec", lambda module: None)
        with pytest.raises(QuarryError, match=r"model\.kind: ani needs torch and numba, .* not installed; type: "):
            QuarryCalculator(folder)

    def test_what_a_model_cannot_say(self, kreg_folder, gmnn_folder):
        for folder, name, match in (
            (kreg_folder, "stress", "kreg\\) gives none; it gives energy, forces"),
            (kreg_folder, "informativeness", "does not say how much a label would tell it"),
            (gmnn_folder, "energy_uncertainty", "has no standard deviations of energy"),
            (gmnn_folder, "magmoms", "gives energy, forces, stress, free_energy"),
        ):
            with pytest.raises(PropertyNotImplementedError, match=match):
                QuarryCalculator(folder).get_property(name, water())


@pytest.fixture
def copied(gmnn_folder, tmp_path) -> Path:
    folder = tmp_path / "results" / "toy" / "model"
    folder.mkdir(parents=True)
    for file in gmnn_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


class TestFolders:
    def test_it_may_lie_anywhere(self, copied, gmnn_folder):
        energies = {
            with_model(water(), f).get_potential_energy()
            for f in (gmnn_folder, copied, copied.parent, copied / "model.h5")
        }
        assert len(energies) == 1

    def test_its_page_says_what_it_is(self, gmnn_folder):
        text = (gmnn_folder / "README.md").read_text()
        for words in (
            "`gmnn`, trained on 38 structures",
            "Predicts: energy (eV), forces (eV/Angstrom), stress (eV/Angstrom^3).",
            "Labels: engine function, function stand_in:morse (method 0123456789abcdef of the label store)",
            "the elements H, O; charge 0 with multiplicity 1; compositions H2O.",
            "Errors (test): RMSE of energy 0.25 eV, RMSE of forces 0.5 eV/Angstrom, of 6 structures.",
        ):
            assert words in text

    def test_what_is_none(self, copied, tmp_path):
        def says(path, match):
            with pytest.raises(QuarryError, match=match):
                QuarryCalculator(path)

        says(tmp_path / "absent", r"absent: there is no such folder; give results/<name>/model of a finished campaign")
        says(tmp_path, r"there is no model.json; give results/<name>/model")
        (copied.parent / "campaign.json").write_text("{}")
        (copied / "model.json").rename(tmp_path / "moved")
        says(copied, "there is a model.h5 but no model.json beside it; .* started again, which computes no label anew")
        (copied / "model.json").write_text("{")
        says(copied, "model.json: this is not an intact description")

    def test_truncated_and_replaced_files(self, copied):
        for name in ("model.h5", "training.h5"):
            content = (copied / name).read_bytes()
            for wrong in (content[: len(content) // 2], content[:-1] + bytes([content[-1] ^ 1]), b""):
                (copied / name).write_bytes(wrong)
                with pytest.raises(QuarryError, match=f"{name} is not the file that was published"):
                    QuarryCalculator(copied)
            (copied / name).unlink()
            with pytest.raises(QuarryError, match=f"{name} is missing"):
                QuarryCalculator(copied)
            (copied / name).write_bytes(content)

    def test_other_versions(self, copied):
        rewrite(copied, format=2, quarry="9.0")
        with pytest.raises(
            QuarryError, match=r"Quarry 9.0 published this model in format 2, this is Quarry .* reads format 1"
        ):
            QuarryCalculator(copied)
        rewrite(copied, format=1, model={**GMNN, "attention": True})
        with pytest.raises(QuarryError, match=r"it knows a .*attention that Quarry"):
            QuarryCalculator(copied)

    @pytest.mark.parametrize("kind", ["gpr", "kreg", "mlp", "gmnn"])
    def test_no_pickle_is_run(self, copied, kind, tmp_path):
        """A pickle in place of the weights, with its right hash, is data that is not understood."""

        class Attack:
            def __reduce__(self):
                return (Path(tmp_path / "harmed").touch, ())

        zipped = io.BytesIO()
        torch.save({"weights": Attack()}, zipped)
        for content in (pickle.dumps(Attack()), zipped.getvalue()):
            (copied / "model.h5").write_bytes(content)
            digests = {n: hashlib.sha256((copied / n).read_bytes()).hexdigest() for n in ("model.h5", "training.h5")}
            rewrite(copied, files=digests, model={"kind": kind}, descriptor=DISTANCES if kind != "gmnn" else None)
            with pytest.raises(QuarryError, match="not an intact model file"):
                QuarryCalculator(copied)
        assert not (tmp_path / "harmed").exists()

    def test_the_same_campaign_gives_the_same_bytes(self, gmnn_folder, tmp_path):
        made = waters()
        labels = labels_of(made, "energy", "forces")
        again = published(tmp_path, made, labels, target="energy_forces", model=GMNN, query=LCMD, descriptor=None)
        for file in gmnn_folder.iterdir():
            assert file.read_bytes() == (again / file.name).read_bytes(), file.name
