"""Modification times that a start puts right: Snakemake makes again what is older than its input, and refuses to end a job
whose input lies in the future. A copy (``cp -r``), a backup or a server with another clock must not have that effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time_ns

from quarry.campaign.own_files import OwnFiles
from quarry.campaign.receipts import Account
from quarry.errors import QuarryError

TIMESTAMP = ".snakemake_timestamp"
"""File in a folder that a rule makes, whose time is the folder's for Snakemake."""
STEP_NS = 1000
TOLERANCE_NS = 10**9
"""Less than this is no future: it is over before a job could end, and clocks of file systems go in steps."""


def bring_from_future(own: OwnFiles, files: Iterable[Path]) -> int:
    """Give files of the future a time just before now, in their order; return how many there were."""
    times = {path: path.stat(follow_symlinks=False).st_mtime_ns for path in files}
    if not times or max(times.values()) <= (now := own.now_ns()) + TOLERANCE_NS:
        return 0
    future = {path: time for path, time in times.items() if time > now + TOLERANCE_NS}
    order = sorted(set(future.values()))
    rank = {time: number for number, time in enumerate(order, 1)}
    # Behind everything of the past: the order is what Snakemake asks for.
    past = max((time for path, time in times.items() if path not in future), default=0)
    start = max(past, now - STEP_NS * (len(order) + 1))
    for path, time in future.items():
        own.set_time(path, start + STEP_NS * rank[time])
    return len(future)


def refuse_future(files: Iterable[Path], what: str) -> None:
    """Raise QuarryError for a file of the future outside the campaign, where times are not repaired, that a job reads."""
    for path in files:
        if path.stat().st_mtime_ns > time_ns() + TOLERANCE_NS:
            raise QuarryError(
                f"{what}: the time of {path} lies in the future, and what is made of it would be older than it; touch it"
            )


@dataclass
class Product:
    """Files that were made of others. is_true: whether these are really made of those as they are now (asked once)."""

    outputs: list[Path]
    inputs: list[Path]
    is_true: Callable[[], bool]
    answer: bool | None = field(default=None, init=False)

    @property
    def is_up_to_date(self) -> bool:
        """Whether the outputs are made of the inputs as they are, whatever the times say."""
        if self.answer is None:
            self.answer = self.is_true()
        return self.answer

    @staticmethod
    def of(account: Account) -> Product:
        """Return the files that the receipt of a job names."""
        inputs = [*account.inputs, *account.labels]
        outputs = [*account.outputs, *map(_carrier, account.folders), account.benchmark]
        return Product(outputs, inputs, lambda: account.is_true)


def put_in_order(own: OwnFiles, products: Iterable[Product]) -> int:
    """Make outputs as new as their inputs where nothing but the times says that they are older; return how many files."""
    waiting, changed = list(products), set()
    times: dict[Path, int | None] = {}

    def time_of(path: Path) -> int | None:
        if path not in times:
            times[path] = None
            with suppress(OSError):
                times[path] = path.stat(follow_symlinks=False).st_mtime_ns
        return times[path]

    again = True
    while again:
        again = False
        for product in waiting:
            newest = max((time for path in product.inputs if (time := time_of(path)) is not None), default=0)
            older = [path for path in product.outputs if (time := time_of(path)) is not None and time < newest]
            if older and product.is_up_to_date:
                for path in older:
                    own.set_time(path, newest)
                    times[path] = newest
                changed.update(older)
                again = True
    return len(changed)


def _carrier(folder: Path) -> Path:
    mark = folder / TIMESTAMP
    return mark if mark.exists() else folder
