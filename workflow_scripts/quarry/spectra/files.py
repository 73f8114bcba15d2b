"""Files of spectra: the three columns of MLatom's ``cross-section_*.dat``, a table of all spectra, and a measured spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quarry.csv_tables import read_dicts, write_rows
from quarry.errors import QuarryError, reason_of
from quarry.files import write_text
from quarry.spectra.cross_section import HC_EV_NM, CrossSection
from quarry.structures.tables import Table, read_feature_rows

DAT_HEADER = "DE/eV\tlambda/nm\tsigma/A^2"
TABLE_COLUMNS = ("spectrum", "energy_eV", "wavelength_nm", "sigma_A2", "standard_error_A2")
EXPERIMENT_KEY = "spectrum.experiment"


def write_dat(path: str | Path, spectrum: CrossSection | None) -> None:
    """Write energy (eV), wavelength (nm) and cross-section (Angstrom^2), tab-separated; None leaves the header alone."""
    lines = [DAT_HEADER]
    if spectrum is not None:
        columns = zip(spectrum.energies, spectrum.wavelengths, spectrum.sigma, strict=True)
        lines += [f"{energy:.4f}\t{wavelength:.4f}\t{sigma:.8f}" for energy, wavelength, sigma in columns]
    write_text(path, "\n".join(lines) + "\n")


def read_dat(path: str | Path) -> CrossSection:
    """Read what ``write_dat`` wrote, or MLatom did; of a header alone, a spectrum without points.

    Raises QuarryError for a file of another kind.
    """
    try:
        header, *lines = Path(path).read_text().splitlines()
        rows = np.array([[float(text) for text in line.split()] for line in lines if line.strip()])
        if header.split() != DAT_HEADER.split() or (rows.size and rows.shape[1:] != (3,)):
            raise ValueError(f"its columns are not {', '.join(DAT_HEADER.split())}")
    except (OSError, ValueError) as error:
        raise QuarryError(f"{path}: this is no spectrum ({reason_of(error)}); correct or remove it") from error
    rows = rows.reshape(-1, 3)
    return CrossSection(rows[:, 0], rows[:, 2])


def write_spectra(path: str | Path, spectra: Mapping[str, CrossSection]) -> None:
    """Write spectra by name one below the other (``TABLE_COLUMNS``, with units); no error is an empty cell."""
    rows: list[list[str]] = []
    for name, spectrum in spectra.items():
        errors = [""] * len(spectrum.energies)
        if spectrum.standard_error is not None:
            errors = [f"{error:.8g}" for error in spectrum.standard_error]
        columns = zip(spectrum.energies, spectrum.wavelengths, spectrum.sigma, errors, strict=True)
        rows += ([name, f"{e:.6f}", f"{w:.6f}", f"{s:.8g}", error] for e, w, s, error in columns)
    write_rows(path, TABLE_COLUMNS, rows)


def read_spectra(path: str | Path) -> dict[str, CrossSection]:
    """Read what ``write_spectra`` wrote, in its order."""
    rows = read_dicts(path)
    spectra = {}
    for name in dict.fromkeys(row["spectrum"] for row in rows):
        own = [row for row in rows if row["spectrum"] == name]
        energies, sigma = (np.array([float(row[column]) for row in own]) for column in ("energy_eV", "sigma_A2"))
        errors = [row["standard_error_A2"] for row in own]
        error = np.array([float(text) for text in errors]) if all(errors) else None
        spectra[name] = CrossSection(energies, sigma, error)
    return spectra


@dataclass(frozen=True, eq=False)
class Experiment:
    """A measured spectrum: energies (eV, rising) and values, shape (n,); absolute if these are Angstrom^2."""

    energies: NDArray[np.float64]
    values: NDArray[np.float64]
    absolute: bool


def read_experiment(path: Path) -> Experiment:
    """Read a measured spectrum from CSV with the columns energy_eV or wavelength_nm, and sigma_A2 or absorbance.

    Raises QuarryError, one line, for another file, a missing column, what is no number, and what is no spectrum.
    """
    if path.suffix.lower() != ".csv":
        raise QuarryError(f"{EXPERIMENT_KEY}: {path} must be a CSV file")
    names = Table(path, EXPERIMENT_KEY).names
    chosen = []
    for choice in (("energy_eV", "wavelength_nm"), ("sigma_A2", "absorbance")):
        found = next((name for name in choice if name in names), None)
        if found is None:
            raise QuarryError(
                f"{EXPERIMENT_KEY}: {path} needs a column {choice[0]} or {choice[1]}; it has "
                f"{', '.join(names) or 'nothing'}"
            )
        chosen.append(found)
    ((_, columns),) = read_feature_rows([(str(path), path)], chosen, EXPERIMENT_KEY, EXPERIMENT_KEY)
    place, values = columns.T
    if len(place) < 2 or (place <= 0).any() or not (values > 0).any():
        raise QuarryError(
            f"{EXPERIMENT_KEY}: {path} is no spectrum; it needs two points or more, {chosen[0]} above 0 everywhere and "
            f"{chosen[1]} somewhere"
        )
    energies = place if chosen[0] == "energy_eV" else HC_EV_NM / place
    order = np.argsort(energies, kind="stable")
    return Experiment(energies[order], values[order], absolute=chosen[1] == "sigma_A2")
