"""The sections on data: tokenizer, sources of examples, benchmarks, and how data is prepared."""

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from training.config.benchmark_sets import SETS, BenchmarkKind, BenchmarkSet
from training.config.columns import ColumnsConfig, Extractor, Form, column_problems
from training.config.values import (
    CHAT_PROMPT,
    FUNCTION_PROMPT,
    LARGEST_SEED,
    MOST_EXAMPLES,
    MOST_IDS,
    MOST_TOKENS,
    MOST_WORKERS,
    QUESTION,
    Folder,
    Many,
    OptionalSource,
    PromptTemplate,
    Section,
    Source,
)

DEFAULT_CACHE_GIB = 20
_REVISION = r"^[\w./-]*$"


class TokenizerConfig(Section):
    """Which tokenizer turns text into ids."""

    source: Source = "microsoft/phi-1_5"
    """Local folder or hub id of a tokenizer, or `train`: train a byte-level BPE on the examples."""
    vocab_size: int = Field(default=1024, ge=300, le=MOST_IDS)
    """Number of ids of the tokenizer that `source = "train"` trains; an existing tokenizer has its
    own."""


class DifficultyConfig(Section):
    """How hard the built-in problems are."""

    min_operations: int = Field(default=2, ge=1, le=10)
    """Smallest number of operations that an answer needs."""
    max_operations: int = Field(default=4, ge=1, le=10)
    """Largest number of operations that an answer needs; each number between the two is equally
    likely."""
    min_distractors: int = Field(default=0, ge=0, le=6)
    """Smallest number of irrelevant facts in a problem."""
    max_distractors: int = Field(default=1, ge=0, le=6)
    """Largest number of irrelevant facts in a problem."""
    story_kinds: Many[str] = ()
    """Kinds of stories, such as `bakery` or `farm`; empty: all of them."""
    num_phrasings: int = Field(default=4, ge=1, le=4)
    """Number of wordings of each kind of fact."""
    num_names: int = Field(default=40, ge=8, le=40)
    """Number of names that people can have."""
    num_items: int = Field(default=12, ge=6, le=12)
    """Number of things that a kind of story can be about."""
    max_given: int = Field(default=60, ge=12, le=1000)
    """Largest number that a problem states."""
    max_number: int = Field(default=1000, ge=100, le=9999)
    """Largest quantity that has to be worked out."""
    decimals: bool = False
    """Whether prices can have quarters of a dollar."""
    reversed_comparison_fraction: float = Field(default=0.25, ge=0.0, le=1.0)
    """Fraction of the comparisons that are stated from the known side: `Maya picked 5 fewer plums
    than Tom` where the number of Tom's plums is asked for."""

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        for name in ("operations", "distractors"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low > high:
                raise ValueError(f"min_{name} = {low} is above max_{name} = {high}")
        return self


def _check_kind_reads(section: Section, kind: str) -> None:
    """Refuse settings of a source or a benchmark that its kind does not read."""
    mapping = ("columns", "form", "extractor", "reward_threshold")
    unread = {
        "problems": (
            "path",
            "split",
            "damaged",
            "revision",
            "cache_folder",
            "cache_gib",
            "subset",
            "question_column",
            "answer_column",
            *mapping,
        ),
        "candidates": (
            "split",
            "seed",
            "difficulty",
            "revision",
            "cache_folder",
            "cache_gib",
            *mapping,
        ),
        "gsm8k": ("seed", "difficulty", *mapping),
    }.get(kind, ("seed", "difficulty"))
    known = type(section).model_fields
    if found := section.changed(*(name for name in unread if name in known)):
        raise ValueError(f"{found} with kind = {kind!r}, which does not read it: leave it out")


class SourceConfig(Section):
    """One source of questions with answers."""

    kind: Literal["problems", "parquet", "jsonl", "gsm8k", "candidates", "rollouts"]
    """`problems`: the built-in problem writer. `parquet`: TinyGSM's files, with the columns
    `question` and `code`, or those that `columns` names. `jsonl`: JSON lines or a JSON list with
    the same columns, or with `question` and `program`. `gsm8k`: GSM8K answers, converted to
    programs through their calculator marks. `candidates`: labelled candidates written by `sample`,
    for a verifier. `rollouts`: sampled answers of any generator with rewards or gold answers, for
    a verifier; JSON or Parquet with the columns that `columns` names."""
    path: OptionalSource = ""
    """Local file or folder, hub id (`TinyGSM/TinyGSM`) or URL (`s3://`, `gs://`, `hf://`,
    `https://`) of a file or a folder; not read by `problems`."""
    revision: str = Field(default="", pattern=_REVISION)
    """Commit, tag or branch of a hub data set; empty: its main branch. Only a commit gives the same
    data at any time."""
    cache_folder: OptionalSource = ""
    """Folder of this machine for files fetched from a URL; empty: `tinygsm` in the user's folder of
    caches (`XDG_CACHE_HOME`, `~/.cache`)."""
    cache_gib: int = Field(default=DEFAULT_CACHE_GIB, ge=1, le=2**20)
    """Most that `cache_folder` holds, in GiB. Files used longest ago are removed first; the file
    that is read and the next one stay in any case."""
    split: str = "train"
    """Split that is read, of a hub data set or of a folder (`train.jsonl`,
    `train-00000-of-00002.parquet`)."""
    num_examples: int = Field(default=0, ge=0, le=MOST_EXAMPLES)
    """Number of rows taken from the front; 0: all. `problems` needs a number."""
    seed: int = Field(default=1, ge=0, le=LARGEST_SEED)
    """Seed of `problems`: another seed gives other problems."""
    difficulty: DifficultyConfig = DifficultyConfig()
    """Difficulty of `problems`."""
    misread_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Fraction of the misleading facts of `problems` (reversed comparisons, `25 percent more`, `3
    dollars for every 4`) that the training programs misread, as the teacher of a synthetic set
    does; about a quarter of TinyGSM's programs are wrong. Questions and gold answers do not depend
    on it."""
    weight: float = Field(default=0.0, ge=0.0, le=1000.0, allow_inf_nan=False)
    """How often sequences of this source are drawn in training, relative to the other sources: 0.7
    and 0.3, or 7 and 3. 0 for all sources: they are packed and drawn together. Weights can be
    changed without preparing the data again."""
    damaged: Literal["refuse", "skip"] = "refuse"
    """Lines, row groups and files that cannot be read. `refuse`: end with an error that names the
    first one; `skip`: leave them out and count them among the dropped rows."""
    balance: Literal["none", "question"] = "none"
    """Which `candidates` and `rollouts` are kept after all other filters. `none`: all; `question`:
    as many wrong as right ones of each question, so that the difficulty of a question says nothing
    about the label."""
    columns: ColumnsConfig = ColumnsConfig()
    """Which columns hold question, completion, reward and gold answer."""
    form: Form = "code"
    """What the completions are. `code`: functions as TinyGSM's, or bodies of them, which are
    indented; `prose`: any other text, such as a chain of thought."""
    extractor: Extractor = "last_number"
    """How the answer of `prose` is found that is compared with gold. `last_number`: the last number
    of the text; `boxed`: the number in the last `\\boxed{}`; `hashes`: the number after the last
    `####`."""
    reward_threshold: float = Field(default=0.5, gt=0.0, le=1.0)
    """Smallest reward of an answer that is labelled right."""

    @property
    def is_labelled(self) -> bool:
        """Whether its examples are right or wrong, for a verifier."""
        return self.kind in ("candidates", "rollouts")

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
        if self.balance != "none" and not self.is_labelled:
            raise ValueError(
                f"balance = {self.balance!r} with kind = {self.kind!r}: only 'candidates' and "
                "'rollouts' are labelled, leave balance out"
            )
        return self

    @model_validator(mode="after")
    def _columns_are_complete(self) -> Self:
        if self.kind not in ("jsonl", "parquet", "rollouts"):
            return self
        problems = column_problems(
            self.columns,
            kind=self.kind,
            form=self.form,
            unread_extractor=self.changed("extractor"),
            unread_threshold=self.changed("reward_threshold"),
        )
        if found := [*problems]:
            raise ValueError("\n".join(found))
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
    """Name in metrics and reports: `eval/NAME/pass_at_1`."""
    kind: BenchmarkKind
    """`problems`: the built-in problem writer; `table`: your own file with a question and an answer
    in each row; all others: the published set of this name."""
    path: OptionalSource = ""
    """Local file or folder, hub id (`openai/gsm8k`) or URL; not read by `problems`. Empty: the hub
    id of the published set; `table` needs a path."""
    revision: str = Field(default="", pattern=_REVISION)
    """Commit, tag or branch of a hub data set; empty: its main branch, or the branch with its
    Parquet files."""
    subset: str = Field(default="", pattern=r"^[\w-]*$")
    """Hub config of a set that has several, which is a folder: `main`, `p1` or `p2` of
    `gsm_symbolic`, the language of `mgsm`. Empty: the first of them."""
    split: str = "test"
    """Split that is read. SVAMP, ASDiv and MultiArith are one test set each, whatever splits they
    are published in."""
    question_column: str = Field(default="question", min_length=1)
    """Column of a `table` with the question."""
    answer_column: str = Field(default="answer", min_length=1)
    """Column of a `table` with the gold answer: a number, a number with a unit, a fraction, or text
    that ends with `#### NUMBER`."""
    skip_questions: int = Field(default=0, ge=0, le=MOST_EXAMPLES)
    """Number of questions left out at the front, for example to separate a hold-out from a train
    split."""
    num_questions: int = Field(default=0, ge=0, le=MOST_EXAMPLES)
    """Number of questions taken after those; 0: all. `problems` needs a number."""
    seed: int = Field(default=1_000_003, ge=0, le=LARGEST_SEED)
    """Seed of `problems`; never one that training uses."""
    difficulty: DifficultyConfig = DifficultyConfig()
    """Difficulty of `problems`."""

    @model_validator(mode="after")
    def _settings_are_of_the_kind(self) -> Self:
        _check_kind_reads(self, self.kind)
        columns = self.changed("question_column", "answer_column")
        if columns and self.kind != "table":
            raise ValueError(
                f"{columns} with kind = {self.kind!r}, whose columns are known: leave it out, or "
                "set kind = 'table'"
            )
        return self

    @model_validator(mode="after")
    def _subset_is_one_of_the_set(self) -> Self:
        if self.kind in ("problems", "table") or not self.subset:
            return self
        known = self.published.subsets
        if len(known) < 2:
            raise ValueError(
                f"subset = {self.subset!r} with kind = {self.kind!r}, which has no subsets: leave "
                "it out"
            )
        if self.subset not in known:
            raise ValueError(
                f"subset = {self.subset!r} with kind = {self.kind!r}: set one of {', '.join(known)}"
            )
        return self

    @model_validator(mode="after")
    def _one_set_has_one_split(self) -> Self:
        if self.kind != "problems" and self.published.splits and self.split != "test":
            raise ValueError(
                f"split = {self.split!r} with kind = {self.kind!r}: {self.published.title} is one "
                "test set, all of which is read; leave split out"
            )
        return self

    @model_validator(mode="after")
    def _benchmark_is_complete(self) -> Self:
        if self.kind == "problems" and not self.num_questions:
            raise ValueError("kind = 'problems' has no end: set num_questions")
        if self.kind == "table" and not self.path:
            raise ValueError(f"kind = {self.kind!r} needs a path")
        return self

    @property
    def published(self) -> BenchmarkSet:
        """The set that its kind names; `problems` has none."""
        return SETS[self.kind]

    @property
    def location(self) -> str:
        """Where it is read from: its path, or the hub id of the set; empty for `problems`."""
        return self.path or ("" if self.kind == "problems" else self.published.hub)

    @property
    def folder(self) -> str:
        """The folder of the location that holds the subset; empty: the location has no subsets."""
        if self.kind == "problems":
            return ""
        return self.subset or next(iter(self.published.subsets), "")


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
