"""The one module that imports deepspeed and touches its private names.

Imported, it keeps DeepSpeed quiet and from compiling extensions on a CPU.
"""

import contextlib
import functools
import gc
import io
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

if not torch.cuda.is_available():
    # Set, so that DeepSpeed does not warn about having to guess.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "warning")

import deepspeed  # noqa: E402
import deepspeed.comm.comm  # noqa: E402
import deepspeed.ops  # noqa: E402
from deepspeed.pipe import PipelineModule  # noqa: E402
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer  # noqa: E402
from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology  # noqa: E402
from deepspeed.runtime.utils import clip_grad_norm_  # noqa: E402
from deepspeed.utils import (  # noqa: E402
    groups,
    logger,
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
)

from parallel.sharding import WEIGHT  # noqa: E402

logger.setLevel("WARNING")
# It calls collectives by names that newer versions of torch deprecate.
warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")

_GROUPS = [name for name, value in vars(groups).items() if value is None]
"""Module variables in which DeepSpeed keeps the process groups of the first engine it built."""

__all__ = [
    "PipeModelDataParallelTopology",
    "PipelineModule",
    "add_gradients_in_place",
    "clip_grad_norm_",
    "connect",
    "deepspeed",
    "disconnect",
    "fragment",
    "is_copy",
    "link_moments",
    "safe_get_full_fp32_param",
    "safe_get_full_optimizer_state",
    "silenced",
    "tie",
]


def connect(timeout: timedelta) -> None:
    """Make DeepSpeed use the open process group.

    Args:
        timeout: Of the collectives of the groups that it makes.
    """
    # Its CPU all-reduce over shared memory is compiled at first use, for half a minute; gloo
    # serves as well.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_init_required=False, verbose=False)
    # It has no setting for this: its groups get torch's default, 10 minutes for NCCL.
    deepspeed.comm.comm.cdb.new_group = functools.partial(dist.new_group, timeout=timeout)


def disconnect() -> None:
    """Drop DeepSpeed's references to the process groups.

    Otherwise the exit can abort, and a second engine of this process would get the first one's
    groups.
    """
    for name in _GROUPS:
        setattr(groups, name, None)
    deepspeed.comm.comm.cdb = None
    gc.collect()


def link_moments(optimizer: Any) -> None:
    """Link each parameter to its slices of the moments of a ZeRO-1 or ZeRO-2 optimizer.

    The `safe_get_full_*` functions need the links.
    """
    # DeepSpeed links once, after the step of the first parameter group, when the second group has
    # no moments yet; there is no public way to have it link again.
    optimizer._hp_optimizer_states_linked = False
    optimizer._lazy_init_hp_params_optimizer_state()


def add_gradients_in_place(optimizer: Any) -> None:
    """Let DeepSpeed's bf16 optimizer add each gradient to its fp32 sum without an fp32 copy of it.

    The sum is the same: `add_` casts as the copy did. It moves 10 bytes per parameter and
    micro-batch in place of 18. Other optimizers stay as they are.
    """
    if not isinstance(optimizer, BF16_Optimizer):
        return

    @torch.no_grad()
    def add(lp: Any, group: int, index: int, clear_lp_grads: bool) -> None:
        if lp.grad is None:
            return
        total = optimizer.fp32_groups_gradients[group][index]
        total.add_(lp.grad.view(total.shape))
        lp._hp_grad = total
        optimizer.fp32_groups_has_gradients[group][index] = True
        if clear_lp_grads:
            lp.grad.zero_()

    vars(optimizer)["_update_hp_grad"] = add


def tie(module: PipelineModule, copy: torch.nn.Module, *, group: Any, is_owner: bool) -> None:
    """Have a pipeline's ranks add up the gradients of a module that several of them hold.

    Args:
        module: Before DeepSpeed's engine is made of it.
        copy: This rank's, with the same weights as the others'.
        group: The ranks that hold one.
        is_owner: Whether this rank's counts in norms and is saved.
    """
    # What PipelineModule makes of TiedLayerSpecs, which would have to be layers of their own.
    names = [name for name, _ in copy.named_parameters()]
    ranks = dist.get_process_group_ranks(group)
    entry = {"ranks": ranks, "group": group, "weight_attr": names, "module": copy}
    module.tied_comms = {"tied": entry}
    module.tied_modules = torch.nn.ModuleDict({"tied": copy})
    for parameter in copy.parameters():
        vars(parameter)["ds_pipe_replicated"] = not is_owner


def is_copy(parameter: Any) -> bool:
    """Whether another pipeline stage owns this parameter; see `tie`."""
    return getattr(parameter, "ds_pipe_replicated", False)


def fragment(parameter: Any, state: str) -> tuple[int, torch.Tensor]:
    """What this rank's ZeRO optimizer holds of a parameter.

    Args:
        parameter: Of a model under ZeRO 1, 2 or 3.
        state: One of `parallel.sharding.STATES`.

    Returns:
        Where the fragment begins in the flattened parameter, and its values, not copied. ZeRO-3
        pads a parameter, so that its last fragments may reach beyond the end.
    """
    moment = None if state == WEIGHT else state
    if hasattr(parameter, "ds_id"):
        optimizer = parameter._z3_optimizer
        held = optimizer._get_fp32_opt_state_partition(parameter, False, moment)[0]
        return held.numel() * optimizer._get_param_partition_rank(parameter), held.detach()
    mapping = parameter._hp_mapping
    if mapping is None:  # all of it is on other ranks
        return 0, parameter.new_empty(0, dtype=torch.float32)
    return mapping.lp_fragment_address.start, mapping.get_hp_fragment(moment).detach()


@contextmanager
def silenced() -> Generator[None, None, None]:
    """Discard what DeepSpeed prints to standard output: memory use, seeds, schedules."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
