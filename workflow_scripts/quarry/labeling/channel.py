"""The line between a label job and the process of its engine: sealed frames, each with the nonce of its request.

User-defined code runs in that process. It may fork, close or duplicate descriptors, print into any of them, or leave
threads behind; whatever it does, what the job takes for an answer was written by the other end, for this request.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import secrets
import select
import socket
import struct
from contextlib import suppress

LENGTH = struct.Struct(">Q")
NONCE_BYTES, SEAL_BYTES = 16, 32
HEADER_BYTES = NONCE_BYTES + LENGTH.size + SEAL_BYTES
HIGH_DESCRIPTOR = 200
"""Lowest number of the line's descriptors: code that closes or fills the first ones by number does not meet them."""
CHUNK_BYTES = 2**20


class ChannelError(Exception):
    """Something else was written into the line, or its descriptor is no longer the line."""


class Channel:
    """One end of a line. A frame is nonce, length and their seal, then content and the seal of nonce and content."""

    def __init__(self, end: socket.socket, key: bytes) -> None:
        """end: taken over. key: of the seals, the same at both ends."""
        self._end = _moved_up(end)
        self._key = key
        self._identity = self._descriptor_now()
        self._received = bytearray()

    def send(self, nonce: bytes, content: bytes) -> None:
        """Write a frame. Raises ChannelError if the descriptor is another file's by now, OSError if nobody can read it."""
        self._check_descriptor()
        header = nonce + LENGTH.pack(len(content))
        # Whoever shares the open file may have made it non-blocking.
        self._end.setblocking(True)
        self._end.sendall(header + self._seal(header) + content + self._seal(nonce + content))

    def poll(self, timeout_s: float | None) -> bool:
        """Wait until something arrives (or the other end is gone); return whether it did. What has arrived does not count."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else 1000 * timeout_s))

    def receive(self) -> tuple[bytes, bytes] | None:
        """Return nonce and content of the next frame, or None while it is not complete; does not wait.

        Raises EOFError if nobody holds the other end any more, ChannelError for anything that is no frame.
        """
        self._check_descriptor()
        with suppress(BlockingIOError):
            arrived = self._end.recv(CHUNK_BYTES, socket.MSG_DONTWAIT)
            if not arrived:
                raise EOFError
            self._received += arrived
        if len(self._received) < HEADER_BYTES:
            return None
        header = bytes(self._received[: NONCE_BYTES + LENGTH.size])
        # Before its length is believed: a wrong one would be waited for without end.
        self._check_seal(header, self._received[len(header) : HEADER_BYTES])
        nonce, (length,) = header[:NONCE_BYTES], LENGTH.unpack(header[NONCE_BYTES:])
        end = HEADER_BYTES + length
        if len(self._received) < end + SEAL_BYTES:
            return None
        content = bytes(self._received[HEADER_BYTES:end])
        self._check_seal(nonce + content, self._received[end : end + SEAL_BYTES])
        del self._received[: end + SEAL_BYTES]
        return nonce, content

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has arrived that was not received."""
        return not self._received and not self.poll(0)

    def close(self) -> None:
        """Close this end."""
        self._end.close()

    def _seal(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, "sha256")

    def _check_seal(self, data: bytes, seal: bytes | bytearray) -> None:
        if not hmac.compare_digest(self._seal(data), seal):
            raise ChannelError("something else was written into the line")

    def _descriptor_now(self) -> tuple[int, int]:
        found = os.fstat(self._end.fileno())
        return found.st_dev, found.st_ino

    def _check_descriptor(self) -> None:
        try:
            same = self._descriptor_now() == self._identity
        except OSError:
            same = False
        if not same:
            raise ChannelError("the line's descriptor was closed or replaced")


def make_line() -> tuple[Channel, Channel]:
    """Return the two ends of a new line with a key of its own."""
    key = secrets.token_bytes(SEAL_BYTES)
    one, other = socket.socketpair()
    return Channel(one, key), Channel(other, key)


def new_nonce() -> bytes:
    """Return the nonce of a request, which no other has."""
    return secrets.token_bytes(NONCE_BYTES)


def _moved_up(end: socket.socket) -> socket.socket:
    """Return a socket under a high number, which programs that are started do not inherit; itself where there is none."""
    try:
        number = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, HIGH_DESCRIPTOR)
    except OSError:
        return end
    end.close()
    return socket.socket(fileno=number)
