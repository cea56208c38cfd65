"""The weights and moments of an engine, unsharded for a checkpoint and sharded again from one.

for name, moment, value in engine.state.to_save(): ...     # all ranks; each gets some
engine.state.restore(read, step=1000)                      # from any layout's
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parallel import backend
from parallel.groups import Groups
from parallel.sharding import MOMENTS, STATES, WEIGHT, shard_of, unshard, unsharded_size


@dataclass(frozen=True, kw_only=True, slots=True)
class ToSave:
    """An unsharded tensor that a rank is to save."""

    name: str
    """Of the parameter."""
    state: str
    """One of `STATES`."""
    value: Tensor
    stays: bool
    """Whether it is the optimizer's own memory, which no pass but the next update changes; else
    the tensor is valid until the next one is requested."""


class TrainingState:
    """This rank's part of the weights and moments.

    Args:
        model: This rank's part of the model.
        groups: The layout's process groups.
        optimizer: DeepSpeed's, or under ZeRO-0 torch's.
    """

    def __init__(self, model: nn.Module, groups: Groups, optimizer: Any) -> None:
        self._groups, self._optimizer = groups, optimizer
        self._zero_stage = groups.layout.zero_stage
        self.parameters: dict[str, nn.Parameter] = dict(model.named_parameters())
        """This rank's parameters by their names in the whole model."""

    def whole_size(self, parameter: nn.Parameter) -> torch.Size:
        """A parameter's size in the whole model."""
        return unsharded_size(parameter, self._groups)

    def to_save(self) -> Iterator["ToSave"]:
        """The unsharded tensors that this rank is to save.

        Each tensor comes on one rank, and each rank of a pipeline stage gets about as many bytes
        as the others. A collective: every rank iterates to the end.
        """
        self._link_moments()
        layout, place = self._groups.layout, self._groups.place
        loads = np.zeros((layout.data, layout.tensor), dtype=np.int64)
        for name, parameter in self.parameters.items():
            if backend.is_copy(parameter):
                continue
            # What one rank holds whole is saved by it, and needs no communication.
            holder = self._holders.get(name)
            for state in STATES:
                chosen = np.unravel_index(loads.argmin(), loads.shape)
                if holder is not None:
                    chosen = (holder, loads[holder].argmin())
                loads[chosen] += self.whole_size(parameter).numel()
                if holder is None and self._zero_stage:
                    value = _gathered(parameter, state)
                elif place.data == chosen[0]:
                    value = self._held(parameter, state)
                else:
                    continue
                if place.data == chosen[0]:
                    whole = unshard(value, parameter, self._groups)
                    if place.tensor == chosen[1]:
                        is_own = whole is value and not (holder is None and self._zero_stage)
                        yield ToSave(name=name, state=state, value=whole, stays=is_own)

    @cached_property
    def _holders(self) -> dict[str, int]:
        """The data-parallel rank that holds all of a parameter's state alone, where one does."""
        mine: list[str] = []
        if self._zero_stage:
            for name, parameter in self.parameters.items():
                start, values = backend.fragment(parameter, WEIGHT)
                if start == 0 and values.numel() >= _size_under_zero(parameter).numel():
                    mine.append(name)
        place = self._groups.place
        found = self._groups.ranks.gather((place.stage, place.data, mine))
        return {
            name: data for stage, data, names in found if stage == place.stage for name in names
        }

    def _held(self, parameter: nn.Parameter, state: str) -> Tensor:
        """The state of a parameter that this rank holds all of, not copied."""
        if self._zero_stage:
            size = _size_under_zero(parameter)
            return backend.fragment(parameter, state)[1][: size.numel()].view(size)
        if state == WEIGHT:
            return parameter.detach()
        return self._optimizer.state[parameter][state]

    @torch.no_grad()
    def restore(self, read: Callable[[str, str], Tensor], *, step: int) -> None:
        """Load weights and moments from unsharded tensors, whatever layout wrote them.

        Of a memory-mapped tensor only the bytes of this rank's shard are read.

        Args:
            read: An unsharded tensor by parameter name and one of `STATES`.
            step: Updates made so far.
        """
        plain = self._plain_optimizer()
        for value in self._optimized():
            plain.state[value] = {
                "step": torch.tensor(float(step), device=value.device),
                **{state: torch.zeros_like(value) for state in MOMENTS},
            }
        self._link_moments()
        for name, parameter in self.parameters.items():
            for state in STATES:
                shard = shard_of(read(name, state), parameter, self._groups)
                if state == WEIGHT:
                    self._set_weight(parameter, shard)
                if self._zero_stage:
                    _copy_part(shard, *backend.fragment(parameter, state))
                elif state != WEIGHT:
                    plain.state[parameter][state].copy_(shard)

    def _set_weight(self, parameter: nn.Parameter, shard: Tensor) -> None:
        """Of the passes: under ZeRO it is another tensor than the optimizer's."""
        if self._zero_stage < 3:
            parameter.copy_(shard)
        else:
            start, _ = backend.fragment(parameter, WEIGHT)
            held: Tensor = parameter.ds_tensor  # pyright: ignore[reportAttributeAccessIssue]
            _copy_part(shard, start, held.view(-1))

    def is_finite(self) -> bool:
        """Whether all weights and moments that this rank holds are finite. No communication."""
        values = [*self._optimized(), *self.parameters.values()]
        values += [
            value
            for moments in self._plain_optimizer().state.values()
            for name, value in moments.items()
            if name in MOMENTS
        ]
        # ZeRO-3 keeps a rank's shard of a weight beside the parameter, which is then empty.
        values += [
            shard for value in values if (shard := getattr(value, "ds_tensor", None)) is not None
        ]
        # Not `isfinite` of each: the norm needs no second tensor of the same size.
        largest = [
            torch.linalg.vector_norm(value.detach(), math.inf) for value in values if value.numel()
        ]
        if not largest:
            return True
        device = largest[-1].device  # under offloading some are in main memory
        return bool(torch.stack([x.double().to(device) for x in largest]).isfinite().all())

    def _link_moments(self) -> None:
        if self._zero_stage in (1, 2):
            backend.link_moments(self._optimizer)

    def _plain_optimizer(self) -> Any:
        """torch's optimizer, which DeepSpeed's optimizer wraps under ZeRO."""
        return self._optimizer.optimizer if self._zero_stage else self._optimizer

    def _optimized(self) -> list[Tensor]:
        """The tensors that the optimizer updates on this rank: under ZeRO flat fp32 partitions."""
        if self._zero_stage == 3:
            return list(self._optimizer.fp32_partitioned_groups_flat)
        groups = self._plain_optimizer().param_groups
        return [value for group in groups for value in group["params"]]


def _size_under_zero(parameter: nn.Parameter) -> torch.Size:
    """A parameter's size without ZeRO-3, which leaves it empty and keeps its shape."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))


def _gathered(parameter: nn.Parameter, state: str) -> Tensor:
    """From ZeRO's fragments: a collective of the data-parallel ranks."""
    if state == WEIGHT:
        found = backend.safe_get_full_fp32_param(parameter)
    else:
        found = backend.safe_get_full_optimizer_state(parameter, state)
    assert found is not None
    return found.view(_size_under_zero(parameter))


def _copy_part(shard: Tensor, start: int, fragment: Tensor) -> None:
    """Copy into a fragment what is its part of a tensor; padding beyond the end is zero."""
    part = shard.reshape(-1)[start : start + fragment.numel()]
    fragment[: part.numel()].copy_(part)
    fragment[part.numel() :].zero_()
