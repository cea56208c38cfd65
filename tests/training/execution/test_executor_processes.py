# pyright: reportPrivateUsage=false
"""The executor's processes: they start isolated, are replaced, and leave none behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.ranks import ROOT
from tests.training.execution.processes import descendants, function, is_alive
from training.execution.executor import (
    Executor,
    IsolationError,
    Limits,
    Program,
)
from training.execution.sandbox import jail, lockdown, seccomp


@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_while_a_jail_starts_costs_another_start(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    check, ended = jail.Jail._check_isolation, list[int]()

    def end_it_first(started: jail.Jail) -> None:
        if len(ended) < times:
            assert started.pid is not None
            ended.append(started.pid)
            os.kill(started.pid, signal.SIGTERM)
        check(started)

    monkeypatch.setattr(jail.Jail, "_check_isolation", end_it_first)
    if times == 1:
        with Executor(limits=Limits()) as made:
            assert made.run([Program(code=function("return 7"))])[0].value == 7.0
    else:
        with pytest.raises(jail.JailDied), Executor(limits=Limits()):
            pass
    assert len(ended) == times


def test_a_dead_worker_is_replaced_and_its_work_redone() -> None:
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
from training.execution.executor import Executor, Limits, Program
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


STARTER = """
import os, signal, threading
from training.execution.sandbox.jail import Jail, Limits
signal.signal(signal.SIGINT, lambda *_: None)
interrupting = True
def interrupt():
    while interrupting:
        os.killpg(0, signal.SIGINT)
thread = threading.Thread(target=interrupt)
thread.start()
jail = Jail("light", Limits())
try:
    reply = jail.ask({"code": "def f():\\n    return 3\\n", "kind": "func:f"})
finally:
    interrupting = False
    thread.join()
print(reply["report"])
jail.close()
"""


def test_a_jail_starts_and_judges_while_its_process_group_is_interrupted() -> None:
    completed = subprocess.run(
        [sys.executable, "-c", STARTER],
        capture_output=True,
        cwd=ROOT,
        text=True,
        start_new_session=True,
        timeout=120,
    )
    assert completed.returncode == 0, completed.stderr
    assert json.loads(completed.stdout) == {"status": "ok", "number": "3.0"}


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
        patched.setattr(jail, "_PROBE", "def num_escapes():\n    return 1\n")
        assert "escaped the sandbox" in refusal()
    with monkeypatch.context() as patched:
        patched.setattr(jail, "_START", "raise OSError('this is why')")
        assert "this is why" in refusal()
    with monkeypatch.context() as patched:
        patched.setattr(seccomp.platform, "machine", lambda: "vax")
        with pytest.raises(OSError, match="no table of system calls"):
            lockdown.CallFilter(seccomp.for_reader)
