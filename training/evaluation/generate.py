"""Sample continuations of prompts, in batches over a key-value cache.

    requests = [SampleRequest(prompt=ids, key=(seed, question, candidate), temperature=0.7,
                              top_p=1.0) for ...]
    sampled = generate(model, requests, end_token=0, max_new_tokens=200)

Candidates of one prompt share its prefill and its cache. Finished sequences leave the
batch at once and waiting ones join, so the order of requests does not matter for speed.
A candidate's randomness is a function of its own key: which others are in the batch, on
how many ranks the requests are spread, or which of them ran before a restart changes
nothing beyond the rounding of floating-point sums.

No stop strings, no beams; the tokenizer is the caller's.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.models.cache import KeyValueCache, filled_holes
from training.models.heads import LanguageModel

_PREFILL_TOKENS = 16_384
_LIKELY_TOKENS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleRequest:
    """One candidate to write."""

    prompt: Sequence[int]
    """Token ids, at least one."""
    key: tuple[int, ...]
    """Seeds this candidate's randomness, e.g. (seed, question number, candidate index)."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    """Sample among the fewest most likely tokens that hold this fraction of the probability."""


@dataclass(kw_only=True, slots=True)
class Sampled:
    """What was written."""

    tokens: list[int]
    """Without the end token."""
    finished: bool
    """Whether the end token was written within the tokens allowed."""


def uniforms(key: tuple[int, ...], count: int) -> np.ndarray:
    """The `count` uniform numbers in [0, 1) that a candidate's key stands for."""
    # Hashed, because numpy's own seeding gives (1,) and (1, 0) the same stream.
    digest = hashlib.sha256(",".join(map(str, key)).encode()).digest()
    philox = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    return np.random.Generator(philox).random(count)


def _within_top_p(probabilities: Tensor, top_p: Tensor) -> Tensor:
    """Zero what lies outside the nucleus (arXiv 1904.09751); ties at its edge stay in."""

    def edge(ordered: Tensor, fraction: Tensor) -> tuple[Tensor, Tensor]:
        before = ordered.cumsum(-1) - ordered
        inside = (before < fraction[:, None]).sum(-1, keepdim=True).clamp(min=1)
        return ordered.gather(-1, inside - 1), inside.squeeze(-1)

    # A peaked distribution has its nucleus in few tokens; sorting the whole vocabulary
    # costs more than the model's own step on a CPU, so only flat distributions are sorted.
    likely = min(_LIKELY_TOKENS, probabilities.shape[-1])
    lowest, inside = edge(probabilities.topk(likely).values, top_p)
    flat = ((inside == likely) & (top_p < 1)).nonzero().flatten()
    if len(flat) and likely < probabilities.shape[-1]:
        lowest[flat], _ = edge(probabilities[flat].sort(descending=True).values, top_p[flat])
    outside = (probabilities < lowest) & (top_p < 1)[:, None]
    return probabilities.masked_fill(outside, 0.0)


