"""Opening and starting a campaign where the Snakefile is read: as it stands, or as a module of another Snakefile."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from quarry.campaign.arguments import (
    DEFAULT_CAMPAIGN,
    check_files,
    check_rules,
    check_settings,
    check_workflow_profile,
)
from quarry.campaign.beside import announce_main
from quarry.campaign.campaign import Campaign
from quarry.campaign.closing import changed_ends
from quarry.campaign.folders import check_project, check_report_file
from quarry.campaign.invocation import Invocation, command_line, invocation_of
from quarry.campaign.iterations import count_with
from quarry.campaign.last_run import begin_run
from quarry.campaign.nested import end_with_parent
from quarry.campaign.packed import packed_record
from quarry.campaign.paths import MANIFEST, CampaignPaths
from quarry.campaign.state_records import Look, read_records_with, show_as_there, show_unwritable
from quarry.config.command_line import apply_types
from quarry.config.loading import load_configuration
from quarry.errors import QuarryError
from quarry.terminal import say

PROJECT = DEFAULT_CAMPAIGN.resolve().parents[1]
"""Folder of Quarry's Snakefile."""
_own: set[str] = set()
"""Names that Quarry's rules have in this workflow, as far as it is read."""
_others: set[str] = set()
"""Names of the rules that stand before them."""
_started: dict[Path, Campaign] = {}
"""The campaigns that this process has started, by the folder of their results: each ``use rule`` reads the Snakefile."""


@dataclass(frozen=True)
class Inclusion:
    """How the Snakefile is read: by itself, or as a module of another one.

    workflow: the Snakefile's object.
    """

    workflow: Any

    @property
    def is_module(self) -> bool:
        """Whether another Snakefile takes the rules by ``module``."""
        return not self.workflow.modifier.is_main_snakefile()

    @property
    def name(self) -> str:
        """The name that the other Snakefile gives the module."""
        return str(self.workflow.modifier.namespace)

    @property
    def has_configuration(self) -> bool:
        """Whether the campaign is given by the other Snakefile (``config:``), or by ``--configfile``."""
        if self.is_module:
            return bool(self.workflow.modifier.skip_configfile)
        return bool(self.workflow.overwrite_configfiles)

    def is_whole(self, config: dict[str, Any]) -> bool:
        """Whether config, the Snakefile's object, is all that files and command line say, nothing that was made of it.

        So it is of a module with ``config: config``, as snakedeploy writes it: the campaign files are the workflow's.
        """
        return not self.is_module or config is self.workflow.modifier_stack[0].globals["config"]

    def paths(self, name: str) -> CampaignPaths:
        """Return where the files of a campaign lie: what rules name, behind the module's prefix."""
        manifest = str(self.workflow.modifier.modify_path(f"{CampaignPaths(name).root}/{MANIFEST}"))
        return CampaignPaths(name, str(Path(manifest).parent))

    def rule(self, name: str) -> str:
        """Return the name that one of Quarry's rules has in this workflow."""
        return str(self.workflow.modifier.modify_rulename(name))


def reads_default_campaign(workflow: Any) -> bool:
    """Whether the Snakefile reads the default campaign, because nobody gave one. A given one stands alone."""
    return not Inclusion(workflow).has_configuration


def lend_library() -> None:
    """Let the programs that this process starts (scripts of rules) take its own library, not one installed from elsewhere."""
    on_path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    library = str(PROJECT / "workflow_scripts")
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, [library, *on_path])))


def open_campaign(workflow: Any, config: dict[str, Any]) -> Campaign:
    """Read the campaign of this invocation; a mistake of the user ends it with one line and exit code 1.

    workflow, config: the Snakefile's objects; config gets the types of ``--config`` values. Files that the configuration of a
    module names are looked for from the working directory on, as Snakemake does, unless it hands on its own configuration
    file as it is; else from the campaign file's folder on.
    """
    if not workflow.is_main_process:
        end_with_parent()
    lend_library()
    inclusion = Inclusion(workflow)
    is_whole = inclusion.is_whole(config)
    given = [Path(file) for file in workflow.overwrite_configfiles] if is_whole else []
    if given and inclusion.is_module:
        # Snakemake has merged the file with that of the other Snakefile.
        config.clear()
        config.update(deepcopy(workflow.config_settings.overwrite_config))
    if is_whole:
        apply_types(config, workflow.config_settings.config)
    files = given or [Path(file) for file in workflow.configfiles if is_whole]
    file = files[-1] if files else DEFAULT_CAMPAIGN
    base, origin = file.resolve().parent, _shown(file)
    if inclusion.has_configuration and not files:
        base, origin = Path.cwd(), f"config of module {inclusion.name}"
    invocation, targets = invocation_of(workflow, inclusion.rule)
    if invocation is Invocation.INSPECTION:
        for output in _outputs(workflow):
            output.pass_on()
    _others.update(_names(workflow) - _own)
    is_elsewhere = not inclusion.has_configuration and Path.cwd() != PROJECT
    if is_elsewhere and invocation is not Invocation.JOB:
        lacking = f"module {inclusion.name} has no config" if inclusion.is_module else "no --configfile is given"
        say(f"{lacking}, so this is the default campaign, {config.get('name')} ({DEFAULT_CAMPAIGN})")
    try:
        if invocation is not Invocation.JOB:
            check_project(PROJECT)
            check_workflow_profile(command_line().get("workflow_profile"), Path(workflow.basedir))
            check_files([Path(_shown(path)) for path in given])
            check_settings(workflow.resource_settings)
        configuration = load_configuration(config, origin)
        own = bool(workflow.deployment_settings.deployment_method)
        paths = inclusion.paths(configuration.name)
        campaign = Campaign(configuration, base, invocation, targets, own, paths, inclusion.rule)
    except QuarryError as error:
        sys.exit(f"Quarry: {error}")
    if invocation is Invocation.RUN:
        from quarry.submission import executors, signals

        executors.install(PROJECT)
        if not _started:
            signals.install(workflow)
        announce_main()
        # A rule that the user gives resources of its own has its place on the cluster.
        campaign.beside_main.is_possible = lambda rule: (
            not workflow.local_exec and inclusion.rule(rule) not in workflow.resource_settings.overwrite_resources
        )
    # Without --cores and --jobs Snakemake refuses to start; a plain `snakemake` means this machine with all its cores.
    # A profile cannot say so: profiles/default would also cap the cores that a cluster profile may ask for.
    settings = workflow.resource_settings
    if settings.cores is None and settings.nodes is None:
        from snakemake.utils import available_cpu_count

        settings.cores = available_cpu_count()
        # The scheduler counts with its own copy, made before the Snakefile is read: without it all jobs start at once.
        workflow.global_resources["_cores"] = settings.cores
    return campaign


