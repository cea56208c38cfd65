"""The sections on training: model, loop, checkpoints, optimizer, layout."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from training.config.values import (
    LARGEST_COUNT,
    LARGEST_FLOAT32,
    MOST_IDS,
    MOST_STEPS,
    MOST_TOKENS,
    MOST_WORKERS,
    SMALLEST_FLOAT32,
    ArchitectureName,
    AutoCount,
    AutoSwitch,
    HeadKind,
    Many,
    OptionalSource,
    Precision,
    Section,
    chosen,
)


class RotaryScalingConfig(Section):
    """Rotary scaling of Llama 3 to documents longer than it was first trained on."""

    factor: float = Field(ge=1.0, le=LARGEST_FLOAT32)
    """Low frequencies are divided by it."""
    low_freq_factor: float = Field(default=1.0, gt=0.0, le=LARGEST_FLOAT32)
    """Frequencies that turn fewer times in `original_max_tokens` are divided."""
    high_freq_factor: float = Field(default=4.0, gt=0.0, le=LARGEST_FLOAT32)
    """Frequencies that turn more often are kept; above `low_freq_factor`."""
    original_max_tokens: int = Field(default=8192, ge=1, le=MOST_TOKENS)
    """Longest document of the first training."""

    @model_validator(mode="after")
    def _factors_ascend(self) -> Self:
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(
                f"low_freq_factor = {self.low_freq_factor} is not below high_freq_factor = "
                f"{self.high_freq_factor}"
            )
        return self


def _of_phi(phi: Any, others: Any) -> Callable[[dict[str, Any]], Any]:
    """A default that depends on the architecture."""
    return lambda known: phi if known["architecture"] == "phi" else others


class ModelConfig(Section):
    """The architecture and shape of a transformer, and where its weights come from.

    With `initial_weights`, what is left out is taken from the `config.json` beside the weights.
    """

    architecture: ArchitectureName = "phi"
    """`phi` (Phi-1.5), `llama` (SmolLM2, Llama 3.2, TinyLlama), `qwen2` (Qwen2.5) or `qwen3`."""
    hidden_size: int = Field(default=2048, ge=8, le=2**20)
    """Width of the hidden states; a multiple of `num_heads`, unless `head_dim` is set."""
    num_layers: int = Field(default=24, ge=1, le=10_000)
    """Number of transformer blocks."""
    num_heads: int = Field(default=32, ge=1, le=2**20)
    """Number of attention heads in each block."""
    num_key_value_heads: int = Field(
        default_factory=lambda known: known["num_heads"], ge=1, le=2**20
    )
    """Number of heads of keys and values, a divisor of `num_heads` (grouped-query attention); by
    default as many."""
    head_dim: int = Field(
        default_factory=lambda known: max(1, known["hidden_size"] // known["num_heads"]),
        ge=1,
        le=2**16,
    )
    """Width of a head; by default `hidden_size / num_heads`."""
    ffn_size: int = Field(default=8192, ge=8, le=2**24)
    """Width of the MLP's hidden layer."""
    vocab_size: int = Field(default=51200, ge=300, le=MOST_IDS)
    """Number of rows of the embedding: at least the number of ids of the tokenizer. Token ids are
    stored in 16 bits where the tokenizer has at most 65,536 ids, and in 32 bits where it has
    more."""
    max_tokens: int = Field(default=2048, ge=16, le=MOST_TOKENS)
    """Longest document, in tokens, that the model is meant for; at least `data.sequence_length`."""
    rotary_fraction: float = Field(default_factory=_of_phi(0.5, 1.0), gt=0.0, le=1.0)
    """Fraction of each head's dimensions that is rotated: by default 0.5 of Phi's, all of the
    others'. The number of rotated dimensions must be even."""
    rope_theta: float = Field(default=10000.0, gt=1.0, le=LARGEST_FLOAT32)
    """Base of the rotary position embedding (arXiv 2104.09864)."""
    rope_scaling: RotaryScalingConfig | None = None
    """Rotary scaling of Llama 3; left out: none."""
    norm_eps: float = Field(default_factory=_of_phi(1e-5, 1e-6), ge=SMALLEST_FLOAT32, le=1.0)
    """Constant added to the variance in LayerNorm (Phi, 1e-5 by default) or RMSNorm (the others,
    1e-6)."""
    tied_head: bool = False
    """Use the embedding's matrix as the language-model head; not with Phi."""
    init_std: float = Field(default=0.02, ge=SMALLEST_FLOAT32, le=1e6)
    """Standard deviation of the normal distribution that random initial weights are drawn from."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Probability of dropout on the outputs of attention and MLP, in training only."""
    head: HeadKind = "language_model"
    """`language_model`: next-token logits, for a generator; `verifier`: one score per position."""
    initial_weights: OptionalSource = ""
    """Hugging Face folder, checkpoint folder or hub id that the weights are loaded from; empty:
    random weights."""
    activation_checkpointing: AutoSwitch = False
    """Recompute the activations of each block in the backward pass instead of keeping them: less
    memory, about 30 % more computation. `auto`: only where the device's memory needs it; see
    `training.micro_batch_sequences`."""

    @property
    def recomputes(self) -> bool:
        """`activation_checkpointing`, once `auto` is resolved."""
        return chosen(self.activation_checkpointing)

    @property
    def embedding_is_head(self) -> bool:
        """Whether this model's own head is the embedding's matrix: a verifier's never is."""
        return self.tied_head and self.head == "language_model"

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> Self:
        if self.hidden_size % self.num_heads and "head_dim" not in self.model_fields_set:
            raise ValueError(
                f"hidden_size = {self.hidden_size} is not a multiple of num_heads = "
                f"{self.num_heads}: set num_heads to a divisor of hidden_size, or head_dim"
            )
        if self.num_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_heads = {self.num_heads} is not a multiple of num_key_value_heads = "
                f"{self.num_key_value_heads}: set num_key_value_heads to a divisor of num_heads"
            )
        rotated = self.rotary_fraction * self.head_dim
        if rotated != int(rotated) or int(rotated) % 2:
            raise ValueError(
                f"rotary_fraction = {self.rotary_fraction} of a head of {self.head_dim} "
                f"dimensions is {rotated}: it must be an even whole number"
            )
        return self

    @model_validator(mode="after")
    def _is_of_its_architecture(self) -> Self:
        wanted: dict[str, Any] = {"rotary_fraction": 1.0}
        if self.architecture == "phi":
            wanted = {
                "num_key_value_heads": self.num_heads,
                "head_dim": self.hidden_size // self.num_heads,
                "rope_scaling": None,
                "tied_head": False,
            }
        for name, value in wanted.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name} = {getattr(self, name)!r} with architecture = "
                    f"{self.architecture!r}, which has {value!r}: set that, or leave it out"
                )
        return self


