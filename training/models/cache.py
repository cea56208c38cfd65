"""Stores keys and values while sampling, so that each step computes one token per sequence.

Sequences that continue the same prompt form a group. The prompt's keys and values are stored
and read once per group, and each sequence stores only those of its own tokens. With 48
candidates per question this saves most of the memory and of the memory traffic (Hydragen, arXiv
2402.05099). One softmax covers both parts.

    cache = KeyValueCache(model.shape, ...)
    model(prompts, positions, cache.prefill(lengths, sizes), at)   # adds groups of sequences
    model(tokens, cache.positions(written), cache.step(written))   # one token for each
    cache.keep(mask, longest)                                      # drops finished sequences

Sequences are numbered 0 .. num_sequences - 1, and so are groups. When some are dropped, the last
ones move into the gaps (`filled_holes` returns which).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from training.models.attention import causal_attention
from training.models.shape import ModelShape


def filled_holes(keep: Tensor) -> tuple[Tensor, Tensor, int]:
    """How to make the kept rows of a table contiguous: copy the rows `sources` to `targets`.

    Returns the two index tensors, of equal length, and the number of rows kept. Only kept rows
    beyond that number move.
    """
    num_kept = int(keep.sum())
    targets = (~keep[:num_kept]).nonzero().flatten()
    sources = keep[num_kept:].nonzero().flatten() + num_kept
    return sources, targets, num_kept


class KeyValueCache:
    """Preallocated keys and values of prompts and of the tokens written after them."""

    def __init__(
        self,
        shape: ModelShape,
        *,
        max_sequences: int,
        max_groups: int,
        max_prompt_tokens: int,
        max_new_tokens: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Allocate; memory is `2 x layers x width x (groups x prompt + sequences x new)`.

        The width is that of a token's keys: `key_value_heads x head_dim`.
        """
        heads, dim = shape.num_key_value_heads, shape.head_dim
        prompt_size = (2, shape.num_layers, max_groups, heads, max_prompt_tokens, dim)
        written_size = (2, shape.num_layers, max_sequences, heads, max_new_tokens, dim)
        # Zeros, not empty: an unused position has weight 0, and 0 x NaN is NaN.
        self.prompt = torch.zeros(prompt_size, device=device, dtype=dtype)
        self.written = torch.zeros(written_size, device=device, dtype=dtype)
        self.prompt_lengths = torch.zeros(max_groups, device=device, dtype=torch.long)
        self.group = torch.zeros(max_sequences, device=device, dtype=torch.long)
        """The number of each sequence's group."""
        self.num_sequences = 0
        self.num_groups = 0

    def prefill(self, lengths: Tensor, sizes: Tensor) -> "PrefillAttention":
        """Add groups, given the lengths of their prompts and the number of sequences in each.

        Args:
            lengths: tokens of each prompt, `[groups]`.
            sizes: sequences of each group, `[groups]`.

        Returns:
            The attention for one forward over prompts `[groups, longest]`, padded on the right.
        """
        first = self.num_groups
        numbers = torch.arange(first, first + len(sizes), device=sizes.device)
        members = numbers.repeat_interleave(sizes)
        last = self.num_sequences + len(members)
        self.group[self.num_sequences : last] = members
        self.prompt_lengths[first : first + len(sizes)] = lengths
        self.num_sequences = last
        self.num_groups += len(sizes)
        return PrefillAttention(self.prompt[:, :, first : self.num_groups])

    def positions(self, written: Tensor) -> Tensor:
        """Positions `[sequences, 1]` of the next tokens, after `written` tokens of each."""
        return (self.prompt_lengths[self.group[: self.num_sequences]] + written)[:, None]

    def step(self, written: Tensor) -> "StepAttention":
        """Attention for one token of every sequence, after `written` tokens of each."""
        return StepAttention(self, written)

    def keep(self, mask: Tensor, longest: int) -> None:
        """Drop the sequences outside `mask`, then the groups left without sequences.

        Args:
            mask: which sequences stay, `[sequences]`.
            longest: the most tokens that any kept sequence has written.
        """
        sources, targets, self.num_sequences = filled_holes(mask)
        self.written[:, :, targets, :, :longest] = self.written[:, :, sources, :, :longest]
        self.group[targets] = self.group[sources]
        groups = self.group[: self.num_sequences]
        alive = torch.zeros(self.num_groups, dtype=torch.bool, device=groups.device)
        alive[groups] = True
        sources, targets, self.num_groups = filled_holes(alive)
        self.prompt[:, :, targets] = self.prompt[:, :, sources]
        self.prompt_lengths[targets] = self.prompt_lengths[sources]
        numbers = torch.arange(len(alive), device=groups.device)
        numbers[sources] = targets
        self.group[: self.num_sequences] = numbers[groups]


