"""Work cut into parts that any number of ranks may share.

A part is a chunk of the questions for one of the generators. What a part holds depends on
the config alone, never on who makes it, so a stage that died goes on with other ranks.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from parallel.ranks import Ranks

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One committed file's worth of work."""

    number: int
    generator: int
    """Index of the generator that writes it."""
    start: int
    stop: int
    """The questions asked: from `start` to before `stop`."""


def parts(num_questions: int, *, questions_per_part: int, num_generators: int = 1) -> list[Part]:
    """Cut the work, one generator after the other: a rank loads each of them once."""
    starts = range(0, num_questions, questions_per_part)
    return [
        Part(
            number=generator * len(starts) + chunk,
            generator=generator,
            start=start,
            stop=min(start + questions_per_part, num_questions),
        )
        for generator in range(num_generators)
        for chunk, start in enumerate(starts)
    ]


def share(items: Sequence[Item], ranks: Ranks) -> Sequence[Item]:
    """This rank's items: every world_size-th, so that shares are even at any point."""
    return items[ranks.rank :: ranks.world_size]


def key(seed: int, question_id: str, generator: int, index: int) -> int:
    """The seed of one candidate's own random numbers, below 2**63.

    The same whoever draws it, in whatever batch: ranks and restarts change no candidate.
    """
    digest = hashlib.sha256(f"{seed}/{generator}/{index}/{question_id}".encode())
    return int.from_bytes(digest.digest()[:8], "little") >> 1


def on_first(ranks: Ranks, function: Callable[[], Result]) -> Result:
    """Call on rank 0 alone; every rank gets the result, or raises the same error.

    Were the error raised on rank 0 alone, the others would wait for it until they time out.
    """
    outcome: tuple[Result | None, Exception | None] = (None, None)
    if ranks.is_first:
        try:
            outcome = (function(), None)
        except Exception as error:
            outcome = (None, error)
    result, error = ranks.gather(outcome)[0]
    if error is not None:
        raise error
    return cast(Result, result)
