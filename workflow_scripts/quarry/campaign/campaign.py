"""The campaign as the Snakefile sees it: configuration, paths, what is finished, when to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

from quarry.campaign import manifest as manifests
from quarry.campaign.batch_table import jobs_of, keys_of_job, read_batch
from quarry.campaign.beside import BesideMain
from quarry.campaign.file_count import drawing_rules
from quarry.campaign.folders import check_arms, check_folders, check_pictures, check_results, check_store
from quarry.campaign.gpus import JobGpus, gpus
from quarry.campaign.invocation import LOOKING_RULES, Invocation
from quarry.campaign.iterations import iteration_folders, iteration_of, number_of
from quarry.campaign.lease import Lease
from quarry.campaign.loop import RULES
from quarry.campaign.paths import CampaignPaths
from quarry.campaign.planned import memory_MB, walltime_min
from quarry.campaign.plans import plan_of
from quarry.campaign.preflight import preflight
from quarry.campaign.recovery import Recovery
from quarry.campaign.rejected_labels import check_ids, hold_from_now, read_rejected
from quarry.campaign.replacing import has_label, set_aside
from quarry.campaign.retries import TARGET, RetryRequest, read_requests, requests_for
from quarry.campaign.retry_failed import retry_failed
from quarry.campaign.times import refuse_future
from quarry.campaign.uses import asked_uses, check_labels, check_use, write_settings
from quarry.config.campaign import MAIN_ARM, Configuration, drawn_files
from quarry.config.control import no_verdict
from quarry.config.spectrum import LEARNT
from quarry.config.uses import USES
from quarry.errors import QuarryError, reason_of
from quarry.files import canonical_json, write_text
from quarry.labeling.attempts import Attempts, needed, read_attempts
from quarry.labeling.sharing import check_rights
from quarry.stopping.facts import Cost, Facts
from quarry.stopping.own_rules import own_rules
from quarry.stopping.progress import Progress, Query
from quarry.stopping.rules import StopReason, StopRule, labels_left, stop_reason, too_few_tested
from quarry.terminal import say

T = TypeVar("T")


class Campaign:
    """One campaign in one invocation of Snakemake."""

    def __init__(
        self,
        configuration: Configuration,
        base: Path,
        invocation: Invocation,
        targets: Sequence[str] = (),
        jobs_have_own_environment: bool = False,
        paths: CampaignPaths | None = None,
        rule_name: Callable[[str], str] = str,
    ) -> None:
        """base: folder that the configuration's files are named from. targets: those of the command line.
        jobs_have_own_environment: see ``preflight``. paths: where the campaign's files lie, if the workflow has a prefix.
        rule_name: returns the name that a rule has in the workflow.
        """
        self.rule_name = rule_name
        self._asks_retries = rule_name(TARGET) in targets
        self.asked_uses = asked_uses(targets, rule_name)
        self.targets = targets
        self.jobs_have_own_environment = jobs_have_own_environment
        self.configuration = configuration
        self.base = base
        self.invocation = invocation
        self.paths = paths or CampaignPaths(configuration.name)
        check_arms(configuration, self.paths)
        self.arms = configuration.arm_names
        self.gpus = JobGpus(configuration)
        self.beside_main = BesideMain(configuration, self.paths, self.gpus)
        self.is_alone: Callable[[], bool] = lambda: True
        """Whether the workflow has no rules but Quarry's, asked when all of the Snakefile is read."""
        self.plans = {arm: plan_of(configuration, arm) for arm in self.arms}
        self.recovery = Recovery(self.paths, self.plans)
        # Per instance: input functions ask for these again and again while the graph is built.
        self.sealed = cache(self._sealed)
        self._intact = cache(self.recovery.count_intact)
        self._read: dict[str, tuple[tuple[int, int, int], Any]] = {}

    def start(self) -> None:
        """Check the campaign before any job, and in a real run take the lease and repair what is damaged.

        Raises QuarryError with one line if something is wrong.
        """
        if self.invocation is Invocation.JOB:
            return
        for use in self.asked_uses:
            check_use(self.configuration, use, self.jobs_have_own_environment)
        _ = self.own_rules
        runs = self.invocation is not Invocation.INSPECTION
        if runs:
            check_folders(self.configuration, self.paths)
        elif not {self.rule_name(rule) for rule in LOOKING_RULES}.isdisjoint(self.targets):
            check_pictures(self.paths)
        checked = preflight(self.configuration, self.base, self.jobs_have_own_environment)
        self.gpus.of_own_models = checked.get("gpus", {})
        if runs:
            refuse_future(drawn_files(self.configuration, self.base), "spectrum.experiment")
            check_rights(self.configuration.labeling.store, checked["method_id"])
            known = [too_few_tested(self.configuration), no_verdict(self.configuration.control)]
            for note in [*checked.get("notes", []), *known]:
                if note:
                    say(note)
        new = manifests.make_manifest(
            self.configuration.identity(), checked["inputs"], checked["method"], checked["method_id"]
        )
        if self.invocation is Invocation.RUN:
            check_results(self.paths)
            Lease(self.paths.lease).acquire()
        old = manifests.read_manifest(self.paths.manifest)
        if old is not None and self._is_replaced(old, new):
            old = None
        for use in self.asked_uses if old is not None else ():
            check_labels(self.configuration, self.paths, use)
        if self.invocation is not Invocation.RUN:
            self._retry_failed(write=False)
            if self.invocation is Invocation.DRY_RUN:
                self._leave_out(write=False)
                self.recovery.tell_damaged(say)
            return
        check_store(self.configuration.labeling.store)
        if old is None and (Path(self.paths.structures).exists() or iteration_folders(self.paths.root)):
            raise QuarryError(
                f"{self.paths.root} holds results but no campaign.json; put it back, use another name, or remove "
                f"{self.paths.root} (good labels are in the store and are not computed again)"
            )
        wanted = new if old is None else manifests.joined(old, new)
        wanted = manifests.with_store(wanted, self.configuration.labeling.store)
        if wanted != old:
            manifests.save(self.paths.manifest, wanted)
        self._write_settings()
        if self.asked_uses:
            write_settings(self.configuration, self.paths)
        store = Path(self.configuration.labeling.store) / checked["method_id"]
        self.recovery.restore(store, say)
        self.recovery.repair(say, store)
        asked = self._retry_failed()
        if self._leave_out() or asked:
            # What was opened again opens what was built on it.
            self.recovery.repair(say, store)
        self.recovery.pack(say)

    def _is_replaced(self, old: dict[str, Any], new: dict[str, Any]) -> bool:
        """Return whether the configuration is another one and the campaign, without one good label, begins anew with it.

        Sets its files aside in a real run. Raises QuarryError if there are labels that another configuration has made.
        """
        given = self.configuration.identity(with_defaults=False)
        changed = manifests.differences(old, new, given)
        if not changed:
            return False
        if has_label(self.paths, self.configuration.labeling.store, old):
            manifests.compare(self.paths.manifest, old, new, given)
        message = f"{self.paths.root} has no label that has succeeded, and another configuration now: {manifests.shown(changed)}"
        if self.invocation is Invocation.RUN:
            say(f"{message}; what was there is set aside in {set_aside(self.paths)}, and the campaign begins anew")
        else:
            say(f"{message}; a real run sets aside what is there and begins anew (what is shown here is the old state)")
        return self.invocation is Invocation.RUN

    def _retry_failed(self, write: bool = True) -> bool:
        """Ask for retries of failed labels where the targets say so; return whether any was asked for."""
        return self._asks_retries and retry_failed(self.paths, self.arms, self.has_stopped, say, write)

    def _leave_out(self, write: bool = True) -> bool:
        """Let labeling.leave_out hold if it has changed, and return whether; refuse ids that a pool that is there lacks."""
        named = self.configuration.labeling.leave_out
        ids = read_rejected(self.base / named) if named else []
        if ids and Path(self.paths.structures).exists():
            # Here and not above: jobs read the Snakefile too, and need no HDF5 for it.
            from quarry.structures.files import read_pool_ids

            try:
                known = read_pool_ids(self.paths.structures).tolist()
            except (OSError, KeyError) as error:
                raise QuarryError(
                    f"{self.paths.structures} is damaged ({reason_of(error)}); a real run makes it again"
                ) from error
            if self.configuration.pool.is_sampled:
                tables = [folder / "batch.csv" for folder in iteration_folders(self.paths.root)]
                known += [row.structure_id for table in tables if table.exists() for row in read_batch(table)]
            check_ids(ids, known)
        line = hold_from_now(ids, self.paths, self.arms, write)
        if line:
            say(line)
        return bool(line)

    def _write_settings(self) -> None:
        """Write how spectra are to be broadened, and what the card of the data set is to say, where that has changed: the files
        are inputs of the rules that make them.
        """
        settings = self.configuration
        dumped = {self.paths.dataset_settings: settings.dataset.model_dump(mode="json")}
        if settings.spectrum is not None:
            of_spectrum = settings.spectrum.model_dump(mode="json", exclude={*LEARNT, "experiment"})
            dumped[self.paths.spectrum_settings] = of_spectrum
        for name, data in dumped.items():
            wanted, path = canonical_json(data), Path(name)
            if not path.exists() or path.read_bytes() != wanted.encode():
                write_text(path, wanted)

    def _sealed(self, arm: str) -> int:
        """Return how many leading iterations of an arm are finished for good and left out of the graph.

        None are left out of an inspection, so that the report, graph and summary show the whole campaign.
        """
        return 0 if self.invocation is Invocation.INSPECTION else self._intact(arm)

    def is_sealed(self, arm: str, iteration: int) -> bool:
        """Whether an iteration is left out of the graph."""
        return iteration < self.sealed(arm)

    def is_finished(self, output: str) -> bool:
        """Whether an output is of an iteration that is finished for good."""
        folder = iteration_of(output)
        arm = "" if folder is None else folder.parent.name
        if folder is None or arm not in self.arms or folder.parent.parent != Path(self.paths.root):
            return False
        return (number_of(folder) or 0) < self._intact(arm)

    def has_facts(self, arm: str, iteration: int) -> bool:
        """Whether an iteration was assessed."""
        return Path(self.paths.facts(arm, iteration)).exists()

    def facts(self, arm: str, last: int) -> list[Facts]:
        """Return the facts of iterations 0 to ``last`` of an arm. Raises QuarryError if a file is damaged."""
        try:
            return [self._kept(Facts.read, self.paths.facts(arm, t)) for t in range(last + 1)]
        except (OSError, ValueError) as error:
            raise QuarryError(f"{error}; a real run moves it aside and makes it again") from error

    def _kept(self, read: Callable[[str], T], path: str) -> T:
        """Return what was read of a file, which input functions ask for again and again; read anew where it has changed."""
        state = Path(path).stat()
        seen = (state.st_ino, state.st_size, state.st_mtime_ns)
        if path not in self._read or self._read[path][0] != seen:
            self._read[path] = seen, read(path)
        found: T = self._read[path][1]
        return found

    def leader(self, arm: str) -> str | None:
        """Return the arm whose end is that of a control arm too; None for an arm that stop rules end."""
        return MAIN_ARM if arm in self.configuration.compared else None

    def stop_reason(self, arm: str, iteration: int) -> StopReason | None:
        """Return why an arm ends at an iteration or has ended before it, or None to go on.

        Earlier iterations are asked too: a loosened rule may hold at one of them and no longer at the last. A control arm
        ends where arm main has ended, which must be assessed up to there, or when no label is left for it.
        """
        leader = self.leader(arm)
        if leader is None or labels_left(self.facts(arm, iteration)[-1], self.configuration) == 0:
            return self._own_stop_reason(arm, iteration)
        after = iteration + 1
        goes_on = self.has_facts(leader, after) or bool(self.retry_requests(leader, after))
        # A batch of nothing but retries brings arm main no structure that random selection would have to match.
        past = goes_on and not self.only_retries(leader, after)
        ended = not self.has_facts(leader, iteration) or (not past and self._own_stop_reason(leader, iteration))
        return StopReason("control", f"arm {leader} has ended, this is its control") if ended else None

    def has_stopped(self, arm: str, iteration: int) -> bool:
        """Whether an arm is known to stop at an iteration."""
        return self.has_facts(arm, iteration) and self.stop_reason(arm, iteration) is not None

    def _own_stop_reason(self, arm: str, iteration: int) -> StopReason | None:
        progress = self._progress(arm, iteration)
        reasons = [stop_reason(progress.until(t), self.own_rules) for t in range(iteration + 1)]
        step, first = next(((t, reason) for t, reason in enumerate(reasons) if reason), (iteration, None))
        last = reasons[-1]
        # The arm ended at the first one; what it counts is that of the data set, which may have got retries since.
        if first is None or (last and last.rule == first.rule):
            return last
        more = f"so at iteration {step}; {progress.last.n_labels} labels with those tried again since"
        return StopReason(first.rule, f"{first.words} ({more})")

    def _progress(self, arm: str, iteration: int) -> Progress:
        stop, steps = self.configuration.stop, range(iteration + 1)
        # Not read where no rule looks at them.
        leaves_out = self.configuration.arm(arm).query.min_informativeness is not None
        asked = steps if stop.rules or stop.uninformative or leaves_out else ()
        try:
            costs = [self._kept(Cost.read, self.paths.cost(arm, t)) for t in steps]
            queries = [Query.read(self.paths.iteration("query.json", arm, t)) for t in asked]
        except (OSError, ValueError) as error:
            raise QuarryError(f"{error}; start again and it is made anew") from error
        return Progress(self.facts(arm, iteration), costs, self.configuration, queries)

    @cached_property
    def own_rules(self) -> list[StopRule]:
        """The user-defined stop rules. Raises QuarryError if one cannot be used."""
        return own_rules(self.configuration, self.base)

    def jobs(self, batch: str | Path) -> list[str]:
        """Return the label jobs of a batch table."""
        return jobs_of(read_batch(batch))

    @property
    def retries(self) -> int:
        """How often the main process submits a label job again; 0 in a job, whose Snakemake would try again in its place.

        Once more than a label is tried: the last one only writes down what became of a label whose job was killed.
        """
        return 0 if self.invocation is Invocation.JOB else self.configuration.labeling.retries + 1

    @property
    def label_cores(self) -> int:
        """Return the cores of a label job, those of all its MPI tasks together."""
        resources = self.configuration.resources.label
        return resources.threads * resources.tasks

    @property
    def label_places(self) -> dict[str, Any]:
        """Return the GPUs of a label job, and the resources by which the slurm executor makes a job of several MPI tasks.

        `mpi` keeps it from starting the job's own script by srun: in that step the program's launcher would wait for ever
        for cores that the step has. One node, because the scratch folder is a node's.
        """
        resources = self.configuration.resources.label
        if resources.tasks == 1:
            return gpus(resources.gpus)
        tasks = {"tasks": resources.tasks, "cpus_per_task": resources.threads, "nodes": 1, "mpi": "yes"}
        return {**tasks, **gpus(resources.gpus)}

    def label_memory_MB(self, wildcards: Any) -> int:
        """Return the memory of a label job's next attempt: configured or planned, and more than what was not enough."""
        first = memory_MB(self._planned(wildcards), wildcards.job, self.configuration.resources.label.memory_MB)
        return max(first, ceil(self._needed(wildcards)[0]))

    def label_walltime_min(self, wildcards: Any) -> int:
        """Return the walltime of a label job's next attempt: configured or planned, and more than what was not enough."""
        first = walltime_min(self._planned(wildcards), wildcards.job, self.configuration.resources.label.walltime_min)
        return max(first, ceil(self._needed(wildcards)[1] / 60))

    def threads_of(self, rule: str) -> int:
        """Return the cores of a job of a rule of ``quarry.campaign.loop`` that asks for resources."""
        return self.configuration.resources.of(RULES[rule].resources).threads

    def resources_of(self, rule: str) -> dict[str, Any]:
        """Return memory (MB), time (minutes) and GPUs of a job of such a rule.

        Memory and time grow with each attempt, because it is not known which was not enough. GPUs only where some are asked for.
        """
        asked = self.configuration.resources.of(RULES[rule].resources)
        growth = self.configuration.labeling.growth
        return {
            "mem_mb": lambda wildcards, attempt: ceil(asked.memory_MB * growth ** (attempt - 1)),
            "runtime": lambda wildcards, attempt: ceil(asked.walltime_min * growth ** (attempt - 1)),
            **self.gpus.resource(rule),
        }

    def _planned(self, wildcards: Any) -> str:
        return self.paths.iteration("planned.csv", wildcards.arm, wildcards.iteration)

    def _needed(self, wildcards: Any) -> tuple[float, float]:
        attempts = Attempts(self.paths.attempts(wildcards.arm, wildcards.iteration))
        if not attempts.folder.exists():
            return 0.0, 0.0
        keys = keys_of_job(self.paths.batch(wildcards.arm, wildcards.iteration), wildcards.job)
        found = [attempt for key in keys for attempt in read_attempts(attempts.path(key))]
        return needed(found, self.configuration.labeling.growth)

    def retry_requests(self, arm: str, iteration: int) -> list[RetryRequest]:
        """Return what the user wants tried again in a batch."""
        return requests_for(read_requests(self.paths.retries), arm, iteration)

    def only_retries(self, arm: str, iteration: int) -> bool:
        """Whether a batch holds nothing but retries."""
        return any(request.only for request in self.retry_requests(arm, iteration))

    @property
    def displaced_copies(self) -> int:
        """How many displaced copies a check labels: none where an engine has finished labels only."""
        settings = self.configuration
        return settings.verification.displaced if settings.labeling.computes else 0

    @property
    def shown_uses(self) -> list[str]:
        """The uses of the potential that an inspection shows: those whose pictures are there."""
        shows = self.invocation is Invocation.INSPECTION
        return [use for use in USES if shows and Path(self.paths.use(f"{use}.svg")).exists()]

    @property
    def drawing_rules(self) -> list[str]:
        """The rules that draw what this campaign's user sees."""
        return drawing_rules(self.configuration)
