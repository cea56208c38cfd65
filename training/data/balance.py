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
from collections.abc import Iterable, Iterator

from training.data import reasons
from training.data.pack import Mode
from training.data.parts import Kept
from training.records import Candidate


def order_of(candidate: Candidate) -> bytes:
    """A sort key among the candidates of one question and verdict; the first ones are kept.

    Programs that gave no number come last: running them already shows that they are wrong, so
    the verifier need not. Beyond that, a hash of the text gives an arbitrary but fixed order.
    """
    failed = b"\1" if candidate.verdict == "failed" else b"\0"
    return failed + hashlib.sha256(candidate.program.encode("utf-8", "replace")).digest()[:8]


def balanced(distinct: Iterable[Kept]) -> Iterator[tuple[Kept, str]]:
    """Every candidate with the reason to drop it; an empty reason keeps it.

    Kept candidates of a question alternate between right and wrong, so that packing keeps each
    pair together (`pack.pairs`). Questions are identified by their tokens.

    Args:
        distinct: Candidates that passed all other filters, without duplicates. All are held in
            memory.
    """
    questions: dict[bytes, list[Kept]] = defaultdict(list)
    for kept in distinct:
        questions[kept.example.tokens[: kept.example.num_prompt_tokens].tobytes()].append(kept)
    for of_question in questions.values():
        of_question.sort(key=lambda kept: kept.order)
        right = [kept for kept in of_question if kept.example.program_mode is Mode.RIGHT]
        wrong = [kept for kept in of_question if kept.example.program_mode is Mode.WRONG]
        for one, other in zip(right, wrong, strict=False):
            yield one, ""
            yield other, ""
        paired = min(len(right), len(wrong))
        for kept in (*right[paired:], *wrong[paired:]):
            yield kept, reasons.SURPLUS if paired else reasons.ONE_VERDICT
