"""What wandb left: an offline piece read back from its log, and its processes."""

import json
import struct
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.wandb_server import KEY
from training.monitoring.tracking import Tracker

Json = dict[str, Any]


def log_steps(tracker: Tracker, *steps: int) -> None:
    for step in steps:
        tracker.log({"train/loss": 1.0 / step}, step=step, tokens=step * 100)


def records(piece: Path) -> Iterator[Any]:
    """The records of an offline piece: protocol buffers in LevelDB's log format."""
    messages: Any = import_module("wandb.proto.wandb_internal_pb2")
    (path,) = piece.glob("run-*.wandb")
    content = path.read_bytes()
    at, whole = 7, b""  # wandb's own header comes first
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:  # the rest of a block that no header fits into
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + 7])
        part = content[at + 7 : at + 7 + size]
        at += 7 + size
        whole = part if kind in (1, 2) else whole + part  # full or first; middle, last
        if kind in (1, 4):
            record = messages.Record()
            record.ParseFromString(whole)
            yield record


def of_kind(piece: Path, kind: str) -> list[Any]:
    found = [record for record in records(piece) if record.WhichOneof("record_type") == kind]
    return [getattr(record, kind) for record in found]


def history(piece: Path) -> list[Json]:
    lines: list[Json] = []
    for entry in of_kind(piece, "history"):
        line: Json = {}
        for item in entry.item:
            line["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        lines.append({name: line[name] for name in line if name not in ("_timestamp", "_runtime")})
    return lines


def wandb_processes(owner: int) -> list[int]:
    """Live processes of wandb that serve the process `owner`."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"wandb-core" in command[0] and str(owner).encode() in command:
            found.append(int(folder.name))
    return found


def gone(owner: int, *, within_seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + within_seconds
    while wandb_processes(owner) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not wandb_processes(owner)


def offline_messages(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> list[str]:
    assert capsys.readouterr() == ("", ""), "wandb itself prints nothing"
    ours = [entry.message for entry in caplog.records if entry.name.startswith("training.")]
    return [message for message in ours if "offline" in message]


def assert_key_is_nowhere(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
