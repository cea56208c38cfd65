"""The process groups of a layout, and this rank's coordinates in them.

    groups = Groups.connect(layout, ranks)
    groups.place.stage, groups.tensor       # coordinates; torch process groups or None

megatron-core's `parallel_state` creates the groups, since its tensor-parallel layers look them
up there. A layout with data parallelism alone needs only the default group, and megatron-core,
which takes seconds to import, is not imported.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch.distributed as dist

from parallel.layout import Layout, Place
from parallel.ranks import Ranks


@dataclass(frozen=True, kw_only=True, slots=True)
class Groups:
    """The process groups that this rank is in."""

    layout: Layout
    ranks: Ranks
    place: Place
    tensor: dist.ProcessGroup | None = None
    """Ranks that hold the other shards of the same tensors; None: no tensor parallelism."""
    pipeline: dist.ProcessGroup | None = None
    """Ranks of the other pipeline stages; None: no pipeline parallelism."""
    data: dist.ProcessGroup | None = None
    """Data-parallel ranks, which hold the same parameters; None: all ranks."""
    embedding: dist.ProcessGroup | None = None
    """The first and the last of the pipeline's ranks; None: this rank is neither, or both."""

    @classmethod
    def connect(cls, layout: Layout, ranks: Ranks) -> "Groups":
        """Create the groups within the open default process group (all ranks call it)."""
        place = layout.place(ranks.rank)
        if layout.tensor == layout.pipeline == 1:
            return cls(layout=layout, ranks=ranks, place=place)
        from megatron.core import parallel_state

        state: Any = parallel_state
        state.initialize_model_parallel(
            tensor_model_parallel_size=layout.tensor,
            pipeline_model_parallel_size=layout.pipeline,
            create_gloo_process_groups=False,
            distributed_timeout_minutes=ranks.timeout.total_seconds() / 60,
        )
        return cls(
            layout=layout,
            ranks=ranks,
            place=place,
            tensor=state.get_tensor_model_parallel_group() if layout.tensor > 1 else None,
            pipeline=state.get_pipeline_model_parallel_group() if layout.pipeline > 1 else None,
            data=state.get_data_parallel_group(),
            embedding=_ends_of_pipeline(layout, place),
        )

    def disconnect(self) -> None:
        """Destroy the groups."""
        if self.data is not None:
            from megatron.core import parallel_state

            parallel_state.destroy_model_parallel()

    @property
    def counts(self) -> bool:
        """Whether this rank reports its micro-batches' token counts: one rank per model replica."""
        return self.place.tensor == self.place.stage == 0

    @property
    def computes_loss(self) -> bool:
        """Whether this rank's loss enters the step's loss: one rank per model replica."""
        return self.place.tensor == 0 and self.place.stage == self.layout.pipeline - 1


def _ends_of_pipeline(layout: Layout, place: Place) -> dist.ProcessGroup | None:
    from megatron.core import parallel_state

    if layout.pipeline == 1 or place.stage not in (0, layout.pipeline - 1):
        return None
    return cast(dist.ProcessGroup, parallel_state.get_embedding_group())


class TensorUnit:
    """The Megatron `mpu` object that DeepSpeed expects, over megatron-core's `parallel_state`.

    What DeepSpeed calls model parallel is tensor parallelism alone; megatron-core has dropped
    those names.
    """

    @classmethod
    def from_groups(cls, groups: Groups) -> "TensorUnit | None":
        """The object for these groups; None where DeepSpeed's own groups serve."""
        return cls() if groups.data is not None else None

    def __getattr__(self, name: str) -> Any:
        """Everything else is `parallel_state`'s own."""
        from megatron.core import parallel_state

        return getattr(parallel_state, name)

    def get_model_parallel_rank(self) -> int:
        """Rank in the tensor-parallel group."""
        return self.get_tensor_model_parallel_rank()

    def get_model_parallel_world_size(self) -> int:
        """Size of the tensor-parallel group."""
        return self.get_tensor_model_parallel_world_size()

    def get_model_parallel_group(self) -> dist.ProcessGroup:
        """The tensor-parallel group."""
        return self.get_tensor_model_parallel_group()
