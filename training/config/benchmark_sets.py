"""The published benchmarks: where each is on the hub, and what its columns mean. One table.

`SETS` has an entry for each `kind` of `BenchmarkConfig` that is read from files;
training/data/benchmarks.py reads all of them by it. A set whose repository holds a loading script,
Arrow or tab-separated files names the revision that holds it as Parquet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

BenchmarkKind = Literal[
    "problems",
    "table",
    "gsm8k",
    "svamp",
    "gsm8k_platinum",
    "gsm1k",
    "gsm_symbolic",
    "gsm_plus",
    "asdiv",
    "mawps",
    "multiarith",
    "mgsm",
]
GoldForm = Literal["marked", "number", "any"]
"""`marked`: the number after `####`. `number`: a number, or text that is one (`1,234`). `any`: also
a number with a unit after it (`9 (apples)`), a fraction (`3/4`), or the number after `####`."""

_PARQUET_COPY = "refs/convert/parquet"
"""The branch of the hub's own conversion."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkSet:
    """One set, as it is published."""

    title: str
    hub: str = ""
    """Hub id; empty: it has none, and `path` is needed."""
    revision: str = ""
    """Of the hub id, where `revision` names none."""
    subsets: tuple[str, ...] = ()
    """Hub configs, which are folders of the repository; the first is read by default."""
    splits: tuple[str, ...] = ()
    """Published splits that are one test set and read together; empty: `split` names one."""
    file: str = ""
    """A file that holds the whole set, where there is one of this name."""
    question: tuple[str, ...] = ("question",)
    """Columns of the question; their texts are joined by a space."""
    answer: str = "answer"
    """Column of the gold answer."""
    gold: GoldForm = "number"
    original: str = ""
    """Column with the text of the GSM8K question that a question is a variant of."""
    group: str = ""
    """Column that becomes the question's tag `type`, where it is there."""
    id: str = ""
    """Column that numbers the questions; empty, or not there: their positions do."""
    is_strict: bool = False
    """Whether a gold that is no number, or a repeated question, is an error. Elsewhere such golds
    are known, and left out and counted, and repeated questions count as often as published."""


SETS: Mapping[BenchmarkKind, BenchmarkSet] = {
    "table": BenchmarkSet(title="your own questions", gold="any", is_strict=True),
    "gsm8k": BenchmarkSet(
        title="GSM8K", hub="openai/gsm8k", subsets=("main",), gold="marked", is_strict=True
    ),
    "svamp": BenchmarkSet(
        title="SVAMP",
        hub="ChilleD/SVAMP",
        splits=("train", "test"),
        file="SVAMP.json",
        question=("Body", "Question"),
        answer="Answer",
        group="Type",
        id="ID",
        is_strict=True,
    ),
    "gsm8k_platinum": BenchmarkSet(
        title="GSM8K-Platinum", hub="madrylab/gsm8k-platinum", subsets=("main",), gold="marked"
    ),
    "gsm1k": BenchmarkSet(title="GSM1k", hub="ScaleAI/gsm1k", revision=_PARQUET_COPY),
    "gsm_symbolic": BenchmarkSet(
        title="GSM-Symbolic",
        hub="apple/GSM-Symbolic",
        subsets=("main", "p1", "p2"),
        gold="marked",
        original="original_question",
    ),
    "gsm_plus": BenchmarkSet(
        title="GSM-Plus",
        hub="qintongli/GSM-Plus",
        gold="any",
        original="seed_question",
        group="perturbation_type",
    ),
    "asdiv": BenchmarkSet(
        title="ASDiv",
        hub="EleutherAI/asdiv",
        revision="refs/pr/1",  # Hugging Face's conversion
        splits=("validation",),
        question=("body", "question"),
        gold="any",
        group="solution_type",
    ),
    "mawps": BenchmarkSet(
        title="MAWPS",
        hub="MU-NLPC/Calc-mawps",
        subsets=("data", "original-splits"),
        answer="result_float",
    ),
    "multiarith": BenchmarkSet(
        title="MultiArith",
        hub="ChilleD/MultiArith",
        splits=("train", "test"),
        answer="final_ans",
    ),
    "mgsm": BenchmarkSet(
        title="MGSM",
        hub="juletxara/mgsm",
        revision=_PARQUET_COPY,
        subsets=("en", "bn", "de", "es", "fr", "ja", "ru", "sw", "te", "th", "zh"),
        answer="answer_number",
    ),
}
