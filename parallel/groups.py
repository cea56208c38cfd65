"""Process groups of a layout, and this rank's place in them.

    groups = Groups.connect(layout, ranks)
    groups.place.stage, groups.tensor       # coordinates; torch process groups or None

megatron-core's `parallel_state` makes the groups, since its tensor-parallel layers look
there; a layout that only shares data needs none but the default group, and megatron-core,
seconds to import, is left alone.
"""

from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from parallel.layout import Layout, Place
from parallel.ranks import Ranks


@dataclass(frozen=True, kw_only=True, slots=True)
class Groups:
    """This rank among the others of its layout."""

    layout: Layout
    ranks: Ranks
    place: Place
    tensor: dist.ProcessGroup | None = None
    """Ranks that hold the other parts of the same tensors; None: tensors are whole."""
    pipeline: dist.ProcessGroup | None = None
    """Ranks that hold the other pipeline stages; None: there is one stage."""
    data: dist.ProcessGroup | None = None
    """Ranks that hold the same parameters; None: all of them do."""

    @classmethod
    def connect(cls, layout: Layout, ranks: Ranks) -> "Groups":
        """Make the groups over an open default process group (all ranks call it)."""
        place = layout.place(ranks.rank)
        if layout.tensor == layout.pipeline == 1:
            return cls(layout=layout, ranks=ranks, place=place)
        from megatron.core import parallel_state

        state: Any = parallel_state
        state.initialize_model_parallel(
            tensor_model_parallel_size=layout.tensor,
            pipeline_model_parallel_size=layout.pipeline,
            create_gloo_process_groups=False,
        )
        return cls(
            layout=layout,
            ranks=ranks,
            place=place,
            tensor=state.get_tensor_model_parallel_group() if layout.tensor > 1 else None,
            pipeline=state.get_pipeline_model_parallel_group() if layout.pipeline > 1 else None,
            data=state.get_data_parallel_group(),
        )

    def disconnect(self) -> None:
        """Forget the groups."""
        if self.data is not None:
            from megatron.core import parallel_state

            parallel_state.destroy_model_parallel()

    @property
    def counts(self) -> bool:
        """Whether this rank speaks for its micro-batches: one rank of each data share does."""
        return self.place.tensor == self.place.stage == 0

    @property
    def computes_loss(self) -> bool:
        """Whether the loss that this rank works out is to be counted, one of each data share."""
        return self.place.tensor == 0 and self.place.stage == self.layout.pipeline - 1


class TensorUnit:
    """What `deepspeed.initialize` asks of a Megatron `mpu`, in megatron-core's own words.

    DeepSpeed's "model parallel" is tensor parallel alone; megatron-core gave up these names.
    """

    def __getattr__(self, name: str) -> Any:
        """Everything else is `parallel_state`'s."""
        from megatron.core import parallel_state

        return getattr(parallel_state, name)

    def get_model_parallel_rank(self) -> int:
        """Place in the tensor-parallel group."""
        return self.get_tensor_model_parallel_rank()

    def get_model_parallel_world_size(self) -> int:
        """Size of the tensor-parallel group."""
        return self.get_tensor_model_parallel_world_size()

    def get_model_parallel_group(self) -> dist.ProcessGroup:
        """The tensor-parallel group."""
        return self.get_tensor_model_parallel_group()
