"""Counts what the filters did to the rows of a part or of a source, with examples of each.

    counts.drop(reasons.TOO_SHORT, question)
    counts.add(counts_of_the_next_part)

The first examples of each reason are kept, in the order of the rows. So they are the same for any
number of workers.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

NUM_EXAMPLES = 3
"""Examples that are kept of each reason."""
_MOST_CHARACTERS = 1000


def _counter() -> Counter[str]:
    return Counter()


@dataclass(kw_only=True)
class FilterCounts:
    """Numbers of rows by what the filters did; the keys are of `reasons`."""

    dropped: Counter[str] = field(default_factory=_counter)
    """Rows by the reason they were dropped for."""
    repaired: Counter[str] = field(default_factory=_counter)
    """Rows by what was repaired in them."""
    wrong: Counter[str] = field(default_factory=_counter)
    """Rollouts by why they were found to be wrong when they were compared with gold."""
    overlaps: Counter[str] = field(default_factory=_counter)
    """Rows that each way to compare finds to overlap a benchmark (`decontaminate`)."""
    examples: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Texts of the first rows by reason."""

    def drop(self, reason: str, text: str = "") -> None:
        """Count a dropped row; `text` shows why it was dropped."""
        self.dropped[reason] += 1
        self._show(reason, text)

    def repair(self, reason: str, text: str = "") -> None:
        """Count a row in which something was repaired; `text` is that before."""
        self.repaired[reason] += 1
        self._show(reason, text)

    def label_wrong(self, reason: str, text: str = "") -> None:
        """Count a rollout that is wrong; `text` is it."""
        self.wrong[reason] += 1
        self._show(reason, text)

    def wants_example(self, reason: str) -> bool:
        """Whether the next text for this reason is kept; saves making texts that are not."""
        return len(self.examples.get(reason, ())) < NUM_EXAMPLES

    def add(self, other: "FilterCounts") -> None:
        """Add the counts of rows that come later."""
        self.dropped += other.dropped
        self.repaired += other.repaired
        self.wrong += other.wrong
        self.overlaps.update(other.overlaps)  # zeros as well
        for reason, texts in other.examples.items():
            for text in texts:
                self._show(reason, text)

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON-ready data."""
        return {
            "dropped": dict(self.dropped),
            "repaired": dict(self.repaired),
            "wrong": dict(self.wrong),
            "overlaps": dict(self.overlaps),
            "examples": self.examples,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "FilterCounts":
        """The counts that `to_json` gave."""
        return cls(
            dropped=Counter(content["dropped"]),
            repaired=Counter(content["repaired"]),
            wrong=Counter(content["wrong"]),
            overlaps=Counter(content["overlaps"]),
            examples=dict(content["examples"]),
        )

    def _show(self, reason: str, text: str) -> None:
        if text and self.wants_example(reason):
            # Half a character cannot be written.
            whole = text.encode("utf-8", "replace").decode()
            cut = whole if len(whole) <= _MOST_CHARACTERS else f"{whole[:_MOST_CHARACTERS]} …"
            self.examples.setdefault(reason, []).append(cut)