class PrefillAttention:
    """Plain causal attention over prompts that also stores their keys and values."""

    def __init__(self, stored: Tensor) -> None:
        """`stored`: `[2, layers, groups, heads, max_prompt_tokens, head_dim]`."""
        self._stored = stored

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend and store; padding on the right is stored as well, and masked when read."""
        tokens = key.shape[1]
        self._stored[0, layer, :, :, :tokens] = key.transpose(1, 2)
        self._stored[1, layer, :, :, :tokens] = value.transpose(1, 2)
        return causal_attention(layer, query, key, value)


class StepAttention:
    """One token of every sequence attends to its group's prompt and to its own earlier tokens."""

    def __init__(self, cache: KeyValueCache, written: Tensor) -> None:
        """Build the indices and the mask, which all layers use."""
        groups = cache.group[: cache.num_sequences]
        lengths = cache.prompt_lengths[: cache.num_groups]
        self._rows = torch.arange(cache.num_sequences, device=groups.device)
        self._written = written
        sizes = torch.bincount(groups, minlength=cache.num_groups)
        self._longest_prompt, longest_written, self._largest_group = torch.stack(
            (lengths.max(), written.max() + 1, sizes.max())
        ).tolist()
        # Each sequence's cell in a table [groups, largest group]: its rank within its group.
        order = groups.argsort(stable=True)
        rank = torch.empty_like(groups)
        rank[order] = self._rows - (sizes.cumsum(0) - sizes)[groups[order]]
        self._cells = groups * self._largest_group + rank
        positions = torch.arange(max(self._longest_prompt, longest_written), device=groups.device)
        beyond_prompt = positions[: self._longest_prompt] >= lengths[groups][:, None]
        beyond_written = positions[:longest_written] > written[:, None]
        self._hidden = torch.cat((beyond_prompt, beyond_written), dim=1)[:, None, None]
        self._prompt = cache.prompt[:, :, : cache.num_groups, :, : self._longest_prompt]
        self._own = cache.written[:, :, : cache.num_sequences, :, :longest_written]

    def _to_table(self, rows: Tensor) -> Tensor:
        # [sequences, key heads, queries, n] -> [groups, key heads, largest group x queries, n].
        # Unused cells hold arbitrary values: the rows of a product are independent, and theirs are
        # never read.
        num_cells = self._prompt.shape[2] * self._largest_group
        table = rows.new_empty(num_cells, *rows.shape[1:]).index_copy_(0, self._cells, rows)
        return table.unflatten(0, (-1, self._largest_group)).transpose(1, 2).flatten(2, 3)

    def _from_table(self, table: Tensor) -> Tensor:
        rows = table.unflatten(2, (self._largest_group, -1)).transpose(1, 2)
        return rows.flatten(0, 1).index_select(0, self._cells)

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Store this token's key and value, then attend; each `[sequences, 1, heads, dim]`."""
        prompt_keys, prompt_values = self._prompt[:, layer]
        keys, values = self._own[:, layer]
        keys[self._rows, :, self._written] = key[:, 0]
        values[self._rows, :, self._written] = value[:, 0]
        num_heads, num_key_value_heads = query.shape[2], key.shape[2]
        # Query heads that read the same keys, side by side: [sequences, key heads, queries, dim].
        scaled = (query[:, 0] * query.shape[-1] ** -0.5).unflatten(1, (num_key_value_heads, -1))
        on_prompt = self._from_table(self._to_table(scaled) @ prompt_keys.transpose(-1, -2))
        on_own = scaled @ keys.transpose(-1, -2)
        scores = torch.cat((on_prompt, on_own), dim=-1).masked_fill_(self._hidden, -torch.inf)
        weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
        prompt_weights = weights[..., : self._longest_prompt]
        own_weights = weights[..., self._longest_prompt :]
        attended = self._from_table(self._to_table(prompt_weights) @ prompt_values)
        attended = attended + own_weights @ values
        return attended.reshape(len(attended), 1, num_heads, -1)
