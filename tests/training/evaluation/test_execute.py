import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from training.data.records import Execution
from training.evaluation.execute import (
    Executor,
    IsolationError,
    Limits,
    Program,
    judge,
    parse_number,
    same_number,
)
from training.evaluation.sandbox import jail, lockdown, seccomp
from training.signals import Stopped

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(limits=Limits()) as made:
        yield made


@pytest.fixture(scope="module")
def cpython() -> Iterator[Executor]:
    with Executor(limits=Limits(), use_monty=False) as made:
        yield made


def function(body: str) -> str:
    return "def simple_math_problem():\n" + textwrap.indent(textwrap.dedent(body), "    ")


@pytest.mark.parametrize(
    ("value", "gold", "same"),
    [
        (72.0, 72.0, True),
        (72.05, 72.0, True),
        (72.08, 72.0, False),
        (71.0, 72.0, False),
        (0.0009, 0.0, True),
        (0.002, 0.0, False),
        (-5.0, 5.0, False),
        (1e9 + 1, 1e9, True),
        (float("nan"), float("nan"), False),
        (float("inf"), float("inf"), False),
    ],
)
def test_same_number(value: float, gold: float, same: bool) -> None:
    assert same_number(value, gold) is same


def test_judge() -> None:
    assert judge(Execution(status="ok", value=5.0), 5.0) == "right"
    assert judge(Execution(status="ok", value=6.0), 5.0) == "wrong"
    assert judge(Execution(status="nonnumeric"), 5.0) == "failed"
    assert judge(Execution(status="timeout"), 5.0) == "failed"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("72", 72.0),
        (" 1,234 ", 1234.0),
        ("1,234,567.5", 1234567.5),
        ("-1,234", -1234.0),
        ("$5", 5.0),
        ("-$5.50", -5.5),
        ("$-5.50", -5.5),
        ("+3", 3.0),
        ("40%", 40.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e-3", 0.001),
        ("1,23", None),
        ("12,345,6", None),
        ("5 apples", None),
        ("--5", None),
        ("-$-5", None),
        ("", None),
        (".", None),
        ("$", None),
        ("nan", None),
        ("1e999", None),
        ("1_000", None),
    ],
)
def test_parse_number(text: str, number: float | None) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize(
    ("kind", "code", "status", "value", "tier"),
    [
        ("func:other", "def other():\n    return 7", "ok", 7.0, "monty"),
        ("func:missing", "def other():\n    return 7", "ok", 7.0, "monty"),
        ("func:missing", "x = 1", "error", None, "cpython"),
        ("func:f", "return 5", "error", None, "none"),
        ("func:f", "def f(:", "error", None, "none"),
        ("var:x", "x = 3 * 4", "ok", 12.0, "monty"),
        ("var:y", "x = 3 * 4", "error", None, "cpython"),
        ("stdout-last", "print(1)\nprint('$1,200')\nprint()", "ok", 1200.0, "monty"),
        ("stdout-last", "print('about 5')", "nonnumeric", None, "monty"),
        ("stdout-last", "x = 5", "nonnumeric", None, "monty"),
        ("stdout-last", "import random\nprint(5)", "ok", 5.0, "cpython"),
        ("func:f", "from sympy import *\ndef f(): return Integer(3) / 2", "ok", 1.5, "cpython"),
    ],
)
def test_kinds(
    kind: str, code: str, status: str, value: float | None, tier: str, executor: Executor
) -> None:
    (result,) = executor.run([Program(code=code, kind=kind)])
    assert (result.status, result.value, result.tier) == (status, value, tier), result


@pytest.mark.parametrize(
    ("body", "status", "value", "tier"),
    [
        ("return 6 * 7", "ok", 42.0, "monty"),
        ("return round(2.675, 2)", "ok", 2.67, "cpython"),
        ("yield 1", "nonnumeric", None, "cpython"),
        ("return 1 / 0", "error", None, "cpython"),
        ("return True", "nonnumeric", None, "monty"),
        ("return '5'", "nonnumeric", None, "monty"),
        ("return float('nan')", "nonnumeric", None, "monty"),
        ("return 10 ** 400", "nonnumeric", None, "monty"),
        ("return 1e308 * 10", "nonnumeric", None, "monty"),
        ("from fractions import Fraction\nreturn Fraction(1, 4)", "ok", 0.25, "cpython"),
        ("from decimal import Decimal\nreturn Decimal('2.50')", "ok", 2.5, "cpython"),
        ("import statistics\nreturn statistics.mean([1, 2, 6])", "ok", 3.0, "cpython"),
        ("import numpy as np\nreturn np.int64(5)", "ok", 5.0, "cpython"),
        ("import numpy as np\nreturn np.array(5.5)", "ok", 5.5, "cpython"),
        ("import numpy as np\nreturn np.array([5.5])", "nonnumeric", None, "cpython"),
        ("import numpy as np\nreturn np.bool_(True)", "nonnumeric", None, "cpython"),
        ("import sympy\nreturn sympy.sqrt(4) / 3", "ok", 2 / 3, "cpython"),
        ("import sympy\nreturn sympy.Symbol('x')", "nonnumeric", None, "cpython"),
        (
            "import sympy as s\nx = s.symbols('x')\nreturn s.solve(s.Eq(2 * x + 1, 8), x)[0]",
            "ok",
            3.5,
            "cpython",
        ),
    ],
)
def test_what_programs_give(
    body: str, status: str, value: float | None, tier: str, executor: Executor
) -> None:
    (result,) = executor.run([Program(code=function(body))])
    assert (result.status, result.value, result.tier) == (status, value, tier), result
    assert (result.error == "") == (status == "ok")
    assert result.seconds > 0.0