def start_campaign(workflow: Any, campaign: Campaign) -> None:
    """Check and start the campaign when all its rules are known; a mistake of the user ends it as in ``open_campaign``.

    workflow: the Snakefile's object.
    """
    inclusion, root = Inclusion(workflow), Path(campaign.paths.root).resolve()
    _own.update(_names(workflow) - _others)
    campaign.is_alone = lambda: _names(workflow) <= _own
    try:
        if campaign.invocation is not Invocation.JOB and not inclusion.is_module:
            check_rules(workflow, campaign.targets)
            check_report(campaign)
        read_records_with(packed_record)
        if campaign.invocation in (Invocation.INSPECTION, Invocation.DRY_RUN):
            show_as_there(campaign.paths.root, Look(campaign.recovery.packed, campaign.is_finished))
        if campaign.invocation is Invocation.INSPECTION:
            show_unwritable()
        if root in _started:
            if _started[root].configuration != campaign.configuration:
                raise QuarryError(
                    f"{campaign.paths.root}: two modules of this workflow have this folder and are different campaigns; give "
                    "one of them another prefix or name"
                )
        else:
            campaign.start()
            for output in _outputs(workflow):
                output.follow(campaign)
            if campaign.invocation is Invocation.RUN:
                _write_run(workflow, campaign)
            if campaign.invocation in (Invocation.RUN, Invocation.DRY_RUN):
                for line in changed_ends(campaign):
                    say(line)
        if campaign.invocation is not Invocation.JOB:
            _started[root] = campaign
    except QuarryError as error:
        sys.exit(f"Quarry: {error}")
    except OSError as error:
        # A folder in place of a file, a file of somebody else's: nothing that a start could repair.
        sys.exit(f"Quarry: {error.filename or campaign.paths.root}: {error.strerror or error}; correct or remove it")


def check_report(campaign: Campaign) -> None:
    """Raise QuarryError if ``--report`` asks for a campaign whose figures are not there (Snakemake lists every absent file), or
    are of an earlier end than the one that it goes on to; or for a file that cannot be written.
    """
    asked = command_line().get("report")
    if not asked or campaign.invocation is not Invocation.INSPECTION:
        return
    check_report_file(Path(asked))
    if campaign.targets:
        return
    shown = [path for rule in campaign.drawing_rules for path in campaign.paths.outputs(rule).values()]
    absent = next((path for path in shown if not Path(path).exists()), None)
    if absent is not None:
        raise QuarryError(
            f"--report: {absent} is not there; figures and overview are made when a campaign ends, and by this version: "
            "give the same command without --report (quarry status says how far it is)"
        )
    for arm in campaign.arms:
        last = count_with(partial(campaign.paths.facts, arm)) - 1
        if last >= 0 and campaign.stop_reason(arm, last) is None:
            raise QuarryError(
                f"--report: arm {arm} goes on after iteration {last}, and figures and overview are of an earlier end; give the "
                "same command without --report first"
            )


def _names(workflow: Any) -> set[str]:
    return {rule.name for rule in workflow.rules}


def _outputs(workflow: Any) -> list[Any]:
    """Return Quarry's logger plugin (``snakemake_logger_plugin_quarry``) in the main process, if it is switched on."""
    return [handler for handler in workflow.logger_manager.get_log_handlers() if hasattr(handler, "follow")]


def _write_run(workflow: Any, campaign: Campaign) -> None:
    """Write down how this run was asked for, for whoever looks at it while it runs or afterwards."""
    settings, logs = workflow.resource_settings, workflow.logger_manager.get_logfile()
    jobs = None if workflow.local_exec else settings.nodes
    machine = {"cores": settings.cores, "jobs": jobs, "log": logs[0] if logs else None}
    # A disk that does not take it ends no run.
    with suppress(OSError):
        begin_run(campaign.paths.last_run, campaign.configuration, campaign.targets, machine)


def _shown(file: Path) -> str:
    try:
        return str(file.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(file)
