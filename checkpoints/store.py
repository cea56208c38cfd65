"""Checkpoints that are whole or not there.

    store = CheckpointStore(run_folder / "checkpoints", ranks=ranks, keep=0)
    with store.writing(step) as folder:      # all ranks; each writes its own files
        ...
    folder = store.newest()                  # the newest that verifies, or None

The ranks write into `step_N.tmp/`; every file is flushed and hashed, a manifest with
sizes and SHA-256 is written, the folder renamed to `step_N` and its parent flushed; then
`latest` is replaced. A kill at any moment leaves the older checkpoints and `latest` as they
were. A checkpoint that does not verify is passed over, and said so.
"""

import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from checkpoints import universal
from parallel.ranks import Ranks
from training.config import ConfigError
from training.files import read_json, replacing, sha256_file, sync, write_json
from training.manifest import MANIFEST

FOLDER = "checkpoints"
"""Where a run folder keeps them."""
_LATEST = "latest"


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        folder: Holds `step_N/` folders and `latest`.
        ranks: The processes that write together.
        keep: Newest checkpoints kept; 0: all.
    """

    def __init__(self, folder: Path, *, ranks: Ranks, keep: int = 0) -> None:
        self._folder, self._ranks, self._keep = folder, ranks, keep

    def path(self, step: int) -> Path:
        """Where the checkpoint of this step is or would be."""
        return self._folder / f"step_{step}"

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, ascending; committed, not yet verified."""
        found = (re.fullmatch(r"step_(\d+)", path.name) for path in self._folder.glob("step_*"))
        return sorted(int(match.group(1)) for match in found if match)

    @contextmanager
    def writing(self, step: int) -> Generator[Path, None, None]:
        """Yield the folder to write into; committed when the block ends well on all ranks.

        Raises:
            OSError: a file could not be written; older checkpoints are untouched.
        """
        temporary = self._folder / f"step_{step}.tmp"
        if self._ranks.is_first:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        self._ranks.barrier()
        yield temporary
        self._ranks.barrier()
        self._commit(temporary, step)

    def _commit(self, temporary: Path, step: int) -> None:
        files = _files(temporary)
        # Hashing reads everything back, so the ranks share the files among them.
        mine = files[self._ranks.rank :: self._ranks.world_size]
        facts: dict[str, Any] = {}
        for path in mine:
            sync(path)
            facts[str(path.relative_to(temporary))] = {
                "bytes": path.stat().st_size,
                "sha256": sha256_file(path),
            }
        shares = self._ranks.gather(facts)
        if self._ranks.is_first:
            outputs = {name: fact for share in shares for name, fact in sorted(share.items())}
            write_json(temporary / MANIFEST, {"step": step, "outputs": outputs})
            for folder in {path.parent for path in files} | {temporary}:
                sync(folder)
            target = self.path(step)
            if target.exists():
                # Only a checkpoint that failed to verify is ever written again.
                shutil.rmtree(target)
            temporary.rename(target)
            sync(self._folder)
            with replacing(self._folder / _LATEST) as latest:
                latest.write_text(target.name + "\n", "utf-8")
            self._prune()
        self._ranks.barrier()

    def _prune(self) -> None:
        if self._keep:
            for step in self.steps()[: -self._keep]:
                shutil.rmtree(self.path(step))

    def newest(self) -> Path | None:
        """The newest checkpoint that verifies, the same on all ranks; None: there is none."""
        for step in reversed(self._ranks.gather(self.steps())[0]):
            problems = self._verify(self.path(step))
            if not problems:
                return self.path(step)
            if self._ranks.is_first:
                print(f"{self.path(step)} is passed over: {problems[0]}", flush=True)
        return None

    def _verify(self, folder: Path) -> list[str]:
        """What is wrong with a checkpoint; every rank reads a share of its files."""
        rank, size = self._ranks.rank, self._ranks.world_size
        shares = self._ranks.gather(problems_of(folder, share=(rank, size)))
        return [problem for share in shares for problem in share]


def problems_of(folder: Path, *, share: tuple[int, int] = (0, 1)) -> list[str]:
    """Compare a checkpoint's files with its manifest.

    Args:
        folder: A committed checkpoint.
        share: (index, count): check every count-th file, starting from the index.

    Returns:
        One line per missing or changed file; empty when all is well.
    """
    try:
        outputs = read_json(folder / MANIFEST)["outputs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"its manifest cannot be read ({error})"]
    problems: list[str] = []
    for name, facts in sorted(outputs.items())[share[0] :: share[1]]:
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif path.stat().st_size != facts["bytes"]:
            problems.append(f"{name} has {path.stat().st_size} bytes, not {facts['bytes']}")
        elif sha256_file(path) != facts["sha256"]:
            problems.append(f"{name} has changed since it was written")
    return problems


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a path names, compared with its manifest.

    Raises:
        FileNotFoundError, ConfigError: there is none, or it is not whole; says why.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"there is no checkpoint or run folder {path}")
    if (path / FOLDER).is_dir():
        alone = Ranks(rank=0, world_size=1, local_rank=0, launcher="python")
        newest = CheckpointStore(path / FOLDER, ranks=alone).newest()
        if newest is None:
            raise ConfigError(f"{path / FOLDER} holds no checkpoint that verifies")
        return newest
    path = path.resolve()
    if path.suffix == ".tmp":
        raise ConfigError(f"{path} is a checkpoint being written, or one that was cut short")
    if not path.name.startswith("step_") and not (path / universal.FOLDER).is_dir():
        raise ConfigError(
            f"{path} is neither a checkpoint (a folder step_N that training wrote) nor a run "
            f"folder (which holds {FOLDER}/)"
        )
    if problems := problems_of(path):
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise ConfigError(f"{path} is not a whole checkpoint: {problems[0]}{more}")
    return path


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
