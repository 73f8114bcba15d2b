"""The one exception for mistakes that the user can correct, and what is no mistake but a fault of the machine."""

from __future__ import annotations


class QuarryError(Exception):
    """A mistake in the input or the state of a campaign.

    The message is one line: what is wrong, where, what to change. It is shown without a traceback.
    """

    of_the_machine = False
    """Whether it may be gone when the same is done again, here or on another node."""


LONGEST = 1000
"""Characters of a library's own words in a message."""


def reason_of(error: BaseException, named: bool = False) -> str:
    """Return in one line what a library or the user's code says of an error.

    named: the kind of the error stands first. It does so in any case where the words alone say nothing: a KeyError is a bare
    name, an assertion mostly nothing at all.
    """
    words = " ".join(str(error).split())
    words = words if len(words) <= LONGEST else f"{words[:LONGEST]} ..."
    kind = type(error).__name__
    if not words:
        return kind
    return f"{kind}: {words}" if named or isinstance(error, KeyError) or " " not in words else words


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
