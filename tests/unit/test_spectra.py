"""Cross-sections against slow loops over the printed equation, published constants, and what must not change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarry.errors import QuarryError
from quarry.spectra import cross_section
from quarry.spectra.cross_section import (
    HC_EV_NM,
    PREFACTOR_A2_EV,
    CrossSection,
    largest_deviation,
    nuclear_ensemble,
    on_common_grid,
    overlap,
    relative_integral_change,
    single_point,
    sum_rule,
)

# CODATA 2022, written out: C, J s, kg, m/s, F/m, m.
E, HBAR, ME, LIGHT = 1.602176634e-19, 6.62607015e-34 / (2 * math.pi), 9.1093837139e-31, 299792458.0
EPS0, ELECTRON_RADIUS = 8.8541878188e-12, 2.8179403205e-15


def ensemble(members: int, states: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(np.linspace(4.0, 6.0, states), 0.1, (members, states)), rng.gamma(0.5, 0.1, (members, states))


def printed_equation(energies, strengths, delta, grid, refractive_index=1.0) -> tuple[list[float], list[float]]:
    """The lecture's equation in SI units, with h-bar, term by term; and the standard error of its mean over members."""
    values, errors = [], []
    for energy in grid:
        members = []
        for i in range(len(energies)):
            total = 0.0
            for dE, f in zip(energies[i], strengths[i], strict=True):
                normal = 1 / math.sqrt(2 * math.pi * (delta / 2) ** 2)
                g = normal * math.exp(-((energy - dE) ** 2) / (2 * (delta / 2) ** 2))
                total += dE * f * g
            # dE g has no unit; the grid's energy in J; m^2 to Angstrom^2.
            area = math.pi * E**2 * HBAR / (2 * ME * LIGHT * EPS0 * refractive_index * energy * E)
            members.append(area * total * 1e20)
        values.append(float(np.mean(members)))
        errors.append(float(np.std(members, ddof=1) / math.sqrt(len(members))) if len(members) > 1 else math.nan)
    return values, errors


class TestConstants:
    def test_the_prefactor_from_codata_numbers(self):
        """1.0976 Angstrom^2 eV; with h in the place of h-bar it would be 6.896."""
        metres2_seconds = math.pi * E**2 / (2 * ME * LIGHT * EPS0)
        assert pytest.approx(metres2_seconds * (HBAR / E) * 1e20, rel=1e-9) == PREFACTOR_A2_EV
        assert pytest.approx(1.0976098670, rel=1e-8) == PREFACTOR_A2_EV

    def test_another_way_to_it(self):
        """The integral over frequency of a line of strength 1 is pi r_e c, with the electron's radius; E = h nu."""
        h_eV_s = 2 * math.pi * HBAR / E
        assert pytest.approx(math.pi * ELECTRON_RADIUS * LIGHT * h_eV_s * 1e20, rel=1e-8) == PREFACTOR_A2_EV

    def test_the_prefactor_of_the_single_point_convolution(self):
        assert round(PREFACTOR_A2_EV / math.sqrt(math.pi), 3) == 0.619

    def test_wavelengths(self):
        assert pytest.approx(1239.841984332, rel=1e-12) == HC_EV_NM


