"""What does reading the Snakefile cost beyond what Snakemake itself needs?

`snakemake -n` of the default campaign in a fresh folder beside `snakemake -n` of a Snakefile of one rule, turn by turn. The first
turn, in which the campaign's inputs are checked (later ones know the answer), is shown by itself.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import REPOSITORY, machine, print_table

ONE_RULE = 'rule all:\n    output:\n        "done",\n    shell:\n        "touch {output}"\n'


def cpu_s(folder: Path, snakefile: Path) -> float:
    """Return the processor time (s, user and system, children too) of a dry run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "snakemake", "-s", str(snakefile), "-n", "--cores", "2"]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def summary(values: list[float]) -> str:
    """Return median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=12, help="turns after the first")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        small, campaign = Path(temporary, "small"), Path(temporary, "campaign")
        small.mkdir()
        campaign.mkdir()
        (small / "Snakefile").write_text(ONE_RULE)
        turns = [
            (cpu_s(small, small / "Snakefile"), cpu_s(campaign, REPOSITORY / "Snakefile"))
            for _ in range(arguments.repeats + 1)
        ]
    first, *later = turns
    print(machine())
    print_table(
        f"CPU-s of snakemake -n, median (range) of {len(later)}; load {os.getloadavg()[0]:.1f}",
        ["one rule", "default campaign", "difference", "difference of the first turn"],
        [
            [
                summary([one for one, _ in later]),
                summary([ours for _, ours in later]),
                summary([ours - one for one, ours in later]),
                first[1] - first[0],
            ]
        ],
    )