def choose(logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """Pick a token per sequence by inverting the distribution function at `uniform`.

    Args:
        logits: `[sequences, vocab]`.
        temperature: `[sequences]`, 0 = the most likely token.
        top_p: `[sequences]`.
        uniform: `[sequences]` in [0, 1).

    Raises:
        FloatingPointError: the model gave no distribution (NaN or infinity).
    """
    greedy = temperature == 0
    likeliest = logits.max(-1)
    if not bool(torch.isfinite(likeliest.values).all()):
        raise FloatingPointError("the model's logits are not finite: nothing can be sampled")
    if bool(greedy.all()):
        return likeliest.indices
    scaled = logits.float() / torch.where(greedy, 1.0, temperature)[:, None]
    probabilities = scaled.softmax(-1)
    if bool((top_p < 1).any()):
        probabilities = _within_top_p(probabilities, top_p)
    # In fp64: over 51,200 tokens, sums in fp32 would make rare tokens likelier or impossible.
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    below_total = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum(uniform * total, below_total)
    drawn = torch.searchsorted(cumulative, target[:, None], right=True).squeeze(-1)
    return torch.where(greedy, likeliest.indices, drawn)


class _Batch:
    """The sequences being written; row i of every table is sequence i of the cache."""

    def __init__(
        self,
        model: LanguageModel,
        requests: Sequence[SampleRequest],
        groups: Sequence[Sequence[int]],
        *,
        end_token: int | Sequence[int],
        max_new_tokens: int,
        max_batch: int,
        num_token_ids: int | None,
    ) -> None:
        self._model = model
        self._requests = requests
        self._max_new_tokens = max_new_tokens
        self._num_token_ids = num_token_ids
        self._device = model.body.embedding.weight.device
        ends = [end_token] if isinstance(end_token, int) else list(end_token)
        self._end_tokens = torch.tensor(ends, device=self._device)
        max_batch = min(max_batch, len(requests))
        self.cache = KeyValueCache(
            model.shape,
            max_sequences=max_batch,
            max_groups=min(max_batch, len(groups)),
            max_prompt_tokens=max(len(request.prompt) for request in requests),
            max_new_tokens=max_new_tokens,
            device=self._device,
            dtype=model.body.embedding.weight.dtype,
        )

        def table(*size: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(max_batch, *size, device=self._device, dtype=dtype)

        self._request = table(dtype=torch.long)
        self._count = table(dtype=torch.long)
        self._last = table(dtype=torch.long)
        self._temperature = table(dtype=torch.float32)
        self._top_p = table(dtype=torch.float32)
        self._uniform = table(max_new_tokens, dtype=torch.float64)
        self._output = table(max_new_tokens, dtype=torch.long)

    def _tables(self) -> tuple[Tensor, ...]:
        return (
            self._request,
            self._count,
            self._last,
            self._temperature,
            self._top_p,
            self._uniform,
            self._output,
        )

    def add(self, groups: Sequence[Sequence[int]]) -> None:
        """Prefill groups of requests with equal prompts and write the first tokens."""
        members = [number for group in groups for number in group]
        requests = [self._requests[number] for number in members]
        rows = slice(self.cache.num_sequences, self.cache.num_sequences + len(members))
        streams = np.stack([uniforms(r.key, self._max_new_tokens) for r in requests])
        for target, values in (
            (self._request, torch.tensor(members)),
            (self._count, torch.zeros(len(members), dtype=torch.long)),
            (self._temperature, torch.tensor([request.temperature for request in requests])),
            (self._top_p, torch.tensor([request.top_p for request in requests])),
            (self._uniform, torch.from_numpy(streams)),
        ):
            target[rows] = values.to(self._device)
        prompts = [self._requests[group[0]].prompt for group in groups]
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        tokens = torch.zeros(len(groups), int(lengths.max()), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = torch.tensor(prompt)
        sizes = torch.tensor([len(group) for group in groups])
        last = torch.arange(len(groups)) * tokens.shape[1] + lengths - 1
        tokens, lengths, sizes, last = (x.to(self._device) for x in (tokens, lengths, sizes, last))
        positions = torch.arange(tokens.shape[1], device=self._device).expand_as(tokens)
        logits = self._model(tokens, positions, self.cache.prefill(lengths, sizes), last)
        self._write(rows, logits.repeat_interleave(sizes, dim=0))

    def step(self) -> None:
        """Write one more token of every sequence."""
        rows = slice(0, self.cache.num_sequences)
        written = self._count[rows] - 1
        positions = self.cache.positions(written)
        attention = self.cache.step(written)
        self._write(rows, self._model(self._last[rows, None], positions, attention)[:, 0])

    def _write(self, rows: slice, logits: Tensor) -> None:
        if self._num_token_ids is not None:
            logits = logits[:, : self._num_token_ids]
        count = self._count[rows]
        uniform = self._uniform[rows].gather(1, count[:, None]).squeeze(1)
        tokens = choose(logits, self._temperature[rows], self._top_p[rows], uniform)
        self._output[rows].scatter_(1, count[:, None], tokens[:, None])
        self._last[rows] = tokens
        self._count[rows] += 1

    def take_finished(self) -> list[tuple[int, Sampled]]:
        """Remove the sequences that ended or ran out of tokens: (request number, result)."""
        rows = slice(0, self.cache.num_sequences)
        ended = (self._last[rows, None] == self._end_tokens).any(dim=1)
        done = ended | (self._count[rows] == self._max_new_tokens)
        if not bool(done.any()):
            return []
        finished = [
            (number, Sampled(tokens=output[: count - end], finished=bool(end)))
            for number, output, count, end in zip(
                self._request[rows][done].tolist(),
                self._output[rows][done].tolist(),
                self._count[rows][done].tolist(),
                ended[done].long().tolist(),
                strict=True,
            )
        ]
        keep = ~done
        longest = int(self._count[rows].max()) - 1
        sources, targets, _ = filled_holes(keep)
        for values in self._tables():
            values[targets] = values[sources]
        self.cache.keep(keep, longest)
        return finished


def _grouped(requests: Sequence[SampleRequest], max_batch: int) -> deque[list[int]]:
    """Requests of equal prompts together, at most `max_batch` in a group, longest first."""
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for number, request in enumerate(requests):
        by_prompt.setdefault(tuple(request.prompt), []).append(number)
    longest_first = sorted(by_prompt.items(), key=lambda item: -len(item[0]))
    return deque(
        members[start : start + max_batch]
        for _, members in longest_first
        for start in range(0, len(members), max_batch)
    )


def _admitted(
    waiting: deque[list[int]], requests: Sequence[SampleRequest], free: int
) -> list[list[int]]:
    """Take the groups that fit into `free` slots and one prefill."""
    groups: list[list[int]] = []
    tokens = 0
    while waiting and len(waiting[0]) <= free:
        # Longest first, so the first prompt of a prefill is the one all are padded to.
        tokens += len(requests[(groups or waiting)[0][0]].prompt)
        if groups and tokens > _PREFILL_TOKENS:
            break
        groups.append(waiting.popleft())
        free -= len(groups[-1])
    return groups


@torch.inference_mode()
def generate(
    model: LanguageModel,
    requests: Sequence[SampleRequest],
    *,
    end_token: int | Sequence[int],
    max_new_tokens: int,
    max_batch: int = 256,
    num_token_ids: int | None = None,
    on_finished: Callable[[int, Sampled], None] | None = None,
    check_cancelled: Callable[[], None] | None = None,
) -> list[Sampled]:
    """Write a continuation for every request, in the order of the requests.

    Args:
        model: a whole model on one device; its dtype is the cache's.
        requests: what to write.
        end_token: the id, or the ids, that end a continuation.
        max_new_tokens: most tokens written, the end token included.
        max_batch: most sequences written at once; bounds the cache's memory.
        num_token_ids: the tokenizer's size, where the embedding has more rows than that:
            later ids are never written.
        on_finished: called with (request number, result) as each one finishes.
        check_cancelled: called before every forward; what it raises ends the sampling.

    Raises:
        ValueError: an empty prompt, or a bound below 1.
        FloatingPointError: the model's logits are not finite.
    """
    if min(max_new_tokens, max_batch) < 1:
        raise ValueError(
            f"max_new_tokens = {max_new_tokens} and max_batch = {max_batch} must be at least 1"
        )
    if any(len(request.prompt) == 0 for request in requests):
        raise ValueError("a prompt has no tokens: there is nothing to continue")
    results: list[Sampled] = [Sampled(tokens=[], finished=False) for _ in requests]
    if not requests:
        return results
    waiting = _grouped(requests, max_batch)
    was_training = model.training
    model.eval()
    try:
        batch = _Batch(
            model,
            requests,
            waiting,
            end_token=end_token,
            max_new_tokens=max_new_tokens,
            max_batch=max_batch,
            num_token_ids=num_token_ids,
        )
        while waiting or batch.cache.num_sequences:
            if check_cancelled is not None:
                check_cancelled()
            free = min(max_batch, len(requests)) - batch.cache.num_sequences
            # A few slots at a time would make many small prefills.
            worth_it = free >= max_batch // 8 or batch.cache.num_sequences == 0
            if waiting and worth_it and len(waiting[0]) <= free:
                batch.add(_admitted(waiting, requests, free))
            else:
                batch.step()
            for number, result in batch.take_finished():
                results[number] = result
                if on_finished is not None:
                    on_finished(number, result)
    finally:
        model.train(was_training)
    return results
