"""Pools of Wigner samples: the equilibrium geometry, low modes, start geometries as they are, saved normal modes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from scipy import constants
from scipy.spatial.transform import Rotation

from quarry.config import load_configuration
from quarry.config.campaign import Configuration, inputs_of
from quarry.config.filters import Filters
from quarry.config.methods import PyscfMethod
from quarry.config.pool import LowModes
from quarry.errors import QuarryError
from quarry.randomness import generator
from quarry.sampling.modes import NormalModes
from quarry.sampling.normal_modes import AnalyticHessian, compute_normal_modes
from quarry.sampling.wigner import low_modes_message, sample_wigner
from quarry.stages.filtering import Candidate, PoolFilter
from quarry.stages.pool import build_pool, compute_modes
from quarry.stages.preflight import check
from quarry.structures import Structure, StructureSet
from quarry.structures.files import read_job_input, read_pool
from support.configurations import WIGNER, changed

METHOD = PyscfMethod(xc="hf", basis="sto-3g")
WATER = Structure.create([8, 1, 1], np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]))
FREQUENCIES = np.array([30.0, 60.0, 1700.0])
SPECTRUM = {
    "target": "excitations",
    "spectrum": {},
    "labeling.method.excitations": {"n_states": 3},
    "model": {"kind": "kreg"},
    "query.strategy": "sequence",
    "stop": {"rrmse": None, "max_labels": 60},
}


def toy_modes(frequencies: np.ndarray = FREQUENCIES) -> NormalModes:
    """Any orthogonal displacements of water that are normalised with the masses."""
    masses = np.array([16.0, 1.0, 1.0])
    modes = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 9)))[0][: len(frequencies)].reshape(-1, 3, 3)
    return NormalModes(WATER, frequencies, modes / np.sqrt(masses)[:, None], masses, -1.0, {})


def configuration(folder: Path, changes: dict[str, Any]) -> Configuration:
    toy_modes().write(folder / "modes.json")
    pool = {"source": "wigner", "modes_file": "modes.json", "size": 30, **changes.pop("pool", {})}
    return load_configuration(changed({**WIGNER, "pool": pool}, changes), "campaign.yaml")


def build(folder: Path, settings: Configuration, modes: str | None = None) -> tuple[str, StructureSet]:
    outputs = {name: str(folder / f"{name}.out") for name in ("structures", "reference", "filtered")}
    line = build_pool(settings, folder, modes, **outputs)
    assert read_job_input(outputs["reference"])[0].structure.structure_id == WATER.structure_id
    return line, read_pool(outputs["structures"])


def test_an_id_to_leave_out_that_the_pool_does_not_have_is_refused(tmp_path):
    """A drawn pool is known when it is built, before any label."""
    settings = configuration(tmp_path, {"labeling.leave_out": "bad.txt"})
    (tmp_path / "bad.txt").write_text("f" * 20 + "\n")
    with pytest.raises(QuarryError, match=r"labeling.leave_out: 1 of 1 ids are not in the pool \(the first: f{20}\)"):
        build(tmp_path, settings)
    _, pool = build(tmp_path, configuration(tmp_path, {}))
    (tmp_path / "bad.txt").write_text(f"{pool.ids[3]}\n")
    assert len(build(tmp_path, settings)[1]) == 30


class TestEquilibrium:
    def test_it_stands_before_the_same_members(self, tmp_path: Path) -> None:
        alone_line, alone = build(tmp_path, configuration(tmp_path, {}))
        line, pool = build(tmp_path, configuration(tmp_path, dict(SPECTRUM)))
        assert (len(alone), len(pool)) == (30, 31)
        assert pool.ids[0] == WATER.structure_id and list(pool.ids[1:]) == list(alone.ids)
        assert line.startswith("pool: 31 structures, the first of them the equilibrium geometry, 0 duplicates")
        assert alone_line.startswith("pool: 30 structures, 0 duplicates")
        without = configuration(tmp_path, SPECTRUM | {"spectrum": {"equilibrium": False}})
        assert list(build(tmp_path, without)[1].ids) == list(alone.ids)

    def test_a_larger_pool_begins_with_the_smaller_one(self, tmp_path: Path) -> None:
        small, large = (
            build(tmp_path, configuration(tmp_path, SPECTRUM | {"pool": {"size": size}}))[1] for size in (30, 45)
        )
        assert list(large.ids[:31]) == list(small.ids)

    def test_filters_let_it_through_and_hold_nothing_against_the_members(self, tmp_path: Path) -> None:
        """Whatever a filter takes, row 0 stays, and the members are those of the pool without it."""
        for filters in ({"near_duplicates": 0.05}, {"min_distance_factor": 0.97}, {"bonds": "same"}):
            alone, pool = (
                build(tmp_path, configuration(tmp_path, {"filters": filters, "query.initial": 2, "test.size": 2} | more))[1]
                for more in ({}, SPECTRUM)
            )  # fmt: skip
            assert pool.ids[0] == WATER.structure_id
            assert list(pool.ids[1:]) == list(alone.ids)

    def test_a_filter_that_it_would_not_pass(self) -> None:
        """A complex of two molecules that filters.bonds tears out of the samples is still the equilibrium."""
        torn = Structure.create([1, 1], np.array([[0, 0, 0], [0, 0, 4.0]]))
        pool_filter = PoolFilter(Filters.model_validate({"bonds": "connected"}), torn)
        pool_filter.begin_with(torn)
        pool_filter.add([Candidate("sample", 0, torn)])
        assert list(pool_filter.kept.ids) == [torn.structure_id]
        assert [item.reason for item in pool_filter.rejected] == ["identical"]

    def test_a_sample_that_is_the_equilibrium_is_the_duplicate(self, tmp_path: Path) -> None:
        frozen = {"low_modes": {"below_cm": 1e6, "treatment": "freeze"}}
        with pytest.raises(QuarryError, match=r"pool\.low_modes: all modes are below 1e\+06 1/cm"):
            build(tmp_path, configuration(tmp_path, SPECTRUM | {"pool": frozen}))
        # So stiff that no sample leaves the equilibrium by half a step of the positions.
        settings = configuration(tmp_path, SPECTRUM | {"query.initial": 1, "test.size": 0})
        toy_modes(np.array([1e18])).write(tmp_path / "modes.json")
        line, pool = build(tmp_path, settings)
        assert list(pool.ids) == [WATER.structure_id]
        assert "300 samples gave no more" in line and "300 duplicates dropped" in line

    def test_too_small_for_the_first_batch(self, tmp_path: Path) -> None:
        settings = configuration(tmp_path, SPECTRUM | {"filters": {"near_duplicates": 2.0}})
        with pytest.raises(
            QuarryError, match=r"^query\.initial \+ test\.size = 30 is more than the pool's \d+ structures"
        ):
            build(tmp_path, settings)


class TestLowModes:
    def coordinates(self, low_modes: LowModes | None, size: int = 5_000) -> np.ndarray:
        modes = toy_modes()
        sample = sample_wigner(modes, 300.0, size, np.random.default_rng(5), low_modes)
        moved = sample.positions.reshape(size, 3, 3) - WATER.positions
        return np.einsum("i,kix,nix->nk", modes.masses_u, modes.modes, moved)

    def test_widths(self) -> None:
        """Raised modes have the textbook width at the limit, frozen ones none, the others the same coordinates."""
        plain = self.coordinates(None)
        raised = self.coordinates(LowModes(treatment="raise"))
        frozen = self.coordinates(LowModes(treatment="freeze", below_cm=50.0))
        for values, effective in ((plain, FREQUENCIES), (raised, [100.0, 100.0, 1700.0])):
            # Variance of a quantum oscillator, hbar / (2 m omega) (1 + 2 n), with n from Bose-Einstein.
            omega = 2 * np.pi * constants.c * 100 * np.array(effective)
            quanta = 1 / np.expm1(constants.hbar * omega / (constants.k * 300.0))
            variance = constants.hbar / (2 * omega) * (1 + 2 * quanta) / constants.atomic_mass / constants.angstrom**2
            assert values.var(axis=0) == pytest.approx(variance, rel=4 * np.sqrt(2 / len(values)))
        # Positions are rounded to 1e-6 Angstrom.
        assert raised[:, 2] == pytest.approx(plain[:, 2], abs=2e-5)
        assert frozen[:, 1:] == pytest.approx(plain[:, 1:], abs=2e-5)
        assert np.abs(frozen[:, 0]).max() < 2e-5

    def test_a_limit_below_all_modes_changes_nothing(self) -> None:
        for treatment in ("raise", "freeze"):
            low = LowModes.model_validate({"treatment": treatment, "below_cm": 30.0})
            assert (self.coordinates(low, 20) == self.coordinates(None, 20)).all()

    def test_the_pool_says_so(self, tmp_path: Path) -> None:
        whole = {"filters": {"min_distance_factor": None}}
        plain, pool = build(tmp_path, configuration(tmp_path, dict(whole)))
        assert (
            "modes below 100 1/cm (30, 60) are sampled as harmonic, with large displacements; pool.low_modes" in plain
        )
        drawn = sample_wigner(toy_modes(), 300.0, 30, generator(0, "pool"))
        assert list(pool.ids) == list(drawn.ids)
        low = {"treatment": "freeze", "below_cm": 50.0}
        line, pool = build(tmp_path, configuration(tmp_path, whole | {"pool": {"low_modes": low}}))
        assert line.endswith("; modes below 50 1/cm (30) are frozen")
        drawn = sample_wigner(toy_modes(), 300.0, 30, generator(0, "pool"), LowModes.model_validate(low))
        assert list(pool.ids) == list(drawn.ids)
        assert low_modes_message(FREQUENCIES, LowModes(treatment="raise")).endswith(
            "(30, 60) are sampled as if at 100 1/cm"
        )
        assert low_modes_message(np.array([100.0, 500.0]), None) == ""


CO2 = [[0.0, 0.0, -1.187926], [0.0, 0.0, 0.0], [0.0, 0.0, 1.187926]]
"""Minima and a saddle point of HF/STO-3G, optimised, Angstrom."""
HYDROGEN = [[0.0, 0.0, -0.006111], [0.0, 0.0, 0.706111]]
STRAIGHT_WATER = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.932613], [0.0, 0.0, -0.932613]]


class TestStartGeometryAsItIs:
    def modes(self, numbers: list[int], positions: Any, lines: list[str] | None = None) -> NormalModes:
        start = Structure.create(numbers, np.array(positions))
        return compute_normal_modes(
            start, AnalyticHessian(METHOD, 1), (lines if lines is not None else []).append, optimise=False
        )

    def test_a_linear_molecule_has_3n_minus_5_modes(self) -> None:
        """In any direction, and straight to a hair only."""
        turned = Rotation.from_rotvec([0.4, -1.0, 0.2]).apply(np.array(CO2) + np.outer([1, 0, 0], [0.001, 0, 0]))
        lines: list[str] = []
        modes = self.modes([8, 6, 8], turned, lines)
        # HF/STO-3G: bend (twice), symmetric and antisymmetric stretch.
        assert modes.frequencies_cm == pytest.approx([565.9, 565.9, 1435.2, 2535.2], abs=1.0)
        assert "start geometry, not optimised: largest force 0.0" in lines[0]
        assert np.abs(modes.equilibrium.positions[:, :2]).max() == 0

    def test_it_is_the_equilibrium(self, tmp_path: Path) -> None:
        tilted = Rotation.from_rotvec([0.3, 0.1, 0.0]).apply(np.array(HYDROGEN))
        modes = self.modes([1, 1], tilted)
        assert modes.frequencies_cm == pytest.approx([5481], abs=2)
        # Bent water is no line: taken to the last digit.
        minimum = [[0.0, 0.0, 0.118], [0.0, 0.758, -0.4724], [0.0, -0.758, -0.4724]]
        start = compute_normal_modes(
            Structure.create([8, 1, 1], np.array(minimum)), AnalyticHessian(METHOD, 1), lambda _: None
        ).equilibrium
        assert (self.modes([8, 1, 1], start.positions).equilibrium.positions == start.positions).all()

    def test_imaginary_modes_are_named(self) -> None:
        wanted = r"^pool\.molecule: the start geometry is no minimum.* \(2412i, 2412i 1/cm\); .*pool\.optimise: True"
        with pytest.raises(QuarryError, match=wanted):
            self.modes([8, 1, 1], STRAIGHT_WATER)

    def test_forces_are_named_before_a_hessian(self) -> None:
        lines: list[str] = []
        with pytest.raises(
            QuarryError, match=r"no stationary point, its largest force is \d\.\d+ eV/Angstrom \(at most"
        ):
            self.modes([1, 1], [[0, 0, 0], [0, 0, 0.75]], lines)
        assert len(lines) == 1

    def test_the_key_decides(self, tmp_path: Path) -> None:
        write(tmp_path / "h2.xyz", Atoms("HH", [[0, 0, 0], [0, 0, 0.75]]))
        pool = {"source": "wigner", "molecule": "h2.xyz", "size": 30, "geometry_method": METHOD.model_dump()}
        for optimise in (True, False):
            settings = load_configuration(changed({**WIGNER, "pool": pool}, {"pool.optimise": optimise}), "c.yaml")
            if optimise:
                compute_modes(settings, tmp_path, str(tmp_path / "modes.json"), 1, lambda _: None)
                bond = np.diff(NormalModes.read(tmp_path / "modes.json").equilibrium.positions[:, 2])[0]
                assert bond == pytest.approx(0.7122, abs=2e-4)
            else:
                with pytest.raises(QuarryError, match=r"pool\.optimise: True"):
                    compute_modes(settings, tmp_path, str(tmp_path / "modes.json"), 1, lambda _: None)


class TestModesFile:
    def test_it_gives_the_pool_of_the_campaign_that_computed_it(self, tmp_path: Path) -> None:
        settings = configuration(tmp_path, {})
        again = Configuration.model_validate(json.loads(settings.model_dump_json()))
        assert again == settings, "jobs get the whole configuration, defaults included"
        assert inputs_of(settings, tmp_path) == [tmp_path / "modes.json"]
        assert "modes.json" in check(settings, tmp_path)["inputs"]
        from_file = build(tmp_path, settings)[1]
        computing = load_configuration(changed(WIGNER, {"pool.size": 30}), "campaign.yaml")
        computed = build(tmp_path, computing, str(tmp_path / "modes.json"))[1]
        assert list(computed.ids) == list(from_file.ids)

    def test_it_needs_no_geometry_method(self, tmp_path: Path) -> None:
        (tmp_path / "stand_in.py").write_text("def morse(atoms): pass\n")
        labeling = {"engine": "function", "function": "stand_in:morse"}
        assert configuration(tmp_path, {"labeling": labeling}).pool.source == "wigner"

    @pytest.mark.parametrize(
        ("pool", "reason"),
        [
            ({"molecule": "a.xyz"}, "pool: the modes_file says all that is in molecule; remove molecule"),
            ({"charge": 1, "optimise": False}, "is in optimise, charge; remove optimise and charge"),
            ({"modes_file": None}, "pool: the key molecule is missing; give the start geometry, or modes_file"),
            ({"low_modes": {}}, "pool.low_modes.treatment: this key is missing"),
            ({"low_modes": {"treatment": "cut"}}, "pool.low_modes.treatment: 'cut' is not one of 'raise' or 'freeze'"),
            ({"low_modes": {"treatment": "raise", "below_cm": 0}}, "pool.low_modes.below_cm: input should be greater than 0"),
            ({"low_modes": {"treatment": "raise", "below": 3}}, "did you mean 'below_cm'?"),
            ({"temperature_K": -1}, "pool.temperature_K"),
        ],
    )  # fmt: skip
    def test_mistakes_of_the_section(self, tmp_path: Path, pool: dict[str, Any], reason: str) -> None:
        with pytest.raises(QuarryError) as caught:
            configuration(tmp_path, {"pool": pool})
        assert reason in str(caught.value) and "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("key", "value", "reason"),
        [
            ("frequencies_cm", [-412.3, 60.0, 1700.0], r"modes.json is no minimum.* \(412i 1/cm\)"),
            ("masses_u", [32.0, 1.0, 1.0], "not orthogonal and normalised"),
            ("charge", 1, "electrons"),
            ("numbers", [8, 1], "no normal modes file"),
        ],
    )
    def test_a_file_that_is_no_minimum_is_refused_before_any_job(
        self, tmp_path: Path, key: str, value: Any, reason: str
    ) -> None:
        settings = configuration(tmp_path, {})
        data = json.loads((tmp_path / "modes.json").read_text())
        (tmp_path / "modes.json").write_text(json.dumps({**data, key: value}))
        with pytest.raises(QuarryError, match=reason) as caught:
            check(settings, tmp_path)
        assert "\n" not in str(caught.value)

    def test_constant_pressure_of_a_molecule_is_refused_before_any_job(self, tmp_path: Path) -> None:
        settings = configuration(tmp_path, {})
        explore = {"ensemble": "npt"}
        pool = {"source": "dynamics", "modes_file": "modes.json", "explore": explore}
        gmnn = {"kind": "gmnn", "uncertainty": "auxiliary"}
        given = {**settings.model_dump(exclude_unset=True), "pool": pool, "target": "energy_forces", "model": gmnn}
        given["stop"] = {"max_labels": 100}
        with pytest.raises(QuarryError, match="npt changes the volume of cells"):
            check(load_configuration(given, "campaign.yaml"), tmp_path)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        settings = configuration(tmp_path, {})
        (tmp_path / "modes.json").unlink()
        with pytest.raises(QuarryError, match=r"modes\.json: no normal modes file"):
            check(settings, tmp_path)
