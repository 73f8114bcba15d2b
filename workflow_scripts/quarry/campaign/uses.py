"""Uses of the finished potential as the Snakefile sees them: which campaigns offer them, and what they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from quarry.campaign.iterations import iterations_with
from quarry.campaign.paths import CampaignPaths
from quarry.config.campaign import MAIN_ARM, Configuration
from quarry.config.installed import require
from quarry.config.pool import WignerPool
from quarry.config.uses import USES
from quarry.errors import QuarryError
from quarry.files import canonical_json, write_text

SECTIONS = ("start", *USES)
"""What a use may depend on: the structure that it begins with and whether there is a reference, and the uses' own sections."""


WITHOUT_DIPOLES = (
    "infrared: dipoles are learnt from those of the labels, and {}; labels with dipoles are of another method: set it in a "
    "campaign file with another name, or take frequencies"
)
OF_MOLECULES = ("frequencies", "infrared", "surface_hopping")
"""Uses of vibrations, which are those of a molecule."""


def asked_uses(targets: Iterable[str], rule_name: Callable[[str], str]) -> list[str]:
    """Return the uses among the targets of the command line. rule_name: returns the name of a rule in the workflow."""
    given = set(targets)
    return [use for use in USES if rule_name(use) in given]


def check_use(configuration: Configuration, use: str, jobs_have_own_environment: bool = False) -> None:
    """Raise QuarryError, one line, if a campaign has no potential for a use, or no labels for its reference.

    jobs_have_own_environment: jobs may have packages that this process lacks.
    """
    goal, model = configuration.goal, configuration.arm(MAIN_ARM).model
    if "energy" not in goal.learnt and not goal.each_state:
        raise QuarryError(
            f"{use}: a potential is wanted, and target: {goal.name} has no energies; set energy, energy_forces or a list with "
            "energy (of another campaign)"
        )
    if use == "surface_hopping" and not goal.each_state:
        raise QuarryError(
            f"{use}: energies and forces of several states are wanted, and target: {goal.name} has one; set "
            "state_energies_forces (of another campaign)"
        )
    labeling, wanted = configuration.labeling, configuration.uses.reference
    first, states = configuration.uses.surface_hopping.initial_state, labeling.n_states
    if use == "surface_hopping" and states is not None and first >= states:
        raise QuarryError(
            f"{use}: uses.surface_hopping.initial_state = {first}: the labels have {states} states, from the ground state, 0; "
            "lower it"
        )
    # The class of a model of the user's own says what it gives; its calculator refuses what it does not.
    if not model.is_user_defined:
        descriptor = configuration.descriptor
        gives = model.traits.predicts(goal, descriptor is not None and descriptor.has_derivatives)
        if "forces" not in gives:
            raise QuarryError(
                f"{use}: model.kind: {model.kind} gives no forces with this descriptor; use descriptor.kind: inverse_distances, "
                "or model.kind: gmnn"
            )
        if use != "md" and configuration.uses.optimise.cell and "stress" not in gives:
            raise QuarryError(f"{use}: uses.optimise.cell needs stresses, which model.kind: {model.kind} does not give")
    given = labeling.gives()
    if wanted and not labeling.computes:
        raise QuarryError(
            f"{use}: uses.reference: labeling.engine {labeling.engine} has finished labels only; set it to false"
        )
    lacking = {"forces", *(["stress"] if configuration.uses.optimise.cell else [])} - (given[1] if given else set())
    if configuration.compares_uses and given is not None and lacking:
        raise QuarryError(
            f"{use}: uses.reference needs {sorted(lacking)[0]} of the labels, and labeling.{given[0]} gives none; set it to false"
        )
    if use != "infrared":
        return
    start = configuration.initial_pool
    if isinstance(start, WignerPool) and start.charge:
        from quarry.uses.requirements import NOT_NEUTRAL

        raise QuarryError(NOT_NEUTRAL)
    if given is not None and "dipole" not in given[1]:
        raise QuarryError(WITHOUT_DIPOLES.format(f"labeling.{given[0]} gives none"))
    if not jobs_have_own_environment:
        require("torch", use)


def check_labels(configuration: Configuration, paths: CampaignPaths, use: str) -> None:
    """Raise QuarryError, one line, if the labels that arm main has merged cannot serve a use, some of whose jobs are labels.

    Where there are none yet, or none that can be read, nothing is said: the jobs of the use look again.
    """
    folder = Path(paths.arm(MAIN_ARM))
    merged = iterations_with(folder, "dataset.h5") if folder.is_dir() else []
    if not merged:
        return
    # Here and not above: jobs read the Snakefile too, and need no HDF5 for it.
    from quarry.structures.compositions import count_of_compositions
    from quarry.structures.labelled import LabelledSet
    from quarry.uses.requirements import check_neutral_molecules

    try:
        labels = LabelledSet.read(paths.iteration("dataset.h5", MAIN_ARM, merged[-1]))
    except (OSError, ValueError):
        return
    structures, settings = labels.structures, configuration.uses
    if use == "infrared":
        if "dipole" not in labels.properties:
            raise QuarryError(WITHOUT_DIPOLES.format("the campaign's have none"))
        check_neutral_molecules(structures)
    if use in OF_MOLECULES and settings.structure is None and structures.pbc.any():
        raise QuarryError(f"{use}: for molecules alone, and the labelled structures are periodic; take optimise or md")
    count = count_of_compositions(labels.without_rejected().structures)
    if settings.structure is None and count > 1:
        raise QuarryError(
            f"{use}: the labelled structures have {count} compositions; name the structure to begin with "
            "(uses.structure)"
        )
    if configuration.compares_uses and labels.properties.keys().isdisjoint(("forces", "state_forces")):
        raise QuarryError(f"{use}: uses.reference needs forces of the labels, which have none; set it to false")


def write_settings(configuration: Configuration, paths: CampaignPaths) -> None:
    """Write what uses depend on, a file for each section where it has changed: jobs have these files as inputs."""
    uses = configuration.uses.model_dump(mode="json")
    start = {"structure": uses["structure"], "reference": configuration.compares_uses, "jobs": uses["reference_jobs"]}
    for name in SECTIONS:
        path, wanted = Path(paths.use_step(f"{name}.settings")), canonical_json({**uses, "start": start}[name])
        if not path.exists() or path.read_bytes() != wanted.encode():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, wanted)
