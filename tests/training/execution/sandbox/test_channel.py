# pyright: reportPrivateUsage=false
"""Nothing that a jailed process sends ends the parent: every reader of it is fuzzed here."""

import json
import math
import os
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from training.execution import lane as lane_module
from training.execution.executor import Executor, Limits, Program, RawProgram
from training.execution.sandbox import channel
from training.execution.sandbox.cutting import REPAIRS
from training.execution.sandbox.jail import Jail, JailDied
from training.records import Execution, ExecutionStatus
from training.stages import execute

LIMITS = Limits(timeout_seconds=0.3, idle_seconds=0.5, memory_mib=128)

VALUES: list[Any] = [
    [], {}, None, True, 0, -1, 10**400, 1e308, float("nan"), float("inf"), "", "ok", "nan", "inf",
    "1e999", "9" * 5000, "x" * 100_000, "\ud800", "\x1b[2J\n\u2028", ["ok"], {"ok": 1}, [[[]]],
    "monty", "error", "666", "1_0", "0x10", "é", "heavy", "type",
]  # fmt: skip
FIELDS = (
    "report status error number text broken type weight memory ready replies question program "
    "repairs uncut"
).split()


def random_object(draw: random.Random) -> dict[str, Any]:
    return {draw.choice(FIELDS): draw.choice(VALUES) for _ in range(draw.randrange(6))}


def random_text(draw: random.Random) -> str:
    """JSON of an object, perhaps with fields that appear twice, or something else."""
    fields = [
        f"{json.dumps(draw.choice(FIELDS))}: {json.dumps(draw.choice(VALUES))}"
        for _ in range(draw.randrange(8))
    ]
    made = "{" + ", ".join(fields) + "}"
    others = ["", "[]", "null", "7", '"ok"', "[" * 3000, '{"a":' * 3000, "9" * 4001, "{", made[:-1]]
    return draw.choice(others) if draw.random() < 0.2 else made


def assert_well_formed(execution: Execution) -> None:
    assert execution.status in get_args(ExecutionStatus)
    assert execution.tier in ("monty", "cpython", "none")
    if execution.status == "ok":
        assert type(execution.value) is float and math.isfinite(execution.value)
    else:
        assert execution.value is None
    assert len(execution.error) <= 400 and execution.error.isprintable()
    execution.error.encode()


@pytest.mark.parametrize(
    "forged",
    ['{"status": []}', '{"status": {}}', '{"status": [["ok"]]}', '{"status": {"ok": 1}}'],
)
def test_a_forged_report_is_an_error_of_its_program(forged: str) -> None:
    assert lane_module._from_cpython({"report": forged}).error == "gave no readable result"


def test_replies_of_a_zygote() -> None:
    draw = random.Random(1)
    for _ in range(4000):
        assert_well_formed(lane_module._from_cpython({"report": random_text(draw)}))
        assert_well_formed(lane_module._from_cpython(random_object(draw)))


class Forger(Jail):
    """Answers what it likes; stands for a jail whose process a program has taken over."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__("reader", LIMITS)
        self._draw = draw

    def ask(
        self, request: dict[str, Any], seconds: float | None = None, *, num_programs: int = 1
    ) -> dict[str, Any]:
        if self._draw.random() < 0.1:
            raise JailDied("forged")
        if "programs" not in request or self._draw.random() < 0.1:
            return random_object(self._draw)
        count = num_programs if self._draw.random() < 0.9 else self._draw.randrange(40)
        replies: list[Any] = [random_object(self._draw) for _ in range(count)]
        return {"replies": self._draw.choice([replies] * 9 + [[*replies, 7]])}


def forging_executor(draw: random.Random) -> Executor:
    made = Executor(limits=LIMITS)
    lane = made._lanes[0]
    lane._reader, lane._light = Forger(draw), Forger(draw)
    lane._heavier |= {"heavy": Forger(draw), "heaviest": Forger(draw)}
    return made


def test_replies_of_every_process_of_a_lane() -> None:
    forged = forging_executor(random.Random(2))
    kinds = ["func:f", "var:x", "stdout-last"]
    for execution in forged.run([Program(code="", kind=kinds[i % 3]) for i in range(6000)]):
        assert_well_formed(execution)


def test_forged_parts_are_text_or_a_fault() -> None:
    forged = forging_executor(random.Random(4))
    num_cut = 0
    for cut in forged.cut_and_run([RawProgram(code="") for _ in range(3000)]):
        assert isinstance(cut.question, str) and isinstance(cut.program, str)
        assert set(cut.repairs) <= set(REPAIRS)
        assert cut.fault.isprintable() and len(cut.fault) <= 400
        assert (cut.execution is None) == bool(cut.fault)
        if cut.execution is not None:
            assert_well_formed(cut.execution)
            num_cut += 1
    assert num_cut > 10


def received(content: bytes) -> int:
    """A descriptor from which `content` can be read, and then nothing more."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        theirs.sendall(content)
    return ours.detach()


def test_frames_that_are_no_messages_close_the_channel() -> None:
    draw = random.Random(3)

    def frame(content: bytes) -> bytes:
        return struct.pack("<I", len(content)) + content

    frames = [draw.randbytes(draw.randrange(40)) for _ in range(300)]
    frames += [frame(draw.randbytes(draw.randrange(40))) for _ in range(300)]
    frames += [frame(random_text(draw).encode("utf-8", "replace")) for _ in range(300)]
    frames += [struct.pack("<I", 2**32 - 1) + b"{}", struct.pack("<I", 1001) + b" " * 1001]
    for content in frames:
        descriptor = received(content[:9000])
        try:
            message = channel.receive(descriptor, 5.0, max_bytes=1000)
        except channel.ChannelClosed:
            continue
        finally:
            os.close(descriptor)
        assert isinstance(message, dict)


def test_a_program_that_forges_its_report_spoils_no_file(tmp_path: Path) -> None:
    """From the program to the file: what it writes to its result is its own words only."""
    bodies = [f"os.write(1, {made!r}); os._exit(0)" for made in (b'{"status": []}', b"\xff" * 99)]
    token = "next(v for k, v in sys._getframe(3).f_locals.items() if k == 'token')"
    for claim in VALUES[:14]:
        report = json.dumps({"status": claim, "error": "\ud800", "number": claim})
        bodies.append(f"os.write(1, ({token} + {report!r}).encode()); os._exit(0)")
        report = json.dumps({"status": "error", "error": claim, "text": claim})
        bodies.append(f"os.write(1, ({token} + {report!r}).encode()); os._exit(0)")
    source = tmp_path / "in.jsonl"
    source.write_text(
        "".join(
            json.dumps({"code": f"import os, sys\ndef f():\n    {body}\n", "kind": "func:f"}) + "\n"
            for body in bodies
        )
    )
    runner = execute._Runner(LIMITS)
    runner.open()
    try:
        done = runner(list(execute.read_lines(source)))
    finally:
        runner.close()
    assert len(done) == len(bodies)
    for _, execution in done:
        assert_well_formed(execution)


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(limits=LIMITS) as made:
        yield made


def test_errors_are_kept_as_text_that_a_file_and_a_terminal_take(executor: Executor) -> None:
    code = "def f():\n    raise ValueError('\\ud800 \\x1b[2J \\x00 é')"
    (execution,) = executor.run([Program(code=code, kind="func:f")])
    assert_well_formed(execution)
    assert execution.status == "error" and "é" in execution.error
