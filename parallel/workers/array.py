"""A task of a job array, which makes some of the parts of one stage: `--array-task 3/8`.

The task that finds all parts made finishes the stage.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArrayTask:
    """Every `count`-th part, from the `number`-th."""

    number: int = 1
    """From 1 to `count`."""
    count: int = 1
    """Tasks of the array."""

    @classmethod
    def parse(cls, text: str) -> "ArrayTask":
        """Parse `3/8`.

        Raises:
            ValueError: the text has another form, or its number is not among the tasks.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        task = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= task.number <= task.count:
            raise ValueError(f"{text!r}: write NUMBER/COUNT, such as 1/8 to 8/8")
        return task

    @property
    def is_only(self) -> bool:
        """Whether there are no other tasks."""
        return self.count == 1

    def owns(self, part: int) -> bool:
        """Whether this task makes the part of this number, counted from 0."""
        return part % self.count == self.number - 1

    def __str__(self) -> str:
        return f"array task {self.number} of {self.count}"


ONLY_TASK = ArrayTask()
"""The task of a job outside an array: it makes all parts."""
