"""What a whole model takes on a rank that samples with it or scores by it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training import hub
from training.config import EvaluationConfig, SamplingConfig

if TYPE_CHECKING:
    from training.models.shape import ModelShape


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSize:
    """A model's parameters, and its keys and values of one token."""

    num_parameters: int
    width: int
    """Numbers in a token's keys, or values, over all layers."""

    @classmethod
    def from_shape(cls, shape: "ModelShape", head: str) -> "ModelSize":
        """Count a model's parameters without allocating them."""
        import torch

        from training.models.heads import LanguageModel, Verifier

        with torch.device("meta"):
            model: torch.nn.Module = (Verifier if head == "verifier" else LanguageModel)(shape)
        count = sum(parameter.numel() for parameter in model.parameters())
        return cls(
            num_parameters=count,
            width=shape.num_layers * shape.num_key_value_heads * shape.head_dim,
        )


def saved_models(sources: Iterable[tuple[str, str]]) -> list[ModelSize]:
    """The models of these sources that are on disk; those of the hub are left out.

    Args:
        sources: Folder or hub id, and head; an empty source is left out.

    Raises:
        ConfigError, FileNotFoundError: one of them is no model, or has the other head.
    """
    from training.evaluation.load import shape_of

    return [
        ModelSize.from_shape(shape_of(source, head), head)  # pyright: ignore[reportArgumentType]
        for source, head in sources
        if source and hub.local_path(source, "a model") is not None
    ]


def replica_memory(section: SamplingConfig | EvaluationConfig, models: Sequence[ModelSize]) -> str:
    """One line: a rank's memory, which never holds more than one model, and its cache."""
    if not models:
        return "memory: known once the hub has given the model"
    from parallel.planning.table import in_units

    largest = max(models, key=lambda model: model.num_parameters)
    sequences, tokens = section.micro_batch_candidates, section.max_new_tokens
    # In bf16, as on GPUs.
    weights, cache = 2 * largest.num_parameters, 2 * 2 * largest.width * sequences * tokens
    return (
        f"memory: {in_units(weights + cache)} on each GPU rank: {largest.num_parameters:,} weights "
        f"{in_units(weights)}, keys and values of {sequences:,} x {tokens:,} new tokens "
        f"{in_units(cache)}; twice that on a CPU; prompts come on top"
    )
