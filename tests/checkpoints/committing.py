"""Commits small checkpoints as training does, of whatever files a test writes."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from checkpoints.background import BackgroundWriter
from checkpoints.store import CheckpointStore
from parallel.ranks import ALONE


def files_of(folder: Path) -> Iterable[Path]:
    """Every file below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


@contextmanager
def committed(store: CheckpointStore, step: int) -> Generator[Path, None, None]:
    """Yield the folder of a new checkpoint, of one rank; it is committed when the block ends."""
    folder = store.begin(step)
    yield folder
    writer = BackgroundWriter(store, ALONE)
    writer.start(step, folder, write=files_of, write_last=lambda _: ())
    writer.finish()