def test_a_kind_that_is_none_of_the_three() -> None:
    for kind in ("function:f", "func:", "func:a b", "var:1", "stdout"):
        with pytest.raises(ValueError, match="set func:NAME, var:NAME or stdout-last"):
            Program(code="", kind=kind)


# Where the two implementations of Python differ, silently or not, the tiers must still agree.
DIFFERENCES = [
    "return round(2.675, 2)",
    "return round(2.5) + round(-0.5)",
    "g = (x for x in [1, 2])\nreturn sum(g) + 10 * sum(g)",
    "m = map(int, '12')\nreturn sum(m) + 10 * sum(m)",
    "z = zip([1], [2])\nreturn len(list(z)) + 10 * len(list(z))",
    "e = enumerate('ab')\nnext(e)\nreturn len(list(e))",
    "x = [1, 2, 3]\nfor i, y in enumerate(x):\n    if i < 9: x.append(y)\nreturn len(x)",
    "x = [1, 2, 3]\nfor i, y in enumerate(x):\n    x[-1] = y * 5\nreturn sum(x)",
    "x = [3, 1]\nr = reversed(x)\nx.append(5)\nreturn sum(r)",
    "def f(x: Float): return x\nreturn f(1)",
    "def f() -> Missing: return 2\nreturn f()",
    "try:\n    import numpy\nexcept ImportError:\n    return 5\nreturn 6",
    "try:\n    return len(missing)\nexcept NameError as error:\n    return len(str(error))",
    "return sum([0.1] * 10) == 1.0 and 1 or 2",
    "return (-8) ** (1 / 3)",
    "return len({1.0, 1, True})",
    "return 1 if 1000 is 1000 else 2",
    "return hasattr(1, 'real') + 1",
    "return -7.5 // 2 + -7.5 % 2 + 7 % -3 + -7 // 2",
    "x = 5\ndef f():\n    y = x\n    x = 2\n    return y\nreturn f()",
    "a = b = [1]\na += [2]\nreturn len(b)",
    "return sum(f() for f in [lambda: i for i in range(3)])",
    "def f(a, b=[]):\n    b.append(a)\n    return len(b)\nf(1)\nreturn f(2)",
    "d = {1: 2}\nv = d.items()\nd[3] = 4\nreturn len(v)",
    "return int(1e22) + 10 ** 20 // 3",
    "return (2 ** 53 + 1) / 1",
    "return float(f'{1234.565:.2f}')",
    "def f(n): return 0 if n == 0 else 1 + f(n - 1)\nreturn f(300)",
    "def f(n): return 0 if n == 0 else 1 + f(n - 1)\nreturn f(3000)",
    "return 3 if 'a' < 'B' else 4",
    "x: int = 3.7\nreturn x",
    "if (n := 4) > 3: return n",
    "print(1, file=None)\nreturn 3",
    "return len('é°½')",
    "return pow(2, -1) + pow(7, 2, 5)",
    "import math\nreturn math.log(8, 2) + math.floor(-2.5) + math.comb(10, 3)",
    "import random\nrandom.seed(3)\nreturn random.randint(1, 1000)",
    "x = 1\ndel x\nreturn x",
    "class A:\n    def __init__(self): self.x = 4\nreturn A().x",
    "list = [1]\nreturn list(range(3))",
    "assert 1 > 2, 'no'\nreturn 1",
]


@pytest.mark.parametrize("body", DIFFERENCES)
def test_tiers_agree(body: str, executor: Executor, cpython: Executor) -> None:
    program = Program(code=function(body))
    (first,), (second,) = executor.run([program]), cpython.run([program])
    assert (first.status, first.value) == (second.status, second.value), (first, second)


def test_same_results_in_the_same_order_on_any_number_of_lanes() -> None:
    programs = [Program(code=function(f"return {i} if {i} % 7 else 1 / 0")) for i in range(60)]
    programs[20] = Program(code=function("while True: pass"))
    results: list[list[tuple[str, float | None]]] = []
    for num_workers in (1, 3):
        with Executor(limits=Limits(timeout_seconds=0.2), num_workers=num_workers) as executor:
            results.append([(r.status, r.value) for r in executor.run(programs)])
            assert executor.run([]) == []
    assert results[0] == results[1]
    assert results[0][20] == ("timeout", None)
    with pytest.raises(ValueError, match="num_workers is 0"):
        Executor(limits=Limits(), num_workers=0)


