"""Bad inputs as a table: each ends every rank with code 2 and one message, and loses nothing.

    CASES = [
        BadInput(
            name="a config that is a list",
            verb="train",
            make=lambda site: [site.write("config.json", "[1, 2]")],
            says=["config.json", "list"],
        ),
    ]

    @over(CASES)
    def test_it_is_refused(case: BadInput, num_ranks: int, site: Site) -> None:
        refused(case, num_ranks, site)

`site` is a folder of its own for each test; `site.trained()` puts a prepared data folder and a
run with two checkpoints there, to be damaged.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import small
from tests.ranks import ROOT, run_ranks
from training.config import TrainConfig, resolved
from training.files import write_json

_SECONDS = 120.0
"""For one bad input on all ranks; none takes more than a few seconds on an idle machine."""


class Site:
    """A folder for one test, with the files that a verb is pointed at."""

    def __init__(self, folder: Path, trained: Callable[[], Path]) -> None:
        self.folder, self._trained = folder, trained

    def write(self, name: str, content: str | bytes) -> str:
        """A file below the folder; returns its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def config(self, **sections: dict[str, Any]) -> str:
        """A valid training config below the folder (tests/small.py), with sections merged over it;
        the data of `trained` fits it. Returns the file's path."""
        tree = resolved(small.config(self.folder))
        for name, section in sections.items():
            tree[name] = {**tree.get(name, {}), **section}
        path = self.folder / "config.json"
        write_json(path, tree)
        return str(path)

    def trained(self) -> "Site":
        """Put there `data/` (prepared) and `run/` (10 steps, checkpoints step_5 and step_10)."""
        shutil.copytree(self._trained(), self.folder, dirs_exist_ok=True, symlinks=True)
        # What names its own place in the copied folder.
        for path in (self.folder / "run" / "run.json", self.folder / "run" / "manifest.json"):
            source = str(self._trained())
            path.write_text(path.read_text().replace(source, str(self.folder)))
        return self

    @property
    def newest(self) -> Path:
        """The newest checkpoint of the trained run."""
        return self.folder / "run" / "checkpoints" / "step_10"


@dataclass(frozen=True, kw_only=True)
class BadInput:
    """One mistake that a person can make, or one damage that can be met."""

    name: str
    verb: str
    """A module of `launch/`."""
    make: Callable[[Site], Sequence[str]]
    """Sets the scene; returns the command line after the verb."""
    says: Sequence[str]
    """Parts of the message: what is wrong, the values, what to set."""
    may_change: Sequence[str] = ()
    """Files, as globs below the folder, that a verb may rewrite: an alert, a log, never data."""
    environment: dict[str, str] = field(default_factory=dict[str, str])


def over(cases: Sequence[BadInput]) -> Any:
    """Parametrise a test over bad inputs, each on 1 and on 2 ranks."""
    by_case = pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])
    by_ranks = pytest.mark.parametrize("num_ranks", (1, 2), ids=("1 rank", "2 ranks"))
    return lambda test: by_case(by_ranks(test))


def run_verb(
    verb: str,
    argv: Sequence[str],
    num_ranks: int,
    folder: Path,
    environment: dict[str, str] | None = None,
) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of every rank, run in `folder`.

    `verb` is a module of `launch/`, or the dotted name of another one.
    """
    command = ["-m", verb] if "." in verb else [str(ROOT / "launch" / f"{verb}.py")]
    ended = run_ranks(
        num_ranks,
        [*command, *argv],
        timeout=_SECONDS,
        extra=environment,
        check=False,
        cwd=folder,
    )
    return [(done.returncode, done.stdout, done.stderr) for done in ended]


def refused(case: BadInput, num_ranks: int, site: Site) -> str:
    """Assert that the case ends as it should; returns the message."""
    argv = case.make(site)
    before = _content(site.folder)
    ended = run_verb(case.verb, argv, num_ranks, site.folder, case.environment)
    report = "\n".join(
        f"--- rank {rank}: exit code {code}\n{out[-3000:]}\n{err[-3000:]}"
        for rank, (code, out, err) in enumerate(ended)
    )
    assert [code for code, _, _ in ended] == [2] * num_ranks, report
    assert "Traceback" not in report, report
    # A verb's message begins with its name; a message may have several lines, but not twice.
    errors = [err for _, _, err in ended if err.strip()]
    assert len(errors) == 1, report
    assert errors[0].count(f"{case.verb}.py: ") == 1, report
    assert errors[0].startswith(f"{case.verb}.py: "), report
    for part in case.says:
        assert part in errors[0], f"no {part!r} in the message\n{report}"
    after = _content(site.folder)
    for path, was in before.items():
        if not any(Path(path).match(glob) for glob in case.may_change):
            assert after.get(path) == was, f"{path} was changed or removed\n{report}"
    return errors[0]


def _content(folder: Path) -> dict[str, str]:
    """Kind and digest of everything below a folder."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder"
    return found


def train_small(folder: Path) -> TrainConfig:
    """Prepare and train the run that `Site.trained` copies."""
    config = small.prepared(folder)
    path = folder / "config.json"
    write_json(path, resolved(config))
    ((code, out, err),) = run_verb("train", [str(path)], 1, folder)
    assert code == 0, out + err
    path.unlink()
    return config
