"""Programs that try to get out, use up the machine, or lie: each is contained, in both tiers.

Every attack returns 666 when it got what it wanted. Contained means that it does not, that
its status is one a harmless failure could have too, and that the next program runs.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.execution.sandbox.tier_1 import Tier1
from training.execution.executor import Executor, Limits, Program

LIMITS = Limits(timeout_seconds=0.3, idle_seconds=0.5, memory_mib=128)
HARMLESS = "def simple_math_problem():\n    return 6 * 7\n"

ATTACKS = {
    "read a file": "return 666 if 'secret' in open({secret!r}).read() else 0",
    "read a file by descriptor": (
        "import os\nos.read(os.open({secret!r}, os.O_RDONLY), 9)\nreturn 666"
    ),
    "read /etc/passwd": "return 666 if 'root' in open('/etc/passwd').read() else 0",
    "list a folder": "import os\nos.listdir({folder!r})\nreturn 666",
    "write a file": "open({target!r}, 'w').write('x')\nreturn 666",
    "append to a file": "open({secret!r}, 'a').write('x')\nreturn 666",
    "delete a file": "import os\nos.remove({secret!r})\nreturn 666",
    "make a folder": "import os\nos.mkdir({target!r})\nreturn 666",
    "write into the library": (
        "import math, os\nopen(os.path.join(os.path.dirname(os.__file__), 'x.py'), 'w')\nreturn 666"
    ),
    "connect a socket": (
        "import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)\nreturn 666"
    ),
    "connect by ctypes": (
        "import ctypes\nreturn 666 if ctypes.CDLL(None).socket(2, 1, 0) >= 0 else 0"
    ),
    "call the system by ctypes": (
        "import ctypes\nreturn 666 if ctypes.CDLL(None).system(b'touch {target}') == 0 else 0"
    ),
    "signal by ctypes": "import ctypes\nreturn 666 if ctypes.CDLL(None).kill({pid}, 0) == 0 else 0",
    "trace the parent": (
        "import ctypes\nreturn 666 if ctypes.CDLL(None).ptrace(16, {pid}, 0, 0) == 0 else 0"
    ),
    "read memory of the parent": "open('/proc/{pid}/mem', 'rb').read(1)\nreturn 666",
    "read the environment": (
        "import os\nreturn 666 if 'SECRET_OF_THE_TEST' in os.environ else 0"
    ),
    "read own environment by /proc": "open('/proc/self/environ').read()\nreturn 666",
    "kill the parent": "import os\nos.kill({pid}, 9)\nreturn 666",
    "kill the zygote": "import os\nos.kill(os.getppid(), 9)\nreturn 666",
    "kill everyone": "import os\nos.kill(-1, 9)\nreturn 666",
    "kill itself": "import os\nos.kill(os.getpid(), 9)\nreturn 666",
    "abort": "import os\nos.abort()",
    "crash": "import ctypes\nctypes.string_at(0)\nreturn 666",
    "stop itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nreturn 666",
    "end at once": "import os\nos._exit(0)",
    "exit": "import sys\nsys.exit(0)",
    "exit by exception": "raise SystemExit(0)",
    "interrupt": "raise KeyboardInterrupt",
    "fork": "import os\npid = os.fork()\nreturn 666",
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "use up process ids": (
        "import os\nfor _ in range(100000):\n    os.posix_spawn('/bin/true', ['true'], {{}})\n"
        "return 666"
    ),
    "thread": "import threading\nthreading.Thread(target=print).start()\nreturn 666",
    "start a command": "import subprocess\nsubprocess.run(['touch', {target!r}])\nreturn 666",
    "shell": "import os\nreturn 666 if os.system('touch {target}') == 0 else 0",
    "replace itself": "import os\nos.execv('/bin/sh', ['sh', '-c', 'touch {target}'])",
    "loop": "while True:\n    pass",
    "loop and catch": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    ),
    "loop in C": "return sum(range(10 ** 12))",
    "catch the CPU signal": (
        "import signal\nsignal.signal(signal.SIGPROF, signal.SIG_IGN)\nreturn 666"
    ),
    "switch the CPU timer off": (
        "import signal\nsignal.setitimer(signal.ITIMER_PROF, 0)\nreturn 666"
    ),
    "raise the limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nreturn 666"
    ),
    "huge power": "return 10 ** 10 ** 10",
    "huge shift": "return 1 << 10 ** 11",
    "huge list": "x = [0] * 10 ** 10\nreturn 666",
    "growing list": "x = []\nwhile True:\n    x.append('a' * 10 ** 6 + str(len(x)))",
    "growing string": "x = 'a'\nwhile True:\n    x += x",
    "print for ever": "while True:\n    print('x' * 1000)",
    "print much": "print('x' * 10 ** 7)\nreturn 666",
    "write to stderr": "import sys\nwhile True:\n    sys.stderr.write('x' * 1000)",
    "flood the result": "import os\nwhile True:\n    os.write(1, b'x' * 4096)",
    "forge a result": (
        "import os\nos.write(1, b'{{\"status\": \"ok\", \"number\": \"666\"}}')\nos._exit(0)"
    ),
    "forge and go on": "import os\nos.write(1, b'666')\nos.close(1)\nwhile True:\n    pass",
    "forge a broken sandbox": "import os\nos.write(1, b'?Traceback 666')\nos._exit(0)",
    "nested JSON": "import os\nos.write(1, b'[' * 4000)\nos._exit(0)",
    "write to inherited descriptors": (
        "import os\nfor number in range(3, 2000):\n    try:\n        os.write(number, b'x')\n"
        "    except OSError: continue\n    return 666\nreturn 0"
    ),
    "close all descriptors": "import os\nos.closerange(0, 100)\nreturn 666",
    "deep recursion": "def f(n):\n    return f(n + 1)\nreturn f(0)",
    "deep recursion in C": (
        "import sys\nsys.setrecursionlimit(10 ** 9)\nx = []\n"
        "for _ in range(10 ** 6):\n    x = [x]\nreturn len(repr(x)) and 666"
    ),
    "wait for input": "return int(input())",
    "large value": "return 'x' * 10 ** 8",
    "large number": "return 10 ** 100000",
    "type that lies": (
        "class Number(float):\n    def __float__(self):\n        while True: pass\n"
        "return Number(1.0)"
    ),
    "error that lies": (
        "class Bad(Exception):\n    def __str__(self):\n        raise Bad()\nraise Bad()"
    ),
    "load an extension": "import _testcapi\nreturn 666",
    "executable memory": (
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.mmap.restype = ctypes.c_ssize_t\n"
        "return 666 if libc.mmap(None, 4096, 7, 0x22, -1, 0) != -1 else 0"
    ),
    # Where the library can be read, the import itself works and only the browser does not start.
    "antigravity": "import antigravity\nreturn 0",
}  # fmt: skip

SOURCES = {
    "NUL byte": "x = 1\0",
    "lone surrogate": "x = '\ud800'\ndef simple_math_problem():\n    return x\n",
    "invisible characters": "\ufeff\u200bdef simple_math_problem():\n    return 1\n",
    "coding cookie": "# coding: rot13\ndef simple_math_problem():\n    return 'x'\n",
    "deep parentheses": "x = " + "(" * 40_000 + ")" * 40_000,
    "deep signs": "x = " + "-" * 90_000 + "1",
    "deep indentation": "".join(" " * i + "if 1:\n" for i in range(400)),
    "long chain": "x = " + "+".join(["1"] * 45_000),
    "long attributes": "x = a" + ".a" * 45_000,
    "long literal": "x = " + "9" * 90_000,
    "huge source": "x = 1\n" * 1_000_000,
    "folded constant": "x = " + "(" * 50 + "'a' * 4000" + " * 4000)" * 50,
    "f-string nest": "x = " + "f'{" * 90 + "1" + "}'" * 90,
    "empty": "",
}

MONKEYS = {
    "builtins": "import builtins\nfor name in dir(builtins):\n"
    "    if name[0] != '_': setattr(builtins, name, None)\nreturn 1",
    "json": "import json\njson.dumps = lambda *a, **k: 'x' * 10 ** 6\nreturn 1",
    "os": "import os\nos._exit = os.write = None\nreturn 1",
    "modules": "import sys\nsys.modules.clear()\nreturn 1",
    "random": "import random\nrandom.seed(1)\nrandom.random = lambda: 666\nreturn 1",
}


def function(body: str) -> str:
    return "def simple_math_problem():\n" + "".join(f"    {line}\n" for line in body.splitlines())


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(limits=LIMITS, use_monty=False) as made:
        yield made


@pytest.fixture(scope="module")
def executor_with_monty() -> Iterator[Executor]:
    with Executor(limits=LIMITS) as made:
        yield made


@pytest.fixture(scope="module")
def tier_1() -> Iterator[Tier1]:
    with Tier1(LIMITS) as made:
        yield made


class Surroundings:
    """What the attacks aim at: files beside the test, a listening port, this process."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.secret, self.target = folder / "secret", folder / "target"
        self.secret.write_text("secret")
        self.secret.chmod(0o666)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0.0)

    def code(self, attack: str) -> str:
        return function(
            attack.format(
                secret=str(self.secret),
                target=str(self.target),
                folder=str(self.secret.parent),
                port=self.listener.getsockname()[1],
                pid=os.getpid(),
            )
        )

    def assert_untouched(self) -> None:
        assert self.secret.read_text() == "secret"
        assert not self.target.exists()
        with pytest.raises(BlockingIOError):
            self.listener.accept()


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Surroundings]:
    monkeypatch.setenv("SECRET_OF_THE_TEST", "1")
    made = Surroundings(tmp_path)
    yield made
    made.listener.close()


