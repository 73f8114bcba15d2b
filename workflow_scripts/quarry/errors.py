"""The one exception for mistakes that the user can mend, and what is no mistake but a fault of the machine."""

from __future__ import annotations


class QuarryError(Exception):
    """A mistake in the input or the state of a campaign.

    The message is one line: what is wrong, where, what to change. It is shown without a traceback.
    """

    of_the_machine = False
    """Whether it may be gone when the same is done again, here or on another node."""


def is_machine_fault(error: BaseException) -> bool:
    """Return whether the same may succeed on another node or later: files, memory, processes, a library that was not read.

    What was raised because of such an error counts too.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError | MemoryError | ImportError) or getattr(found, "of_the_machine", False):
            return True
        found = found.__cause__ or found.__context__
    return False
