# pyright: reportPrivateUsage=false
"""Programs and what they give: values, statuses, outputs, random numbers, time."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ranks import ROOT
from tests.training.execution.processes import descendants, function
from training.execution.executor import (
    Cutter,
    Executor,
    Limits,
    Program,
    RawProgram,
    judge,
)
from training.execution.programs import source
from training.execution.sandbox import jail
from training.lifecycle.signals import Stopped
from training.records import Execution


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(limits=Limits()) as made:
        yield made


@pytest.fixture(scope="module")
def cpython() -> Iterator[Executor]:
    with Executor(limits=Limits(), use_monty=False) as made:
        yield made


def test_judge() -> None:
    assert judge(Execution(status="ok", value=5.0), 5.0) == "right"
    assert judge(Execution(status="ok", value=6.0), 5.0) == "wrong"
    assert judge(Execution(status="nonnumeric"), 5.0) == "failed"
    assert judge(Execution(status="timeout"), 5.0) == "failed"


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


LONG = [
    ("import math\nprint(math.factorial(130))", float(math.factorial(130))),
    ("print(10 ** 250)", 1e250),
    ("print('0' * 60_000 + '7')", 7.0),
    ("print('0.' + '3' * 5_000)", 1 / 3),
    ("print('é' * 5_000)\nprint(5)", 5.0),
    ("print('1' * 400)", None),
    ("print('1' + 'é' * 5_000)", None),
    ("print('3\\x0c4')", None),
]


@pytest.mark.parametrize(("code", "value"), LONG)
def test_a_printed_line_counts_whole_however_long(
    code: str, value: float | None, executor: Executor, cpython: Executor
) -> None:
    program = Program(code=code, kind="stdout-last")
    (first,), (second,) = executor.run([program]), cpython.run([program])
    computes_text = "*" in code and "'" in code  # which is not tier 1's to judge
    assert (first.tier, second.tier) == ("cpython" if computes_text else "monty", "cpython")
    for result in (first, second):
        assert (result.status, result.value) == ("ok" if value else "nonnumeric", value), result
    assert first.error == second.error


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("import sys\nprint(5)\nprint(6, file=sys.stderr)", 5.0),
        ("import warnings\nprint(5)\nwarnings.warn('6')", 5.0),
        ("import sys\nsys.stderr.write('6')", None),
    ],
)
def test_standard_error_is_no_output(code: str, value: float | None, cpython: Executor) -> None:
    (result,) = cpython.run([Program(code=code, kind="stdout-last")])
    assert (result.status, result.value) == ("ok" if value else "nonnumeric", value), result


def test_both_outputs_count_against_one_limit() -> None:
    code = "import sys\nsys.stdout.write('x' * {})\nsys.stderr.write('x' * {})\nprint(5)"
    limits = Limits(max_output_bytes=1000)
    with Executor(limits=limits, use_monty=False) as executor:
        enough, too_much = executor.run(
            [Program(code=code.format(n, n), kind="var:sys") for n in (490, 501)]
        )
    assert (enough.status, too_much.status) == ("nonnumeric", "output")


RANDOM = """
import random
def simple_math_problem():
    own = random.Random()
    first = random.random()
    random.seed()
    return first + random.random() + own.random() + random.SystemRandom().randint(0, 0)
"""


def test_random_numbers_follow_from_the_program() -> None:
    programs = [Program(code=RANDOM + "#" * n) for n in range(5)]
    found: list[list[float | None]] = []
    for _ in range(2):
        with Executor(limits=Limits()) as executor:
            found.append([result.value for result in executor.run([programs[0], *programs])])
    assert found[0] == found[1]
    assert found[0][0] == found[0][1], "the order of programs does not matter"
    assert None not in found[0] and len(set(found[0])) == len(programs)


SEEDED = """
import sys
import numpy.random
import sympy.core.random
from training.execution.sandbox import seeds

