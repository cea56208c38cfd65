"""The section `data`: what is prepared, and how."""

from pydantic import Field, model_validator
from typing_extensions import Self

from training.config.sources import BenchmarkConfig, SourceConfig
from training.config.values import (
    CHAT_PROMPT,
    FUNCTION_PROMPT,
    MOST_IDS,
    MOST_TOKENS,
    MOST_WORKERS,
    QUESTION,
    Folder,
    Many,
    PromptTemplate,
    Section,
    Source,
)


class TokenizerConfig(Section):
    """Which tokenizer turns text into ids."""

    source: Source = "microsoft/phi-1_5"
    """Local folder or hub id of a tokenizer, or `train`: train a byte-level BPE on the examples."""
    vocab_size: int = Field(default=1024, ge=300, le=MOST_IDS)
    """Number of ids of the tokenizer that `source = "train"` trains; an existing tokenizer has its
    own."""


class DataConfig(Section):
    """What is learned from, and how it is turned into packed sequences."""

    many_lines = ("prompt_template",)

    folder: Folder
    """Folder where `prepare` writes the token shards, the tokenizer and the manifest."""
    remote: str = ""
    """URL of a data folder that `prepare` wrote (`s3://bucket/folder`, `https://…`). `folder` is
    then each node's copy of it: training starts at once, and the shards are fetched meanwhile."""
    sources: Many[SourceConfig] = Field(min_length=1)
    """Sources of the examples, read in this order."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """The tokenizer."""
    prompt_template: PromptTemplate = FUNCTION_PROMPT
    """How a question becomes a prompt. `function`: TinyGSM's function header, with the question as
    its docstring; `chat`: the tokenizer's chat template; or a text in which `{question}` stands for
    the question."""
    sequence_length: int = Field(default=1024, ge=32, le=MOST_TOKENS)
    """Length of a packed sequence, in tokens. Longer examples are dropped and counted."""
    train_on_prompt: bool = False
    """Whether the tokens of the question count in the loss. `true` is the paper's whole-text form;
    with `false` the question is context only."""
    decontaminate: Many[BenchmarkConfig] = ()
    """Benchmarks to keep out of the data: an example is dropped if its question overlaps a question
    of one of them."""
    decontaminate_ngram: int = Field(default=13, ge=4, le=1000)
    """Length of an n-gram that counts as overlap, in words, without numbers and punctuation."""
    decontaminate_similarity: float = Field(default=0.5, ge=0.0, le=1.0)
    """Similarity from which on a question is dropped as a near duplicate of a benchmark question:
    the fraction of 3-grams of words, without numbers, that the two have in common (Jaccard), at
    least 0.5; 0: only n-grams are compared."""
    near_duplicate_similarity: float = Field(default=0.9, ge=0.0, le=0.95)
    """Similarity, as above, from which on two examples are near duplicates, of which the first is
    kept, if their questions have the same numbers in the same order; at least 0.5. 0: only
    questions that differ in case, space and punctuation are duplicates."""
    min_question_characters: int = Field(default=20, ge=0, le=10**6)
    """Questions with fewer characters are dropped."""
    run_programs: bool = True
    """Execute every program and drop those that fail or give no finite number."""
    num_workers: int = Field(default=0, ge=0, le=MOST_WORKERS)
    """Worker processes of `prepare`; 0: one per core. Under MPI the ranks are the workers."""
    prepare_if_missing: bool = False
    """Let `train` prepare the data first where the folder is empty, or where it was prepared from
    other settings or files (it is then replaced). Meant for small data."""

    @model_validator(mode="after")
    def _settings_are_of_what_is_learned(self) -> Self:
        # Candidates: nothing is learned from their questions, and their labels say how they end.
        unread = self.changed(
            "train_on_prompt",
            "min_question_characters",
            "near_duplicate_similarity",
            "run_programs",
        )
        if self.is_for_verifier and unread:
            raise ValueError(
                f"{unread} with sources of kind {self.sources[0].kind!r}, for which it is not "
                "read: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _compared_programs_are_run(self) -> Self:
        for number, source in enumerate(self.sources):
            if source.columns.gold and source.form == "code" and not self.run_programs:
                raise ValueError(
                    f"run_programs = false with sources.{number}.columns.gold = "
                    f"{source.columns.gold!r}: programs are run to compare their results with it; "
                    "leave one of the two out"
                )
        return self

    @model_validator(mode="after")
    def _chat_templates_are_the_tokenizers(self) -> Self:
        if self.prompt_template == CHAT_PROMPT and self.tokenizer.source == "train":
            raise ValueError(
                f"prompt_template = {CHAT_PROMPT!r} with tokenizer.source = 'train': a tokenizer "
                "that is trained on the examples has no chat template; name one that has, or set "
                f"prompt_template to {FUNCTION_PROMPT!r} or a text with {QUESTION}"
            )
        return self

    @model_validator(mode="after")
    def _all_sources_are_weighted(self) -> Self:
        weights = [source.weight for source in self.sources]
        if any(weights) and not all(weights):
            raise ValueError(
                f"sources have the weights {', '.join(map(str, weights))}: set a weight above 0 "
                "for all of them, or for none"
            )
        return self

    @model_validator(mode="after")
    def _similarities_are_high(self) -> Self:
        for name in ("decontaminate_similarity", "near_duplicate_similarity"):
            if 0 < (similarity := getattr(self, name)) < 0.5:
                raise ValueError(
                    f"{name} = {similarity}: questions that have less than half of their words in "
                    "common are not found; set 0.5 or more, or 0 for no comparison"
                )
        return self

    @model_validator(mode="after")
    def _remote_data_is_prepared(self) -> Self:
        if self.remote and self.prepare_if_missing:
            raise ValueError(
                f"prepare_if_missing = true with remote = {self.remote!r}, where the data is "
                "prepared already: leave one of them out"
            )
        return self

    @property
    def source_weights(self) -> tuple[float, ...]:
        """The sources' weights; empty: they are packed and drawn together."""
        return tuple(source.weight for source in self.sources if source.weight)

    @property
    def is_for_verifier(self) -> bool:
        """Whether the data is labelled candidates."""
        return all(source.is_labelled for source in self.sources)

    def runs(self, source: SourceConfig) -> bool:
        """Whether the programs of a source are executed when it is prepared."""
        if source.is_labelled:
            return source.form == "code" and bool(source.columns.gold)
        return source.form == "code" and self.run_programs
