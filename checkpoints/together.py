"""Files that all ranks write: where one rank cannot write its own, all ranks leave together.

    with written_together(ranks):
        ...                          # each rank writes its files; no exchange may be left out

A rank that raised alone would leave the others waiting in their next exchange.
"""

from collections.abc import Generator
from contextlib import contextmanager

from parallel.ranks import Ranks
from training.disk import error_of


@contextmanager
def written_together(ranks: Ranks) -> Generator[None, None, None]:
    """Leave the block on all ranks with the first rank's error that could not write (all call it).

    Raises:
        NoSpace, NotWritten: a rank could not; names the rank.
    """
    caught: OSError | None = None
    try:
        yield
    except OSError as error:
        caught = error
    # One number first: it says almost always that all is well.
    if not ranks.sum([caught is not None])[0]:
        return
    facts = None if caught is None else (str(caught), caught.errno)
    for rank, fact in enumerate(ranks.gather(facts)):
        if fact is not None:
            message, number = fact
            where = f" (on rank {rank})" if ranks.world_size > 1 else ""
            raise error_of(message + where, number) from (caught if rank == ranks.rank else None)
