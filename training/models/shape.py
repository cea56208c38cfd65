"""The sizes and constants that determine a model's tensors and arithmetic."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from typing_extensions import Self

from training.config.values import ArchitectureName


@dataclass(frozen=True, kw_only=True, slots=True)
class RotaryScaling:
    """How Llama 3 stretches rotary embedding to longer documents than it was trained on first.

    Frequencies whose wavelength exceeds `original_max_tokens / low_freq_factor` are divided by
    `factor`, those below `original_max_tokens / high_freq_factor` are kept, and the others are
    interpolated.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_tokens: int


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """What a model is, without its weights. Fields are named as the config's (`ModelConfig`)."""

    architecture: ArchitectureName = "phi"
    hidden_size: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int = 0
    """Heads of keys and values, each of which serves several query heads; 0: as many as these."""
    head_dim: int = 0
    """Width of one attention head; 0: the hidden size divided by the number of heads."""
    ffn_size: int
    vocab_size: int
    """Rows of the embedding; at least the tokenizer's size."""
    max_tokens: int
    """The longest sequence the model is meant for. Rotary embedding imposes no hard limit."""
    rotary_fraction: float = 0.5
    """The fraction of each head's dims that is rotated."""
    rope_theta: float = 10_000.0
    rope_scaling: RotaryScaling | None = None
    norm_eps: float = 1e-5
    tied_head: bool = False
    """Whether the language-model head is the embedding's matrix."""
    init_std: float = 0.02
    dropout: float = 0.0
    """On the output of attention and feed-forward, while training."""

    def __post_init__(self) -> None:
        """Fill in what follows from the rest.

        Raises:
            ValueError: the heads do not divide evenly, or an odd number of dims would be rotated.
        """
        if not self.head_dim:
            if self.hidden_size % self.num_heads:
                raise ValueError(
                    f"hidden_size {self.hidden_size} is not a multiple of num_heads "
                    f"{self.num_heads}"
                )
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_heads)
        if not self.num_key_value_heads:
            object.__setattr__(self, "num_key_value_heads", self.num_heads)
        if self.num_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_key_value_heads "
                f"{self.num_key_value_heads}"
            )
        if self.rotary_dims % 2:
            raise ValueError(
                f"rotary_fraction {self.rotary_fraction} of head width {self.head_dim} gives "
                f"{self.rotary_dims} rotated dims: they are rotated in pairs, so make it even"
            )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The shape that settings of `model` describe; others are passed over."""
        scaling = settings.get("rope_scaling")
        known = {each.name for each in fields(cls)}
        kept = {name: value for name, value in settings.items() if name in known}
        kept["rope_scaling"] = RotaryScaling(**scaling) if scaling else None
        return cls(**kept)

    def settings(self) -> dict[str, Any]:
        """The settings of `model` that describe this shape."""
        return asdict(self)

    @property
    def rotary_dims(self) -> int:
        """How many leading dims of each head are rotated."""
        return int(self.head_dim * self.rotary_fraction)
