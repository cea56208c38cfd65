"""Work cut into parts that any number of ranks may share.

A part is a chunk of the questions for one of the generators. What a part holds depends on
the config alone, never on who makes it, so a stage that failed resumes with any number of ranks.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from parallel.ranks import Ranks
from parallel.workers.array import ONLY_TASK, ArrayTask
from training.config import RunConfig
from training.data import candidates
from training.disk import require
from training.files import sha256_json
from training.records import Question

logger = logging.getLogger(__name__)

MADE_FROM = "made_from"
"""Label of a part: the fingerprint of all that decides which candidates it holds."""
SCORED_WITH = "scored_with"
"""Label of a part: the fingerprint of the verifier its scores are of; empty: none."""

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One committed file's worth of work."""

    number: int
    generator: int
    """Index of the generator that writes it."""
    start: int
    stop: int
    """The questions asked: from `start` to before `stop`."""

    @property
    def size(self) -> int:
        """How many questions it has."""
        return self.stop - self.start


def refuse_candidates(run: RunConfig, folders: Iterable[Path]) -> None:
    """Refuse folders with candidates that the run may not resume from.

    Raises:
        FileExistsError: `run.resume` is `never` and one of the folders holds candidates.
    """
    if run.resume == "never" and any(map(candidates.part_paths, folders)):
        raise FileExistsError(
            f"{run.folder} holds candidates and run.resume is 'never': set run.resume = 'auto' "
            "to resume, or another run.folder to start again"
        )


def log_finished(run: RunConfig, ranks: Ranks) -> None:
    """Log that a stage has nothing to do."""
    if ranks.is_main:
        logger.info(f"{run.folder} is finished with this config and inputs: nothing to do")


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


def waiting(
    folder: Path,
    planned: Sequence[Part],
    made_from: str,
    *,
    array_task: ArrayTask = ONLY_TASK,
    looks_only: bool = False,
) -> list[Part]:
    """The parts that are still to be made; parts of another config or input are removed.

    Args:
        folder: Holds the parts.
        planned: All parts of the work.
        made_from: What the label `MADE_FROM` of a finished part must say.
        array_task: Those of the parts that count; other jobs make and remove the rest.
        looks_only: Leave everything as it is.
    """
    planned_paths = {
        candidates.part_path(folder, part.number): part
        for part in planned
        if array_task.owns(part.number)
    }
    labels_of = {
        path: candidates.labels(path) or {}
        for path in candidates.part_paths(folder)
        if array_task.owns(candidates.part_number(path))
    }
    whole = {
        path
        for path, labels in labels_of.items()
        if path in planned_paths and labels.get(MADE_FROM) == made_from
    }
    if not looks_only:  # a slice is not resumed from: other ranks would cut others
        for path in candidates.slice_paths(folder):
            if array_task.owns(candidates.part_number(path)):
                path.unlink()
    stale = labels_of.keys() - whole
    if stale and not looks_only:
        # All at once and first: a reader must never meet a mixture.
        logger.info(f"{folder}: {len(stale)} parts of another config or input are made again")
        for path in stale:
            path.unlink()
    return [part for path, part in planned_paths.items() if path not in whole]


def require_room(part: Path, num_more: int) -> None:
    """Check that more parts like a written one can be. Raises NoSpace."""
    sizes = [part.stat().st_size] * num_more
    require(part.parent, sizes, what=f"the rest of the parts ({num_more:,} like {part.name})")


def of_rank(items: Sequence[Item], ranks: Ranks) -> Sequence[Item]:
    """This rank's items: every world_size-th, so that ranks progress evenly."""
    return items[ranks.rank :: ranks.world_size]


def fingerprint(questions: Sequence[Question]) -> str:
    """A digest of questions with their gold answers."""
    return sha256_json([asdict(question) for question in questions])


def key(seed: int, question_id: str, generator: int, index: int) -> tuple[int, ...]:
    """What seeds one candidate's own random numbers.

    The same whoever draws it, in whatever batch: ranks and restarts change no candidate.
    """
    question = int.from_bytes(hashlib.sha256(question_id.encode()).digest()[:8], "little")
    return (seed, question, generator, index)