class TrainingConfig(Section):
    """The training loop."""

    max_steps: int = Field(default=1000, ge=1, le=MOST_STEPS)
    """Number of optimizer updates."""
    global_batch_sequences: int = Field(default=64, ge=1, le=LARGEST_COUNT)
    """Packed sequences of one update, over all ranks and accumulation."""
    micro_batch_sequences: AutoCount = 8
    """Packed sequences that one rank computes at a time, from 1 to 10,000,000. `auto`: the largest
    number that divides a rank's sequences of a step and that the memory plan says fits the device,
    the smallest one of the run; the log says which. Changes memory and speed, and the numbers in
    rounding only."""
    precision: Precision = "bf16"
    """Precision of the forward and backward pass; weights are updated in fp32. `fp16` uses loss
    scaling and needs a GPU and `parallel.zero_stage` of 1 or more."""
    compile: bool = False
    """Compile each block with torch.compile, once for the whole run: faster steps on a GPU, after a
    first step that takes a minute longer. Needs `parallel.zero_stage` of 2 or less, and `bf16` or
    `fp16` on a GPU, `fp32` on a CPU."""
    prompt_loss_weight: float = Field(default=1.0, ge=0.0, le=1.0)
    """Weight of a token of the question in the loss, where a token of the program has weight 1.
    Needs `data.train_on_prompt = true`."""
    log_every_steps: int = Field(default=1, ge=1, le=MOST_STEPS)
    """Steps between two lines in the log or the terminal; `metrics.jsonl` has every step."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: the rank's GPU if there is one, else the CPU."""

    @property
    def sequences_at_a_time(self) -> int:
        """`micro_batch_sequences`, once `auto` is resolved."""
        return chosen(self.micro_batch_sequences)


class CheckpointConfig(Section):
    """When training state is saved, and which checkpoints are kept."""

    every_steps: int = Field(default=100, ge=1, le=MOST_STEPS)
    """Steps between two checkpoints; the last step is always saved."""
    keep_latest: int = Field(default=0, ge=0, le=MOST_STEPS)
    """Number of newest checkpoints that are kept; 0: all of them."""
    keep_steps: Many[Annotated[int, Field(ge=1, le=MOST_STEPS)]] = ()
    """Steps whose checkpoints are always kept; a recipe adds those that it samples from."""


