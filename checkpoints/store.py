"""Checkpoints: committed atomically, verified before they are loaded, pruned.

    store = CheckpointStore(run_folder / "checkpoints", ranks=ranks, keep=0)
    folder = store.begin(step)                  # all ranks; each then writes its own files
    store.commit(folder, step, {"state.json": durable(folder / "state.json")})     # one rank
    folder = store.newest()                     # the newest that verifies, or None

The ranks write into `step_N.tmp/`, and flush and hash every file (`background.py`); a manifest
with sizes and SHA-256 is written, the folder renamed to `step_N` and its parent flushed; then
`latest` is replaced. A kill at any moment leaves the older checkpoints and `latest` as they
were. A checkpoint that does not verify is skipped with a warning. Anything that has the name of
a folder to be written is renamed, not removed; pruning removes only the files that a
checkpoint's manifest lists.
"""

import logging
import os
import shutil
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from checkpoints import universal
from checkpoints.together import written_together
from parallel.ranks import ALONE, Ranks
from parallel.sharding import STATES
from training import manifest, verification
from training.checkpoint_paths import CHECKPOINTS, step_name, step_of
from training.disk import NotWritten, error_of, reported, require
from training.errors import CheckpointError, UserError
from training.files import replacing, sha256_file, sync, write_json
from training.manifest import MANIFEST

logger = logging.getLogger(__name__)

_LATEST = "latest"

FileFacts = dict[str, Any]
"""`bytes` and `sha256` of a file."""


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        folder: Holds `step_N/` folders and `latest`.
        ranks: The processes that write together.
        keep: Newest checkpoints kept; 0: all.
        keep_steps: Steps whose checkpoints are kept as well, however old.
    """

    def __init__(
        self, folder: Path, *, ranks: Ranks, keep: int = 0, keep_steps: Collection[int] = ()
    ) -> None:
        self._folder, self._ranks = folder, ranks
        self._keep, self._keep_steps = keep, frozenset(keep_steps)
        self._warned: set[Path] = set()
        self._damaged: set[int] = set()
        self._unfinished: Path | None = None

    def path(self, step: int) -> Path:
        """Where the checkpoint of this step is or would be."""
        return self._folder / step_name(step)

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, ascending; committed, not yet verified."""
        return [step for step in self._named() if self.path(step).is_dir()]

    def _named(self) -> list[int]:
        """Steps that names in the folder are of, ascending, whatever has the name.

        Raises:
            CheckpointError: the folder cannot be read.
        """
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(
                f"the checkpoints of {self._folder} cannot be read: {error.strerror}"
            ) from error
        return sorted(step for name in names if (step := step_of(name)) is not None)

    def begin(self, step: int, *, sizes: Sequence[int] = ()) -> Path:
        """Make the folder to write a checkpoint into, empty (all ranks call it).

        Args:
            step: Updates that the checkpoint has seen.
            sizes: Bytes of each file that will be written, as far as they are known: there must
                be room for them.

        Raises:
            NoSpace: on all ranks: the disk is full, or `sizes` do not fit.
            NotWritten: on all ranks: the folder cannot be made.
        """
        temporary = self._folder / f"{step_name(step)}.tmp"
        with self.explaining(step), written_together(self._ranks):
            if self._ranks.is_main:
                if temporary.is_symlink() or not temporary.is_dir():
                    _set_aside(temporary)
                shutil.rmtree(temporary, ignore_errors=True)
                self._check_room(step, sizes)
                self._unfinished = temporary
                with reported(temporary):
                    temporary.mkdir(parents=True)
        return temporary

    @contextmanager
    def explaining(self, step: int) -> Generator[None, None, None]:
        """Add to an error of the block which checkpoint it concerns and where the run resumes."""
        try:
            yield
        except NotWritten as error:
            newest = max(self.steps(), default=0)
            raise error_of(
                f"{error}. It was met at the checkpoint of step {step}; start the run again once "
                f"this is corrected: it resumes from step {newest}",
                error.errno,
            ) from error

    def _check_room(self, step: int, sizes: Sequence[int]) -> None:
        require(
            self._folder,
            sizes,
            what=f"the checkpoint of step {step}",
            num_folders=len(sizes) // len(STATES),
        )

    def discard_unfinished(self) -> None:
        """Remove what an error left of the checkpoint that was being written.

        On a full disk it is the room that the alert needs.
        """
        if self._unfinished is not None:
            shutil.rmtree(self._unfinished, ignore_errors=True)
            self._unfinished = None

    def commit(self, temporary: Path, step: int, outputs: Mapping[str, FileFacts]) -> None:
        """Make a folder that `begin` made the checkpoint of a step, and prune (one rank calls it).

        Args:
            temporary: Holds the checkpoint's files, flushed to disk.
            step: As `begin` was given.
            outputs: Facts of each file, by its name relative to the folder.

        Raises:
            OSError: a file could not be written; older checkpoints are untouched.
        """
        outputs = dict(sorted(outputs.items()))
        write_json(temporary / MANIFEST, {"step": step, "outputs": outputs})
        # Also the folders that hold nothing but folders.
        for folder in {parent for name in (*outputs, MANIFEST) for parent in Path(name).parents}:
            sync(temporary / folder)
        target = self.path(step)
        # A checkpoint that failed to verify, or files of the user.
        _set_aside(target)
        temporary.rename(target)
        sync(self._folder)
        if (self._folder / _LATEST).is_dir():
            _set_aside(self._folder / _LATEST)
        with replacing(self._folder / _LATEST) as latest:
            latest.write_text(target.name + "\n", "utf-8")
        self._unfinished = None
        self._damaged.discard(step)
        self._prune(step)

    def _prune(self, written: int) -> None:
        """Remove the oldest checkpoints up to the step just written, but for `keep` of them.

        Folders that are not checkpoints of ours, that do not verify, or that are of a later step
        do not count towards `keep`.
        """
        if not self._keep:
            return
        ours: list[int] = []
        for step in self.steps():
            if step > written or step in self._damaged:
                continue
            if why := _why_kept(self.path(step), step):
                if step not in self._keep_steps:
                    self._warn_once(self.path(step), f"is not pruned: {why}")
                continue
            ours.append(step)
        for step in ours[: -self._keep]:
            if step not in self._keep_steps and (left := manifest.remove(self.path(step))):
                more = f" and {len(left) - 1} more" if len(left) > 1 else ""
                held = f"{left[0].relative_to(self.path(step))}{more}"
                self._warn_once(self.path(step), f"is not pruned completely: it holds {held}")

    def _warn_once(self, folder: Path, what: str) -> None:
        if folder not in self._warned:
            logger.warning(f"{folder} {what}")
        self._warned.add(folder)

    def newest(self) -> Path | None:
        """The newest checkpoint that verifies, the same on all ranks; None: there is none.

        Raises:
            CheckpointError: the folder cannot be read.
        """
        for step in reversed(self._ranks.on_main(self._named)):
            folder = self.path(step)
            problems = verification.problems_of(folder, ranks=self._ranks)
            if not problems and (
                why := self._ranks.on_main(lambda at=folder, step=step: _other_step(at, step))
            ):
                problems = [why]
            if not problems:
                return folder
            self._damaged.add(step)
            if self._ranks.is_main:
                logger.warning(f"{folder} is skipped: {problems[0]}")
        return None


