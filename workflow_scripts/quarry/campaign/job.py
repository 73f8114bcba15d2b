"""What every script does around its one library call: threads, log, errors in one line, receipt."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from quarry.campaign.beside import keep_within
from quarry.campaign.loop import rule_of
from quarry.campaign.manifest import read_manifest
from quarry.campaign.paths import CampaignPaths, receipts_folder
from quarry.campaign.receipts import write_receipt
from quarry.config.campaign import Configuration
from quarry.config.loading import load_configuration
from quarry.errors import QuarryError, is_machine_fault, reason_of
from quarry.files import NOT_TAKEN
from quarry.labeling.store import LabelStore
from quarry.submission import BESIDE_MAIN
from quarry.submission.marks import MARK

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def set_threads(threads: int) -> None:
    """Fix the threads of the numerical libraries; call before numpy is imported."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    # Waiting OpenMP threads sleep instead of spinning: on a busy node a label of PySCF cost five times less (measured).
    os.environ["OMP_WAIT_POLICY"] = "passive"
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(limits=threads)


MEMORY_SHARE = 0.75
"""Share of a job's memory that PySCF may plan with; the rest is for the interpreter and what PySCF does not count."""


def set_memory(memory_mb: int | None) -> None:
    """Set how much memory PySCF takes (its default is 4000 MB) to that of the job; call before it is imported."""
    if memory_mb:
        os.environ["PYSCF_MAX_MEMORY"] = str(int(MEMORY_SHARE * memory_mb))


@contextmanager
def job(
    snakemake: Any, threads: int | None = None, receipt: bool = True, part: str = "", again: bool = False
) -> Iterator[Callable[[str], None]]:
    """Run the body of a script as a job of the campaign; yields a function that writes a line to the log.

    receipt: False writes none. part: which of several jobs of one rule in an iteration this is; each has its receipt.
    threads: of the numerical libraries. They come from the configuration for everything whose result must not depend
    on the cores at hand (Snakemake lowers ``snakemake.threads`` to the cores it has); None: those of Snakemake.
    again: every error is worth another attempt, because the job counts its attempts itself.
    """
    wanted = threads or int(snakemake.threads)
    set_threads(wanted)
    set_memory(snakemake.resources.get("mem_mb"))
    log_path = Path(snakemake.log[0])
    wall, cpu = time.monotonic(), time.process_time()
    with _log(log_path) as write:

        def mark(error: Exception) -> None:
            if not (again or is_machine_fault(error)):
                write(MARK)

        if snakemake.resources.get(BESIDE_MAIN):
            keep_within(snakemake.resources[BESIDE_MAIN], write)
        try:
            yield write
            write(_used())
            if receipt:
                children = resource.getrusage(resource.RUSAGE_CHILDREN)
                cost = {
                    "wall_s": round(time.monotonic() - wall, 3),
                    "cpu_s": round(time.process_time() - cpu + children.ru_utime + children.ru_stime, 3),
                    "threads": wanted,
                    "host": socket.gethostname(),
                }
                folder = receipts_folder(snakemake.output)
                rule = rule_of(snakemake.rule, snakemake.output, part)
                name = f"{rule}_{part}" if part else rule
                write_receipt(folder / f"{name}.json", rule, list(snakemake.output), cost, list(snakemake.input))
        except KeyboardInterrupt:
            # A terminal interrupts jobs too; the main process says what there is to say.
            write("interrupted")
            sys.exit(128 + signal.SIGINT)
        except QuarryError as error:
            write(str(error))
            mark(error)
            sys.exit(f"Quarry: {snakemake.rule}: {error}")
        except Exception as error:
            write(traceback.format_exc().rstrip())
            mark(error)
            # A disk that does not take the file does not take the log either, and has said which file.
            of_the_disk = isinstance(error, OSError) and error.errno in NOT_TAKEN
            more = "" if of_the_disk else f" (traceback in {log_path})"
            sys.exit(f"Quarry: {snakemake.rule}: {reason_of(error, named=True)}{more}")


@contextmanager
def _log(path: Path) -> Iterator[Callable[[str], None]]:
    """Yield a function that writes a line into a log. What the disk does not take is lost: the job's error is what counts."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = open(path, "w", buffering=1)  # noqa: SIM115 (closed below)
    except OSError:
        log = open(os.devnull, "w")  # noqa: SIM115
    # Not as "with", which tells what is left over of a full disk when it closes.
    try:

        def write(line: str) -> None:
            with suppress(OSError):
                log.write(line + "\n")

        yield write
    finally:
        with suppress(OSError):
            log.close()


def _used() -> str:
    """Return a line about what this process and its children have used since it was started (imports included)."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = sum(u.ru_utime + u.ru_stime for u in (own, children))
    return f"used {cpu_s:.2f} CPU-s, at most {max(own.ru_maxrss, children.ru_maxrss) / 1024:.0f} MB in one process"


def configuration_of(snakemake: Any) -> Configuration:
    """Return the campaign's configuration inside a script."""
    return load_configuration(snakemake.config, "configuration")


def manifest_of(snakemake: Any) -> dict[str, Any]:
    """Return the campaign's manifest inside a script. Raises QuarryError if it is absent or damaged."""
    manifest = read_manifest(snakemake.params.manifest)
    if manifest is None:
        raise QuarryError(f"{snakemake.params.manifest} is missing; start the campaign again")
    return manifest


def paths_of(snakemake: Any) -> CampaignPaths:
    """Return the campaign's paths inside a script."""
    return CampaignPaths(configuration_of(snakemake).name, str(Path(snakemake.params.manifest).parent))


def store_of(configuration: Configuration, manifest: dict[str, Any]) -> LabelStore:
    """Return the campaign's label store."""
    # Resolved: a link that leads elsewhere later must not lead a claim or a label astray.
    return LabelStore(Path(configuration.labeling.store).resolve(), manifest["method_id"], manifest["method"])


def stores_before(configuration: Configuration, manifest: dict[str, Any]) -> list[LabelStore]:
    """Return the label stores that the campaign had before, where they are still there."""
    now = Path(configuration.labeling.store).resolve()
    earlier = [folder for name in manifest.get("stores", []) if (folder := Path(name).resolve()) != now]
    return [LabelStore(folder, manifest["method_id"], manifest["method"]) for folder in earlier if folder.is_dir()]
