"""Drops duplicates: examples that an earlier row or an earlier source has given already.

    deduplicator = Deduplicator(for_verifier=False)
    for kept, reason in deduplicator.marked(examples):    # empty reason: it stays
        ...

A generator learns each question once. A verifier learns each program of a question once. The
first occurrence stays, so the result depends on the order of the sources and of their rows
alone. Texts are compared by an 8-byte hash: among TinyGSM's 11 million questions, the chance that
two different ones collide is about 3 in a million. One key is held per distinct example (about 90
bytes in a set).
"""

import hashlib
from collections.abc import Iterable, Iterator

from training.data.parts import Kept

_QUESTION = "duplicate question"
_PROGRAM = "duplicate program of a question"
_KEY_BYTES = 8


def question_key(question: str) -> bytes:
    """The key of a generator's example: equal for equal questions."""
    return _digest(question)


def program_key(question: str, program: str) -> bytes:
    """The key of a verifier's example: equal for equal programs of equal questions."""
    return _digest(f"{question}\0{program}")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=_KEY_BYTES).digest()


class Deduplicator:
    """Holds the keys of all examples that were kept so far, over all sources."""

    def __init__(self, *, for_verifier: bool) -> None:
        self._reason = _PROGRAM if for_verifier else _QUESTION
        self._seen: set[bytes] = set()

    def marked(self, examples: Iterable[Kept]) -> Iterator[tuple[Kept, str]]:
        """Every example with the reason to drop it; an empty reason keeps it."""
        for example in examples:
            if example.key in self._seen:
                yield example, self._reason
            else:
                self._seen.add(example.key)
                yield example, ""

    def forgetting_dropped(self, marked: Iterable[tuple[Kept, str]]) -> Iterator[tuple[Kept, str]]:
        """Pass a later filter's decisions on; what it drops may still come from a later source."""
        for example, reason in marked:
            if reason:
                self._seen.discard(example.key)
            yield example, reason
