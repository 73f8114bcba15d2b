"""Write the facts of an iteration and what it cost; show the iteration's line in the terminal."""

from pathlib import Path

from quarry.campaign.job import configuration_of, job, manifest_of
from quarry.terminal import tell

configuration = configuration_of(snakemake)
with job(snakemake) as log:
    from quarry.dynamics.files import read_exploration
    from quarry.labeling.ledger import LabelLedger
    from quarry.labeling.wanted import Wanted
    from quarry.stages.assessment import (
        Payer,
        account_cost,
        assess_iteration,
        facts_before,
        progress_line,
        warning_lines,
    )
    from quarry.structures.files import read_pool_ids

    arm, iteration = snakemake.wildcards.arm, int(snakemake.wildcards.iteration)
    facts = assess_iteration(
        configuration,
        arm,
        iteration,
        metrics=snakemake.input.metrics,
        failures=snakemake.input.failures,
        pool_size=len(read_pool_ids(snakemake.input.structures)),
        output=snakemake.output.facts,
        exploration=read_exploration(snakemake.input.structures),
    )
    begins = iteration == 0 and arm == configuration.arm_names[0]
    cost = account_cost(
        Payer(manifest_of(snakemake)["campaign_id"], arm, iteration),
        snakemake.input.labels,
        [Path(snakemake.output.facts).parent / "receipts"],
        LabelLedger(snakemake.params.failed),
        Wanted.of(configuration.goal),
        snakemake.output.cost,
        [Path(snakemake.input.structures).parent / "receipts"] if begins else [],
    )
    before = facts_before(facts, snakemake.output.facts)
    for line in (progress_line(facts, cost), *warning_lines(facts, configuration, before)):
        log(line)
        tell(line)