def durable(path: Path) -> FileFacts:
    """Flush a file to disk; what a manifest says of it."""
    sync(path)
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def _why_kept(folder: Path, step: int) -> str:
    """Why a folder named like a checkpoint is not for us to remove; empty: it is one."""
    if folder.is_symlink():
        return "it is a symbolic link"
    try:
        return _other_step(folder, step)
    except (OSError, UserError) as error:
        return f"it is no checkpoint ({error})"


def _other_step(folder: Path, step: int) -> str:
    """Whether a manifest is of another step than the folder's name, or of a stage, in words."""
    made = manifest.read(folder)
    if "stage" in made:
        return f"its manifest is of the stage {made['stage']}"
    listed = made.get("step", step)  # older versions wrote none
    return "" if listed == step else f"its manifest is of step {listed}"


def _set_aside(path: Path) -> None:
    """Give what has a name that is to be written another one; nothing is removed."""
    if os.path.lexists(path):
        names = (path.with_name(f"{path.name}.replaced-{number}") for number in count(1))
        aside = next(name for name in names if not os.path.lexists(name))
        path.rename(aside)
        logger.warning(f"{path} had the name of a folder to be written: kept as {aside}")


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a path names, compared with its manifest.

    Raises:
        FileNotFoundError: there is nothing at the path.
        CheckpointError: it is not a checkpoint, or does not verify.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"there is no checkpoint or run folder {path}")
    if (path / CHECKPOINTS).is_dir():
        newest = CheckpointStore(path / CHECKPOINTS, ranks=ALONE).newest()
        if newest is None:
            raise CheckpointError(f"{path / CHECKPOINTS} holds no checkpoint that verifies")
        return newest
    path = path.resolve()
    if path.suffix == ".tmp":
        raise CheckpointError(f"{path} is a checkpoint being written, or one that was cut short")
    if not path.name.startswith("step_") and not (path / universal.FOLDER).is_dir():
        raise CheckpointError(
            f"{path} is neither a checkpoint (a folder step_N that training wrote) nor a run "
            f"folder (which holds {CHECKPOINTS}/)"
        )
    if problems := verification.problems_of(path):
        raise CheckpointError(verification.damaged(path, problems))
    return path
