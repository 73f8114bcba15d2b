"""Files of spectra, the ensemble they are made of, and a measured spectrum's mistakes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from quarry.errors import QuarryError
from quarry.spectra.cross_section import CrossSection, nuclear_ensemble, single_point
from quarry.spectra.ensemble import Ensemble, Negative
from quarry.spectra.files import read_dat, read_experiment, read_spectra, write_dat, write_spectra

PRINTED = """DE/eV\tlambda/nm\tsigma/A^2
4.8205\t257.2006\t0.00000000
4.8225\t257.0939\t0.00000000
4.8245\t256.9873\t0.00000000
4.8265\t256.8808\t0.00000000
4.8285\t256.7744\t0.00000000
4.8305\t256.6681\t0.00000000
4.8325\t256.5619\t0.00000001
4.8345\t256.4558\t0.00000003
4.8365\t256.3497\t0.00000009
4.8385\t256.2437\t0.00000026
4.8405\t256.1379\t0.00000062
4.8425\t256.0321\t0.00000128
4.8445\t255.9264\t0.00000224
"""
"""The head of a published cross-section file."""


class TestDat:
    def test_the_format_is_that_of_the_published_run(self, tmp_path):
        """Its energies are printed to four decimals; the wavelengths beside them tell the first one to 1e-7."""
        energies = 4.8205259 + 0.002 * np.arange(13)
        sigma = [float(line.split()[2]) for line in PRINTED.splitlines()[1:]]
        write_dat(tmp_path / "a.dat", CrossSection(energies, np.array(sigma)))
        assert (tmp_path / "a.dat").read_text() == PRINTED

    def test_reading_back(self, tmp_path):
        spectrum = single_point(np.array([5.0]), np.array([0.5]), 0.3, 0.002)
        write_dat(tmp_path / "a.dat", spectrum)
        found = read_dat(tmp_path / "a.dat")
        assert found.energies == pytest.approx(spectrum.energies, abs=5.1e-5)
        assert found.sigma == pytest.approx(spectrum.sigma, abs=5.1e-9)
        assert found.integral() == pytest.approx(spectrum.integral(), rel=1e-4)

    def test_no_spectrum_is_a_header(self, tmp_path):
        write_dat(tmp_path / "a.dat", None)
        assert (tmp_path / "a.dat").read_text() == "DE/eV\tlambda/nm\tsigma/A^2\n"
        assert len(read_dat(tmp_path / "a.dat").energies) == 0

    @pytest.mark.parametrize("text", ["", "a b c\n1 2 3\n", PRINTED + "1.0\t2.0\n", PRINTED + "a\tb\tc\n"])
    def test_another_file_is_one_line(self, tmp_path, text):
        (tmp_path / "a.dat").write_text(text)
        with pytest.raises(QuarryError, match=r"a\.dat: this is no spectrum"):
            read_dat(tmp_path / "a.dat")
        with pytest.raises(QuarryError, match=r"none\.dat: this is no spectrum"):
            read_dat(tmp_path / "none.dat")


def test_the_table_of_spectra(tmp_path):
    rng = np.random.default_rng(0)
    spectra = {
        "ML-NEA": nuclear_ensemble(rng.normal(5, 0.1, (20, 2)), rng.gamma(1, 0.1, (20, 2)), 0.05, 0.01),
        "single point": single_point(np.array([5.0]), np.array([0.1]), 0.3, 0.01),
    }
    write_spectra(tmp_path / "s.csv", spectra)
    assert (tmp_path / "s.csv").read_text().startswith("spectrum,energy_eV,wavelength_nm,sigma_A2,standard_error_A2\n")
    found = read_spectra(tmp_path / "s.csv")
    assert list(found) == list(spectra)
    for name, spectrum in spectra.items():
        assert found[name].energies == pytest.approx(spectrum.energies, abs=1e-6)
        assert found[name].sigma == pytest.approx(spectrum.sigma, rel=1e-7)
    assert found["ML-NEA"].standard_error == pytest.approx(spectra["ML-NEA"].standard_error, rel=1e-7)
    assert found["single point"].standard_error is None


class TestEnsemble:
    ids = np.array(["a" * 20, "b" * 20, "c" * 20])
    roles = np.array(["train", "", "test"])
    labels = np.array([[5.0, 6.0, 0.1, -0.01], [np.nan] * 4, [5.2, np.nan, 0.1, 0.2]])
    predictions = np.array([[np.nan] * 4, [-0.5, 6.1, -0.02, -0.3], [5.3, 6.2, 0.11, -0.001]])

    def test_labels_are_kept_and_predictions_cut_at_zero(self):
        """The third label lacks a number, so it is none; the first one's small negative strength is a label's, and stays."""
        found = Ensemble.assemble(self.ids, self.labels, self.roles, self.predictions)
        assert found.labelled.tolist() == [True, False, False] and found.roles.tolist() == ["train", "", ""]
        assert found.energies.tolist() == [[5.0, 6.0], [0.0, 6.1], [5.3, 6.2]]
        assert found.strengths.tolist() == [[0.1, -0.01], [0.0, 0.0], [0.11, 0.0]]
        assert found.negative == {
            "excitation_energies": Negative(1, -0.5, -0.5 / 3),
            "oscillator_strengths": Negative(3, -0.3, pytest.approx(-0.321 / 3)),
        }
        assert np.isnan(self.labels[1]).all() and self.predictions[1, 0] == -0.5, "the input is left alone"

    def test_a_prediction_that_is_no_number_is_one_line(self):
        wrong = self.predictions.copy()
        wrong[1, 2] = np.inf
        with pytest.raises(QuarryError, match=f"prediction for structure {'b' * 20} is not a finite number"):
            Ensemble.assemble(self.ids, self.labels, self.roles, wrong)

    def test_nothing_below_zero(self):
        all_known = np.full((3, 4), 1.0)
        counted = Ensemble.assemble(self.ids, all_known, self.roles, np.full((3, 4), np.nan)).negative
        assert counted == dict.fromkeys(("excitation_energies", "oscillator_strengths"), Negative(0, 0.0, 0.0))

    def test_file(self, tmp_path):
        ensemble = Ensemble.assemble(self.ids, self.labels, self.roles, self.predictions)
        for name in ("a.h5", "b.h5"):
            ensemble.write(tmp_path / name, {"arm": "main"})
        assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
        found = Ensemble.read(tmp_path / "a.h5")
        for field in ("ids", "energies", "strengths", "labelled", "roles"):
            assert np.array_equal(getattr(found, field), getattr(ensemble, field)), field
        assert found.negative == ensemble.negative and len(found) == 3
        some = found.subset(np.array([2, 0]))
        assert some.ids.tolist() == ["c" * 20, "a" * 20] and some.energies[1].tolist() == [5.0, 6.0]


class TestExperiment:
    def read(self, folder, text, name="measured.csv"):
        (folder / name).write_text(text)
        return read_experiment(folder / name)

    def test_energies_and_cross_sections(self, tmp_path):
        found = self.read(tmp_path, "energy_eV,sigma_A2,note\n5.0,0.2,x\n4.0,0.1,y\n")
        assert found.energies.tolist() == [4.0, 5.0] and found.values.tolist() == [0.1, 0.2] and found.absolute

    def test_wavelengths_and_absorbances(self, tmp_path):
        found = self.read(tmp_path, "\ufeffabsorbance, wavelength_nm\n0.5,200\n-0.01,300\n")
        assert found.energies == pytest.approx([1239.841984332 / 300, 1239.841984332 / 200])
        assert found.values.tolist() == [-0.01, 0.5] and not found.absolute

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("energy,sigma_A2\n5,1\n6,2\n", "needs a column energy_eV or wavelength_nm; it has energy, sigma_A2"),
            ("energy_eV,epsilon\n5,1\n6,2\n", "needs a column sigma_A2 or absorbance; it has energy_eV, epsilon"),
            ("", "needs a column energy_eV or wavelength_nm; it has nothing"),
            ("energy_eV,sigma_A2\n5,x\n6,2\n", "holds no number in row 1 ('x')"),
            ("energy_eV,sigma_A2\n5,1\n6,nan\n", "is not finite in row 2"),
            ("energy_eV,sigma_A2\n5,1\n6\n", "row 2: 1 values for 2 columns"),
            ("energy_eV,sigma_A2\n5,1\n", "is no spectrum; it needs two points or more"),
            (
                "wavelength_nm,absorbance\n0,1\n200,1\n",
                "is no spectrum; it needs two points or more, wavelength_nm above 0",
            ),
            ("wavelength_nm,absorbance\n300,0\n200,-1\n", "and absorbance somewhere"),
        ],
    )
    def test_mistakes_are_one_line(self, tmp_path, text, words):
        with pytest.raises(QuarryError, match=re.escape(words)) as error:
            self.read(tmp_path, text)
        assert str(error.value).startswith("spectrum.experiment: ") and "\n" not in str(error.value)

    def test_other_files(self, tmp_path):
        with pytest.raises(QuarryError, match="must be a CSV file"):
            self.read(tmp_path, "energy_eV,sigma_A2\n5,1\n6,2\n", "measured.txt")
        with pytest.raises(QuarryError, match=r"spectrum\.experiment: .* does not exist"):
            read_experiment(tmp_path / "none.csv")
