"""What the terminal says when a campaign ends, goes on after its end, or breaks off."""

from __future__ import annotations

import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path

from quarry.campaign.campaign import Campaign
from quarry.campaign.history import recorded_end
from quarry.campaign.invocation import Invocation
from quarry.campaign.iterations import count_with
from quarry.campaign.last_run import BROKE_OFF, FINISHED, end_run
from quarry.campaign.loop import product_of
from quarry.config.campaign import MAIN_ARM
from quarry.errors import QuarryError
from quarry.terminal import say


def closing_message(campaign: Campaign) -> str:
    """Return why each arm stopped and where the results are."""
    lines = []
    for arm in campaign.arms:
        last = count_with(partial(campaign.paths.facts, arm)) - 1
        if last >= 0:
            reason = campaign.stop_reason(arm, last)
            facts = campaign.facts(arm, last)[-1]
            why = f"stopped: {reason.words}" if reason else "not finished"
            if reason and campaign.configuration.spectrum:
                why = f"ML-NEA {why}"
            lines.append(f"Quarry: arm {arm}: {facts.n_labels} labels in {last + 1} iterations; {why}")
    lines += [f"Quarry: {message}" for message in _savings_messages(campaign)]
    root = campaign.paths.root
    if not lines:
        return f"Quarry: no iteration of {root} is finished yet"
    made = product_of("publish_results") + product_of("publish_model")
    made += product_of("publish_spectrum") if campaign.configuration.spectrum else []
    # A target of its own, `snakemake frequencies`, makes what it needs and no more.
    there = [name for name in _shown([*made, "figures/"]) if Path(root, name).exists()]
    if there:
        lines.append(f"Quarry: results in {root}: {', '.join(there)}")
    page = f"{root}/{product_of('write_overview')[0]}"
    if Path(page).exists():
        lines.append(f"Quarry: on one page: {page}")
        lines.append(f"Quarry: report: the same command with --report {root}/report.html")
    results = [campaign.paths.use(f"{use}.json") for use in campaign.asked_uses]
    lines += [f"Quarry: {path.stem} of the result: {path}" for path in map(Path, results) if path.exists()]
    return "\n".join(lines)


def changed_ends(campaign: Campaign) -> list[str]:
    """Return a line for each finished arm that other stop rules end otherwise than its results say, or no longer end.

    Control arms are left to arm main. Files that are damaged, and rules that fail, are reported by whoever needs them.
    """
    lines = []
    for arm in campaign.arms:
        iterations = count_with(partial(campaign.paths.facts, arm))
        recorded = recorded_end(campaign.paths, arm, iterations)
        if not recorded or campaign.leader(arm):
            continue
        try:
            reason = campaign.stop_reason(arm, iterations - 1)
        except QuarryError:
            continue
        if reason is None:
            lines.append(f"arm {arm} had ended ({recorded}); no stop rule ends it there now, so it goes on")
        elif reason.words != recorded:
            lines.append(f"arm {arm} stays ended: {reason.words} (in its history: {recorded})")
    return lines


def _shown(files: list[str]) -> list[str]:
    """Return files by their names, those of one folder together by the folder's."""
    heads = [file.partition("/")[0] for file in files]
    count = Counter(heads)
    return list(
        dict.fromkeys(file if count[head] == 1 else f"{head}/" for file, head in zip(files, heads, strict=True))
    )


def close_finished(campaign: Campaign) -> None:
    """Pack the files of a run that has ended, write down that it has, and say why and where the results are.

    Of a look at the graph nothing is written down, and there is nothing to say.
    """
    if campaign.invocation is Invocation.INSPECTION:
        return
    campaign.recovery.pack(say)
    end_run(campaign.paths.last_run, FINISHED)
    print(closing_message(campaign), file=sys.stderr)


def close_unfinished(campaign: Campaign) -> None:
    """Write down that a run has ended with an error, unless somebody ended it, and say what to do now."""
    if campaign.invocation is not Invocation.INSPECTION:
        print(_unfinished(campaign), file=sys.stderr)


def _unfinished(campaign: Campaign) -> str:
    # Here: it needs Snakemake's scheduler.
    from quarry.submission.signals import was_asked_to_end

    if was_asked_to_end():
        return (
            f"Quarry: the run of {campaign.paths.root} was interrupted; finished labels are kept. Give the same command again: "
            "it goes on from here."
        )
    end_run(campaign.paths.last_run, BROKE_OFF)
    return (
        f"Quarry: the run of {campaign.paths.root} broke off; finished labels are kept. The messages above name the job and "
        "its log. Remove the cause and give the same command again: it goes on from here."
    )


def _savings_messages(campaign: Campaign) -> list[str]:
    """Return the lines about the labels saved, or none without control arms or where they are of an earlier run."""
    path = Path(campaign.paths.outputs("compare_arms", MAIN_ARM)["savings"])
    if not campaign.configuration.controls or not path.exists():
        return []
    found = json.loads(path.read_bytes())
    return found["words"] if len(found["columns"]) == count_with(partial(campaign.paths.facts, MAIN_ARM)) else []
