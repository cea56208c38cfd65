"""Runs programs in tier 2: a CPython with its modules loaded that forks a child per program.

The zygote watches each child and ends it. It never parses a program: it passes the text to a
fork of itself and reads back at most a few kilobytes. It runs inside the jail (lockdown.py); each
child sets its resource limits and its filter of system calls before it compiles the program.
"""

import contextlib
import gc
import importlib
import os
import select
import signal
import time
import traceback
import warnings
from typing import Any, NoReturn

from training.execution.sandbox import channel, lockdown, program, reader, seeds
from training.execution.sandbox.reader import Weight

GROUP_SIGNALS = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""Ctrl-C and Slurm's warnings go to whole process groups; the process that started the jail
decides what they mean. Jailed processes ignore them, programs too: one that Ctrl-C ended would be
judged to have failed."""

LIGHT_MODULES = (
    "__future__ _strptime abc argparse array ast base64 binascii bisect calendar cmath cmd codecs "
    "collections collections.abc colorsys contextlib contextvars copy csv ctypes dataclasses "
    "datetime decimal difflib enum errno fnmatch fractions functools gc getopt glob graphlib "
    "hashlib heapq hmac html inspect io ipaddress itertools json keyword linecache locale logging "
    "math numbers operator os pathlib pickle platform pprint queue random re reprlib sched "
    "secrets shlex signal statistics string struct sys tempfile textwrap threading time timeit "
    "traceback types typing unicodedata urllib.parse uuid warnings weakref xml.etree.ElementTree "
    "zlib zoneinfo "
    "encodings.ascii encodings.cp1252 encodings.latin_1 encodings.unicode_escape encodings.utf_16 "
    "encodings.utf_32 encodings.utf_8_sig"
).split()
"""Loaded before the process is locked down, so that programs have them if no file is readable."""

HEAVY_PARTS = {
    "numpy": "numpy.fft numpy.linalg numpy.ma numpy.polynomial numpy.random",
    "sympy": "sympy.stats sympy.physics.units sympy.solvers.inequalities sympy.abc",
    "pandas": "",
    "scipy": "scipy.constants scipy.integrate scipy.interpolate scipy.linalg scipy.optimize "
    "scipy.special scipy.stats",
}
"""Submodules that the other modules load only on use, when it would be too late."""

_LIGHT_WARM_UP = """
import datetime, platform, random, uuid
uuid.uuid4(), random.SystemRandom().random(), platform.uname()
datetime.datetime.strptime("2026-01-31", "%Y-%m-%d")
"""
"""First calls of modules that import others, or cache a result, on the first call."""

_SYMPY_WARM_UP = """
from sympy import symbols, Eq, solve, simplify, Rational, diff, integrate, sqrt
x, y = symbols("x y")
solve(Eq(2 * x + 3, 7), x), solve([x + y - 10, x - y - 2], [x, y]), solve(x**2 - 5 * x + 6, x)
simplify((x**2 - 1) / (x - 1)), float(Rational(1, 3)), float(sqrt(2)), diff(x**2), integrate(x)
"""
"""sympy loads half of itself on the first call; this does it once for all children."""

_PANDAS_WARM_UP = """
import pandas
frame = pandas.DataFrame({"a": [1, 2, 2], "b": [3.0, 4.0, 5.0], "c": ["x", "y", "z"]})
str(frame), frame.groupby("a").agg({"b": "sum"}), frame.describe(), frame.merge(frame, on="a")
frame.sort_values("b"), frame["c"].str.upper(), frame.pivot_table("b", "a")
pandas.to_datetime(["2026-01-31"]), pandas.date_range("2026-01-31", periods=3)
"""
_WARM_UPS = {"sympy": _SYMPY_WARM_UP, "pandas": _PANDAS_WARM_UP}

MAX_REPORT_BYTES = 4096

MAX_CHECKS = 10
"""After so many checks, `idle_seconds` apart, a program is ended even if it computes at times."""
_MAX_IDLE_CHECKS = 3
"""Of one check the cause may be a host that was suspended or gave the program no CPU time."""
_MIN_CPU_FRACTION = 0.02

_MAX_DESCRIPTOR = 256
"""Higher than any descriptor of the zygote, which has a handful open."""


def preload(weight: Weight) -> None:
    """Import the modules that programs may use; those not installed or broken are left out.

    Where the library is readable, a program can still import other modules, but not compiled
    ones: the filter allows no new executable memory.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in LIGHT_MODULES:
            _load(name)
        _warm_up(_LIGHT_WARM_UP)
        for name in reader.MODULES[weight]:
            if _load(name):
                for part in HEAVY_PARTS[name].split():
                    _load(part)
                _warm_up(_WARM_UPS.get(name, ""))


def _load(name: str) -> bool:
    # Incompatible libraries raise anything, and a heavy zygote starts when the first program
    # needs it, hours into a run.
    try:
        importlib.import_module(name)
    except Exception:
        return False
    return True


