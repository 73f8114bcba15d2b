"""The line between a label job and its engine: frames arrive whole, in order and from the other end, or not at all."""

from __future__ import annotations

import pytest

from quarry.labeling.channel import Channel, ChannelError, make_line, new_nonce


@pytest.fixture
def line() -> tuple[Channel, Channel]:
    return make_line()


def test_frames_of_any_size_arrive_whole_and_in_order(line: tuple[Channel, Channel]) -> None:
    one, other = line
    nonce = new_nonce()
    one.send(nonce, b"")
    one.send(nonce, b"x" * 100_000)
    frames = []
    while len(frames) < 2:
        frames += [frame] if (frame := other.receive()) else []
    assert frames == [(nonce, b""), (nonce, b"x" * 100_000)] and other.receive() is None


@pytest.mark.parametrize("place", [0, 20, 40, 60, -1])
def test_no_byte_may_differ(line: tuple[Channel, Channel], place: int) -> None:
    one, other = line
    one.send(new_nonce(), b"energy")
    frame = bytearray(other._end.recv(1000))
    frame[place] ^= 1
    one._end.sendall(frame)
    with pytest.raises(ChannelError):
        other.receive()


def test_a_frame_of_another_line_is_refused(line: tuple[Channel, Channel]) -> None:
    one, other = line
    third, fourth = make_line()
    third.send(new_nonce(), b"energy")
    one._end.sendall(fourth._end.recv(1000))
    with pytest.raises(ChannelError):
        other.receive()


def test_nobody_at_the_other_end(line: tuple[Channel, Channel]) -> None:
    one, other = line
    assert other.is_quiet and other.receive() is None
    one.close()
    assert not other.is_quiet
    with pytest.raises(EOFError):
        other.receive()
