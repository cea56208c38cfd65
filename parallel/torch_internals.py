"""The one module that uses names of torch that are not public: each with the reason.

Of DeepSpeed's, see `backend.py`.
"""

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode  # tensors without memory: no public name
from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]
from torch.testing._internal.distributed.fake_pg import FakeStore  # registers the "fake" backend
from torch.utils._python_dispatch import TorchDispatchMode  # sees operators: no public name

__all__ = ["FakeStore", "FakeTensorMode", "TorchDispatchMode", "default_store", "storage_key"]


def default_store() -> Store:
    """The store of the default process group, which outlives the group."""
    from torch.distributed import distributed_c10d

    # `init_process_group` makes the store itself and has no public way to hand it out.
    return distributed_c10d._get_default_store()  # pyright: ignore[reportPrivateUsage]


def storage_key(value: Tensor) -> int:
    """A number that distinguishes a tensor's storage from all others that are alive."""
    # Not `data_ptr()`, which is 0 for tensors without memory.
    return value.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]
