"""Checks on prepared data that the order of the sequences depends on seed and position alone.

    python -m tests.bench.twelve_million.order FOLDER --sequence-length 1280

Over 1, 2, 3, 4 and 7 ranks, for a whole epoch and the beginning of the next one, every step takes
the same sequences; every sequence comes once in an epoch; the batches are equal to the bit at
random steps; and a run that changes its number of ranks at random points, resuming each time from
the loader's state, takes what an undisturbed one takes.
"""

import argparse
import json
import random
import resource
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.dataset import SequenceDataset
from training.data.loader import Loader
from training.data.micro_batch import Batch

RANKS = (1, 2, 3, 4, 7)
_SMALLEST_STEP = 84
"""Sequences: the least number that all of `RANKS` divide."""
_SEED = 1


class OrderError(Exception):
    """The order depends on something else; the message names it."""


def check(folder: Path, *, sequence_length: int, resumes: int, seed: int) -> dict[str, Any]:
    """Check a prepared folder.

    Args:
        folder: What `prepare` wrote.
        sequence_length: Its `data.sequence_length`.
        resumes: Random points at which batches are compared, and at which a run resumes.
        seed: Decides these points.

    Returns:
        What was compared, and the time and memory to the first batch.

    Raises:
        OrderError: something differs.
    """
    first = _first_batch(folder, sequence_length)
    dataset = SequenceDataset(folder, sequence_length=sequence_length)
    generator = random.Random(seed)
    num_steps = _check_epoch(dataset)
    points = sorted(generator.randrange(2 * len(dataset)) for _ in range(resumes))
    _check_batches(dataset, points)
    resumed = _check_resumes(dataset, generator, resumes)
    return {
        "ranks": list(RANKS),
        "sequences": len(dataset),
        "steps_compared": num_steps,
        "batches_compared_at": points,
        "resumed_at": resumed,
        **first,
    }


@contextmanager
def _open(
    dataset: SequenceDataset, num_ranks: int, step: int, *, micro: int = 1
) -> Generator[list[Loader], None, None]:
    """The loaders of all ranks; closed at the end, since each makes batches ahead."""
    loaders = [
        Loader(
            dataset,
            seed=_SEED,
            global_batch_sequences=step,
            micro_batch_sequences=micro,
            rank=rank,
            world_size=num_ranks,
            head="language_model",
        )
        for rank in range(num_ranks)
    ]
    try:
        yield loaders
    finally:
        for loader in loaders:
            loader.close()


def _move(loaders: Sequence[Loader], consumed: int) -> None:
    """As from a checkpoint in which so many sequences are consumed."""
    for loader in loaders:
        loader.load_state_dict({**loader.state_dict(), "consumed_sequences": consumed})


def _indices(loaders: Sequence[Loader]) -> NDArray[np.int64]:
    """The sequences of the next step over all ranks, in their order."""
    return np.concatenate([np.ravel(loader.next_indices()) for loader in loaders])


def _check_epoch(dataset: SequenceDataset) -> int:
    """All steps of an epoch and the first of the next one; returns how many."""
    size = len(dataset)
    step = _SMALLEST_STEP * max(1, min(512, size // _SMALLEST_STEP))
    taken = np.zeros(size, np.int64)
    starts = range(0, size + step, step)
    with ExitStack() as stack:
        loaders = {ranks: stack.enter_context(_open(dataset, ranks, step)) for ranks in RANKS}
        for start in starts:
            for each in loaders.values():
                _move(each, start)
            alone = _indices(loaders[1])
            for num_ranks in RANKS[1:]:
                if not np.array_equal(alone, _indices(loaders[num_ranks])):
                    raise OrderError(f"{num_ranks} ranks take other sequences than one at {start}")
            np.add.at(taken, alone[: max(0, size - start)], 1)
    if not (taken == 1).all():
        raise OrderError(f"{(taken != 1).sum()} sequences do not come once in the first epoch")
    return len(starts)


def _check_batches(dataset: SequenceDataset, points: Sequence[int]) -> None:
    """The tokens and labels of steps, over all numbers of ranks and two micro-batch sizes."""
    alone: list[list[Batch]] = []
    for num_ranks in RANKS:
        for micro in (1, _SMALLEST_STEP // num_ranks):
            with _open(dataset, num_ranks, _SMALLEST_STEP, micro=micro) as loaders:
                for at, point in enumerate(points):
                    _move(loaders, point)
                    batches = _step(loaders)
                    if len(alone) == at:
                        alone.append(batches)
                    elif not _same(alone[at], batches):
                        raise OrderError(
                            f"{num_ranks} ranks with micro-batches of {micro} make other batches "
                            f"at {point}"
                        )


def _step(loaders: Sequence[Loader]) -> list[Batch]:
    """The batches of the next step over all ranks."""
    return [batch for loader in loaders for batch in loader.next_step()]


def _same(batches: Sequence[Batch], others: Sequence[Batch]) -> bool:
    return all(
        torch.equal(
            torch.cat([getattr(batch, name) for batch in batches]),
            torch.cat([getattr(batch, name) for batch in others]),
        )
        for name in ("tokens", "positions", "labels", "weights")
    )


def _check_resumes(dataset: SequenceDataset, generator: random.Random, resumes: int) -> list[int]:
    """A run of several attempts, each with another number of ranks; returns where they began."""
    points: list[int] = []
    with _open(dataset, 1, _SMALLEST_STEP) as undisturbed:
        _move(undisturbed, generator.randrange(len(dataset)))
        state = undisturbed[0].state_dict()
        for _ in range(resumes):
            points.append(state["consumed_sequences"])
            num_ranks = generator.choice(RANKS)
            with _open(dataset, num_ranks, _SMALLEST_STEP) as loaders:
                for loader in loaders:
                    loader.load_state_dict(json.loads(json.dumps(state)))
                for _ in range(generator.randrange(1, 4)):
                    if not _same(_step(undisturbed), _step(loaders)):
                        raise OrderError(
                            f"a run resumed at {points[-1]} on {num_ranks} ranks differs"
                        )
                states = [loader.state_dict() for loader in loaders]
            if any(each != undisturbed[0].state_dict() for each in states):
                raise OrderError(f"the states of {num_ranks} ranks differ from one rank's")
            state = states[-1]
    return points


def _first_batch(folder: Path, sequence_length: int) -> dict[str, float]:
    """Seconds and resident bytes from the imports' end to the first step of 16 sequences."""
    start = time.perf_counter()
    cpu = time.process_time()
    dataset = SequenceDataset(folder, sequence_length=sequence_length)
    size = min(16, len(dataset))
    with _open(dataset, 1, size, micro=size) as loaders:
        loaders[0].next_step()
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return {
        "first_batch_seconds": round(seconds, 3),
        "first_batch_cpu_seconds": round(cpu_seconds, 3),
        "first_batch_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sequence-length", type=int, required=True)
    parser.add_argument("--resumes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="JSON file of what was compared")
    options = parser.parse_args()
    found = check(
        options.folder,
        sequence_length=options.sequence_length,
        resumes=options.resumes,
        seed=options.seed,
    )
    options.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
