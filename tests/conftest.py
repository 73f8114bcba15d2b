"""What every test relies on."""

import signal
from contextlib import suppress

# A shell lets what it starts in the background ignore Ctrl-C, and all that is started from there inherits it.
with suppress(ValueError):
    signal.signal(signal.SIGINT, signal.default_int_handler)
