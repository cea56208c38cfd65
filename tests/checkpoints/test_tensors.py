"""Files of a training state that are no tensors: refused by name, and never executed."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import universal
from training.errors import CheckpointError

SIZE = torch.Size([4])


class _Runs:
    """What runs a program when it is unpickled."""

    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('executed')",))


def _value(value: Any) -> Callable[[Path], object]:
    return lambda path: torch.save({"param": value}, path)


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"param": _Runs()}))


def _old_format(path: Path) -> None:
    torch.save({"param": torch.zeros(4)}, path, _use_new_zipfile_serialization=False)


def _cut(path: Path) -> None:
    torch.save({"param": torch.zeros(4)}, path)
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_pickle, "is no file of tensors"),
        (_old_format, "is no file of tensors"),
        (_cut, "is no file of tensors"),
        (lambda path: path.write_bytes(b""), "is no file of tensors"),
        (lambda path: path.write_text("tensor"), "is no file of tensors"),
        (_value(_Runs()), "is no file of tensors"),
        (lambda path: torch.save([torch.zeros(4)], path), "holds no fp32 tensor"),
        (lambda path: torch.save({"values": torch.zeros(4)}, path), "holds no fp32 tensor"),
        (_value([0.0] * 4), "holds no fp32 tensor"),
        (_value(torch.zeros(4, dtype=torch.int64)), "holds no fp32 tensor"),
        (_value(torch.zeros(4).bfloat16()), "holds no fp32 tensor"),
        (_value(torch.zeros(5)), r"is \[5\], the model's a is \[4\]"),
    ],
)
def test_what_is_no_tensor_is_named(
    tmp_path: Path, write: Callable[[Path], object], message: str
) -> None:
    path = universal.path_of(tmp_path, "a", "fp32")
    path.parent.mkdir(parents=True)
    write(path)
    with pytest.raises(CheckpointError, match=message) as refused:
        universal.read_tensor(tmp_path, "a", "fp32", SIZE)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
