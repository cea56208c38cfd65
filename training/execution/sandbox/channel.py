"""Sends framed JSON messages over a socket pair, between the parent and a jailed process.

Both ends are our own code, and a program's text is a string in a message. A program that has
escaped its interpreter could still write to the channel, so the parent trusts nothing that it
receives: `receive` returns a JSON object or raises, and `text`, `number`, `flag` and `objects`
check the type and size of its fields. Messages are ASCII JSON, because a program's text may hold
lone surrogates that UTF-8 cannot encode. Without a deadline, only the system calls `read` and
`write` are used, as the jailed end is allowed little else; a deadline needs a non-blocking
descriptor.
"""

import json
import os
import select
import struct
import time
from typing import Any, cast

_LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 16 << 20
_BLOCK_BYTES = 1 << 16
_MAX_NUMBER_CHARACTERS = 40


class ChannelClosed(Exception):
    """The other end is closed, or sent something that is not a message."""


def send(descriptor: int, message: dict[str, Any], seconds: float | None = None) -> int:
    """Send one message; returns its bytes.

    Raises:
        ChannelClosed: the other end is closed.
        TimeoutError: it is not sent after `seconds`.
    """
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
    return len(content)


def receive(
    descriptor: int, seconds: float | None = None, *, max_bytes: int = MAX_FRAME_BYTES
) -> dict[str, Any]:
    """Receive one message.

    Raises:
        ChannelClosed: the other end is closed, or sent something other than a JSON object of at
            most `max_bytes`.
        TimeoutError: it is not complete after `seconds`.
    """
    deadline = _deadline(seconds)
    (length,) = _LENGTH.unpack(_exactly(descriptor, _LENGTH.size, deadline))
    if length > max_bytes:
        raise ChannelClosed(f"a frame of {length} bytes")
    message = parsed(_exactly(descriptor, length, deadline))
    if message is None:
        raise ChannelClosed("a frame that holds no JSON object")
    return message


def parsed(content: bytes | str) -> dict[str, Any] | None:
    """The JSON object in a text, its fields unchecked; None if there is none."""
    try:
        message: Any = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return cast(dict[str, Any], message) if isinstance(message, dict) else None


def text(message: dict[str, Any], name: str, max_characters: int) -> str | None:
    """A field that is a text of at most `max_characters`; None if it is anything else."""
    value = message.get(name)
    return value if isinstance(value, str) and len(value) <= max_characters else None


def number(message: dict[str, Any], name: str) -> float | None:
    """A field that is a number written as text by `repr(float)`; None if it is anything else."""
    written = text(message, name, _MAX_NUMBER_CHARACTERS)
    try:
        return None if written is None else float(written)
    except ValueError:
        return None


def objects(message: dict[str, Any], name: str, count: int) -> list[dict[str, Any]] | None:
    """A field that is a list of `count` JSON objects; None if it is anything else."""
    value: Any = message.get(name)
    if not isinstance(value, list) or len(cast(list[Any], value)) != count:
        return None
    items = cast(list[Any], value)
    return items if all(isinstance(item, dict) for item in items) else None


def flag(message: dict[str, Any], name: str) -> bool:
    """Whether a field exists and is true."""
    return message.get(name) is True


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
