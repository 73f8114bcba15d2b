"""The checks between sections: each function returns what contradicts itself, in one line that names the key, or None.

Sections know only themselves; what holds between them stands here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from quarry.config.base import energy_in_ev
from quarry.config.baselines import problem_with_baseline
from quarry.config.campaign import Configuration
from quarry.config.control import control_names, split_names
from quarry.config.dynamics_checks import dynamics_problem, model_without_trajectories
from quarry.config.engines.registry import engines_that
from quarry.config.model_traits import ModelTraits
from quarry.config.models import MODEL_SECTIONS, Model
from quarry.config.pool import TablePool, WignerPool, needs_geometry_method
from quarry.config.query import OPTIONS, STRATEGIES, criteria, incompatibility
from quarry.config.targets import TARGETS, Target


def contradiction(configuration: Configuration) -> str | None:
    """Return the first thing that contradicts itself between sections, or None."""
    return next((problem for check in CHECKS if (problem := check(configuration))), None)


def _sizes(c: Configuration) -> str | None:
    """Return which number of structures is too small for another one, or None."""
    wanted = c.query.initial + c.test.size
    pool = c.initial_pool
    if isinstance(pool, WignerPool) and wanted > pool.size:
        key = (
            "size" if c.pool is pool else "initial.size" if getattr(c.pool, "initial", None) is pool else "initial_size"
        )
        return (
            f"query.initial + test.size = {wanted} is more than the pool's {pool.size} structures; "
            f"make pool.{key} larger or the others smaller"
        )
    if c.stop.max_labels is not None and c.stop.max_labels < wanted:
        return (
            f"stop.max_labels = {c.stop.max_labels} is below the initial batch and test set, "
            f"query.initial + test.size = {wanted}; raise it to at least {wanted}"
        )
    uses_error = any(end is not None for end in (c.stop.rrmse, c.stop.target_rmse, c.stop.target_accuracy))
    if uses_error and c.stop.metric == "test" and c.test.size < 2:
        return f"test.size = {c.test.size} is too small for stop.metric: test; set test.size to 2 or more, or another metric"
    if c.stop.metric == "cross_validation" and c.query.initial < c.validation.folds:
        return f"validation.folds = {c.validation.folds} is more than query.initial = {c.query.initial}; lower it"
    if c.stop.metric == "validation" and not 2 <= round(c.validation.fraction * c.query.initial) <= c.query.initial - 1:
        return (
            f"validation.fraction = {c.validation.fraction} of query.initial = {c.query.initial} leaves fewer than 2 "
            "structures to validate or none to train; raise query.initial"
        )
    return None


def _target_rmse(c: Configuration) -> str | None:
    """Return what is wrong with the error at which the campaign stops, or None."""
    if isinstance(c.stop.target_rmse, str):
        if c.goal.not_energy:
            return f"stop.target_rmse: {c.goal.not_energy}; give a plain number"
        try:
            energy_in_ev(c.stop.target_rmse)
        except ValueError as error:
            return f"stop.target_rmse = '{c.stop.target_rmse}': {error}"
    target_rmse = c.target_rmse()
    if target_rmse is not None and not (math.isfinite(target_rmse) and target_rmse > 0):
        return f"stop.target_rmse = {c.stop.target_rmse} must be a number greater than 0"
    return None


def _uninformative(c: Configuration) -> str | None:
    """Return why the rule that nothing informative is left could never hold, or what is wrong with its limit, or None."""
    rule = c.stop.uninformative
    if rule is None:
        return None
    for key in ("informativeness", "share_informative"):
        if getattr(rule, key) is not None and not criteria(c.query.reads) and not c.query.is_user_defined:
            return (
                f"stop.uninformative.{key}: query.strategy: {c.query.strategy} does not ask how much labels would tell the "
                "model; use another strategy (oed_energy, oed_forces, oed_total), or remove it"
            )
    if rule.std is None:
        return None
    if "std" not in c.query.reads and not c.query.is_user_defined:
        return (
            f"stop.uninformative: query.strategy: {c.query.strategy} does not look at standard deviations; use another "
            "strategy (uncertainty), or remove it"
        )
    if isinstance(rule.std, str) and c.goal.not_energy:
        return f"stop.uninformative.std: {c.goal.not_energy}; give a plain number"
    try:
        limit = rule.std_limit()
    except ValueError as error:
        return f"stop.uninformative.std = '{rule.std}': {error}"
    if not (math.isfinite(limit) and limit > 0):
        return f"stop.uninformative.std = {rule.std} must be a number greater than 0"
    return None


def _engine(c: Configuration) -> str | None:
    """Return what the engine cannot do that another section asks for, or None."""
    own_modes = c.labeling.geometry_method is not None or c.labeling.has_forces_for_modes
    if not own_modes and needs_geometry_method(c.initial_pool):
        return (
            "pool.geometry_method: the molecule's vibrations need forces, and labels of engine "
            f"{c.labeling.engine} have none for them; {c.labeling.forces_remedy}give a PySCF method here, e.g. "
            "{xc: b3lyp, basis: 6-31g*}"
        )
    if c.resources.label.tasks > 1 and not c.labeling.starts_mpi_tasks:
        able = " or ".join(engines_that(lambda section: section.starts_mpi_tasks))
        return (
            f"resources.label.tasks = {c.resources.label.tasks}: only labeling.engine {able} starts MPI tasks, not "
            f"{c.labeling.engine}; set threads instead"
        )
    return None


def _rows(c: Configuration) -> str | None:
    """Return what does not fit a pool of rows, or only fits one, or None."""
    rows = isinstance(c.pool, TablePool)
    if c.descriptor is not None and (c.descriptor.kind == "table") != rows:
        remedy = "use descriptor.kind: table" if rows else "use another kind, or pool.source: table"
        return f"descriptor.kind: {c.descriptor.kind} does not fit pool.source: {c.pool.source}; {remedy}"
    if rows and not c.labeling.labels_rows:
        able = " or ".join(engines_that(lambda section: section.labels_rows))
        return (
            f"labeling.engine: {c.labeling.engine} labels structures, the pool holds rows of features "
            f"(pool.source: table); use {able}"
        )
    problem = c.labeling.problem_with_pool(rows)
    if problem or not rows:
        return problem
    asked = c.filters.model_fields_set & {"min_distance_factor", "bonds"}
    for name in sorted(asked):
        if getattr(c.filters, name) not in (None, "any"):
            return f"filters.{name}: rows of features (pool.source: table) have no atoms; remove it"
    return None


def _sampler(c: Configuration) -> str | None:
    """Return what does not fit candidates that are sampled anew in every iteration, or None."""
    if not c.pool.is_sampled:
        return None
    if not c.labeling.computes:
        return (
            f"labeling.engine: {c.labeling.engine} has labels of its own structures only, and pool.source: {c.pool.source} "
            "makes new ones; use an engine that computes"
        )
    if c.spectrum is not None:
        return f"pool.source: {c.pool.source} has no ensemble of which a spectrum could be; use wigner or file"
    if c.filters.near_duplicates is not None:
        return f"filters.near_duplicates: it is for a fixed pool; with pool.source: {c.pool.source} remove it"
    if c.pool_filters.copies == "keep":
        return f"filters.copies: keep is for a fixed pool; with pool.source: {c.pool.source} set leave_out"
    return None


def _search(configuration: Configuration) -> str | None:
    """Return what is wrong with the range, or None."""
    search = configuration.search
    if search is None:
        return None
    try:
        low, high = search.range()
    except ValueError as error:
        return f"search: {error}"
    if not low < high:
        return f"search: minimum = {search.minimum} must be below maximum = {search.maximum}; change one of them"
    target = configuration.goal
    if target.is_one_number and target.not_energy and any(isinstance(e, str) for e in (search.minimum, search.maximum)):
        return f"search: {target.not_energy}; give plain numbers"
    return None


def _classes(configuration: Configuration) -> str | None:
    """Return what contradicts target class, or None."""
    is_class = configuration.goal.classes
    if configuration.classification is not None and not is_class:
        return "classification: only target class has classes; set target: class, or remove this section"
    if not is_class:
        wanted = configuration.stop.target_accuracy
        return None if wanted is None else f"stop.target_accuracy = {wanted} needs target: class; remove it"
    if configuration.classification is None:
        return "classification: target class needs this section; name the property, its boundaries and the classes"
    if configuration.stop.target_rmse is not None:
        return "stop.target_rmse: classes have no RMSE; use stop.target_accuracy"
    if configuration.search is not None:
        return "search: classes have no range; remove this section, or set another target"
    return None


def _models(configuration: Configuration) -> str | None:
    """Return what model contradicts in another section, in one line, or None."""
    for name in configuration.arm_names:
        model = configuration.arm(name).model
        lack = None if model.is_user_defined else model_incompatibility(configuration, name, model.traits)
        if lack:
            return lack
        wrong = problem_with_baseline(model.baseline, configuration.goal, configuration.pool.source != "table")
        if wrong:
            return f"{'' if name == configuration.arm_names[0] else f'arms.{name}.'}model.{wrong}"
    return None


def model_incompatibility(configuration: Configuration, arm: str, traits: ModelTraits) -> str | None:
    """Return what an arm's model cannot do that target, pool or descriptor ask for, with what to change, or None."""
    kind = configuration.arm(arm).model.kind
    where = "model" if arm == configuration.arm_names[0] else f"arms.{arm}.model"
    if traits.needs_atoms and configuration.pool.source == "table":
        mend = traits.remedies.get("atoms", "; choose another kind")
        return f"{traits.needs_atoms} needs the atoms of a structure, but pool.source is table{mend}"
    descriptor = configuration.descriptor
    if traits.descriptors and descriptor is not None and descriptor.kind not in traits.descriptors:
        return (
            f"{where}.kind: {kind} needs descriptor.kind: {' or '.join(traits.descriptors)}, not {descriptor.kind}; "
            f"change it, or set {_kinds(lambda other: not other.descriptors and other.can_learn(TARGETS['energy']))[0]}"
        )
    goal = configuration.goal
    if goal.each_state and not configuration.arm(arm).model.is_user_defined:
        # There is a model for each state.
        goal = TARGETS[goal.each_state]
    lack = _cannot_learn(goal, arm, kind, where, traits)
    return lack or model_without_trajectories(configuration, f"{where}.kind: {kind}", traits)


