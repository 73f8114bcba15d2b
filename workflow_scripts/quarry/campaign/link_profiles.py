"""Link the project's profiles into the user's Snakemake configuration, so that ``snakemake --profile slurm`` finds them.

Standard library only; run as a program with the folder of the profiles.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def link_profiles(profiles: Path, home: Path) -> list[str]:
    """Link every profile but ``default`` into ``home``; return one line per profile.

    What is there already and was not made by this function is left alone.
    """
    home.mkdir(parents=True, exist_ok=True)
    lines = []
    for profile in sorted(
        p for p in profiles.resolve().iterdir() if (p / "config.yaml").is_file() and p.name != "default"
    ):
        link = home / profile.name
        if link.is_symlink() and link.resolve() == profile:
            lines.append(f"{link}: already linked")
        elif link.is_symlink() and not link.exists() and link.readlink().parts[-2:] == ("profiles", profile.name):
            link.unlink()
            link.symlink_to(profile)
            lines.append(f"{link}: pointed nowhere, now linked to {profile}")
        elif os.path.lexists(link):
            lines.append(f"{link}: left alone, it was not made here; remove it, or use --profile {profile}")
        else:
            link.symlink_to(profile)
            lines.append(f"{link}: linked to {profile}")
    return lines


def main() -> None:
    """Link the profiles of the folder given as argument."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    print("\n".join(link_profiles(Path(sys.argv[1]), base / "snakemake")))


if __name__ == "__main__":
    main()
