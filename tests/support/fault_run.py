"""Two campaigns on one label store, and a seeded stream of faults: is a label lost, wrong, or paid twice?

    python tests/support/fault_run.py FOLDER [--seed 3] [--structures 100]

The label jobs are the real ones (labeler, claims, store, ledger, engine in a child process); only the engine is a stand-in
that does what the plan says before it labels, and the main processes are this script. Prints what was injected and what
came of it as JSON. Every planned fault happens exactly once, so the counts depend on the seed alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    root = Path(__file__).parents[2]
    sys.path[:0] = [str(root / "workflow_scripts"), str(root / "tests")]

import numpy as np
import psutil

from quarry.labeling.claims import Claims
from quarry.labeling.keys import key_of
from quarry.labeling.record import LabelRecord, read_records
from quarry.labeling.store import LabelStore
from quarry.randomness import generator
from quarry.structures.files import JobInputEntry
from support.fault_engine import ENGINE_FAULTS, LAST_FAULTS, energy_of, note, noted
from support.fault_jobs import FORK, HEARTBEAT_S, METHOD, METHOD_ID, Campaign, run_job, structures_of
from support.faults import DAMAGES, damage

MACHINE_FAULTS = {
    "damaged record": 24,
    "truncated label file": 10,
    "killed main process": 8,
    "power failure": 6,
    "node down": 10,
    "claim of a dead host": 12,
    "claim of a living host with a wrong clock": 4,
    "litter": 6,
}
"""What happens to the jobs and files from outside, and how often."""

SLOTS = 3
"""Jobs that a campaign runs at once."""
FROZEN_FOR_S = 4.5
"""More than the heartbeats that a holder may miss."""
MOST_STARTS = 30
DAY_S = 86400.0


class FaultRun:
    """The campaigns, the faults from outside, and the account."""

    def __init__(self, folder: Path, seed: int, count: int) -> None:
        self.folder = folder
        self.random = generator(seed, "fault run")
        self.structures = structures_of(count)
        self.by_id = {s.structure_id: s for s in self.structures}
        self.store = LabelStore(folder / "store", METHOD_ID, METHOD)
        self.plan = self._plan()
        self.injected: Counter[str] = Counter()
        faults = [name for name, times in MACHINE_FAULTS.items() for _ in range(times)]
        self.outside = [faults[i] for i in self.random.permutation(len(faults))]
        self.orphans: list[Any] = []
        self.holders: list[dict[str, Any]] = []
        self.ended = self.violations = 0
        self.damages = list(DAMAGES)
        self.memory_MB = psutil.Process().memory_info().rss / 2**20 + 250
        self.campaigns = [self._campaign("uncertainty", 3), self._campaign("random", 2)]

    def _plan(self) -> dict[str, list[str]]:
        """Which faults befall the calls for each structure, in order; the call after the last one succeeds."""
        plan: dict[str, list[str]] = {i: [] for i in self.by_id}
        ids = sorted(self.by_id)
        faults = [name for name, times in ENGINE_FAULTS.items() for _ in range(times) if name not in LAST_FAULTS]
        for number in self.random.permutation(len(faults)):
            plan[ids[int(self.random.integers(len(ids)))]].append(faults[int(number)])
        # After these a label may be there, and then no further call meets what else is planned.
        last = [name for name in LAST_FAULTS for _ in range(ENGINE_FAULTS[name])]
        for number, name in zip(self.random.permutation(len(ids)), last, strict=False):
            plan[ids[int(number)]].append(name)
        return plan

    def _campaign(self, name: str, size: int) -> Campaign:
        for part in ("batch", "labels"):
            (self.folder / name / part).mkdir(parents=True)
        order = [self.structures[int(i)] for i in self.random.permutation(len(self.structures))]
        parts = [order[n : n + size] for n in range(0, len(order), size)]
        return Campaign(
            name,
            self.folder,
            [(f"job{n}", [JobInputEntry(s, s.structure_id) for s in part]) for n, part in enumerate(parts)],
        )

    # What the main processes do.

    def work(self) -> None:
        """Run the campaigns to their end, faults and all; then a third one that asks for everything again."""
        try:
            while not all(campaign.finished for campaign in self.campaigns) or self.orphans or self.holders:
                self._step()
            while self.outside and self._inject():
                self._finish()
            self.campaigns.append(self._campaign("audit", 5))
            self._finish()
        finally:
            for process in [*self.orphans, *(p for c in self.campaigns for p in c.running.values())]:
                process.kill()

    def _finish(self) -> None:
        while not all(campaign.finished for campaign in self.campaigns):
            self._step()

    def _step(self) -> None:
        for campaign in self.campaigns:
            self._collect(campaign)
            while campaign.waiting and len(campaign.running) < SLOTS:
                job, entries = campaign.waiting.pop(0)
                campaign.starts[job] += 1
                if campaign.starts[job] > MOST_STARTS:
                    sys.exit(f"{campaign.name} {job} does not come to an end")
                campaign.jobs[job] = entries
                process = FORK.Process(target=run_job, args=(campaign, job, entries, self.plan, self.memory_MB))
                process.start()
                campaign.running[job] = process
        self.orphans = [process for process in self.orphans if process.is_alive()]
        self._keep_holders_alive()
        self._resume_frozen()
        time.sleep(0.02)

    def _collect(self, campaign: Campaign) -> None:
        for job in [job for job, process in campaign.running.items() if not process.is_alive()]:
            # A main process that was killed meanwhile has forgotten it.
            process = campaign.running.pop(job, None)
            if process is None:
                continue
            self.ended += 1
            self._take(campaign, job, ok=process.exitcode == 0)
            # Not before the third job has ended, and then after every second one.
            if self.outside and self.ended > 2 and self.ended % 2:
                self._inject()

    def _take(self, campaign: Campaign, job: str, ok: bool) -> None:
        entries = campaign.jobs[job]
        if not ok:
            campaign.waiting.append((job, entries))
            return
        records = campaign.done[job] = read_records(campaign.output(job))
        if [r.structure_id for r in records] != [e.structure.structure_id for e in entries]:
            self.violations += 1
        for entry, record in zip(entries, records, strict=True):
            key = key_of(entry.structure.structure_id, entry.key)
            if not record.ok and key not in campaign.jobs:
                campaign.waiting.append((key, [JobInputEntry(entry.structure, key)]))

    # What happens from outside.

    def _inject(self) -> bool:
        """Let the next fault happen; one that nothing can befall now is put off. Return whether one happened."""
        for number in range(len(self.outside) - 1, -1, -1):
            name = self.outside[number]
            if getattr(self, "_" + name.replace(" ", "_"))():
                self.injected[name] += 1
                del self.outside[number]
                return True
        return False

    def _pick(self, items: list[Any]) -> Any:
        return items[int(self.random.integers(len(items)))] if items else None

    def _damaged_record(self) -> bool:
        good = [i for i in sorted(self.by_id) if self.store.path(i).exists() and self._stored(i) is not None]
        structure_id = self._pick(good)
        if structure_id is None:
            return False
        damage(self.store.path(structure_id), self.damages[self.injected["damaged record"] % len(self.damages)])
        note(self.folder / "destroyed", structure_id)
        return True

    def _truncated_label_file(self) -> bool:
        """The campaign finds it when it starts again, moves it aside and runs the job once more."""
        campaign = self._pick([c for c in self.campaigns if c.done])
        if campaign is None:
            return False
        job = self._pick(sorted(campaign.done))
        damage(campaign.output(job), "truncated")
        try:
            read_records(campaign.output(job))
            self.violations += 1
        except ValueError:
            campaign.output(job).unlink()
        del campaign.done[job]
        campaign.waiting.append((job, campaign.jobs[job]))
        return True

    def _killed_main_process(self) -> bool:
        """Its jobs run on, and a new main process submits them again at once."""
        campaign = self._pick([c for c in self.campaigns if c.running])
        if campaign is None:
            return False
        self.orphans += campaign.running.values()
        campaign.waiting = [(job, campaign.jobs[job]) for job in campaign.running] + campaign.waiting
        campaign.running = {}
        campaign.run += 1
        return True

    def _power_failure(self) -> bool:
        campaign = self._pick([c for c in self.campaigns if len(c.running) > 1])
        if campaign is None:
            return False
        for job, process in campaign.running.items():
            self._kill(campaign.jobs[job], process)
        campaign.run += 1
        return True

    def _node_down(self) -> bool:
        campaign = self._pick([c for c in self.campaigns if c.running])
        if campaign is None:
            return False
        job = self._pick(sorted(campaign.running))
        self._kill(campaign.jobs[job], campaign.running[job])
        return True

    def _claim_of_a_dead_host(self) -> bool:
        claim = self._foreign_claim()
        if claim is not None:
            stamp = time.time() + float(self.random.choice([-DAY_S, DAY_S]))
            os.utime(claim.path, (stamp, stamp))
        return claim is not None

    def _claim_of_a_living_host_with_a_wrong_clock(self) -> bool:
        claim = self._foreign_claim()
        if claim is not None:
            offset_s = float(self.random.choice([-DAY_S, DAY_S]))
            calls = noted(self.folder / "began")[claim.structure_id]
            until = time.monotonic() + 4.0
            self.holders.append({"claim": claim, "offset_s": offset_s, "calls": calls, "until": until})
        return claim is not None

    def _litter(self) -> bool:
        """Files that a crash leaves: a temporary file, and a claim that is not whole."""
        claim = self._foreign_claim()
        if claim is None:
            return False
        claim.path.write_bytes(b"")
        path = self.store.path(claim.structure_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.1.abcd.tmp").write_bytes(b"[")
        return True

    def _foreign_claim(self) -> Any:
        """Claim a label for a process of another host."""
        held = {holder["claim"].structure_id for holder in self.holders}
        claims = Claims(self.store.folder, HEARTBEAT_S)
        free = [i for i in sorted(self.by_id) if not self.store.path(i).exists() and i not in held]
        free = [i for i in free if claims.holder(i) is None]
        claim = claims.acquire(self._pick(free)) if free else None
        if claim is None or self.store.path(claim.structure_id).exists():
            if claim is not None:
                claim.release()
            return None
        owner = {**json.loads(claim.path.read_text()), "host": "elsewhere"}
        temporary = claim.path.with_name(".elsewhere")
        temporary.write_text(json.dumps(owner))
        os.replace(temporary, claim.path)
        return claim

    def _keep_holders_alive(self) -> None:
        for holder in list(self.holders):
            claim, now = holder["claim"], time.time() + holder["offset_s"]
            if time.monotonic() < holder["until"]:
                os.utime(claim.path, (now, now))
                continue
            self.violations += noted(self.folder / "began")[claim.structure_id] != holder["calls"]
            self.holders.remove(holder)
            claim.release()

    def _resume_frozen(self) -> None:
        """Let frozen jobs go on after a while; meanwhile others that want the same label come first."""
        for mark in (self.folder / "frozen").glob("*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                wanted, frozen_for = mark.read_text(), time.time() - mark.stat().st_mtime
                for campaign in self.campaigns:
                    campaign.waiting.sort(key=lambda job: all(e.structure.structure_id != wanted for e in job[1]))
                if frozen_for > FROZEN_FOR_S:
                    mark.unlink()
                    os.kill(int(mark.name), signal.SIGCONT)

    def _kill(self, entries: list[JobInputEntry], process: Any) -> None:
        """Kill a job and its engine in the same moment; a result that was not written yet goes with them."""
        family = []
        with contextlib.suppress(psutil.Error):
            family = [psutil.Process(process.pid)]
            family[0].suspend()
            family += family[0].children(recursive=True)
        for member in family:
            with contextlib.suppress(psutil.Error):
                member.suspend()
        finished, destroyed = noted(self.folder / "finished"), noted(self.folder / "destroyed")
        for entry in entries:
            structure_id = entry.structure.structure_id
            holder = Claims(self.store.folder, HEARTBEAT_S).holder(structure_id) or {}
            unwritten = finished[structure_id] > destroyed[structure_id] and self._stored(structure_id) is None
            if holder.get("pid") == process.pid and unwritten:
                note(self.folder / "destroyed", structure_id)
        for member in family:
            with contextlib.suppress(psutil.Error):
                member.kill()
        process.join()

    def _stored(self, structure_id: str) -> LabelRecord | None:
        """Return a whole record of the store, without touching a damaged one."""
        try:
            return read_records(self.store.path(structure_id))[0]
        except (OSError, ValueError):
            return None

    # The account.

    def account(self) -> dict[str, Any]:
        """Return what was injected and what came of it."""
        finished, destroyed = noted(self.folder / "finished"), noted(self.folder / "destroyed")
        lost = wrong = duplicated = 0
        for structure_id, structure in self.by_id.items():
            records = [campaign.labels().get(structure_id) for campaign in self.campaigns] + [
                self._stored(structure_id)
            ]
            lost += sum(record is None for record in records)
            right = energy_of(float(structure.positions[1, 2]))
            wrong += sum(r is not None and not np.isclose(r.properties["energy"], right, rtol=1e-13) for r in records)
            duplicated += max(0, finished[structure_id] - destroyed[structure_id] - 1)
        met = Counter(line.split()[1] for line in (self.folder / "met").read_text().splitlines())
        engine_faults = {name: met[name.replace(" ", "_")] for name in ENGINE_FAULTS}
        return {
            "injected": {**engine_faults, **self.injected},
            "faults": sum(engine_faults.values()) + self.injected.total(),
            "labels": len(self.structures),
            "calls begun": noted(self.folder / "began").total(),
            "calls finished": finished.total(),
            "results destroyed": destroyed.total(),
            "jobs run": sum(campaign.starts.total() for campaign in self.campaigns),
            "lost": lost,
            "wrong": wrong,
            "duplicated": duplicated,
            "violations": self.violations,
            "not injected": self.outside,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--structures", type=int, default=100)
    arguments = parser.parse_args()
    run = FaultRun(arguments.folder, arguments.seed, arguments.structures)
    run.work()
    print(json.dumps(run.account(), indent=1))


if __name__ == "__main__":
    main()
