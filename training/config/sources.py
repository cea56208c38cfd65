"""What questions and answers are read from: sources of training data, and benchmarks."""

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from training.config.benchmark_sets import SETS, BenchmarkKind, BenchmarkSet
from training.config.columns import ColumnsConfig, Extractor, Form, column_problems
from training.config.values import (
    LARGEST_SEED,
    MOST_EXAMPLES,
    Many,
    OptionalSource,
    Section,
)

DEFAULT_CACHE_GIB = 20
_REVISION = r"^[\w./-]*$"


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
