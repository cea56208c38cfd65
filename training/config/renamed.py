"""Keys of earlier versions: an old key is an error that names the one that replaced it."""

from collections.abc import Sequence

_RENAMED = {
    "data.row_tokens": "data.sequence_length",
    "data.supervise": "data.train_on_prompt",
    "training.global_batch_rows": "training.global_batch_sequences",
    "training.micro_batch_rows": "training.micro_batch_sequences",
    "training.checkpoint_every_steps": "checkpoint.every_steps",
    "training.keep_checkpoints": "checkpoint.keep_latest",
    "training.keep_steps": "checkpoint.keep_steps",
    "training.question_loss_weight": "training.prompt_loss_weight",
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
