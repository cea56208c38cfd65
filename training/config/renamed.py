"""Keys of earlier versions: an old key is an error that names the one that replaced it."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

_RENAMED = {
    "data.row_tokens": "data.sequence_length",
    "data.supervise": "data.train_on_prompt",
    "training.global_batch_rows": "training.global_batch_sequences",
    "training.micro_batch_rows": "training.micro_batch_sequences",
    "training.checkpoint_every_steps": "checkpoint.every_steps",
    "training.keep_checkpoints": "checkpoint.keep_latest",
    "training.keep_steps": "checkpoint.keep_steps",
    "training.question_loss_weight": "training.prompt_loss_weight",
    "model.layer_norm_eps": "model.norm_eps",
    "optimizer.clip_norm": "optimizer.max_grad_norm",
    "parallel.sequence": "parallel.sequence_parallel",
    "run.hang_minutes": "run.watchdog_minutes",
    "difficulty.turned": "difficulty.reversed_comparison_fraction",
}
"""By the last two parts of an old key: the last two of the new one."""
_VALUES = {"data.supervise": "'program' is now false, 'all' is true"}
"""By old key: how its values are written now."""


def renamed(location: Sequence[int | str]) -> str:
    """What replaced an old key, as the end of a message; empty: the key never existed.

    Args:
        location: The parts of the key; numbers are positions in a list.
    """
    parts = [str(part) for part in location]
    old = ".".join(parts[-2:])
    if old not in _RENAMED:
        return ""
    new = ".".join([*parts[:-2], _RENAMED[old]])
    values = f" ({_VALUES[old]})" if old in _VALUES else ""
    return f"is now called {new}{values}"


def old_keys(tree: Any, location: tuple[int | str, ...] = ()) -> Iterator[str]:
    """Each key of a config's tables that an earlier version had, with its new name.

    Args:
        tree: A table, or a value within one.
        location: The parts of its own key.
    """
    if isinstance(tree, dict):
        items: list[tuple[int | str, Any]] = [*cast("dict[str, Any]", tree).items()]
    elif isinstance(tree, list):
        items = [*enumerate(cast("list[Any]", tree))]
    else:
        return
    for key, value in items:
        here = (*location, key)
        if now := renamed(here):
            yield f"{'.'.join(map(str, here))} {now}"
        yield from old_keys(value, here)
