"""The sections on sampling candidates and on evaluating with them."""

from pydantic import Field, model_validator
from typing_extensions import Self

from training.config.sources import BenchmarkConfig
from training.config.values import (
    LARGEST_COUNT,
    MOST_STEPS,
    MOST_TOKENS,
    Many,
    OptionalPromptTemplate,
    OptionalSource,
    PositiveTemperature,
    Section,
    Source,
    Temperature,
)


class SamplingConfig(Section):
    """Which candidates are sampled, from which checkpoints, on which questions."""

    many_lines = ("prompt_template",)

    checkpoints: Many[Source] = ()
    """Checkpoint or Hugging Face folders. In a recipe: steps of its generator."""
    prompt_template: OptionalPromptTemplate = ""
    """As `data.prompt_template`, for generators that were not trained here. Empty: as the
    generators were trained, which is in their folders; `function` where it is not."""
    temperatures: Many[Temperature] = Field(default=(0.5, 0.7), min_length=1)
    """Sampling temperatures; 0 takes the most likely token. Candidates are divided evenly among
    checkpoints x temperatures."""
    top_p: float = Field(default=1.0, ge=1e-6, le=1.0)
    """Sample from the most likely tokens that hold this much of the probability (nucleus sampling,
    arXiv 1904.09751); 1: from all tokens."""
    num_candidates: int = Field(default=48, ge=1, le=LARGEST_COUNT)
    """Candidates per question, over all checkpoints and temperatures."""
    questions: BenchmarkConfig = BenchmarkConfig(
        name="gsm8k_train", kind="gsm8k", path="openai/gsm8k", split="train"
    )
    """The questions to sample on: never a question that is evaluated."""
    max_new_tokens: int = Field(default=256, ge=1, le=MOST_TOKENS)
    """Longest candidate, in tokens."""
    micro_batch_candidates: int = Field(default=256, ge=1, le=LARGEST_COUNT)
    """Candidates that one rank decodes at a time."""
    questions_per_part: int = Field(default=64, ge=1, le=LARGEST_COUNT)
    """Questions of one committed part. A rank that is killed loses at most one part."""

    @model_validator(mode="after")
    def _questions_are_no_test_set(self) -> Self:
        kind, split = self.questions.kind, self.questions.split
        if kind != "problems" and self.questions.published.splits:
            raise ValueError(
                f"questions.kind = {kind!r}: {self.questions.published.title} is a test set, and a "
                "verifier that learns from test questions makes every number after it worthless: "
                "sample 'gsm8k' with split = 'train', or 'problems'"
            )
        if kind != "problems" and split != "train":
            raise ValueError(
                f"questions.split = {split!r}: a verifier that learns from "
                "test questions makes every number after it worthless: set split = 'train'"
            )
        return self

    @model_validator(mode="after")
    def _candidates_spread_evenly(self) -> Self:
        num_groups = max(1, len(self.checkpoints)) * len(self.temperatures)
        if self.num_candidates % num_groups:
            raise ValueError(
                f"num_candidates = {self.num_candidates} does not spread over "
                f"{len(self.checkpoints)} checkpoints x {len(self.temperatures)} temperatures: "
                f"set a multiple of {num_groups}"
            )
        return self


class EvaluationConfig(Section):
    """Pass@1, pass@k, majority@k and verify@k on benchmarks, in training and on their own."""

    many_lines = ("prompt_template",)

    every_steps: int = Field(default=0, ge=0, le=MOST_STEPS)
    """Steps between two evaluations in training; 0: none."""
    benchmarks: Many[BenchmarkConfig] = ()
    """The question sets."""
    generator: OptionalSource = ""
    """Folder of the generator that writes the candidates, when a verifier or a pair is
    evaluated."""
    verifier: OptionalSource = ""
    """Folder of the verifier that scores the candidates; empty: no verify@k."""
    prompt_template: OptionalPromptTemplate = ""
    """The generator's, as `sampling.prompt_template`. A verifier has that of its own training."""
    num_candidates: int = Field(default=48, ge=1, le=LARGEST_COUNT)
    """Candidates per question, over all temperatures."""
    temperatures: Many[PositiveTemperature] = Field(default=(0.5, 0.7), min_length=1)
    """Sampling temperatures, above 0. Candidates are divided evenly among them; the greedy program
    is drawn in addition."""
    top_p: float = Field(default=1.0, ge=1e-6, le=1.0)
    """Nucleus sampling, as in `sampling.top_p`."""
    max_new_tokens: int = Field(default=256, ge=1, le=MOST_TOKENS)
    """Longest candidate, in tokens."""
    micro_batch_candidates: int = Field(default=256, ge=1, le=LARGEST_COUNT)
    """Candidates that one rank decodes at a time."""
    questions_per_part: int = Field(default=64, ge=1, le=LARGEST_COUNT)
    """Questions of one committed part of `evaluate`."""
    num_bootstrap: int = Field(default=2000, ge=100, le=10**6)
    """Bootstrap resamples of the questions for each 95 % interval."""
    corrections: OptionalSource = ""
    """File of corrected gold answers, by which `evaluate` measures a second time, beside the
    published ones; `shipped`: the file that comes with this package, for GSM8K's test split. Not
    for evaluations in training."""

    @model_validator(mode="after")
    def _prompts_are_of_a_saved_generator(self) -> Self:
        if self.prompt_template and not self.generator:
            raise ValueError(
                f"prompt_template = {self.prompt_template!r} without a generator, whose prompts it "
                "is to choose: set generator, or leave prompt_template out"
            )
        return self

    @model_validator(mode="after")
    def _candidates_spread_evenly(self) -> Self:
        if self.num_candidates % len(self.temperatures):
            raise ValueError(
                f"num_candidates = {self.num_candidates} does not spread over "
                f"{len(self.temperatures)} temperatures: set a multiple of {len(self.temperatures)}"
            )
        return self

    @model_validator(mode="after")
    def _benchmarks_have_names_of_their_own(self) -> Self:
        names = [entry.name for entry in self.benchmarks]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"benchmarks has the name {twice[0]!r} twice, in {', '.join(names)}: metrics and "
                "files are named by it; set another name"
            )
        return self

    @model_validator(mode="after")
    def _corrections_are_read(self) -> Self:
        if self.corrections and self.every_steps:
            raise ValueError(
                f"corrections = {self.corrections!r} with every_steps = {self.every_steps}: "
                "evaluations in training do not read it; leave corrections out, or every_steps"
            )
        return self