@pytest.mark.parametrize("name", ATTACKS)
def test_cpython_contains(name: str, executor: Executor, surroundings: Surroundings) -> None:
    attack, harmless = executor.run(
        [Program(code=surroundings.code(ATTACKS[name])), Program(code=HARMLESS)]
    )
    assert attack.value != 666, attack
    assert attack.tier == "cpython"
    assert harmless.value == 42
    surroundings.assert_untouched()


@pytest.mark.parametrize("name", ATTACKS)
def test_monty_contains(name: str, tier_1: Tier1, surroundings: Surroundings) -> None:
    """Straight into tier 1, past the dialect that would send these to tier 2."""
    attack = tier_1.run(surroundings.code(ATTACKS[name]), "simple_math_problem()")
    assert attack != 666, attack
    assert tier_1.run(HARMLESS, "simple_math_problem()") == 42.0
    surroundings.assert_untouched()


@pytest.mark.parametrize("name", SOURCES)
def test_sources_that_choke_parsers(
    name: str, executor: Executor, executor_with_monty: Executor
) -> None:
    programs = [Program(code=SOURCES[name]), Program(code=HARMLESS)]
    strange, harmless = executor.run(programs)
    with_monty, _ = executor_with_monty.run(programs)
    assert with_monty.status == strange.status
    assert strange.status in ("error", "nonnumeric", "memory", "ok", "timeout")
    assert harmless.value == 42


