"""How many files a campaign leaves: results, label store and ``.snakemake``. What a quota counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from quarry.campaign.loop import RULES, product_of, stages_of
from quarry.campaign.plans import plan_of
from quarry.config.campaign import Configuration

LOOSE_PER_JOB = 4
"""Files of a label job until its iteration is packed: input, records, log, and Snakemake's record."""
OF_PACKING = 2
"""Files of a packed iteration beside its rules' own: the archive, and Snakemake's mark in the folder of job inputs."""
OTHERS = 5
"""Manifest, how it was last run, the store's description of the method, cached checks of the start, and one log of Snakemake."""


def files_at_end(configuration: Configuration, iterations: Mapping[str, int], labels: int) -> int:
    """Return the number of files when the campaign is finished and packed.

    iterations: of each arm, with the first one. labels: distinct successful labels, one file of the store each.
    """
    of_iterations = sum(_of_iteration(configuration, arm, t) for arm, count in iterations.items() for t in range(count))
    return labels + of_iterations + _of_products(configuration) + OTHERS


def drawing_rules(configuration: Configuration) -> list[str]:
    """Return the rules that draw what a campaign's user sees."""
    wanted = {
        "draw_figures": True,
        "draw_savings": bool(configuration.controls),
        "draw_function": configuration.is_function,
        "draw_spectrum": configuration.spectrum is not None,
        "write_overview": True,
    }
    return [rule for rule, is_wanted in wanted.items() if is_wanted]


def _of_iteration(configuration: Configuration, arm: str, iteration: int) -> int:
    """Return the files of a packed iteration: outputs, and a receipt of each job that is no label."""
    plan = replace(plan_of(configuration, arm), proposed=iteration > 0)
    files = [stage.files(plan) for stage in stages_of(plan)]
    return sum(map(len, files)) + sum(map(bool, files)) + max(0, plan.members - 1) + OF_PACKING


def _of_products(configuration: Configuration) -> int:
    """Return the files of pool, products and figures: outputs with Snakemake's record, log, receipt and
    benchmark of each job.
    """
    arms = len(configuration.arm_names)
    jobs = {
        "build_pool": 1,
        "build_features": int(configuration.descriptor is not None),
        "build_baseline": int(bool(configuration.baselines)),
        "collect_results": arms,
        "describe_model": arms,
        "publish_results": 1,
        "publish_model": 1,
        "describe_dataset": 1,
    }
    if configuration.knows_pool:
        jobs["collect_pool_labels"] = 1
    if configuration.controls:
        jobs["compare_arms"] = 1
    if configuration.spectrum is not None:
        jobs |= {"compute_spectrum": arms, "publish_spectrum": 1}
    jobs |= dict.fromkeys(drawing_rules(configuration), 1)
    count = sum(number * (2 * len(product_of(rule)) + 2 + bool(RULES[rule].benchmark)) for rule, number in jobs.items())
    # Normal modes: no receipt. Settings of the data set and of the spectrum: made by no rule.
    return count + 4 * configuration.computes_modes + 1 + (configuration.spectrum is not None)
