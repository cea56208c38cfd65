"""The one module that imports deepspeed: quiet, and without compiling anything on a CPU."""

import contextlib
import gc
import io
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager

import torch

if not torch.cuda.is_available():
    # Said here, DeepSpeed does not warn about having to find it out.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "warning")

import deepspeed  # noqa: E402
import deepspeed.comm.comm  # noqa: E402
import deepspeed.ops  # noqa: E402
from deepspeed.pipe import PipelineModule  # noqa: E402
from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology  # noqa: E402
from deepspeed.runtime.utils import clip_grad_norm_  # noqa: E402
from deepspeed.utils import (  # noqa: E402
    groups,
    logger,
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)

logger.setLevel("WARNING")
# It calls collectives by names that newer torch calls old, once per rank and kind.
warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")

_REMEMBERED = [name for name, value in vars(groups).items() if value is None]
"""Where DeepSpeed remembers the process groups of the first engine it built."""

__all__ = [
    "PipeModelDataParallelTopology",
    "PipelineModule",
    "clip_grad_norm_",
    "connect",
    "deepspeed",
    "disconnect",
    "safe_get_full_fp32_param",
    "safe_get_full_optimizer_state",
    "safe_set_full_fp32_param",
    "safe_set_full_optimizer_state",
    "silenced",
]


def connect() -> None:
    """Let DeepSpeed use the process group that is open."""
    # Its CPU all-reduce over shared memory is compiled at first use, for half a minute;
    # gloo does the same work.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_init_required=False, verbose=False)


def disconnect() -> None:
    """Take DeepSpeed's hold off the process groups.

    Else the exit can abort, and a second engine of this process would get the first one's.
    """
    for name in _REMEMBERED:
        setattr(groups, name, None)
    deepspeed.comm.comm.cdb = None
    gc.collect()


@contextmanager
def silenced() -> Generator[None, None, None]:
    """Keep from standard output what DeepSpeed prints unasked: memory use, seeds, plans."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
