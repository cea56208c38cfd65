"""As many wrong as right programs of every question.

Candidates of a hard question are mostly wrong, of an easy one mostly right. A verifier
that learns from all of them learns first to tell hard questions from easy ones, which
separates programs of different questions well and those of one question not at all; and
only the latter selects. Balanced within each question, the label can be told from the
program alone; and with the two of a question in one optimizer step, most of the gradient's
noise is gone, since whatever does not tell them apart pulls both ways.

This is the last filter: any filter after it would leave a question more programs of one
verdict than of the other.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator

from training.data.pack import Mode
from training.data.parts import Kept
from training.records import Candidate

ONE_KIND = "candidate: its question has only right or only wrong programs"
SURPLUS = "candidate: its question has more of this verdict than of the other"


def order_of(candidate: Candidate) -> bytes:
    """Where a candidate stands among those of its question and verdict; the first ones stay.

    Of a surplus of wrong programs those that gave no number go first, since running them has
    told already what the verifier would. The rest is decided by a hash of the text, as good
    as chance and the same every time.
    """
    failed = b"\1" if candidate.verdict == "failed" else b"\0"
    return failed + hashlib.sha256(candidate.program.encode("utf-8", "replace")).digest()[:8]


def balanced(distinct: Iterable[Kept]) -> Iterator[tuple[Kept, str]]:
    """Every candidate with the reason to leave it out; empty: it stays.

    Those of one question and verdict that stay come in turn with those of the other, so that
    packing keeps the two together (`pack.pairs`). Questions are told apart by their tokens.

    Args:
        distinct: Candidates that passed all other filters, without copies. All are held in
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
            yield kept, SURPLUS if paired else ONE_KIND
