"""The sections of a config file, one class per TOML table.

Units are in the names. A field without a unit is a count, a fraction or a name.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from training.config.values import (
    LARGEST_COUNT,
    LARGEST_FLOAT32,
    LARGEST_SEED,
    MOST_EXAMPLES,
    MOST_STEPS,
    MOST_TOKENS,
    MOST_WORKERS,
    SMALLEST_FLOAT32,
    Folder,
    HeadKind,
    Many,
    OptionalSource,
    PositiveTemperature,
    Precision,
    Section,
    Source,
    Temperature,
)


class RunConfig(Section):
    """Where a run lives and what it is called."""

    folder: Folder
    """Run folder: config, checkpoints, metrics, logs. Made when missing."""
    name: str = Field(default="run", min_length=1)
    """What people call it; the W&B group is the recipe's name."""
    seed: int = Field(default=1, ge=0, lt=2**31)
    """Seeds initial weights, order of rows, and samples."""
    resume: Literal["auto", "never"] = "auto"
    """`auto`: go on from the newest checkpoint that verifies; `never`: refuse to start
    in a folder that holds checkpoints."""
    watchdog_minutes: float = Field(default=20.0, ge=0.0, lt=30.0)
    """Silence of a rank at work (no step, batch or checkpoint file) after which it writes its
    stacks to its log and an alert is sent; 0: never. Training ranks give up after 30."""


