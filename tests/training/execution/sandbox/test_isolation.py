# pyright: reportPrivateUsage=false
"""The isolation of programs, also on hosts that allow less than this one."""

import importlib.util
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.execution.processes import descendants
from training.execution import lane as lane_module
from training.execution.executor import Executor, IsolationError, Limits, Program
from training.execution.sandbox import jail
from training.records import Execution

LIMITS = Limits(timeout_seconds=0.5, idle_seconds=0.5)

LENDS_LESS = {
    "all": "",
    "no mounts": "lockdown.hide_files = lambda folders: False; ",
    "an unreadable library": (
        "lockdown.hide_files = lambda folders: False; entry._libraries = lambda: []; "
    ),
    "neither mounts nor Landlock": (
        "lockdown.hide_files = lambda folders: False; lockdown._landlock = lambda opened: False; "
    ),
    "no namespaces": (
        "lockdown.enter_namespaces = lambda: False; lockdown._landlock = lambda opened: False; "
    ),
}
"""What jailed processes do first, to see a host that lends them less."""

PROGRAMS = {
    "strptime": "import datetime; return datetime.datetime.strptime('2026-03', '%Y-%m').month",
    "uuid": "import uuid; return uuid.uuid4().version - 1",
    "queue": "import queue; q = queue.Queue(); q.put(3); return q.get()",
    "logging": "import logging; logging.getLogger('a').debug('b'); return 3",
    "secrets": "import secrets; return len(secrets.token_bytes(3))",
    "hashlib": "import hashlib; return hashlib.sha256(b'').digest_size - 29",
    "difflib": "import difflib; return len(difflib.get_close_matches('abc', ['abd'])[0])",
    "ElementTree": (
        "import xml.etree.ElementTree as tree; return int(tree.fromstring('<a>3</a>').text)"
    ),
    "ipaddress": "import ipaddress; return int(ipaddress.ip_address('0.0.0.3'))",
    "shlex": "import shlex; return len(shlex.split('a b c'))",
    "codecs": "return len('abc'.encode('cp1252')) + len(b''.decode('utf-16'))",
}
HEAVY_PROGRAMS = {
    "numpy.random": "import numpy; return len(numpy.random.default_rng(1).random(3))",
    "numpy.fft": "import numpy; return len(numpy.fft.fft([1.0, 2.0, 3.0]))",
    "numpy.linalg": "import numpy; return numpy.linalg.solve([[2.0]], [6.0])[0]",
    "sympy.stats": "from sympy.stats import Die, E; return E(Die('X', 5))",
    "pandas": "import pandas; return pandas.DataFrame({'a': [1, 2]})['a'].sum()",
}
"""Each gives 3, with modules that are loaded when they are first asked for."""


def function(body: str) -> str:
    return "def f():\n" + "".join(f"    {line}\n" for line in body.split("; "))


def programs(bodies: list[str]) -> list[Program]:
    return [Program(code=function(body), kind="func:f") for body in bodies]


def start_with(patched: pytest.MonkeyPatch, first: str) -> None:
    """Have jailed processes do `first` before anything else."""
    imports = "from training.execution.sandbox import entry, lockdown; "
    patched.setattr(jail, "_START", jail._START.replace("main()", imports + first + "main()"))