def _cannot_learn(target: Target, arm: str, kind: str, where: str, traits: ModelTraits) -> str | None:
    """Return what of a target a model cannot learn, and which models can, or None."""
    if traits.can_learn(target):
        return None
    fit = " or ".join(_kinds(lambda other: other.can_learn(target))) or "a model of your own"
    if target.classes:
        return f"{where}.kind: {kind} predicts numbers, not classes; for target {target.name} use {fit}"
    if target.transitions:
        return f"model.kind: {kind} (arm {arm}) learns one number, target: {target.name} needs {fit}"
    known = frozenset().union(*traits.learns)
    missing = [name for name in target.learnt if name not in known]
    alone = target.main[0] in known
    lacks = f"no {' and no '.join(missing)}" if missing else f"{' and '.join(target.learnt)} not at once"
    remedy = f", or set target: {target.main[0]}" if alone else ""
    return f"{where}.kind: {kind} learns {lacks}; for target {target.name} set {fit}{remedy}"


def _kinds(fits: Callable[[ModelTraits], bool]) -> list[str]:
    """Return the kinds of model that can do something with the settings that they have by default."""
    sections: list[Model] = [
        section.model_construct(kind=section.model_fields["kind"].annotation.__args__[0])  # type: ignore[union-attr]
        for section in MODEL_SECTIONS
    ]
    return [section.kind for section in sections if fits(section.traits)]


