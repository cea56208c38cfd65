"""Framed JSON messages over a socket pair, between the parent and a jailed process.

Both ends are our own code; what a program wrote travels inside as a string. ASCII JSON,
because a program's text may hold lone surrogates that no encoding takes. Only `read` and
`write` are used without a deadline, since the jailed end may do little else; with one, the
descriptor has to be non-blocking.
"""

import json
import os
import select
import struct
import time
from typing import Any

_LENGTH = struct.Struct("<I")
_MAX_FRAME_BYTES = 16 << 20
_BLOCK_BYTES = 1 << 16


class ChannelClosed(Exception):
    """The other end is gone."""


def send(descriptor: int, message: dict[str, Any], seconds: float | None = None) -> None:
    """Send one message; raises ChannelClosed, or TimeoutError after `seconds`."""
    content = json.dumps(message).encode("ascii")
    left = memoryview(_LENGTH.pack(len(content)) + content)
    deadline = _deadline(seconds)
    while left:
        _wait(descriptor, select.POLLOUT, deadline)
        try:
            left = left[os.write(descriptor, left[:_BLOCK_BYTES]) :]
        except BlockingIOError:
            continue
        except OSError as error:
            raise ChannelClosed from error


def receive(descriptor: int, seconds: float | None = None) -> dict[str, Any]:
    """Receive one message; raises ChannelClosed, or TimeoutError after `seconds`."""
    deadline = _deadline(seconds)
    (length,) = _LENGTH.unpack(_exactly(descriptor, _LENGTH.size, deadline))
    if length > _MAX_FRAME_BYTES:
        raise ChannelClosed(f"a frame of {length} bytes")
    return json.loads(_exactly(descriptor, length, deadline))


def _deadline(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


def _exactly(descriptor: int, count: int, deadline: float | None) -> bytes:
    content = bytearray()
    while len(content) < count:
        _wait(descriptor, select.POLLIN, deadline)
        try:
            part = os.read(descriptor, min(count - len(content), _BLOCK_BYTES))
        except BlockingIOError:
            continue
        except OSError as error:
            raise ChannelClosed from error
        if not part:
            raise ChannelClosed
        content += part
    return bytes(content)


def _wait(descriptor: int, event: int, deadline: float | None) -> None:
    if deadline is None:
        return
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(deadline - time.monotonic(), 0.0) * 1000):
        raise TimeoutError
