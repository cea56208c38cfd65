"""Ownership of a run folder: no stage overwrites files of another stage or of the user.

    refuse_others(config.run.folder, verb="train")      # before anything is written

A stage writes `run.json`, its resolved config, into its folder first of all. A folder without it
may hold files of any other names; one that holds a name that the stage would write is refused,
and so is a folder whose `run.json` is of another stage. A recipe's folder has `config.json`.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from training.errors import DamagedFileError
from training.files import read_json, read_json_object

RUN = "run.json"
"""File in a stage's folder: the resolved config it runs or ran with."""
AUTO = "auto.json"
"""File in a training's folder whose config leaves settings to `auto`: what they became."""
CONFIG = "config.json"
"""File in a recipe's folder: the recipe's resolved config."""

_WRITTEN = re.compile(
    r"(run|auto)\.json|manifest\.json|metrics\.jsonl|summary\.json|tables|wandb_run_id|wandb_link"
    r"|checkpoints|parts|part-\d{5,}\.parquet|evaluation\.json"
    r"|(candidates|questions)_[a-z0-9_]+\.parquet"
)
"""What the stages write over or remove in their run folders."""
_SECTIONS = {"train": "training", "sample": "sampling", "evaluate": "evaluation"}
"""By verb: a section that its configs have, and those of the verbs after it have not."""


def refuse_others(folder: Path, *, verb: str) -> None:
    """Refuse a run folder that is not this verb's.

    Args:
        folder: `run.folder`; it may be absent.
        verb: train, sample or evaluate.

    Raises:
        FileExistsError: another verb's run is there, or files that this verb would write over.
        DamagedFileError: `run.json` is damaged.
    """
    # Listed first: a job that starts with this one writes its run.json before anything else.
    names = _names(folder)
    path = folder / RUN
    if path.is_file():
        try:
            found = verb_of(read_json_object(path))
        except DamagedFileError as error:
            raise DamagedFileError(
                f"{error}. It says which config the files beside it are of: restore it, or set "
                "another run.folder"
            ) from error
        if found != verb:
            raise FileExistsError(
                f"run.folder = {folder} holds the run.json of {found or 'no run of ours'}, which "
                f"{verb} would write over: set another run.folder"
            )
        return
    _refuse_names(folder, (name for name in names if _WRITTEN.fullmatch(name)), verb, RUN)


def refuse_other_recipes(folder: Path, stages: Iterable[str]) -> None:
    """Refuse a folder that is not a recipe's.

    Args:
        folder: The recipe's `run.folder`; it may be absent.
        stages: The names of its stages, each of which gets a `STAGE.json` there.

    Raises:
        FileExistsError: files are there that a recipe would write over.
        DamagedFileError: `config.json` is not JSON.
    """
    names = _names(folder)  # first, as above
    path = folder / CONFIG
    if path.is_file():
        content = read_json(path)
        if not isinstance(content, dict) or not {"run", "generator", "verifier"} <= content.keys():
            raise FileExistsError(
                f"run.folder = {folder} holds a {CONFIG} of something else, which the recipe would "
                "write over: set another run.folder"
            )
        return
    written = {CONFIG, "seconds.json", "jobs.json", "report.json", "report.html"}
    written |= {f"{stage}.json" for stage in stages}
    _refuse_names(folder, (name for name in names if name in written), "the recipe", CONFIG)


def _refuse_names(folder: Path, found: Iterable[str], who: str, missing: str) -> None:
    if first := next(iter(found), None):
        raise FileExistsError(
            f"run.folder = {folder} holds {first} and no {missing} of a run of ours: {who} would "
            "write over it: set another run.folder, or move it away"
        )


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def verb_of(config: dict[str, Any]) -> str:
    """The verb whose config this is; empty: none's."""
    sections = _SECTIONS.items() if "run" in config else ()
    return next((verb for verb, section in sections if section in config), "")
