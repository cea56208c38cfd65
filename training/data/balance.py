"""Keeps as many wrong as right programs of each question, for a verifier.

Candidates of a hard question are mostly wrong, those of an easy one mostly right. Trained on all
of them, a verifier first learns to separate hard questions from easy ones. That ranks programs of
different questions well, but not the programs of one question, which is all that selection uses.
With as many right as wrong programs of each question, the question says nothing about the label.
With both programs of a pair in one optimizer step, the gradient has less noise, because features
common to both cancel.

This has to be the last filter: any later one would unbalance a question again.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from training.data import reasons
from training.data.pack import Examples, Mode


def order_of(program: str, *, failed: bool) -> int:
    """A sort key of 64 bits among the candidates of one question and verdict; the first are kept.

    Programs that `failed`, those that gave no number, come last: running them already shows that
    they are wrong, so the verifier need not. Beyond that, a hash of the text gives an arbitrary but
    fixed order.
    """
    digest = hashlib.sha256(program.encode("utf-8", "replace")).digest()
    return failed << 63 | int.from_bytes(digest[:8], "big") >> 1


def balanced(examples: Examples, order: NDArray[np.uint64]) -> Iterator[tuple[int, str]]:
    """The index of every candidate with the reason to drop it; an empty reason keeps it.

    Kept candidates of a question alternate between right and wrong, so that packing keeps each
    pair together (`pack.unit_starts`). Questions are identified by their tokens.

    Args:
        examples: Candidates that passed all other filters, without duplicates.
        order: `[examples]`, the `order_of` each.
    """
    ends = np.cumsum(examples.num_tokens)
    starts = ends - examples.num_tokens
    questions: dict[bytes, list[int]] = defaultdict(list)
    for index, (start, prompt) in enumerate(
        zip(starts.tolist(), examples.lengths[:, 0].tolist(), strict=True)
    ):
        questions[examples.tokens[start : start + prompt].tobytes()].append(index)
    is_right = (examples.modes[:, 1] == Mode.RIGHT).tolist()
    keys = order.tolist()
    for of_question in questions.values():
        of_question.sort(key=keys.__getitem__)
        right = [index for index in of_question if is_right[index]]
        wrong = [index for index in of_question if not is_right[index]]
        for one, other in zip(right, wrong, strict=False):
            yield one, ""
            yield other, ""
        paired = min(len(right), len(wrong))
        for index in (*right[paired:], *wrong[paired:]):
            yield index, reasons.SURPLUS if paired else reasons.ONE_VERDICT
