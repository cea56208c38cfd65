"""Random numbers that follow from a program's text, so that a verdict is the same in every run.

    take_over()         once, when all modules are loaded
    seed_from(code)     before every program, in the process that is forked for it

This covers `random`, `numpy.random` and sympy's generator, and the generators that a program makes
without a seed (`random.Random()`, `numpy.random.default_rng()`). Seeds that a program sets count.
What is meant to be unpredictable (`os.urandom`, `secrets`, `random.SystemRandom`) stays so, and so
does the clock.
"""

import hashlib
import os
import random
import sys
from types import MethodType
from typing import Any

_seeds = random.Random()
"""Where generators without a seed get theirs, in place of the operating system."""
_set_seed = random.Random.seed


def take_over() -> None:
    """Have generators that are given no seed take theirs from here, in this process's forks."""
    random.Random.seed = _seed
    random.seed = MethodType(_seed, random.seed.__self__)  # the module's own generator
    # After `random`'s own hook, which seeds that generator in each child from the system.
    os.register_at_fork(after_in_child=random.seed)
    if "numpy.random" in sys.modules:
        bit_generator: Any = sys.modules["numpy.random.bit_generator"]
        bit_generator.randbits = _seeds.getrandbits


def seed_from(code: str) -> None:
    """Seed all generators of the next fork by the program's hash.

    Done ahead of the fork: in the child, each page that is written to is copied first.
    """
    digest = hashlib.sha256(code.encode("utf-8", "surrogatepass")).digest()
    _set_seed(_seeds, int.from_bytes(digest, "big"))
    if "sympy.core.random" in sys.modules:
        sys.modules["sympy.core.random"].seed(_seeds.getrandbits(64))
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed(_seeds.getrandbits(32))


def _seed(self: random.Random, a: Any = None, version: int = 2) -> None:
    """In place of `random.Random.seed`."""
    _set_seed(self, _seeds.getrandbits(64) if a is None else a, version)