class OptimizerConfig(Section):
    """AdamW and its learning rate schedule."""

    learning_rate: float = Field(default=1e-4, ge=SMALLEST_FLOAT32, le=LARGEST_FLOAT32)
    """Peak learning rate, reached at the end of the warm-up."""
    final_learning_rate_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Learning rate of the last step, as a fraction of the peak."""
    warmup_steps: int = Field(default=100, ge=0, le=MOST_STEPS)
    """Steps of linear warm-up; less than `training.max_steps`."""
    decay: Literal["linear", "cosine", "constant"] = "linear"
    """Shape of the decay after the warm-up."""
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Decay rate of AdamW's running mean of the gradient."""
    beta2: float = Field(default=0.95, ge=0.0, lt=1.0)
    """Decay rate of AdamW's running mean of the squared gradient."""
    eps: float = Field(default=1e-8, ge=SMALLEST_FLOAT32, le=1.0)
    """Constant added to AdamW's denominator."""
    weight_decay: float = Field(default=0.01, ge=0.0, le=LARGEST_FLOAT32)
    """Weight decay of the weight matrices; biases and LayerNorm have none."""
    max_grad_norm: float = Field(default=1.0, ge=0.0, le=LARGEST_FLOAT32)
    """Gradients are clipped to this global norm; 0: no clipping."""

    @model_validator(mode="after")
    def _only_a_decay_ends_somewhere(self) -> Self:
        if self.decay == "constant" and self.final_learning_rate_fraction:
            raise ValueError(
                f"final_learning_rate_fraction = {self.final_learning_rate_fraction} with decay = "
                "'constant': the rate stays at its peak; leave it out, or set another decay"
            )
        return self


class ParallelConfig(Section):
    """The layout: how a model is spread over ranks. Ranks divided by `tensor` times `pipeline` is
    the data-parallel degree."""

    tensor: int = Field(default=1, ge=1, le=MOST_WORKERS)
    """Tensor-parallel degree: the number of ranks that shard every weight matrix. Keep it within a
    node."""
    pipeline: int = Field(default=1, ge=1, le=MOST_WORKERS)
    """Pipeline-parallel degree: the number of pipeline stages. Above 1 it needs `zero_stage =
    1`."""
    zero_stage: int = Field(default=1, ge=0, le=3)
    """ZeRO stage: what is sharded across data-parallel ranks. 0: nothing; 1: optimizer state; 2:
    also gradients; 3: also weights."""
    reduce_dtype: Literal["fp32", "bf16"] = "fp32"
    """Precision in which gradients are summed over data-parallel ranks. `bf16` sends half the
    bytes, while the backward pass still computes, and rounds the sums. Needs `training.precision =
    "bf16"`, `zero_stage` of 1 or 2, `pipeline = 1`, and one micro-batch in a step: more would be
    summed in bf16."""
    sequence_parallel: bool = False
    """Shard the activations between tensor-parallel regions along the sequence, over the
    tensor-parallel ranks. Needs `tensor` of 2 or more."""
    offload_optimizer: bool = False
    """Keep the fp32 weights and moments in main memory and update them on the CPU (ZeRO-Offload,
    arXiv 2101.06840): 6 bytes of GPU memory a parameter in place of 18, 18 bytes of main memory,
    slower updates. Needs `zero_stage = 2` and `training.precision = "bf16"`."""

    @model_validator(mode="after")
    def _pipeline_needs_zero_one(self) -> Self:
        if self.pipeline > 1 and self.zero_stage != 1:
            raise ValueError(
                f"pipeline = {self.pipeline} with zero_stage = {self.zero_stage}: DeepSpeed's "
                "pipeline runs with ZeRO-1 only: set zero_stage = 1"
            )
        return self

    @model_validator(mode="after")
    def _offload_needs_zero_two(self) -> Self:
        if self.offload_optimizer and self.zero_stage != 2:
            raise ValueError(
                f"offload_optimizer = true with zero_stage = {self.zero_stage}: only ZeRO-2 sums "
                "gradients in fp32 beside an optimizer in main memory: set zero_stage = 2"
            )
        return self

    @model_validator(mode="after")
    def _reduction_is_overlapped(self) -> Self:
        if self.reduce_dtype == "bf16" and (
            self.zero_stage not in (1, 2) or self.pipeline > 1 or self.offload_optimizer
        ):
            raise ValueError(
                f"reduce_dtype = 'bf16' with zero_stage = {self.zero_stage}, pipeline = "
                f"{self.pipeline}, offload_optimizer = {str(self.offload_optimizer).lower()}: "
                "gradients are summed in bf16 under ZeRO-1 and 2, without a pipeline and without "
                "offloading: change these, or set reduce_dtype = 'fp32'"
            )
        return self

    @model_validator(mode="after")
    def _sequence_needs_tensor(self) -> Self:
        if self.sequence_parallel and self.tensor == 1:
            raise ValueError(
                "sequence_parallel = true with tensor = 1: tokens are shared within the "
                "tensor-parallel group, which has one rank: set tensor = 2 or more, or "
                "sequence_parallel = false"
            )
        return self
