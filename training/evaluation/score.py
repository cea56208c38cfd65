"""Score candidates with the verifier: the last token's scalar (arXiv 2312.09241, section 4).

    scores = score(verifier, [prompt_ids + program_ids + [end_token], ...])

The sequences are those the verifier was trained on: prompt, program, and the end token
where the generator wrote one. `select.py` selects a candidate by its score.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from training.models.attention import PackedAttention
from training.models.heads import Verifier


def _batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Numbers of sequences that fit into `max_tokens` together, in the order given."""
    batches: list[list[int]] = []
    held = max_tokens
    for number, length in enumerate(lengths):
        if held + length > max_tokens:
            batches.append([])
            held = 0
        batches[-1].append(number)
        held += length
    return batches


@torch.inference_mode()
def score(
    verifier: Verifier,
    sequences: Sequence[Sequence[int]],
    *,
    max_batch_tokens: int = 16_384,
    check_cancelled: Callable[[], None] | None = None,
) -> list[float]:
    """The verifier's score of each token sequence, in their order; higher is better.

    Sequences are packed end to end without padding; equal ones are computed once, since
    at low temperature many candidates of a question are the same program.

    Args:
        verifier: a whole model on one device.
        sequences: token ids, each at least one.
        max_batch_tokens: most tokens in one forward; a longer sequence goes alone.
        check_cancelled: called before every forward; what it raises ends the scoring.

    Raises:
        ValueError: a sequence has no tokens.
    """
    if any(len(sequence) == 0 for sequence in sequences):
        raise ValueError("a sequence has no tokens: there is nothing to score")
    distinct = list(dict.fromkeys(tuple(sequence) for sequence in sequences))
    device = verifier.body.embedding.weight.device
    scores: dict[tuple[int, ...], float] = {}
    was_training = verifier.training
    verifier.eval()
    try:
        for numbers in _batches([len(sequence) for sequence in distinct], max_batch_tokens):
            if check_cancelled is not None:
                check_cancelled()
            batch = [distinct[number] for number in numbers]
            lengths = torch.tensor([len(sequence) for sequence in batch])
            tokens = torch.tensor([token for sequence in batch for token in sequence])
            ends = lengths.cumsum(0)
            starts = (ends - lengths).repeat_interleave(lengths)
            positions = torch.arange(len(tokens)) - starts
            borders = F.pad(ends, (1, 0)).int()
            attention = PackedAttention(borders.to(device), longest=int(lengths.max()))
            last = verifier(
                tokens[None].to(device),
                positions[None].to(device),
                attention,
                (ends - 1).to(device),
            )
            scores.update(zip(batch, last.float().tolist(), strict=True))
    finally:
        verifier.train(was_training)
    return [scores[tuple(sequence)] for sequence in sequences]
