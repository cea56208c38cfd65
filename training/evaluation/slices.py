"""Parts divided among ranks: whole ones while there are enough, the last ones in slices.

    mine = slices.of_rank(waiting, ranks, size=size_of)
    for part, piece in mine:
        start, stop = piece.of(part)                   # this rank's questions
        candidates.write(piece.path(folder, part), ..., labels=...)
    ...                                                # all ranks have written
    for part, piece in mine:
        piece.join(folder, part)

Without slices a rank had nothing to do where there are more ranks than parts left. What a part
holds, and its file's name, depend on the config alone, so that any number of ranks may resume; a
slice is not resumed from, and `work.waiting` removes what a killed attempt left.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from parallel.ranks import Ranks
from training.data import candidates
from training.evaluation import work
from training.evaluation.work import Item, Part


@dataclass(frozen=True, slots=True)
class Slice:
    """A run of consecutive questions of a part, which one rank asks."""

    index: int
    """Among the slices of the part."""
    cuts: tuple[int, ...]
    """Where the part is cut, from 0 to its number of questions."""

    def of(self, part: Part) -> tuple[int, int]:
        """Its questions: from the first number to before the second."""
        return part.start + self.cuts[self.index], part.start + self.cuts[self.index + 1]

    @property
    def count(self) -> int:
        """Slices of the part."""
        return len(self.cuts) - 1

    def path(self, folder: Path, part: Part) -> Path:
        """The file to write: the part's where the slice is all of it."""
        if self.count == 1:
            return candidates.part_path(folder, part.number)
        return candidates.slice_path(folder, part.number, self.index)

    def join(self, folder: Path, part: Part, *, summed: Sequence[str] = ()) -> None:
        """Put a part's slices together: its first rank does, once all of them are written.

        Args:
            folder: Holds the slices.
            part: Theirs.
            summed: Labels that are numbers, to be added up; the others are equal.
        """
        if self.count == 1 or self.index:
            return
        paths = [Slice(index, self.cuts).path(folder, part) for index in range(self.count)]
        labels = [candidates.labels(path) or {} for path in paths]
        totals = {name: f"{sum(float(each[name]) for each in labels):.3f}" for name in summed}
        candidates.write(
            candidates.part_path(folder, part.number),
            [candidate for path in paths for candidate in candidates.read(path)],
            labels={**labels[0], **totals},
        )
        for path in paths:
            path.unlink()


def of_rank(
    items: Sequence[Item], ranks: Ranks, *, size: Callable[[Item], int]
) -> list[tuple[Item, Slice]]:
    """This rank's items: every world_size-th, and its slices of those that are left over.

    Args:
        items: Parts of the work, the same on all ranks.
        ranks: Who divides them.
        size: How many questions an item has.
    """
    num_ranks = ranks.world_size
    num_whole = len(items) - len(items) % num_ranks
    mine = [(item, Slice(0, (0, size(item)))) for item in work.of_rank(items[:num_whole], ranks)]
    left = items[num_whole:]
    # The questions of these parts one after the other, as many for each rank.
    total = sum(map(size, left))
    borders = [total * rank // num_ranks for rank in range(num_ranks + 1)]
    first, end = borders[ranks.rank : ranks.rank + 2]
    start = 0
    for item in left:
        stop = start + size(item)
        cuts = sorted({start, stop, *(border for border in borders if start < border < stop)})
        in_part = tuple(cut - start for cut in cuts)
        mine += [
            (item, Slice(index, in_part))
            for index, (low, high) in enumerate(pairwise(cuts))
            if first <= low and high <= end
        ]
        start = stop
    return mine