@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_while_a_jail_starts_costs_another_start(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    check, ended = jail.Jail._check_that_it_holds, list[int]()

    def end_it_first(started: jail.Jail) -> None:
        if len(ended) < times:
            assert started.pid is not None
            ended.append(started.pid)
            os.kill(started.pid, signal.SIGTERM)
        check(started)

    monkeypatch.setattr(jail.Jail, "_check_that_it_holds", end_it_first)
    if times == 1:
        with Executor(limits=Limits()) as made:
            assert made.run([Program(code=function("return 7"))])[0].value == 7.0
    else:
        with pytest.raises(jail.JailDied), Executor(limits=Limits()):
            pass
    assert len(ended) == times


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_safe_point_lies_before_every_program(num_workers: int) -> None:
    calls: list[int] = []

    def leave_at_the_fourth() -> None:
        calls.append(len(calls))
        if len(calls) >= 4:
            raise Stopped

    programs = [Program(code=function(f"return {i}")) for i in range(50)]
    with Executor(limits=Limits(), num_workers=num_workers) as made:
        with pytest.raises(Stopped):
            made.run(programs, safe_point=leave_at_the_fourth)
        assert 4 <= len(calls) <= 3 + num_workers
        assert made.run(programs[:1])[0].value == 0.0, "it may be used again"


def test_a_dead_worker_is_replaced_and_its_share_redone() -> None:
    programs = [Program(code=function(f"return {i} if True else (yield)")) for i in range(40)]
    with Executor(limits=Limits(), num_workers=2, use_monty=False) as executor:
        expected = executor.run(programs)
        jails = [j for lane in executor._lanes for j in (lane._light, lane._reader)]
        for victim in (jails[0], jails[1], jails[2]):
            pid = victim.pid
            assert pid is not None
            killer = threading.Timer(0.02, os.kill, (pid, signal.SIGKILL))
            killer.start()
            assert [r.value for r in executor.run(programs)] == [r.value for r in expected]
            killer.join()
        again = executor.run(programs)
    assert [r.status for r in again] == [r.status for r in expected]


RUNNER = """
import sys
from training.evaluation.execute import Executor, Limits, Program
loop = "def simple_math_problem():\\n    while True: pass\\n"
yielding = loop.replace("pass", "yield 1")
try:
    with Executor(limits=Limits(timeout_seconds=60.0), num_workers=2) as executor:
        executor.run([Program(code=yielding)] * 4)
        print("go", flush=True)
        executor.run([Program(code=loop)] * 4)
except KeyboardInterrupt:
    sys.exit(130)
"""


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found |= {int(child)} | descendants(int(child))
    return found


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_process_is_left_when_the_parent_ends(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "go\n"
        time.sleep(1.5)
        children = descendants(process.pid)
        assert len(children) >= 8
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        code = process.wait(timeout=60)
        assert code == (130 if number == signal.SIGINT else -number)
        deadline = time.monotonic() + 20
        while any(map(is_alive, children)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert [pid for pid in children if is_alive(pid)] == []
    finally:
        process.kill()
        process.wait()


def test_closing_leaves_no_process() -> None:
    with Executor(limits=Limits()) as executor:
        executor.run([Program(code=function("import numpy\nreturn numpy.float64(1)"))])
        children = {
            child
            for watcher in (executor._lanes[0]._light.pid, executor._lanes[0]._heavier["heavy"].pid)
            for child in descendants(watcher or 0) | {watcher}
            if child
        }
        assert len(children) == 4
    deadline = time.monotonic() + 10
    while any(map(is_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, children))


def test_refuses_where_no_isolation_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal() -> str:
        with pytest.raises(IsolationError, match="no isolation can be had here") as caught:
            with Executor(limits=Limits()):
                pass
        return str(caught.value)

    with monkeypatch.context() as patched:
        patched.setattr(jail.sys, "platform", "plan9")
        assert "plan9 is not Linux" in refusal()
    with monkeypatch.context() as patched:
        patched.setattr(jail, "_PROBE", "def doors_open():\n    return 1\n")
        assert "found a way out" in refusal()
    with monkeypatch.context() as patched:
        patched.setattr(jail, "_START", "raise OSError('this is why')")
        assert "this is why" in refusal()
    with monkeypatch.context() as patched:
        patched.setattr(seccomp.platform, "machine", lambda: "vax")
        with pytest.raises(OSError, match="no table of system calls"):
            lockdown.CallFilter(seccomp.for_reader)


def test_the_walls_that_stand_are_named(executor: Executor) -> None:
    assert {"seccomp", "rlimits"} <= set(executor.layers)
