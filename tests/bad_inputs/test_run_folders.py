"""Models and run folders that are damaged, or not what they are taken for."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bad_inputs.harness import BadInput, Site, over, refused
from tests.bad_inputs.trained import (
    LOGGED,
    RESUME,
    edit,
    evaluating,
    flip,
    sampling,
    starting,
)
from training.files import write_json
from training.models.build import WEIGHTS


def _plain(harm: Callable[[Path], object]) -> Callable[[Site], Sequence[str]]:
    """A run that starts from a Hugging Face folder without a manifest, harmed."""

    def make(site: Site) -> list[str]:
        (site.trained().newest / WEIGHTS).rename(site.folder / "model")
        harm(site.folder / "model")
        return starting(site, site.folder / "model")

    return make


def _config_json(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: edit(folder / "config.json", **changes)


def _text(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def _at_file(verb: str, name: str, below: str = "") -> BadInput:
    """A run folder that is, or lies below, a file."""

    def make(site: Site) -> list[str]:
        site.trained()
        site.write(name, "mine")
        command = {"train": starting, "sample": sampling, "evaluate": evaluating}[verb]
        folder = {"train": "second", "sample": "candidates", "evaluate": "evaluation"}[verb]
        (path,) = command(site, site.newest)
        tree = json.loads(Path(path).read_text())
        assert tree["run"]["folder"] == str(site.folder / folder)
        tree["run"]["folder"] = str(site.folder / name / below)
        write_json(Path(path), tree)
        return [path]

    where = f"below {name}" if below else f"called {name}"
    return BadInput(
        name=f"{verb}: a run folder {where}, a file",
        verb=verb,
        make=make,
        says=["run folder", name, "is no folder"],
    )


def _checkpoints_file(site: Site) -> list[str]:
    site.write("second/checkpoints", "mine")
    return starting(site.trained(), site.newest)


def _prepared_tokenizer(harm: Callable[[Path], object]) -> Callable[[Site], Sequence[str]]:
    def make(site: Site) -> list[str]:
        harm(site.trained().folder / "data" / "tokenizer" / "tokenizer.json")
        return [site.config(**RESUME)]

    return make


def _saved_config(text: str) -> Callable[[Site], Sequence[str]]:
    def make(site: Site) -> list[str]:
        (site.trained().folder / "run" / "run.json").write_text(text)
        return [site.config(**RESUME)]

    return make


def _status_of_damaged(name: str) -> Callable[[Site], Sequence[str]]:
    def make(site: Site) -> list[str]:
        (site.trained().folder / "run" / name).write_text("[1,")
        return [str(site.folder / "run")]

    return make


MODELS = [
    BadInput(
        name=f"starting from a model {words}",
        verb="train",
        make=_plain(harm),
        says=says,
        may_change=["second*"],
    )
    for words, harm, says in [
        ("with a broken config", _text("config.json", "{"), ["model/config.json", "valid JSON"]),
        ("with a list for a config", _text("config.json", "[]"), ["model/config.json", "a list"]),
        (
            "whose width is a text",
            _config_json(hidden_size="32"),
            ["hidden_size is '32'", "whole number"],
        ),
        (
            "with a broken index",
            _text("model.safetensors.index.json", "[]"),
            ["index.json", "list"],
        ),
        ("of damaged weights", _text("model.safetensors", "x"), ["damaged safetensors"]),
    ]
]

OTHERS = [
    _at_file("train", "taken"),
    _at_file("sample", "taken"),
    _at_file("evaluate", "taken", "mine"),
    BadInput(
        name="checkpoints that are a file",
        verb="train",
        make=_checkpoints_file,
        says=["second/checkpoints", "is no folder"],
    ),
    BadInput(
        name="a prepared tokenizer with one other bit",
        verb="train",
        make=_prepared_tokenizer(flip),
        says=["data is damaged: tokenizer/tokenizer.json has changed"],
        may_change=LOGGED,
    ),
    BadInput(
        name="a saved config that is no JSON",
        verb="train",
        make=_saved_config("{"),
        says=["run/run.json is not valid JSON", "run.folder"],
    ),
    BadInput(
        name="a saved config that is a list",
        verb="train",
        make=_saved_config("[]"),
        says=["run/run.json holds a list", "run.folder"],
    ),
    BadInput(
        name="a GPU where there is none",
        verb="train",
        make=lambda site: [site.trained().config(training={"device": "cuda", "max_steps": 12})],
        says=["training.device = 'cuda'", "0 GPUs", "'cpu'"],
    ),
    BadInput(
        name="the status of a run with a damaged config",
        verb="status",
        make=_status_of_damaged("run.json"),
        says=["run/run.json is not valid JSON"],
    ),
]


@over([*MODELS, *OTHERS])
def test_it_is_refused(case: BadInput, num_ranks: int, site: Site) -> None:
    refused(case, num_ranks, site)
