"""Checkpoints that are damaged, or not what they are taken for."""

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.bad_inputs.harness import BadInput, Site, over, refused, run_verb
from tests.bad_inputs.trained import (
    LOGGED,
    QUESTIONS,
    RESUME,
    edit,
    evaluating,
    flip,
    sampling,
    starting,
)
from training.files import sha256_file, write_json
from training.models.build import WEIGHTS

_STATE = "universal/zero/head.bias/exp_avg.pt"
_WEIGHT = "universal/zero/head.bias/fp32.pt"
_MODEL = f"{WEIGHTS}/model.safetensors"


def _relist(checkpoint: Path) -> None:
    """Write the manifest anew: what follows is damage that was there when it was written."""
    path = checkpoint / "manifest.json"
    content = json.loads(path.read_text())
    for name in content["outputs"]:
        file = checkpoint / name
        content["outputs"][name] = {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
    write_json(path, content)


def _list_more(checkpoint: Path, outputs: Any) -> None:
    """Replace the outputs of the manifest, or add to them."""
    path = checkpoint / "manifest.json"
    content = json.loads(path.read_text())
    if isinstance(outputs, dict) and outputs:
        outputs = {**content["outputs"], **outputs}
    write_json(path, {**content, "outputs": outputs})


def _exporting(site: Site, source: Path) -> list[str]:
    return [str(source), str(site.folder / "exported")]


def _damaged(
    command: Callable[[Site, Path], list[str]],
    name: str,
    harm: Callable[[Path], object] = flip,
    below: str = "",
) -> Callable[[Site], Sequence[str]]:
    """A verb on the newest checkpoint, one of whose files was harmed."""

    def make(site: Site) -> list[str]:
        harm(site.trained().newest / name)
        return command(site, site.newest / below)

    return make


def _listing(
    outputs: Any, command: Callable[[Site, Path], list[str]] = _exporting
) -> Callable[[Site], Sequence[str]]:
    """A verb on a checkpoint whose manifest has these outputs."""

    def make(site: Site) -> list[str]:
        _list_more(site.trained().newest, outputs)
        return command(site, site.newest)

    return make


def _resuming(name: str, harm: Callable[[Path], object]) -> Callable[[Site], Sequence[str]]:
    """A run resumed from a checkpoint that verifies, with a file that was wrong from the start."""

    def make(site: Site) -> list[str]:
        harm(site.trained().newest / name)
        _relist(site.newest)
        return [site.config(**RESUME)]

    return make


def _write(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def _link_out(path: Path) -> None:
    outside = path.parents[4] / "outside"
    path.rename(outside)
    path.symlink_to(outside)


def _without_manifest(site: Site) -> list[str]:
    (site.trained().newest / "manifest.json").unlink()
    return sampling(site, site.newest)


def _cut_short(site: Site) -> list[str]:
    site.trained().newest.rename(site.newest.with_suffix(".tmp"))
    (site.newest.with_suffix(".tmp") / "manifest.json").unlink()
    return evaluating(site, site.newest.with_suffix(".tmp") / WEIGHTS)


def _evaluating_while_training(site: Site) -> list[str]:
    flip(site.trained().newest / _MODEL)
    section = {
        "every_steps": 5,
        "benchmarks": [QUESTIONS],
        "verifier": str(site.newest),
        "temperatures": [1.0],
        "num_candidates": 2,
    }
    run = {"folder": str(site.folder / "second"), "name": "second"}
    return [site.config(run=run, evaluation=section)]


def _tokenizer_source(site: Site) -> list[str]:
    path = site.trained().newest / WEIGHTS / "tokenizer.json"
    path.write_text(path.read_text().replace("Ġthe", "Ġthy"))
    data = {
        "folder": str(site.folder / "other_data"),
        "prepare_if_missing": True,
        "tokenizer": {"source": str(site.newest / WEIGHTS), "vocab_size": 400},
    }
    tree = json.loads(Path(site.config()).read_text())
    return [site.config(run={"folder": str(site.folder / "second")}, data=tree["data"] | data)]


_ENTRY = {"bytes": 4, "sha256": "0" * 64}
_IS_DAMAGED = ["step_10 is damaged: ", "has changed since it was written"]

DAMAGE = [
    BadInput(
        name="sampling from flipped weights",
        verb="sample",
        make=_damaged(sampling, _MODEL),
        says=[*_IS_DAMAGED, _MODEL],
    ),
    BadInput(
        name="evaluating flipped weights",
        verb="evaluate",
        make=_damaged(evaluating, _MODEL),
        says=[*_IS_DAMAGED, _MODEL],
    ),
    BadInput(
        name="starting from flipped weights",
        verb="train",
        make=_damaged(starting, _MODEL),
        says=[*_IS_DAMAGED, _MODEL],
        may_change=["second*"],
    ),
    BadInput(
        name="evaluating by flipped weights while training",
        verb="train",
        make=_evaluating_while_training,
        says=[*_IS_DAMAGED, _MODEL],
        may_change=["second*"],
    ),
    BadInput(
        name="exporting a flipped training state",
        verb="export",
        make=_damaged(_exporting, _WEIGHT),
        says=[*_IS_DAMAGED, _WEIGHT],
    ),
    BadInput(
        name="preparing with a changed tokenizer of a checkpoint",
        verb="train",
        make=_tokenizer_source,
        says=[*_IS_DAMAGED, f"{WEIGHTS}/tokenizer.json"],
    ),
    BadInput(
        name="sampling with a cut tokenizer",
        verb="sample",
        make=_damaged(sampling, f"{WEIGHTS}/tokenizer.json", _write("{")),
        says=["step_10 is damaged: ", f"{WEIGHTS}/tokenizer.json has 1 bytes"],
    ),
    BadInput(
        name="sampling with a changed config",
        verb="sample",
        make=_damaged(sampling, f"{WEIGHTS}/config.json", lambda path: edit(path, rope_theta=3.0)),
        says=["step_10 is damaged: ", f"{WEIGHTS}/config.json has "],
    ),
    BadInput(
        name="sampling from weights that are a link out of the checkpoint",
        verb="sample",
        make=_damaged(sampling, _MODEL, _link_out),
        says=["step_10 is damaged: ", f"{_MODEL} is a link out of the folder"],
    ),
    BadInput(
        name="sampling from a checkpoint without a manifest",
        verb="sample",
        make=_without_manifest,
        says=["step_10 is not a complete checkpoint", "manifest.json"],
    ),
    BadInput(
        name="evaluating a checkpoint that was cut short",
        verb="evaluate",
        make=_cut_short,
        says=["step_10.tmp is not a complete checkpoint", "manifest.json"],
    ),
]

MANIFESTS = [
    *(
        BadInput(
            name=f"exporting with a manifest whose outputs {words}",
            verb="export",
            make=_listing(outputs),
            says=["step_10", "manifest.json is damaged: its outputs"],
        )
        for words, outputs in {
            "are a list": [_MODEL],
            "are empty": {},
            "lack sizes": {_WEIGHT: {"sha256": "0" * 64}},
            "name an absolute path": {"/etc/hostname": _ENTRY},
            "name a path above": {"../step_5/train_state.json": _ENTRY},
        }.items()
    ),
    BadInput(
        name="sampling with a manifest without outputs",
        verb="sample",
        make=_listing({}, sampling),
        says=["manifest.json is damaged: its outputs name no file"],
    ),
    BadInput(
        name="starting from a checkpoint whose manifest is no JSON",
        verb="train",
        make=_damaged(starting, "manifest.json", _write("{")),
        says=["step_10/manifest.json is not valid JSON"],
    ),
]

RESUMES = [
    BadInput(
        name=f"resuming from {words}",
        verb="train",
        make=_resuming(name, harm),
        says=says,
        may_change=LOGGED,
    )
    for words, name, harm, says in [
        (
            "a state of a newer version",
            "train_state.json",
            lambda path: edit(path, curriculum={"stage": 2}),
            ["train_state.json", "curriculum", "does not know", "run.folder"],
        ),
        (
            "a state of another step",
            "train_state.json",
            lambda path: edit(path, step=7),
            ["train_state.json is of step 7", "step_10"],
        ),
        (
            "a state without a place in the data",
            "train_state.json",
            lambda path: edit(path, loader={}),
            ["loader's state lacks consumed_sequences"],
        ),
        (
            "a state that is a list",
            "train_state.json",
            _write("[]"),
            ["train_state.json", "a list"],
        ),
        (
            "a tensor that is a pickle",
            _STATE,
            lambda path: path.write_bytes(pickle.dumps(_Runs())),
            [_STATE, "is no file of tensors"],
        ),
        ("a tensor that is a text", _STATE, _write("x" * 500), [_STATE, "is no file of tensors"]),
    ]
]


class _Runs:
    """What runs a program when it is unpickled."""

    def __reduce__(self) -> Any:
        return (print, ("executed",))


@over([*DAMAGE, *MANIFESTS, *RESUMES])
def test_it_is_refused(case: BadInput, num_ranks: int, site: Site) -> None:
    refused(case, num_ranks, site)


@pytest.mark.parametrize("num_ranks", (1, 2))
def test_a_run_resumes_past_odd_things(num_ranks: int, site: Site) -> None:
    folder = site.trained().newest.parent
    (folder / "step_11").symlink_to("nowhere")
    (folder / "step_12").write_text("mine")
    (folder / "step_12.tmp").write_text("mine too")
    (folder / "step_30").mkdir()
    flip(site.newest / _MODEL)
    ended = run_verb("train", [site.config(**RESUME)], num_ranks, site.folder)
    report = "\n".join(f"{code}\n{out}\n{err}" for code, out, err in ended)
    assert [code for code, _, _ in ended] == [0] * num_ranks, report
    for step in (10, 11, 12, 30):
        assert ended[0][1].count(f"step_{step} is skipped: ") == 1, report
    assert f"{folder / 'step_5'} (" in ended[0][1], report
    assert json.loads((folder / "step_12" / "train_state.json").read_text())["step"] == 12
    assert (folder / "step_12.replaced-1").read_text() == "mine"
    assert (folder / "step_12.tmp.replaced-1").read_text() == "mine too"
    assert (folder / "step_10.replaced-1" / _MODEL).is_file()
    assert (folder / "step_11").is_symlink() and (folder / "step_30").is_dir()