class ModelConfig(Section):
    """The shape of a Phi-1.5 style transformer and where its weights come from."""

    hidden_size: int = Field(default=2048, ge=8, le=2**20)
    num_layers: int = Field(default=24, ge=1, le=10_000)
    num_heads: int = Field(default=32, ge=1, le=2**20)
    ffn_size: int = Field(default=8192, ge=8, le=2**24)
    """Width of the MLP's hidden layer."""
    vocab_size: int = Field(default=51200, ge=300, le=65536)
    """Rows of the embedding: at least the tokenizer's ids; token ids are stored as uint16."""
    max_tokens: int = Field(default=2048, ge=16, le=MOST_TOKENS)
    """Longest document the rotary positions are meant for."""
    rotary_fraction: float = Field(default=0.5, gt=0.0, le=1.0)
    """Share of each head's dimensions that is rotated."""
    rope_theta: float = Field(default=10000.0, gt=1.0, le=LARGEST_FLOAT32)
    layer_norm_eps: float = Field(default=1e-5, ge=SMALLEST_FLOAT32, le=1.0)
    init_std: float = Field(default=0.02, ge=SMALLEST_FLOAT32, le=1e6)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout on the attention's and the MLP's output while training."""
    head: HeadKind = "language_model"
    initial_weights: OptionalSource = ""
    """Hugging Face folder, checkpoint folder or hub id to start from; empty: random."""
    activation_checkpointing: bool = False
    """Recompute each block's activations in the backward pass to save memory."""

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size = {self.hidden_size} is not a multiple of num_heads = "
                f"{self.num_heads}: set num_heads to a divisor of hidden_size"
            )
        rotated = self.rotary_fraction * (self.hidden_size // self.num_heads)
        if rotated != int(rotated) or int(rotated) % 2:
            raise ValueError(
                f"rotary_fraction = {self.rotary_fraction} of a head of "
                f"{self.hidden_size // self.num_heads} dimensions is {rotated}: "
                "it must be an even whole number"
            )
        return self


class TokenizerConfig(Section):
    """Which tokenizer turns text into ids."""

    source: Source = "microsoft/phi-1_5"
    """Local folder, hub id, or `train`: a byte-level BPE trained on the examples."""
    vocab_size: int = Field(default=1024, ge=300, le=65536)
    """Ids of a trained tokenizer; ignored by an existing one, which has its own."""


class DifficultyConfig(Section):
    """How hard the built-in problems are."""

    min_operations: int = Field(default=2, ge=1, le=10)
    max_operations: int = Field(default=4, ge=1, le=10)
    """Operations the answer needs: drawn evenly between the two."""
    min_distractors: int = Field(default=0, ge=0, le=6)
    max_distractors: int = Field(default=1, ge=0, le=6)
    """Irrelevant facts among the needed ones."""
    story_kinds: Many[str] = ()
    """Kinds of stories told; empty: all."""
    num_phrasings: int = Field(default=4, ge=1, le=4)
    """Wordings of each kind of fact."""
    num_names: int = Field(default=40, ge=8, le=40)
    """Names that people may have."""
    num_items: int = Field(default=12, ge=6, le=12)
    """Things that a kind of story may be about."""
    max_given: int = Field(default=60, ge=12, le=1000)
    """No number given in a problem is larger."""
    max_number: int = Field(default=1000, ge=100, le=9999)
    """No quantity worked out in a problem is larger."""
    decimals: bool = False
    """Whether prices may have quarters of a dollar."""
    reversed_comparison_fraction: float = Field(default=0.25, ge=0.0, le=1.0)
    """Share of the comparisons that are told from the side of what is known: `Maya picked 5
    fewer plums than Tom` where Tom's are asked for."""

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        for name in ("operations", "distractors"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low > high:
                raise ValueError(f"min_{name} = {low} is above max_{name} = {high}")
        return self


def _check_kind_reads(section: Section, kind: str) -> None:
    """Refuse settings of a source or a benchmark that its kind does not read."""
    unread = {
        "problems": ("path", "split", "damaged"),
        "candidates": ("split", "seed", "difficulty"),
    }.get(kind, ("seed", "difficulty"))
    known = type(section).model_fields
    if found := section.changed(*(name for name in unread if name in known)):
        raise ValueError(f"{found} with kind = {kind!r}, which does not read it: leave it out")


class SourceConfig(Section):
    """One source of question-program pairs."""

    kind: Literal["problems", "parquet", "jsonl", "gsm8k", "candidates"]
    """`problems`: the built-in writer; `parquet`: TinyGSM's files (`question`, `code`);
    `jsonl`: the same columns as JSON lines or a JSON list; `gsm8k`: GSM8K's train split by its
    calculator marks; `candidates`: labelled candidates of the sample stage, for a verifier."""
    path: OptionalSource = ""
    """Local file or folder, or hub id (`TinyGSM/TinyGSM`); unused by `problems`."""
    split: str = "train"
    num_examples: int = Field(default=0, ge=0, le=MOST_EXAMPLES)
    """How many to take from the front; 0: all. `problems` needs a number."""
    seed: int = Field(default=1, ge=0, le=LARGEST_SEED)
    """Seed of the built-in writer: another seed, other problems."""
    difficulty: DifficultyConfig = DifficultyConfig()
    misread_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Of `problems`: share of the misleading facts (turned comparisons, `25 percent more`,
    `3 dollars for every 4`) that the programs misread, as the teacher of a synthetic set
    does; in about a quarter of TinyGSM's rows the program is wrong. Questions and gold
    answers do not depend on it."""
    damaged: Literal["refuse", "skip"] = "refuse"
    """Lines, row groups and files that cannot be read: `refuse` ends with a message that names
    the first; `skip` leaves them out and counts them among the dropped rows."""
    balance: Literal["none", "question"] = "none"
    """Of `candidates`: `question` keeps as many wrong as right programs of each question, of
    those that all other filters leave, so that how hard a question is tells nothing of the
    label; `none` keeps all."""

    @model_validator(mode="after")
    def _misread_are_problems(self) -> Self:
        if self.misread_fraction and self.kind != "problems":
            raise ValueError(
                f"misread_fraction = {self.misread_fraction} with kind = {self.kind!r}: only the "
                "programs of 'problems' are written here, leave misread_fraction out"
            )
        return self

    @model_validator(mode="after")
    def _balance_is_of_candidates(self) -> Self:
        if self.balance != "none" and self.kind != "candidates":
            raise ValueError(
                f"balance = {self.balance!r} with kind = {self.kind!r}: only 'candidates' "
                "are labelled, leave balance out"
            )
        return self

    @model_validator(mode="after")
    def _settings_are_of_the_kind(self) -> Self:
        _check_kind_reads(self, self.kind)
        return self

    @model_validator(mode="after")
    def _source_is_complete(self) -> Self:
        if self.kind == "problems" and not self.num_examples:
            raise ValueError("kind = 'problems' has no end: set num_examples")
        if self.kind != "problems" and not self.path:
            raise ValueError(f"kind = {self.kind!r} needs a path")
        return self


class BenchmarkConfig(Section):
    """One set of questions with gold answers."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    """Its name in metrics and reports: `eval/NAME/pass_at_1`."""
    kind: Literal["problems", "gsm8k", "svamp"]
    path: OptionalSource = ""
    """Local file or folder, or hub id (`openai/gsm8k`); unused by `problems`."""
    split: str = "test"
    """Of `gsm8k`. SVAMP is one test set, whatever splits it is published in."""
    skip_questions: int = Field(default=0, ge=0, le=MOST_EXAMPLES)
    """Questions passed over at the front: how a hold-out is cut from a train split."""
    num_questions: int = Field(default=0, ge=0, le=MOST_EXAMPLES)
    """How many to take after those; 0: all. `problems` needs a number."""
    seed: int = Field(default=1_000_003, ge=0, le=LARGEST_SEED)
    """Seed of the built-in writer; never one that training uses."""
    difficulty: DifficultyConfig = DifficultyConfig()

    @model_validator(mode="after")
    def _settings_are_of_the_kind(self) -> Self:
        _check_kind_reads(self, self.kind)
        return self

    @model_validator(mode="after")
    def _svamp_has_one_split(self) -> Self:
        if self.kind == "svamp" and self.split != "test":
            raise ValueError(
                f"split = {self.split!r} with kind = 'svamp': SVAMP is one test set of 1,000 "
                "questions, all of which are read; leave split out"
            )
        return self

    @model_validator(mode="after")
    def _benchmark_is_complete(self) -> Self:
        if self.kind == "problems" and not self.num_questions:
            raise ValueError("kind = 'problems' has no end: set num_questions")
        if self.kind != "problems" and not self.path:
            raise ValueError(f"kind = {self.kind!r} needs a path")
        return self


class DataConfig(Section):
    """What is learnt from, and how it becomes rows of tokens."""

    folder: Folder
    """Where `prepare` writes the token shards, the tokenizer and the manifest."""
    sources: Many[SourceConfig] = Field(min_length=1)
    tokenizer: TokenizerConfig = TokenizerConfig()
    sequence_length: int = Field(default=1024, ge=32, le=MOST_TOKENS)
    """Tokens of a packed sequence; longer examples are dropped and counted."""
    train_on_prompt: bool = False
    """Whether the question's tokens count in the loss: `true` is the paper's whole-text form;
    with `false` the question is context only."""
    decontaminate: Many[BenchmarkConfig] = ()
    """Examples whose question overlaps one of these are dropped."""
    decontaminate_ngram: int = Field(default=13, ge=4, le=1000)
    """Length, in words without numbers and punctuation, of an n-gram that counts as overlap."""
    min_question_characters: int = Field(default=20, ge=0, le=10**6)
    """Shorter questions are dropped."""
    run_programs: bool = True
    """Drop programs that do not run or give no finite number."""
    num_workers: int = Field(default=0, ge=0, le=MOST_WORKERS)
    """Worker processes of prepare; 0: one per core. Under MPI the ranks work instead."""
    prepare_if_missing: bool = False
    """Let `train` run `prepare` first, for small data only: where the folder is empty, and where
    it was made from other settings or files, when it is replaced."""

    @model_validator(mode="after")
    def _settings_are_of_what_is_learnt(self) -> Self:
        # Candidates: of their questions nothing is learnt, and their programs were run already.
        unread = self.changed("train_on_prompt", "min_question_characters", "run_programs")
        if self.is_for_verifier and unread:
            raise ValueError(
                f"{unread} with sources of kind 'candidates', for which it is not read: leave it "
                "out"
            )
        return self

    @property
    def is_for_verifier(self) -> bool:
        """Whether the data is labelled candidates."""
        return all(source.kind == "candidates" for source in self.sources)


class TrainingConfig(Section):
    """The training loop."""

    max_steps: int = Field(default=1000, ge=1, le=MOST_STEPS)
    """Optimizer updates."""
    global_batch_sequences: int = Field(default=64, ge=1, le=LARGEST_COUNT)
    """Packed sequences of one update, over all ranks and accumulation."""
    micro_batch_sequences: int = Field(default=8, ge=1, le=LARGEST_COUNT)
    """Packed sequences that one rank computes at a time."""
    precision: Precision = "bf16"
    prompt_loss_weight: float = Field(default=1.0, ge=0.0, le=1.0)
    """Weight of a question's token in the loss beside a program's 1, where
    data.train_on_prompt = true."""
    log_every_steps: int = Field(default=1, ge=1, le=MOST_STEPS)
    """Steps between two log lines of the terminal or the log; metrics.jsonl gets every step."""
    device: Literal["auto", "cpu", "cuda"] = "auto"


class CheckpointConfig(Section):
    """When training state is saved, and which checkpoints are kept."""

    every_steps: int = Field(default=100, ge=1, le=MOST_STEPS)
    """Optimizer updates between two checkpoints; the last update is always saved."""
    keep_latest: int = Field(default=0, ge=0, le=MOST_STEPS)
    """Number of newest checkpoints kept; 0: all of them (sampling uses several)."""
    keep_steps: Many[Annotated[int, Field(ge=1, le=MOST_STEPS)]] = ()
    """Steps whose checkpoints are kept as well, however old; a recipe adds those it samples."""


class OptimizerConfig(Section):
    """AdamW and its schedule."""

    learning_rate: float = Field(default=1e-4, ge=SMALLEST_FLOAT32, le=LARGEST_FLOAT32)
    """Peak, reached after the warm-up."""
    final_learning_rate_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the peak that the decay ends at."""
    warmup_steps: int = Field(default=100, ge=0, le=MOST_STEPS)
    decay: Literal["linear", "cosine", "constant"] = "linear"
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta2: float = Field(default=0.95, ge=0.0, lt=1.0)
    eps: float = Field(default=1e-8, ge=SMALLEST_FLOAT32, le=1.0)
    weight_decay: float = Field(default=0.01, ge=0.0, le=LARGEST_FLOAT32)
    """On matrices only; biases and LayerNorm are left alone."""
    max_grad_norm: float = Field(default=1.0, ge=0.0, le=LARGEST_FLOAT32)
    """Largest global gradient norm; 0: no clipping."""

    @model_validator(mode="after")
    def _only_a_decay_ends_somewhere(self) -> Self:
        if self.decay == "constant" and self.final_learning_rate_fraction:
            raise ValueError(
                f"final_learning_rate_fraction = {self.final_learning_rate_fraction} with decay = "
                "'constant': the rate stays at its peak; leave it out, or set another decay"
            )
        return self


class ParallelConfig(Section):
    """The layout: how a model is spread over ranks. The data degree is what is left."""

    tensor: int = Field(default=1, ge=1, le=MOST_WORKERS)
    pipeline: int = Field(default=1, ge=1, le=MOST_WORKERS)
    zero_stage: int = Field(default=1, ge=0, le=3)
    sequence_parallel: bool = False
    """Sequence parallelism within the tensor-parallel group."""

    @model_validator(mode="after")
    def _pipeline_needs_zero_one(self) -> Self:
        if self.pipeline > 1 and self.zero_stage != 1:
            raise ValueError(
                f"pipeline = {self.pipeline} with zero_stage = {self.zero_stage}: DeepSpeed's "
                "pipeline runs with ZeRO-1 only: set zero_stage = 1"
            )
        return self

    @model_validator(mode="after")
    def _sequence_needs_tensor(self) -> Self:
        if self.sequence_parallel and self.tensor == 1:
            raise ValueError(
                "sequence_parallel = true with tensor = 1: tokens are shared within the "
                "tensor-parallel "
                "group, which has one rank: set tensor = 2 or more, or "
                "sequence_parallel = false"
            )
        return self


class ExecutionConfig(Section):
    """Limits of a model-written program."""

    timeout_seconds: float = Field(default=0.5, ge=1e-3, le=60.0)
    """CPU time of one program."""
    memory_mib: int = Field(default=256, ge=64, le=2**24)
    max_output_bytes: int = Field(default=65536, ge=1024, le=2**30)
    num_workers: int = Field(default=1, ge=1, le=MOST_WORKERS)
    """Executing processes per rank."""


class SamplingConfig(Section):
    """Which candidates are sampled, from which checkpoints, on which questions."""

    checkpoints: Many[Source] = ()
    """Checkpoint or Hugging Face folders. In a recipe: step numbers of its generator."""
    temperatures: Many[Temperature] = Field(default=(0.5, 0.7), min_length=1)
    """Candidates are spread evenly over checkpoints x temperatures."""
    top_p: float = Field(default=1.0, ge=1e-6, le=1.0)
    num_candidates: int = Field(default=48, ge=1, le=LARGEST_COUNT)
    """Per question, over all checkpoints and temperatures."""
    questions: BenchmarkConfig = BenchmarkConfig(
        name="gsm8k_train", kind="gsm8k", path="openai/gsm8k", split="train"
    )
    """What is asked: never a question that anything is evaluated on."""
    max_new_tokens: int = Field(default=256, ge=1, le=MOST_TOKENS)
    micro_batch_candidates: int = Field(default=256, ge=1, le=LARGEST_COUNT)
    """Candidates one rank decodes at a time."""
    questions_per_part: int = Field(default=64, ge=1, le=LARGEST_COUNT)
    """Questions of one committed part: what a killed stage loses at most, per rank."""

    @model_validator(mode="after")
    def _questions_are_no_test_set(self) -> Self:
        kind, split = self.questions.kind, self.questions.split
        if kind == "svamp":
            raise ValueError(
                "questions.kind = 'svamp': SVAMP is a test set, and a verifier that learns from "
                "test questions makes every number after it worthless: sample 'gsm8k' with "
                "split = 'train', or 'problems'"
            )
        if kind != "problems" and split != "train":
            raise ValueError(
                f"questions.split = {split!r}: a verifier that learns from "
                "test questions makes every number after it worthless: set split = 'train'"
            )
        return self

    @model_validator(mode="after")
    def _candidates_spread_evenly(self) -> Self:
        shares = max(1, len(self.checkpoints)) * len(self.temperatures)
        if self.num_candidates % shares:
            raise ValueError(
                f"num_candidates = {self.num_candidates} does not spread over "
                f"{len(self.checkpoints)} checkpoints x {len(self.temperatures)} temperatures: "
                f"set a multiple of {shares}"
            )
        return self


class EvaluationConfig(Section):
    """Verify@N and its neighbours on benchmarks, in training and on its own."""

    every_steps: int = Field(default=0, ge=0, le=MOST_STEPS)
    """Steps between evaluations in training; 0: never."""
    benchmarks: Many[BenchmarkConfig] = ()
    generator: OptionalSource = ""
    """Folder of the generator that writes the candidates (evaluating a verifier or a pair)."""
    verifier: OptionalSource = ""
    """Folder of the verifier that scores them; empty: no verify@k."""
    num_candidates: int = Field(default=48, ge=1, le=LARGEST_COUNT)
    temperatures: Many[PositiveTemperature] = Field(default=(0.5, 0.7), min_length=1)
    top_p: float = Field(default=1.0, ge=1e-6, le=1.0)
    max_new_tokens: int = Field(default=256, ge=1, le=MOST_TOKENS)
    micro_batch_candidates: int = Field(default=256, ge=1, le=LARGEST_COUNT)
    questions_per_part: int = Field(default=64, ge=1, le=LARGEST_COUNT)
    num_bootstrap: int = Field(default=2000, ge=100, le=10**6)
    """Resamples of the questions behind each 95 % interval."""

    @model_validator(mode="after")
    def _candidates_spread_evenly(self) -> Self:
        if self.num_candidates % len(self.temperatures):
            raise ValueError(
                f"num_candidates = {self.num_candidates} does not spread over "
                f"{len(self.temperatures)} temperatures: set a multiple of {len(self.temperatures)}"
            )
        return self


class TrackingConfig(Section):
    """Weights & Biases. Everything is in metrics.jsonl as well."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """`auto`: online when a key is in the environment, else offline, said once."""
    project: str = "tinygsm"
    entity: str = ""
    group: str = ""
    """W&B group; empty: the run's name. A recipe puts all its stages into one."""
    tags: Many[str] = ()
    num_table_rows: int = Field(default=32, ge=0, le=LARGEST_COUNT)
    """Rows of the table of evaluation samples."""
