"""Seeds a program's random numbers by its text, so that its verdict is the same in every run.

    take_over()         once, when all modules are loaded
    seed_from(code)     before every program, in the process that is forked for it

This covers `random`, `numpy.random`, sympy's generator, and generators that a program creates
without a seed (`random.Random()`, `numpy.random.default_rng()`). Seeds that a program sets take
effect. Sources that are meant to be unpredictable (`os.urandom`, `secrets`,
`random.SystemRandom`) stay so, as does the clock.
"""

import hashlib
import os
import random
import sys
from types import MethodType
from typing import Any

_seeds = random.Random()
"""Gives generators without a seed theirs, in place of the operating system."""
_set_seed = random.Random.seed


def take_over() -> None:
    """Make generators without a seed take theirs from this module, in this process's forks."""
    random.Random.seed = _seed
    random.seed = MethodType(_seed, random.seed.__self__)  # the module's own generator
    # After `random`'s own hook, which seeds that generator in each child from the system.
    os.register_at_fork(after_in_child=random.seed)
    if "numpy.random" in sys.modules:
        bit_generator: Any = sys.modules["numpy.random.bit_generator"]
        bit_generator.randbits = _seeds.getrandbits


def seed_from(code: str) -> None:
    """Seed all generators of the next fork by a hash of the program.

    Done before the fork, as the child would first have to copy every page it writes to.
    """
    digest = hashlib.sha256(code.encode("utf-8", "surrogatepass")).digest()
    _set_seed(_seeds, int.from_bytes(digest, "big"))
    if "sympy.core.random" in sys.modules:
        sys.modules["sympy.core.random"].seed(_seeds.getrandbits(64))
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed(_seeds.getrandbits(32))


def _seed(self: random.Random, a: Any = None, version: int = 2) -> None:
    """Replaces `random.Random.seed`."""
    _set_seed(self, _seeds.getrandbits(64) if a is None else a, version)
