"""Measures the diversity of a folder of Parquet shards in TinyGSM's form."""

import ast
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.data.decontaminate import words

_STEP = re.compile(r"^\s+\w+ = ", re.MULTILINE)
_SPACES = re.compile(r"[\W_]+")


def measured(folder: Path, *, sample: int = 100_000, seed: int = 0) -> dict[str, Any]:
    """What the rows of a folder are like.

    The distinct questions are counted over all rows (16 bytes each); everything else on a sample
    of row groups, spread over the folder.
    """
    files = sorted(folder.glob("*.parquet"))
    exact, normal = _distinct(files)
    questions, codes = _sampled(files, sample, random.Random(seed))
    num_rows = sum(pq.ParquetFile(file).metadata.num_rows for file in files)
    return {
        "rows": num_rows,
        "distinct_questions": exact,
        "distinct_normalised_questions": normal,
        "bytes": sum(file.stat().st_size for file in files),
        "sampled_rows": len(questions),
        "question_characters": _spread([len(text) for text in questions]),
        "code_characters": _spread([len(text) for text in codes]),
        "assignments": _spread([len(_STEP.findall(text)) for text in codes]),
        "distinct_ngrams": {str(n): _ngram_diversity(questions, n) for n in (1, 2, 3, 4, 8)},
        "parse": round(sum(map(_parses, codes)) / len(codes), 4),
    }


def _distinct(files: Sequence[Path]) -> tuple[int, int]:
    """Distinct questions: exactly, and without case, space and punctuation."""
    exact: list[np.ndarray] = []
    normal: list[np.ndarray] = []
    for column in _columns(files, ["question"]):
        texts = column.column("question").to_pylist()
        exact.append(np.fromiter(map(hash, texts), np.int64, len(texts)))
        plain = (_SPACES.sub("", text).lower() for text in texts)
        normal.append(np.fromiter(map(hash, plain), np.int64, len(texts)))
    return len(np.unique(np.concatenate(exact))), len(np.unique(np.concatenate(normal)))


def _columns(files: Sequence[Path], columns: list[str]) -> Iterator[pa.RecordBatch]:
    for file in files:
        yield from pq.ParquetFile(file).iter_batches(batch_size=8192, columns=columns)


def _sampled(
    files: Sequence[Path], num_rows: int, generator: random.Random
) -> tuple[list[str], list[str]]:
    groups = [(file, at) for file in files for at in range(pq.ParquetFile(file).num_row_groups)]
    chosen = generator.sample(groups, min(len(groups), 24))
    questions: list[str] = []
    codes: list[str] = []
    for file, at in chosen:
        table = pq.ParquetFile(file).read_row_group(at)
        table = table.slice(0, -(-num_rows // len(chosen)))
        questions += table.column("question").to_pylist()
        codes += table.column("code").to_pylist()
    return questions, codes


def _spread(values: Sequence[int]) -> dict[str, float]:
    """Percentiles and the mean."""
    cuts = quantiles(values, n=100)
    spread = {f"p{at}": round(cuts[at - 1], 1) for at in (5, 25, 50, 75, 95)}
    return {**spread, "mean": round(sum(values) / len(values), 1)}


def _ngram_diversity(texts: Sequence[str], length: int) -> float:
    """Distinct n-grams of the questions' words, numbers left out, among all."""
    seen: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        found = words(text)
        seen.update(zip(*(found[at:] for at in range(length)), strict=False))
    return round(len(seen) / max(1, seen.total()), 4)


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return True
