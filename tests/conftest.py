"""What every test relies on."""

import signal
from contextlib import suppress

from hypothesis import settings

# A shell lets what it starts in the background ignore Ctrl-C, and all that is started from there inherits it.
with suppress(ValueError):
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A pause of a busy machine in one of hundreds of examples is no fault.
settings.register_profile("quarry", deadline=None)
settings.load_profile("quarry")
