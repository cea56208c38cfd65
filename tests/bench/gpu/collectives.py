"""The process group as training opens it, on one device: NCCL for the GPU, gloo for the CPU."""

from typing import Any

import torch
import torch.distributed as dist
from torch.cuda import nccl

from parallel.ranks import discover
from tests.bench.gpu.record import Record, guarded
from tests.bench.gpu.setting import Setting

_ELEMENTS = 1_000_003


def run(setting: Setting, record: Record) -> None:
    """Each collective that training uses, on both kinds of memory, must give back what went in."""
    ranks = discover()
    ranks.connect(setting.device)
    record.note(
        f"{ranks.world_size} rank; backends {dist.get_backend_config()}"
        + (f"; NCCL {_nccl_version()}" if setting.on_gpu else "")
    )
    for device in dict.fromkeys((setting.device, torch.device("cpu"))):
        for name, collective in _COLLECTIVES.items():
            known: dict[str, Any] = {"what": name, "device": device.type}
            with guarded(record, setting, **known):
                values = torch.randn(_ELEMENTS, device=device)
                found = collective(values)
                seconds = setting.timed(lambda: collective(values), warmup=1, repeats=2)  # noqa: B023
                record.row(
                    **known,
                    elements=_ELEMENTS,
                    milliseconds=min(seconds) * 1e3,
                    passed=torch.equal(found, values),
                )


def _nccl_version() -> str:
    return ".".join(map(str, nccl.version()))


def _all_reduce(values: torch.Tensor) -> torch.Tensor:
    found = values.clone()
    dist.all_reduce(found)
    return found


def _all_gather(values: torch.Tensor) -> torch.Tensor:
    found = [torch.zeros_like(values)]
    dist.all_gather(found, values)
    return found[0]


def _broadcast(values: torch.Tensor) -> torch.Tensor:
    found = values.clone()
    dist.broadcast(found, src=0)
    return found


_COLLECTIVES = {"all-reduce": _all_reduce, "all-gather": _all_gather, "broadcast": _broadcast}