@pytest.mark.parametrize("name", MONKEYS)
def test_a_program_changes_only_its_own_interpreter(name: str, executor: Executor) -> None:
    results = executor.run([Program(code=function(MONKEYS[name])), Program(code=HARMLESS)])
    assert results[1].value == 42


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("while True:\n    pass", "timeout"),
        ("x = [0] * 10 ** 10", "memory"),
        ("while True:\n    print('x' * 1000)", "output"),
        ("import os\nos.write(1, b'x' * 10 ** 5)", "output"),
        ("import os\nos._exit(0)", "error"),
        ("import os\nos.abort()", "error"),
        ("return 'x' * 10 ** 7", "nonnumeric"),
        ("return 10 ** 400", "nonnumeric"),
    ],
)
def test_statuses_say_what_happened(body: str, status: str, executor: Executor) -> None:
    (result,) = executor.run([Program(code=function(body))])
    assert result.status == status, result
    assert result.error


def test_a_batch_of_nothing_but_bombs(executor: Executor) -> None:
    bombs = ["while True: pass", "x = 'a' * 10 ** 11", "import os\nos.fork()", "1 / 0"]
    results = executor.run([Program(code=function(bomb)) for bomb in bombs * 3])
    assert all(result.value is None for result in results)
    assert executor.run([Program(code=HARMLESS)])[0].value == 42
