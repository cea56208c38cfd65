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

from collections.abc import Iterable, Iterator

from training.data import reasons
from training.data.parts import Kept


class Deduplicator:
    """Holds the keys of all examples that were kept so far, over all sources."""

    def __init__(self, *, for_verifier: bool) -> None:
        self._reason = reasons.DUPLICATE_PROGRAM if for_verifier else reasons.DUPLICATE
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