class TestNuclearEnsemble:
    @pytest.mark.parametrize(("refractive_index", "delta"), [(1.0, 0.05), (1.33, 0.2)])
    def test_against_the_printed_equation(self, refractive_index, delta):
        energies, strengths = ensemble(4, 3)
        found = nuclear_ensemble(energies, strengths, delta, 0.01, refractive_index)
        sigma, errors = printed_equation(energies, strengths, delta, found.energies, refractive_index)
        scale = max(sigma)
        assert found.sigma == pytest.approx(sigma, rel=1e-9, abs=1e-12 * scale)
        assert found.standard_error == pytest.approx(errors, rel=1e-9, abs=1e-12 * scale)
        assert found.members == 4

    def test_blocks_change_nothing(self, monkeypatch):
        energies, strengths = ensemble(11, 2)
        whole = nuclear_ensemble(energies, strengths, 0.1, 0.02)
        for cells in (1, 700):
            monkeypatch.setattr(cross_section, "CELLS", cells)
            parts = nuclear_ensemble(energies, strengths, 0.1, 0.02)
            assert parts.sigma == pytest.approx(whole.sigma, rel=1e-12, abs=1e-15)
            assert parts.standard_error == pytest.approx(whole.standard_error, rel=1e-10, abs=1e-15)

    def test_the_standard_error_is_that_of_resampled_members(self):
        """Against a bootstrap over members; states of one member are correlated, so that lines alone would err less."""
        rng = np.random.default_rng(3)
        energies = np.repeat(rng.normal(5.0, 0.05, (60, 1)), 4, axis=1) + np.arange(4) * 0.01
        strengths = np.repeat(rng.gamma(1.0, 0.1, (60, 1)), 4, axis=1)
        found = nuclear_ensemble(energies, strengths, 0.2, 0.05)
        place = int(np.argmax(found.sigma))
        at = found.energies[place]
        single = np.array([self._at(e[None], f[None], at) for e, f in zip(energies, strengths, strict=True)])
        drawn = [single[rng.integers(60, size=60)].mean() for _ in range(4000)]
        assert found.sigma[place] == pytest.approx(single.mean(), rel=1e-9)
        assert found.standard_error[place] == pytest.approx(np.std(drawn), rel=0.06)
        lines = nuclear_ensemble(energies.reshape(-1, 1), 4 * strengths.reshape(-1, 1), 0.2, 0.05)
        assert lines.standard_error[place] < 0.7 * found.standard_error[place]

    @staticmethod
    def _at(energies, strengths, energy: float) -> float:
        return printed_equation(energies, strengths, 0.2, [energy])[0][0]

    def test_grid(self):
        found = nuclear_ensemble(np.array([[4.0, 7.0, 9.0]]), np.array([[0.1, 0.2, 0.0]]), 0.1, 0.002)
        assert found.energies[0] == pytest.approx(3.7) and 7.3 <= found.energies[-1] < 7.302
        assert np.diff(found.energies) == pytest.approx(0.002)
        assert found.standard_error is None
        assert found.wavelengths[0] == pytest.approx(1239.841984332 / 3.7)

    def test_the_grid_stays_above_zero(self):
        found = nuclear_ensemble(np.array([[0.001, 0.05]]), np.array([[0.1, 0.1]]), 0.3, 0.01)
        assert found.energies[0] == pytest.approx(0.01) and np.isfinite(found.sigma).all()
        sigma, _ = printed_equation(np.array([[0.001, 0.05]]), np.array([[0.1, 0.1]]), 0.3, found.energies)
        assert found.sigma == pytest.approx(sigma, rel=1e-9)

    def test_lines_that_add_nothing(self):
        """No strength, or an energy or strength below zero: the line is left out, its member is counted."""
        one = nuclear_ensemble(np.array([[5.0, 6.0]]), np.array([[0.1, 0.0]]), 0.1, 0.01)
        more = nuclear_ensemble(np.array([[5.0, 6.0], [-3.0, 7.0]]), np.array([[0.1, 0.0], [0.5, -0.2]]), 0.1, 0.01)
        assert np.array_equal(one.energies, more.energies)
        assert more.sigma == pytest.approx(one.sigma / 2, rel=1e-12) and more.members == 2

    def test_nothing_at_all_is_one_line(self):
        with pytest.raises(QuarryError, match="none of the 4 lines of 2 geometries has an oscillator strength above 0"):
            nuclear_ensemble(np.full((2, 2), 5.0), np.zeros((2, 2)), 0.1, 0.01)
        with pytest.raises(QuarryError, match="none of the 2 lines of 1 geometries"):
            single_point(np.array([-5.0, 0.0]), np.array([1.0, 1.0]), 0.1, 0.01)

    @pytest.mark.parametrize("which", [0, 1])
    def test_a_missing_number_never_enters_silently(self, which):
        lines = list(ensemble(3, 2))
        lines[which][1, 1] = np.nan
        word = ("excitation energy", "oscillator strength")[which]
        with pytest.raises(QuarryError, match=f"{word} of state 2 of ensemble member 2 is not a finite number"):
            nuclear_ensemble(*lines, 0.1, 0.01)

    def test_too_fine_a_grid_is_one_line(self):
        with pytest.raises(QuarryError, match=r"step_eV: 1e-09 makes .* points .* make it larger"):
            nuclear_ensemble(*ensemble(2, 2), 0.1, 1e-9)

    def test_shapes_that_do_not_fit(self):
        with pytest.raises(ValueError, match="do not fit"):
            nuclear_ensemble(np.ones((2, 3)), np.ones((3, 2)), 0.1, 0.01)


class TestSumRule:
    @pytest.mark.parametrize(("delta", "step"), [(0.01, 0.002), (0.05, 0.002), (0.3, 0.01)])
    def test_of_an_ensemble(self, delta, step):
        energies, strengths = ensemble(50, 5)
        found = nuclear_ensemble(energies, strengths, delta, step, 1.2)
        assert found.integral() == pytest.approx(1.0976098670 / 1.2 * strengths.sum() / 50, rel=1e-3)
        assert sum_rule(strengths, 1.2) == pytest.approx(1.0976098670 / 1.2 * strengths.sum() / 50, rel=1e-9)

    def test_of_a_single_point(self):
        found = single_point(np.array([5.0, 6.0]), np.array([0.1, 0.7]), 0.3, 0.002)
        assert found.integral() == pytest.approx(1.0976098670 * 0.8, rel=1e-3)


