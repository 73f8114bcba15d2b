"""What the benchmark scripts share: a campaign folder with stand-in labels, the machine's description, a table."""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
for folder in ("workflow_scripts", "tests"):
    sys.path.insert(0, str(REPOSITORY / folder))

SNAKEMAKE = [sys.executable, "-m", "snakemake", "-s", str(REPOSITORY / "Snakefile"), "--configfile", "campaign.yaml"]

# Runs Snakemake in this process and writes what this process alone used, jobs left out.
MEASURED = """
import json, resource, sys
from snakemake.cli import main
# The Snakefile reads the command line too: the file's name is no part of it.
output, code = sys.argv.pop(1), 0
try:
    main(sys.argv[1:])
except SystemExit as end:
    code = end.code
used = resource.getrusage(resource.RUSAGE_SELF)
with open(output, "w") as handle:
    json.dump({"cpu_s": used.ru_utime + used.ru_stime, "peak_MB": used.ru_maxrss / 1024}, handle)
sys.exit(code)
"""


def machine() -> str:
    """Return one line about the machine and the versions."""
    names = ("snakemake", "pyscf", "numpy")
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in names if importlib.util.find_spec(name)
    )
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print("| " + " | ".join(f"{x:.2f}" if isinstance(x, float) else str(x) for x in row) + " |")