def _descriptor(configuration: Configuration) -> str | None:
    """Return what needs a descriptor where there is none, or None."""
    if configuration.descriptor is not None:
        return None
    for name in configuration.arm_names:
        arm = configuration.arm(name)
        prefix = "" if name == configuration.arm_names[0] else f"arms.{name}."
        if arm.model.traits.needs_descriptor:
            remedy = "add this section, e.g. descriptor: {kind: inverse_distances} for one molecule's geometries"
            return f"descriptor: missing, but {prefix}model.kind: {arm.model.kind} learns from one; {remedy}"
        if arm.query.reads_features and not arm.query.is_user_defined:
            return (
                f"descriptor: missing, but {prefix}query.strategy: {arm.query.strategy} looks at it; add this section"
            )
    if configuration.pool_filters.near_duplicates is not None:
        return "descriptor: missing, but filters.near_duplicates measures distances in it; add this section"
    return None


def _strategies(configuration: Configuration) -> str | None:
    """Return which arm's strategy does not fit its model, the target or the search, or None."""
    searches = configuration.search is not None
    for name in configuration.arm_names:
        arm = configuration.arm(name)
        prefix = "" if name == configuration.arm_names[0] else f"arms.{name}."
        query, target, traits = arm.query, configuration.goal, arm.model.traits
        for option in OPTIONS:
            if getattr(query, option) not in (None, {}) and option not in query.options:
                return f"{prefix}query.{option}: the strategy {query.strategy} has no such setting; remove it"
        if arm.model.is_user_defined:
            continue
        kind = arm.model.kind
        if traits.known_elements and query.needs_scores and query.unfamiliar == "trust":
            return (
                f"{prefix}query.unfamiliar: trust, but model.kind: {kind} predicts nothing of elements that no "
                "training label has; set few or leave_out"
            )
        lack = incompatibility(query, kind, traits, target, searches, query.reads)
        if lack:
            plain = query.model_copy(update=dict.fromkeys(option for option in OPTIONS if option != "arguments"))
            fit = [
                known
                for known in STRATEGIES
                if (other := plain.model_copy(update={"strategy": known}))
                and incompatibility(other, kind, traits, target, searches, other.reads) is None
            ]
            return f"{prefix}query.strategy: {query.strategy} {lack}; these fit: {', '.join(fit)}"
    return None


