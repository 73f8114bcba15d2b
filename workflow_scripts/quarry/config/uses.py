"""What `snakemake optimise`, `frequencies`, `md`, `infrared` and `surface_hopping` do with a finished
potential. No part of the identity.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from quarry.config.base import Section

USES = ("optimise", "frequencies", "md", "infrared", "surface_hopping")
"""Targets that use a potential, and the rules that make them."""
LENGTH_PS_CM = 37.5
"""Length of a trajectory (ps) times the resolution of its spectrum (1/cm): three widths of the window."""


class Optimise(Section):
    """`snakemake optimise`: the structure relaxed on the potential."""

    force_limit_eV_A: float = Field(default=0.001, gt=0)
    """The relaxation ends when no atom has a larger force, in eV/Angstrom. 0.01 leaves 2.5 1/cm of the vibration of hydrogen
    fluoride open; raise it where a program's forces are rougher than this."""
    max_steps: int = Field(default=500, gt=0)
    """Steps of BFGS; a relaxation that needs more is an error."""
    cell: bool = False
    """Relax the cell too (the model must give stresses, and so must the labels for the reference)."""


class Frequencies(Section):
    """`snakemake frequencies`: harmonic vibrations at the relaxed structure, from central differences of forces."""

    displacement_A: float = Field(default=0.01, gt=0, le=0.1)
    """How far each coordinate is moved, in Angstrom, both ways: the reference needs six labels for each atom."""


class MolecularDynamics(Section):
    """`snakemake md`: a trajectory at constant energy (velocity Verlet), after a thermostat (Langevin) has brought it to the
    temperature.
    """

    temperature_K: float = Field(default=300.0, gt=0)
    """Temperature of the thermostat, kelvin."""
    length_ps: float = Field(default=10.0, gt=0)
    """Length of the trajectory, ps."""
    equilibration_ps: float = Field(default=1.0, ge=0)
    """Length of what runs before it with the thermostat, ps."""
    time_step_fs: float = Field(default=0.5, gt=0, le=10)
    """Time step, fs."""
    frame_fs: float = Field(default=2.0, gt=0)
    """Time between two frames that are kept, fs; infrared reaches up to 11,700 over this in 1/cm: 3 or less shows stretches of
    hydrogen."""
    reference_frames: int = Field(default=10, ge=0)
    """Frames, evenly spread, that are labelled to measure the error of forces and energies along the trajectory; 0: none."""

    @model_validator(mode="after")
    def _some_frames(self) -> MolecularDynamics:
        if self.frame_fs < self.time_step_fs:
            raise ValueError(f"frame_fs = {self.frame_fs} is shorter than a time step ({self.time_step_fs}); raise it")
        if self.n_frames < max(10, self.reference_frames):
            raise ValueError(
                f"length_ps = {self.length_ps} has only {self.n_frames} frames of {self.frame_fs} fs; make it longer"
            )
        return self

    @property
    def steps_of_frame(self) -> int:
        """Time steps between two frames."""
        return max(1, round(self.frame_fs / self.time_step_fs))

    @property
    def n_frames(self) -> int:
        """Frames of the trajectory after the first one."""
        return round(1000 * self.length_ps / (self.steps_of_frame * self.time_step_fs))


class Infrared(Section):
    """`snakemake infrared`: the absorption spectrum, harmonic and from the dipole along the trajectory of md. Dipoles are those
    of charges that depend on the geometry, learnt from the dipoles of the campaign's labels.
    """

    resolution_cm: float = Field(default=10.0, gt=0)
    """Full width at half maximum of a line of the spectrum from the trajectory, 1/cm, which sets the window; the trajectory must
    be long enough for it (3.75 ps for 10 1/cm)."""


class SurfaceHopping(Section):
    """`snakemake surface_hopping`: trajectories on the potentials of several states (target: state_energies_forces) that hop
    between neighbouring ones with the Landau-Zener probability at minima of the gap (Belyaev, Lebedev).
    """

    initial_state: int = Field(default=1, ge=0)
    """State in which all trajectories begin; 0 is the ground state."""
    trajectories: int = Field(default=100, gt=0)
    """Number of trajectories, from the harmonic Wigner distribution about the minimum of the model's ground state."""
    temperature_K: float = Field(default=0.0, ge=0)
    """Temperature of that distribution, kelvin; 0: the vibrational ground state."""
    length_fs: float = Field(default=100.0, gt=0)
    """Length of a trajectory, fs."""
    time_step_fs: float = Field(default=0.25, gt=0, le=5)
    """Time step, fs."""
    energy_tolerance_eV: float = Field(default=0.2, gt=0)
    """A trajectory whose total energy is farther from its first ends there, with that fate."""
    reference_trajectories: int = Field(default=0, ge=0)
    """Trajectories, the first ones, that are run by labels too, each a job and each step a label; 0: none."""

    @model_validator(mode="after")
    def _some_steps(self) -> SurfaceHopping:
        if self.length_fs < 3 * self.time_step_fs:
            raise ValueError(f"length_fs = {self.length_fs} is shorter than three time steps; raise it")
        if self.reference_trajectories > self.trajectories:
            raise ValueError(
                f"reference_trajectories = {self.reference_trajectories}: there are {self.trajectories} trajectories; lower it"
            )
        return self


class Uses(Section):
    """Uses of the finished potential: `snakemake optimise`, `frequencies`, `md`, `infrared`, `surface_hopping` (docs/uses.md).
    For campaigns that learn energies, by models that give forces. No part of the campaign's identity.
    """

    structure: str | None = None
    """Structure to begin with, relative to the campaign file (anything that ASE reads; the last frame). null: the labelled one
    of lowest energy, if all have one composition."""
    reference: bool | None = None
    """Compute the same with the labels' method, by the campaign's engine, to have its values beside the model's. These labels are
    in the label store and are not paid twice. null: true where the engine computes (all but replay)."""
    reference_jobs: int = Field(default=6, gt=0)
    """Jobs among which the labels of frequencies and md are divided."""
    optimise: Optimise = Optimise()
    frequencies: Frequencies = Frequencies()
    md: MolecularDynamics = MolecularDynamics()
    infrared: Infrared = Infrared()
    surface_hopping: SurfaceHopping = SurfaceHopping()

    @model_validator(mode="after")
    def _long_enough(self) -> Uses:
        needed = LENGTH_PS_CM / self.infrared.resolution_cm
        if "infrared" in self.model_fields_set and self.md.length_ps < needed:
            raise ValueError(
                f"infrared.resolution_cm = {self.infrared.resolution_cm} needs a trajectory of {needed:.3g} ps; raise it, or "
                "md.length_ps"
            )
        return self
