"""One job of several that make the parts of one stage: `--array-task 3/8`.

Whoever finds all parts there in the end finishes the stage.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """Every `count`-th part."""

    number: int = 1
    """From 1 to `count`."""
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Of `3/8`.

        Raises:
            ValueError: it is nothing like it; the message says what is wanted.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        share = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= share.number <= share.count:
            raise ValueError(f"share {text!r}: write which of how many, such as 1/8 to 8/8")
        return share

    @property
    def is_whole(self) -> bool:
        """Whether there are no others."""
        return self.count == 1

    def has(self, part: int) -> bool:
        """Whether this job makes the part of this number."""
        return part % self.count == self.number - 1

    def __str__(self) -> str:
        return f"share {self.number} of {self.count}"


WHOLE = Share()