seeds.take_over()
for code in sys.argv[1:]:
    seeds.seed_from(code)
    drawn = [numpy.random.random(), numpy.random.default_rng().random(), sympy.core.random.random()]
    numpy.random.seed(3)
    print(*drawn, numpy.random.random(), numpy.random.default_rng(3).random())
"""


def test_numpy_s_and_sympy_s_random_numbers_follow_from_the_program() -> None:
    command = [sys.executable, "-c", SEEDED, "x = 1", "x = 2", "x = 1"]
    lines = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    first, other, again = (line.split() for line in lines)
    assert first == again
    assert all(a != b for a, b in zip(first[:3], other[:3], strict=True))
    assert first[3:] == other[3:], "a seed that the program sets counts"


SLOW_IN_MONTY = """
total, numbers = 0, list(range(300))
for i in range(20_000):
    total += len(numbers[:200])
"""
"""10 ms of CPU time in CPython, 20 times as much in Monty."""


def test_what_takes_long_in_monty_is_judged_by_cpython_with_all_its_time() -> None:
    with Executor(limits=Limits(timeout_seconds=0.15)) as executor:
        (result,) = executor.run([Program(code=SLOW_IN_MONTY, kind="var:total")])
    assert (result.status, result.value, result.tier) == ("ok", 4_000_000.0, "cpython")


def test_an_endless_loop_takes_little_more_than_the_time_that_it_has() -> None:
    num_loops, timeout_seconds = 8, 0.1
    loops = [Program(code=function("x = 0\nwhile x < 1: x -= 1\nreturn x"))] * num_loops
    with Executor(limits=Limits(timeout_seconds=timeout_seconds)) as executor:
        executor.run([Program(code=function("return 5")), Program(code=RANDOM)])
        before = cpu_seconds_of_all()
        assert {result.status for result in executor.run(loops)} == {"timeout"}
        spent = cpu_seconds_of_all() - before
    assert num_loops * timeout_seconds * 0.9 < spent < num_loops * timeout_seconds * 1.6


def cpu_seconds_of_all() -> float:
    """CPU time of this process and of all that it has started, those that ended included."""
    ticks = 0
    for pid in descendants(os.getpid()) | {os.getpid()}:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("body", "status", "value", "tier"),
    [
        ("return 6 * 7", "ok", 42.0, "monty"),
        ("return round(2.675, 2)", "ok", 2.67, "cpython"),
        ("yield 1", "nonnumeric", None, "cpython"),
        ("return 1 / 0", "error", None, "cpython"),
        ("return True", "nonnumeric", None, "monty"),
        ("return '5'", "nonnumeric", None, "cpython"),
        ("return 1e308 * 10 - 1e308 * 10", "nonnumeric", None, "monty"),
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


@pytest.mark.parametrize("num_workers", [1, 2])
def test_it_can_be_cancelled_before_every_program(num_workers: int) -> None:
    calls: list[int] = []

    def leave_at_the_fourth() -> None:
        calls.append(len(calls))
        if len(calls) >= 4:
            raise Stopped

    programs = [Program(code=function(f"return {i}")) for i in range(50)]
    with Executor(limits=Limits(), num_workers=num_workers) as made:
        with pytest.raises(Stopped):
            made.run(programs, check_cancelled=leave_at_the_fourth)
        assert 4 <= len(calls) <= 3 + num_workers
        assert made.run(programs[:1])[0].value == 0.0, "it may be used again"


def test_the_layers_of_the_sandbox_are_named(executor: Executor) -> None:
    assert {"seccomp", "rlimits"} <= set(executor.layers)


TOO_DEEP = "x = " + "-" * 90_000 + "1"


def test_one_program_of_a_request_loses_only_itself() -> None:
    programs = [Program(code=function(f"return {i} * 2")) for i in range(40)]
    bad = {7: TOO_DEEP, 21: "def simple_math_problem(:", 30: "x" * 200_000}
    for index, code in bad.items():
        programs[index] = Program(code=code)
    with Executor(limits=Limits(timeout_seconds=0.3)) as executor:
        results = executor.run(programs)
        alone = executor.run([programs[7]])
    for index, result in enumerate(results):
        if index not in bad:
            assert (result.status, result.value, result.tier) == ("ok", 2.0 * index, "monty")
    assert results[7].status == alone[0].status != "ok"
    assert [results[index].status for index in (21, 30)] == ["error", "error"]
    assert "longer than" in results[30].error


def test_a_reader_that_dies_in_a_request_is_replaced_and_all_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dies = (
        "import os; from training.execution.sandbox import reader; read = reader.read; "
        "reader.read = lambda code, *rest: os._exit(0) if 'deadly' in code else read(code, *rest); "
    )
    monkeypatch.setattr(jail, "_START", jail._START.replace("main()", dies + "main()"))
    programs = [Program(code=function(f"return {i}")) for i in range(5)]
    programs[2] = Program(code=function("deadly = 1\nreturn deadly"))
    raw = [
        RawProgram(code=source("How many?", "    return 5")),
        RawProgram(code=source("How many?", "    deadly = 1\n    return deadly")),
        RawProgram(code=source("How many?", "    return 6")),
    ]
    with Executor(limits=Limits()) as executor:
        results, cut = executor.run(programs), executor.cut_and_run(raw)
    assert [result.value for result in results] == [0.0, 1.0, None, 3.0, 4.0]
    assert results[2].error == "it ended its sandbox twice"
    assert [bool(parts.fault) for parts in cut] == [False, True, False]
    assert [parts.execution and parts.execution.value for parts in cut] == [5.0, None, 6.0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # What the first leaves behind must not save the second from its NameError.
        ("def f(): return 1", "def g(): return f\nx = 3\nprint(f)"),
        ("def f(): return 1\ny = 5", "def f(): return y\nif 1 > 2: y = 3"),
        ("import math\ndef f(): return 1", "def f():\n    return math.pi\n    import math"),
        ("def f():\n    r = 4\n    return r", "def f():\n    r = 4\n    return r\nprint(r)"),
        ("def x(): return 1", "def f(): return x\nif 1 > 2: x = 3"),
        ("def f(): return 1", "print(f())\ndef f(): return 2"),
    ],
)
def test_no_program_sees_what_another_left(
    first: str, second: str, executor: Executor, cpython: Executor
) -> None:
    pair = [Program(code=code, kind="func:f") for code in (first, second)]
    together, expected = executor.run(pair * 3), cpython.run(pair)
    found = [(result.status, result.value) for result in together]
    assert found == [(result.status, result.value) for result in expected] * 3
    assert [result.status for result in expected] == ["ok", "error"]


def test_cutting_and_running_in_one_trip_gives_what_both_give_apart(
    executor: Executor,
) -> None:
    bodies = [
        "    return 6 * 7",
        "    return 1 / 0",
        "    x = 'a'\n    return x",
        "    while 1: pass",
    ]
    raw = [RawProgram(code=source(f"Question {i}?", body)) for i, body in enumerate(bodies)]
    raw += [
        RawProgram(code=f"```python\ndef f():\n{bodies[0]}\n```", question="Q?"),
        RawProgram(code="def f(:"),
        RawProgram(code="x" * 200_000),
    ]
    together = executor.cut_and_run(raw)
    with Cutter() as cutter:
        apart = cutter.cut(raw)
    assert [replace(cut, execution=None) for cut in together] == apart
    assert [cut.repairs for cut in apart[3:5]] == [(), ("code fence", "no docstring")]
    assert [bool(cut.fault) for cut in apart] == [False] * 5 + [True] * 2
    whole = [Program(code=source(cut.question, cut.program)) for cut in apart[:5]]
    for cut, execution in zip(together, executor.run(whole), strict=False):
        assert cut.execution is not None
        assert replace(cut.execution, seconds=0.0) == replace(execution, seconds=0.0)