def test_the_single_point_convolution_is_that_of_the_published_program():
    energies, strengths = np.array([5.0, 5.4]), np.array([0.1, 0.02])
    found = single_point(energies, strengths, 0.3, 0.02)
    expected = sum(
        0.619 * f / 0.3 * np.exp(-((found.energies - e) ** 2) / 0.3**2)
        for e, f in zip(energies, strengths, strict=True)
    )
    assert found.sigma == pytest.approx(expected, rel=1e-3, abs=1e-12)
    assert found.energies[0] == pytest.approx(4.1) and found.standard_error is None and found.members == 1
    assert single_point(energies, strengths, 0.3, 0.02, 2.0).sigma == pytest.approx(found.sigma / 2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 4))
def test_the_order_of_members_and_states_changes_nothing(seed, members, states):
    energies, strengths = ensemble(members, states, seed)
    rng = np.random.default_rng(seed)
    order, columns = rng.permutation(members), rng.permutation(states)
    found = nuclear_ensemble(energies, strengths, 0.1, 0.02)
    other = nuclear_ensemble(energies[order][:, columns], strengths[order][:, columns], 0.1, 0.02)
    assert other.sigma == pytest.approx(found.sigma, rel=1e-9, abs=1e-12)
    if members > 1:
        assert other.standard_error == pytest.approx(found.standard_error, rel=1e-7, abs=1e-10)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(2, 4), st.floats(0.1, 10))
def test_states_add_up_and_strengths_scale(seed, members, states, factor):
    """Two further states, the same every time, hold the grid at its place."""
    energies, strengths = ensemble(members, states + 2, seed)
    energies[:, -2:] = 3.0, 7.0

    def sigma(shown):
        return nuclear_ensemble(energies, factor * np.where(shown, strengths, 0.0), 0.1, 0.02).sigma

    frame = np.arange(states + 2) >= states
    parts = sum(sigma(frame | (np.arange(states + 2) == k)) for k in range(states))
    whole = sigma(np.full(states + 2, True))
    assert parts - (states - 1) * sigma(frame) == pytest.approx(whole, rel=1e-9, abs=1e-12 * factor)
    assert whole == pytest.approx(factor * nuclear_ensemble(energies, strengths, 0.1, 0.02).sigma, rel=1e-9, abs=1e-14)


def test_an_ensemble_of_copies_has_no_error():
    energies, strengths = np.tile([[5.0, 5.3]], (40, 1)), np.tile([[0.1, 0.2]], (40, 1))
    found = nuclear_ensemble(energies, strengths, 0.1, 0.01)
    assert found.standard_error.max() < 1e-10
    assert found.sigma == pytest.approx(nuclear_ensemble(energies[:1], strengths[:1], 0.1, 0.01).sigma, rel=1e-12)


class TestMeasures:
    def box(self, low, high, height):
        grid = np.round(np.arange(low, high + 1e-9, 0.001), 9)
        return CrossSection(grid, np.full(len(grid), float(height)))

    def test_by_hand(self):
        """Boxes of height 2 on 1 to 3 and of height 1 on 2 to 4: of the second's 2, 1 x 2 + 1 x 1 + 1 x 1 differ."""
        a, b = self.box(1, 3, 2), self.box(2, 4, 1)
        assert relative_integral_change(a, b) == pytest.approx(4 / 2, rel=2e-3)
        assert largest_deviation(a, b) == pytest.approx(2.0)
        assert overlap(a, b) == pytest.approx(2 / math.sqrt(8 * 2), rel=2e-3)

    def test_a_spectrum_is_like_itself(self):
        spectrum = nuclear_ensemble(*ensemble(5, 3), 0.1, 0.01)
        assert relative_integral_change(spectrum, spectrum) == largest_deviation(spectrum, spectrum) == 0.0
        assert overlap(spectrum, spectrum) == pytest.approx(1.0)
        twice = CrossSection(spectrum.energies, 2 * spectrum.sigma)
        assert overlap(spectrum, twice) == pytest.approx(1.0)
        assert relative_integral_change(twice, spectrum) == pytest.approx(1.0)

    def test_the_common_grid_holds_both(self):
        grid, a, b = on_common_grid(self.box(1, 2, 1), self.box(5, 6, 1))
        assert (grid[0], grid[-1]) == (1.0, 6.0) and not (a * b).any()
        assert np.diff(grid).max() <= 0.001 + 1e-12
        assert overlap(self.box(1, 2, 1), self.box(5, 6, 1)) == 0.0
