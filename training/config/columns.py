"""Which columns of a table hold questions, completions and labels, for sources of any form."""

from collections.abc import Iterator
from typing import Literal

from training.config.values import Section

Extractor = Literal["last_number", "boxed", "hashes"]
"""How the answer that a text states is found (`training/execution/answers.py`)."""
Form = Literal["code", "prose"]
"""What a completion is."""


class ColumnsConfig(Section):
    """The columns of a source of kind `jsonl`, `parquet` or `rollouts`, by what they hold.

    A dot reads a field of an object: `reward_model.ground_truth`.
    """

    question: str = "question"
    """Column of the question: a text, or a list of chat messages, of which the last one of the user
    is taken."""
    completion: str = ""
    """Column of what a model has written or learns to write. Of `rollouts` a text, or a list of
    texts, each an answer to the row's question; of the other kinds a text, or a list of texts that
    are the lines of one answer. Empty, for `jsonl` and `parquet`: `program` or `code`."""
    reward: str = ""
    """Column of the reward of `rollouts`, from 0 to 1, or true and false; a list where `completion`
    is one."""
    gold: str = ""
    """Column of the gold answer: a number, or a text that is one or states one in `\\boxed{}` or
    after `####`. `rollouts` that have no reward are labelled by it; of the other kinds, wrong
    answers are dropped."""


def column_problems(
    columns: ColumnsConfig, *, kind: str, form: Form, unread_extractor: str, unread_threshold: str
) -> Iterator[str]:
    """What is wrong with the columns of a source of a kind that has them, a sentence each.

    Args:
        columns: Its columns.
        kind: Its kind.
        form: Its form.
        unread_extractor: The setting `extractor`, if it is not at its default.
        unread_threshold: The setting `reward_threshold`, if it is not at its default.
    """
    if kind == "rollouts":
        if not columns.completion:
            yield (
                "kind = 'rollouts' needs columns.completion: name the column that holds what the "
                "generator wrote"
            )
        if bool(columns.reward) == bool(columns.gold):
            found = columns.changed("reward", "gold") or "neither columns.reward nor columns.gold"
            yield (
                f"kind = 'rollouts' with {found}: name one of columns.reward (labels are there) "
                "and columns.gold (answers are compared with it)"
            )
    elif columns.reward:
        yield (
            f"columns.reward = {columns.reward!r} with kind = {kind!r}: only 'rollouts' have "
            "rewards; leave it out, or set kind = 'rollouts' to train a verifier"
        )
    elif not columns.completion and (found := columns.changed("question", "gold")):
        yield f"columns.{found} without columns.completion: name the column of the answers too"
    elif not columns.completion and form == "prose":
        yield "form = 'prose' needs columns.completion: name the column of the answers"
    if unread_extractor and not (columns.gold and form == "prose"):
        yield (
            f"{unread_extractor}, which is read with form = 'prose' and columns.gold only: leave "
            "it out"
        )
    if unread_threshold and not columns.reward:
        yield f"{unread_threshold}, which is read with columns.reward only: leave it out"
