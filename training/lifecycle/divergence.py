"""A run that has diverged: what is reported, and how it can be resumed; and what is skipped before.

A checkpoint is written only while loss, gradients, weights and moments are finite, so that
every committed one can be resumed from. Whether weights that are finite can still be trained
only the next steps show; so the message also says how to go back by one more checkpoint.
"""

from collections.abc import Sequence
from pathlib import Path

from training.checkpoint_paths import step_name
from training.errors import TrainingDiverged

MOST_SKIPPED = 3
"""Updates in a row that are skipped at most, as their gradients are not finite."""


class SkippedUpdates:
    """The batches of the last updates, if these were skipped."""

    def __init__(self) -> None:
        self._in_a_row: list[str] = []

    def end(self) -> None:
        """An update was made."""
        self._in_a_row.clear()

    def add(self, sequences: Sequence[int]) -> str:
        """Count a skipped update on these sequences.

        Returns:
            Why the run has diverged, as the first words of `diverged`; empty if it may continue.
        """
        self._in_a_row.append(", ".join(map(str, sequences)))
        if len(self._in_a_row) < MOST_SKIPPED:
            return ""
        return (
            f"the gradients of {MOST_SKIPPED} batches in a row are not finite (sequences "
            f"{'; '.join(self._in_a_row)})"
        )


def diverged(
    what: str, *, step: int, learning_rate: float, checkpoints: Path, steps: Sequence[int]
) -> TrainingDiverged:
    """The error of a run that has diverged.

    Args:
        what: What is not finite, as the first words of the message.
        step: The update that shows it, counted from 1.
        learning_rate: `optimizer.learning_rate`.
        checkpoints: Folder of the run's checkpoints.
        steps: Those that are committed, ascending.
    """
    newest, older = (list(reversed(steps)) + [0, 0])[:2]
    remedy = f"lower optimizer.learning_rate (it is {learning_rate}) and start the run again: it "
    if not newest:
        remedy += "has no checkpoint yet and starts from step 0"
    else:
        back = f"resumes from step {older}" if older else "starts from step 0"
        remedy += (
            f"resumes from its newest checkpoint, step {newest}. If it diverges again at once, "
            f"move {checkpoints / step_name(newest)} elsewhere: it then {back}"
        )
    return TrainingDiverged(
        f"{what} at step {step}: the run has diverged, and this step is not saved. To resume, "
        f"{remedy}. If a lower rate does not help, look at the data of that step"
    )