def _warm_up(code: str) -> None:
    with contextlib.suppress(Exception):  # as `_load`
        exec(code, {})


class Zygote:
    """Serves requests `{code, kind}` one at a time until the channel closes."""

    def __init__(
        self,
        control: int,
        *,
        limits: lockdown.ChildLimits,
        call_filter: lockdown.CallFilter,
        mapped_bytes: int,
    ) -> None:
        self._control, self._limits, self._filter = control, limits, call_filter
        self._address_space = mapped_bytes + limits.memory_bytes

    def serve(self) -> NoReturn:
        """Answer requests until the channel closes.

        Raises:
            ChannelClosed: the parent has closed the channel.
        """
        seeds.take_over()
        gc.collect()
        gc.freeze()  # the collector would touch, and so copy, every inherited page
        gc.disable()
        while True:
            request = channel.receive(self._control)
            channel.send(self._control, self._run(request))

    def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        token = os.urandom(8).hex()
        ours, theirs = os.pipe()
        seeds.seed_from(request["code"])
        pid = os.fork()
        if pid == 0:
            try:
                os.close(ours)
                self._child(request, theirs, token)
            except BaseException:
                # Only our own set-up can raise here: report it to the parent.
                os.write(theirs, b"?" + traceback.format_exc()[-1000:].encode())
            finally:
                os._exit(1)
        os.close(theirs)
        try:
            content, cause = self._watch(ours, pid)
        finally:
            os.kill(pid, signal.SIGKILL)  # in case it has not ended by itself
            _, status = os.waitpid(pid, 0)
            os.close(ours)
        if cause == "gone":
            raise channel.ChannelClosed
        return _reply(content, cause, status, token)

    def _child(self, request: dict[str, Any], result: int, token: str) -> None:
        lockdown.die_with_parent()
        for descriptor in (0, 1, 2):
            os.dup2(result, descriptor)
        # Keep only the result pipe: neither the control channel nor a folder of the library.
        os.closerange(3, _MAX_DESCRIPTOR)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        limits = self._limits
        lockdown.limit_resources(
            address_space=self._address_space, cpu_seconds=limits.timeout_seconds
        )
        # CPU time, not wall time: a loaded machine must not change a verdict. The signal's
        # default action ends the process, and the filter leaves no way to catch it.
        signal.setitimer(signal.ITIMER_PROF, limits.timeout_seconds)
        gc.enable()
        self._filter.install()
        program.run(
            request["code"],
            request["kind"],
            result=1,
            token=token,
            max_output_bytes=limits.max_output_bytes,
        )

    def _watch(self, result: int, pid: int) -> tuple[bytes, str]:
        """Read the child's report until it ends, exceeds a limit, or the parent has gone.

        The child's CPU time is checked every `idle_seconds`. On an overloaded machine an honest
        child may have had little; one that had almost none in several checks in a row is asleep.
        Each interval starts at the last check, so that a child has the whole interval to compute
        after a suspended host has resumed.
        """
        poll = select.poll()
        poll.register(result, select.POLLIN)
        poll.register(self._control, 0)  # reports only that the other end hung up
        content = b""
        checks, idle_checks, cpu_before = 0, 0, 0.0
        next_check = time.monotonic() + self._limits.idle_seconds
        while True:
            left = next_check - time.monotonic()
            events = dict(poll.poll(max(left, 0.0) * 1000))
            if not events:
                cpu = _cpu_seconds(pid)
                is_idle = cpu - cpu_before < _MIN_CPU_FRACTION * self._limits.idle_seconds
                checks, idle_checks = checks + 1, idle_checks + 1 if is_idle else 0
                if idle_checks == _MAX_IDLE_CHECKS or checks == MAX_CHECKS:
                    return content, "asleep"
                cpu_before = cpu
                next_check = time.monotonic() + self._limits.idle_seconds
                continue
            if self._control in events:
                return content, "gone"
            part = os.read(result, MAX_REPORT_BYTES)
            if not part:
                return content, "ended"
            content += part
            if len(content) > MAX_REPORT_BYTES:
                return content, "flood"


def _cpu_seconds(pid: int) -> float:
    """CPU time of another process, from its CPU-time clock: see clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


def _reply(content: bytes, cause: str, status: int, token: str) -> dict[str, Any]:
    """The reply to the parent: `report`, as the child wrote it, or `status` and `error`."""
    if cause == "asleep":
        return {"status": "timeout", "error": "waited instead of computing"}
    if cause == "flood":
        return {"status": "output", "error": "wrote too much to its result"}
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGXCPU):
        return {"status": "timeout", "error": "ran out of CPU time"}
    prefix = token.encode("ascii")
    if content.startswith(prefix):
        return {"report": content[len(prefix) :].decode("utf-8", "replace")}
    if content.startswith(b"?Traceback"):
        return {"broken": content[1:].decode("utf-8", "replace")}
    code = os.waitstatus_to_exitcode(status)
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return {"status": "error", "error": f"the program {how} and gave no result"}