@pytest.fixture(scope="module", params=LENDS_LESS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with pytest.MonkeyPatch.context() as patched:
        start_with(patched, LENDS_LESS[request.param])
        with Executor(limits=LIMITS) as made:
            if request.param in ("neither mounts nor Landlock", "no namespaces"):
                assert not {"mounts", "landlock"} & set(made.layers)
            yield made


def assert_all_give_3(executor: Executor, bodies: dict[str, str]) -> None:
    results = executor.run(programs(list(bodies.values())))
    given = {name: r.value or r.error for name, r in zip(bodies, results, strict=True)}
    assert given == dict.fromkeys(bodies, 3.0)


def test_modules_are_there_whatever_the_host_lends(executor: Executor) -> None:
    assert_all_give_3(executor, PROGRAMS)


@pytest.mark.parametrize("lent", ["an unreadable library", "neither mounts nor Landlock"])
def test_heavy_modules_are_there_too(lent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start_with(monkeypatch, LENDS_LESS[lent])
    bodies = dict(HEAVY_PROGRAMS)
    if lent == "an unreadable library" or importlib.util.find_spec("pandas") is None:
        del bodies["pandas"]  # it takes seconds to load: once is enough
    with Executor(limits=LIMITS) as made:
        assert_all_give_3(made, bodies)


def test_tier_1_is_isolated_by_the_kernel(executor: Executor) -> None:
    """The worker, an executable that is not ours, holds no privilege and cannot call for any."""
    assert executor.run(programs(["return 6 * 7"]))[0].tier == "monty"
    watcher = executor._lanes[0]._reader.pid
    assert watcher is not None
    # Threads inherit what the process has; every one of them is looked at.
    tasks = [t for pid in descendants(watcher) for t in Path(f"/proc/{pid}/task").iterdir()]
    assert len({task.parent.parent.name for task in tasks}) == 2  # client and worker
    for task in tasks:
        status = dict(
            line.split(":\t", 1)
            for line in (task / "status").read_text().splitlines()
            if ":\t" in line
        )
        assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert "0" not in status["Uid"].split()
        if "namespaces" in executor._lanes[0]._reader.layers:
            for kind in ("net", "ipc", "uts"):
                assert (task / "ns" / kind).readlink() != Path(f"/proc/self/ns/{kind}").readlink()


def test_where_tier_1_cannot_be_jailed_cpython_judges(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start_with(
        monkeypatch,
        "lockdown.CallFilter.install_supervised = lambda self, link: 1 / 0; ",
    )
    with Executor(limits=LIMITS, num_workers=2) as made:
        results = made.run(programs(["return 6 * 7"] * 4))
    assert [(r.value, r.tier) for r in results] == [(42.0, "cpython")] * 4
    assert "all programs run in CPython" in caplog.text


def test_a_tier_1_that_has_a_way_out_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    start_with(
        monkeypatch,
        "from training.execution.sandbox import program; program.num_escapes = lambda: 1; ",
    )
    with pytest.raises(IsolationError, match="can escape its sandbox"):
        jail.Jail("monty", LIMITS).start()


HIDDEN = {
    "a file of the host": "import os; os.stat('/etc/passwd')",
    "a link of the host": "import os; os.readlink('/proc/self/exe')",
    "a file by its path alone": "import os; os.open('/etc/passwd', os.O_PATH)",
    "a folder of the host": "import os; os.listdir('/etc')",
}


@pytest.mark.parametrize("name", HIDDEN)
def test_names_and_sizes_of_files_are_hidden_by_mounts(name: str) -> None:
    with Executor(limits=LIMITS) as made:
        if "mounts" not in made.layers:
            pytest.skip("no mount namespace can be had here")
        (found,) = made.run(programs([HIDDEN[name] + "; return 666"]))
    assert "FileNotFoundError" in found.error


def test_the_host_name_is_hidden(executor: Executor) -> None:
    if "namespaces" not in executor.layers:
        pytest.skip("no namespaces here")
    body = "import os, platform; raise ValueError(os.uname().nodename + platform.node())"
    assert executor.run(programs([body]))[0].error == "ValueError: sandboxsandbox"


def test_the_hosts_files_are_as_they_were() -> None:
    """Mounting happens in a namespace of its own: nothing of it shows outside."""
    mounts = Path("/proc/self/mountinfo")
    before, name = mounts.read_text(), subprocess.check_output(["uname", "-n"])
    with Executor(limits=LIMITS) as made:
        made.run(programs(["return 1 if True else (yield)"]))
        assert mounts.read_text() == before
    assert subprocess.check_output(["uname", "-n"]) == name


NAPS = {
    "sleep": "import time; time.sleep(3600); return 3",
    "select": "import select; select.select([], [], [], 3600); return 3",
    "event": "import threading; threading.Event().wait(3600); return 3",
    "lock": "import threading; a = threading.Lock(); a.acquire(); a.acquire(timeout=9); return 3",
}


@pytest.mark.parametrize("name", NAPS)
def test_waiting_takes_no_time(name: str, executor: Executor) -> None:
    if name == "select":
        pytest.importorskip("select")
    (result,) = executor.run(programs([NAPS[name]]))
    assert result.value == 3.0, result


def test_naps_between_work_use_up_cpu_time() -> None:
    """A program that computes a little and sleeps for long would hold up its lane."""
    nap = "import time\nwhile True:\n    sum(range(1000))\n    time.sleep(0.05)\n"
    with Executor(limits=LIMITS) as made:
        (result,) = made.run([Program(code=nap, kind="var:x")])
        assert (result.status, result.error) == ("timeout", "ran out of CPU time")


MANY_NAMES = "\n".join(f"n{i}=1" for i in range(12_000))


def test_reading_has_a_cpu_limit() -> None:
    with Executor(limits=Limits(timeout_seconds=0.02)) as made:
        slow, good = made.run(
            [Program(code=MANY_NAMES, kind="var:n1"), *programs(["return 6 * 7"])]
        )
    assert (slow.status, slow.tier) == ("timeout", "none"), slow
    assert "compiled" in slow.error and good.value == 42.0


def reader_pid(made: Executor) -> int | None:
    return made._lanes[0]._reader.pid


def test_the_reader_is_renewed_by_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "READER_PROGRAMS", 3)
    with Executor(limits=LIMITS) as made:
        pids: list[int | None] = []
        for i in range(7):
            (result,) = made.run(programs([f"return {i}"]))
            assert (result.value, result.tier) == (i, "monty")
            pids.append(reader_pid(made))
    assert [pid == pids[0] for pid in pids] == [True] * 3 + [False] * 4
    assert pids[3] == pids[5] != pids[6]


def test_a_memory_error_counts_when_a_new_reader_says_it_too() -> None:
    """A reader that has run out of memory would call every program too deeply nested."""
    exhausted = (
        "from training.execution.sandbox import reader; read = reader.read; seen = []; "
        "reader.read = lambda code, *rest: (seen.append(code) or len(seen) < 3) "
        "and read(code, *rest) or dict(error='MemoryError: too deeply nested', memory=True); "
    )
    nested = Program(code="x = " + "(" * 40_000 + ")" * 40_000, kind="var:x")
    with pytest.MonkeyPatch.context() as patched:
        start_with(patched, exhausted)
        with Executor(limits=LIMITS) as made:
            results = made.run(programs([f"return {i}" for i in range(6)]))
            assert [r.value for r in results] == list(range(6))
            (result,) = made.run([nested])
            assert result.status == "error" and "nested" in result.error


def test_a_worker_of_tier_1_that_is_gone_costs_another_start() -> None:
    with Executor(limits=LIMITS) as made:
        made.run(programs(["return 1"]))
        watcher = reader_pid(made)
        assert watcher is not None
        worker = max(descendants(watcher))
        subprocess.run(["kill", "-9", str(worker)], check=True)
        results = made.run(programs(["return 2", "return 3", "return 4"]))
        assert [r.value for r in results] == [2.0, 3.0, 4.0]
        assert results[2].tier == "monty"
        # Nothing is left of the first.
        deadline = time.monotonic() + 10
        while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not Path(f"/proc/{worker}").exists()


def test_a_sum_of_two_thousand_terms() -> None:
    code = "def f():\n    return " + " + ".join(["1"] * 2000)
    with Executor(limits=LIMITS) as made:
        (result,) = made.run([Program(code=code, kind="func:f")])
    assert result.value == 2000.0, result


@pytest.mark.parametrize(
    "body",
    [
        "import sys; sys.stdout.buffer.write(b'3\\n')",
        "import sys; sys.stdout.reconfigure(encoding='utf-8'); print(3)",
        "import sys; print(3 if sys.stdout.encoding == 'utf-8' else 4)",
        "import sys; sys.stdin.buffer.read(); print(3)",
    ],
)
def test_standard_streams_have_what_files_have(body: str) -> None:
    with Executor(limits=LIMITS) as made:
        code = body.replace("; ", "\n")
        (result,) = made.run([Program(code=code, kind="stdout-last")])
    assert result.value == 3.0, result


BROKEN_LIBRARIES = """
import importlib; from training.execution.sandbox import zygote
found = importlib.import_module
def broken(name):
    if name in ("sympy", "numpy.fft"):
        raise ValueError("numpy.dtype size changed, may indicate binary incompatibility")
    return found(name)
importlib.import_module = broken
zygote._LIGHT_WARM_UP = "1 / 0"
"""


def test_a_broken_library_is_not_there_and_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is met when the first program needs its zygote: hours into a run."""
    start_with(monkeypatch, f"exec({BROKEN_LIBRARIES!r}); ")
    with Executor(limits=LIMITS) as made:
        results = made.run(programs(["import numpy; return numpy.float64(3)", "return 'numpy'"]))
    assert results[0].value == 3.0 and results[1].status == "nonnumeric", results


DEEP = """
import sys
sys.setrecursionlimit(10**6)
x = []
for _ in range({depth}):
    x = [x]
y = len(repr(x))
"""


def test_the_stack_is_the_same_whatever_the_host_allows() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if hard != resource.RLIM_INFINITY:
        pytest.skip(f"the stack cannot be made larger than {hard} bytes here")
    deep = [Program(code=DEEP.format(depth=n), kind="var:y") for n in (3_000, 15_000, 80_000)]
    said: set[tuple[str, ...]] = set()
    for soft in (1 << 20, 8 << 20, resource.RLIM_INFINITY):
        with pytest.MonkeyPatch.context() as patched:
            limit = f"resource.setrlimit(resource.RLIMIT_STACK, ({soft}, -1)); "
            start_with(patched, "import resource; " + limit)
            with Executor(limits=Limits(timeout_seconds=5.0)) as made:
                said.add(tuple(result.status + result.error for result in made.run(deep)))
    assert len(said) == 1, said


def _compute_stopped(made: Executor, results: list[Execution]) -> None:
    code = "x = 0\nfor i in range(5_000_000):\n    x += type(i) is int\n"
    results += made.run([Program(code=code, kind="var:x")])


def test_a_program_that_was_stopped_with_its_host_continues() -> None:
    with Executor(limits=Limits(timeout_seconds=20.0, idle_seconds=1.5)) as made:
        made.run(programs(["return type(3)(3)"]))
        watcher = made._lanes[0]._light.pid
        assert watcher is not None
        num_idle = len(descendants(watcher))
        results: list[Execution] = []
        thread = threading.Thread(target=_compute_stopped, args=(made, results))
        thread.start()
        deadline = time.monotonic() + 20
        while len(descendants(watcher)) == num_idle and time.monotonic() < deadline:
            time.sleep(0.005)
        stopped = [watcher, *descendants(watcher)]
        assert len(stopped) == num_idle + 2
        for number, seconds in ((signal.SIGSTOP, 4.0), (signal.SIGCONT, 0.0)):
            for pid in stopped:
                os.kill(pid, number)
            time.sleep(seconds)
        thread.join()
    assert [result.value for result in results] == [5_000_000.0], results


def test_what_the_reader_found_out_for_itself_stays_there() -> None:
    """A long expression with what is printed would be longer than a reply may be."""
    with jail.Jail("reader", LIMITS) as made:
        request = {"programs": [{"code": "x = 1", "kind": "var:x"}], "monty": False}
        assert made.ask(request) == {"replies": [{"weight": "light"}]}
