"""One config class per verb of `launch/`, made of sections."""

import os

from pydantic import model_validator
from typing_extensions import Self

from training.config.data import DataConfig
from training.config.evaluation import EvaluationConfig, SamplingConfig
from training.config.run import ExecutionConfig, RunConfig, TrackingConfig
from training.config.training import (
    CheckpointConfig,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    TrainingConfig,
)
from training.config.values import Section


class TrainConfig(Section):
    """`launch/train.py`: one training run, of a generator or of a verifier."""

    run: RunConfig
    """Where the run lives and what it is called."""
    model: ModelConfig = ModelConfig()
    """The shape of the model and its initial weights."""
    data: DataConfig
    """What is learned from."""
    training: TrainingConfig = TrainingConfig()
    """The training loop."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When training state is saved and which checkpoints are kept."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW and the learning rate schedule."""
    parallel: ParallelConfig = ParallelConfig()
    """The layout."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Evaluation during training."""
    execution: ExecutionConfig = ExecutionConfig()
    """Limits of a program that a model wrote."""
    tracking: TrackingConfig = TrackingConfig()
    """Weights & Biases."""

    @model_validator(mode="after")
    def _verifier_learns_from_candidates(self) -> Self:
        kinds = [source.kind for source in self.data.sources]
        wants_labels = self.model.head == "verifier"
        if any(source.is_labelled != wants_labels for source in self.data.sources):
            raise ValueError(
                f"model.head = {self.model.head!r} with data.sources of kind {', '.join(kinds)}: "
                "a verifier learns from 'candidates' and 'rollouts' alone, a generator never from "
                "them"
            )
        return self

    @model_validator(mode="after")
    def _sequences_fit_the_context(self) -> Self:
        if self.data.sequence_length > self.model.max_tokens:
            raise ValueError(
                f"data.sequence_length = {self.data.sequence_length} is above model.max_tokens = "
                f"{self.model.max_tokens}: an example could be longer than the model reads"
            )
        return self

    @model_validator(mode="after")
    def _prompt_weight_is_read(self) -> Self:
        if self.training.prompt_loss_weight != 1.0 and not self.data.train_on_prompt:
            raise ValueError(
                f"training.prompt_loss_weight = {self.training.prompt_loss_weight} with "
                "data.train_on_prompt = false: questions are not in the loss at all: set "
                "data.train_on_prompt = true, or leave the weight at 1"
            )
        return self

    @model_validator(mode="after")
    def _whole_blocks_are_compiled(self) -> Self:
        if self.training.compile and self.parallel.zero_stage == 3:
            raise ValueError(
                "training.compile = true with parallel.zero_stage = 3: ZeRO-3 gathers the weights "
                "of each Linear when it is called, which ends the compiled graph there: set "
                "parallel.zero_stage = 2 or less, or training.compile = false"
            )
        return self

    @model_validator(mode="after")
    def _bf16_gradients_are_reduced(self) -> Self:
        if self.parallel.reduce_dtype == "bf16" and self.training.precision != "bf16":
            raise ValueError(
                "parallel.reduce_dtype = 'bf16' with training.precision = "
                f"{self.training.precision!r}: gradients are {self.training.precision}: set "
                "parallel.reduce_dtype = 'fp32', or training.precision = 'bf16'"
            )
        return self

    @model_validator(mode="after")
    def _tensor_divides_the_model(self) -> Self:
        degree, model = self.parallel.tensor, self.model
        cut = ("num_heads", "num_key_value_heads", "ffn_size", "vocab_size")
        indivisible = [name for name in cut if getattr(model, name) % degree]
        if indivisible:
            found = ", ".join(f"model.{name} = {getattr(model, name)}" for name in indivisible)
            raise ValueError(
                f"parallel.tensor = {degree} does not divide {found}: each rank holds an equal "
                "part; set a common divisor of "
                + ", ".join(f"model.{name} = {getattr(model, name)}" for name in cut)
            )
        return self

    @model_validator(mode="after")
    def _pipeline_divides_the_blocks(self) -> Self:
        if self.model.num_layers % self.parallel.pipeline:
            raise ValueError(
                f"parallel.pipeline = {self.parallel.pipeline} does not divide "
                f"model.num_layers = {self.model.num_layers}: set a divisor"
            )
        return self

    @model_validator(mode="after")
    def _tokens_are_shared_evenly(self) -> Self:
        if self.parallel.sequence_parallel and self.data.sequence_length % self.parallel.tensor:
            raise ValueError(
                f"data.sequence_length = {self.data.sequence_length} is not a multiple of "
                f"parallel.tensor = {self.parallel.tensor}: with parallel.sequence_parallel each "
                "rank holds an equal part of a sequence's tokens"
            )
        return self

    @model_validator(mode="after")
    def _data_are_beside_the_run(self) -> Self:
        # Preparing replaces its folder as a whole.
        run, data = (os.path.abspath(path) for path in (self.run.folder, self.data.folder))
        if os.path.commonpath([run, data]) == data:
            raise ValueError(
                f"run.folder = {self.run.folder} is data.folder = {self.data.folder} or within it: "
                "preparing data replaces its folder as a whole; set one beside the other"
            )
        return self

    @model_validator(mode="after")
    def _evaluated_beside_is_another_kind(self) -> Self:
        # Nothing would read it.
        trained = "verifier" if self.model.head == "verifier" else "generator"
        if named := getattr(self.evaluation, trained):
            raise ValueError(
                f"evaluation.{trained} = {named!r} while a {trained} is trained: evaluations in "
                "training are of its own weights; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _fp16_is_scaled_by_zero(self) -> Self:
        if self.training.precision == "fp16" and self.parallel.zero_stage == 0:
            raise ValueError(
                "training.precision = 'fp16' with parallel.zero_stage = 0: DeepSpeed scales fp16 "
                "losses safely under ZeRO only: set zero_stage = 1 or precision = 'bf16'"
            )
        return self

    @model_validator(mode="after")
    def _offloads_beside_bf16(self) -> Self:
        if self.parallel.offload_optimizer and self.training.precision != "bf16":
            raise ValueError(
                f"parallel.offload_optimizer = true with training.precision = "
                f"{self.training.precision!r}: set precision = 'bf16'"
            )
        return self

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.optimizer.warmup_steps >= self.training.max_steps > 1:
            raise ValueError(
                f"optimizer.warmup_steps = {self.optimizer.warmup_steps} does not end before "
                f"training.max_steps = {self.training.max_steps}"
            )
        return self


class PrepareConfig(Section):
    """`launch/prepare.py`: the `data` section of a training config."""

    data: DataConfig
    """What is learned from, and how it is prepared."""
    execution: ExecutionConfig = ExecutionConfig()
    """Limits of a program that a model wrote."""


class SampleConfig(Section):
    """`launch/sample.py`: candidates on training questions, executed and labelled."""

    run: RunConfig
    """Where the run lives and what it is called."""
    sampling: SamplingConfig
    """What is sampled."""
    execution: ExecutionConfig = ExecutionConfig()
    """Limits of a program that a model wrote."""
    tracking: TrackingConfig = TrackingConfig()
    """Weights & Biases."""


class EvaluateConfig(Section):
    """`launch/evaluate.py`: a saved generator, with or without a verifier."""

    run: RunConfig
    """Where the run lives and what it is called."""
    evaluation: EvaluationConfig
    """What is evaluated."""
    execution: ExecutionConfig = ExecutionConfig()
    """Limits of a program that a model wrote."""
    tracking: TrackingConfig = TrackingConfig()
    """Weights & Biases."""

    @model_validator(mode="after")
    def _there_is_something_to_do(self) -> Self:
        if not self.evaluation.generator:
            raise ValueError("evaluation.generator is empty: name a checkpoint or model folder")
        check_evaluates_once(self.evaluation)
        return self


def check_evaluates_once(evaluation: EvaluationConfig) -> None:
    """Check what an evaluation on its own, not in training, asks for.

    Raises:
        ValueError: there is no benchmark, or a setting that only training reads.
    """
    if not evaluation.benchmarks:
        raise ValueError("evaluation.benchmarks is empty: name at least one benchmark")
    if evaluation.every_steps:
        raise ValueError(
            f"evaluation.every_steps = {evaluation.every_steps}: this evaluation runs once, after "
            "training; leave it out, or set it in the training's own evaluation table"
        )