def _control(configuration: Configuration) -> str | None:
    """Return what is wrong with the control arms, or None."""
    control = configuration.control
    if control is None:
        return None
    for key, seeds in (("seeds", control.seeds), ("repeats", control.repeats), ("splits", control.splits)):
        if any(seed < 0 for seed in seeds) or len(set(seeds)) < len(seeds):
            return f"control.{key}: give different whole numbers, none below 0 (got {seeds})"
    if configuration.seed in control.repeats:
        return f"control.repeats: {configuration.seed} is arm main's own seed; give others"
    if configuration.seed in control.splits:
        return f"control.splits: {configuration.seed} is the campaign's own seed; give others"
    made = [*control_names(control), *split_names(control)]
    taken = sorted(set(configuration.arms) & {name for names in made for name in names})
    if taken:
        return f"arms.{taken[0]}: control makes an arm of this name; give yours another"
    if configuration.query.strategy == "random":
        return "control: arm main selects at random itself; give query.strategy another value, or remove control"
    return None


def _spectrum(configuration: Configuration) -> str | None:
    """Return what a spectrum contradicts in another section, in one line, or None."""
    c, spectrum = configuration, configuration.spectrum
    if c.goal.transitions != (spectrum is not None):
        return (
            "spectrum: this section needs target: excitations"
            if spectrum is not None
            else "target: excitations needs the section spectrum; add it (spectrum: {} has all defaults)"
        )
    if spectrum is None:
        return None
    if c.search is not None:
        return "search: a range is searched for one number, target: excitations has many; remove the section"
    if c.pool.source == "table":
        return "pool.source: table has no geometries, which target excitations needs; use wigner or file"
    labeling = c.labeling
    if labeling.key_of_states is not None:
        states = labeling.excitations
        if states is None:
            return f"labeling.{labeling.key_of_states}: target excitations needs it, e.g. {{n_states: 10, kind: tda}}"
        if spectrum.n_states is not None and spectrum.n_states > states.n_states:
            return (
                f"spectrum.n_states = {spectrum.n_states} is more than the labels' excitations.n_states = "
                f"{states.n_states}; lower it or raise the other"
            )
        if spectrum.order == "overlap" and not states.characters:
            return f"spectrum.order: overlap needs labeling.{labeling.key_of_states}.characters: True"
        return None
    if spectrum.n_states is None:
        return f"spectrum.n_states: labeling.engine {labeling.engine} does not say how many states a label has; set it"
    if spectrum.order == "overlap":
        able = " or ".join(engines_that(lambda section: section.key_of_states is not None))
        return f"spectrum.order: overlap needs labeling.engine: {able}, not {labeling.engine}; set order: energy"
    return None


def _labels_have_target(configuration: Configuration) -> str | None:
    """Return what labels will lack of the target, as far as section labeling says it, or None."""
    given = configuration.labeling.gives()
    if given is None:
        return None
    key, properties = given
    missing = [name for name in configuration.goal.labels if name not in properties]
    if not missing:
        return None
    if missing[0] in configuration.labeling.switches:
        switch = configuration.labeling.switches[missing[0]]
        return (
            f"labeling.{switch}: target {configuration.goal.name} learns {missing[0]}; set True, or set another target"
        )
    return (
        f"labeling.{key}: target {configuration.goal.name} needs {' and '.join(missing)}, but labels have only "
        f"{', '.join(sorted(properties))}; change that, or set another target"
    )


CHECKS: tuple[Callable[[Configuration], str | None], ...] = (
    _sizes,
    _target_rmse,
    _uninformative,
    _engine,
    _rows,
    _sampler,
    dynamics_problem,
    _search,
    _classes,
    _descriptor,
    _models,
    _strategies,
    _control,
    _spectrum,
    _labels_have_target,
)
"""In the order in which they are told."""
