"""What can be wrong with the data that is learnt from, sampled on and evaluated."""

import gzip
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from tests.bad_inputs.harness import BadInput, Site, over, refused
from tests.training.stages import folders
from training.files import write_json

ROW = {"question": "Ann has 3 apples and buys 4. How many are there?", "program": "    return 7"}
GSM8K = {"question": ROW["question"], "answer": "3+4=<<3+4=7>>7\n#### 7"}


def jsonl(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def read(site: Site, name: str, content: bytes, kind: str = "jsonl", **more: Any) -> list[str]:
    """A config that prepares data of a file with this content, and trains on it."""
    return [site.config(data=data(site, {"kind": kind, "path": site.write(name, content), **more}))]


def data(site: Site, source: dict[str, Any]) -> dict[str, Any]:
    return {
        "folder": str(site.folder / "data"),
        "sources": [source],
        "sequence_length": 256,
        "num_workers": 1,
        "prepare_if_missing": True,
        "tokenizer": {"source": "train", "vocab_size": 300},
    }


def parquet_bytes(site: Site) -> bytes:
    path = site.folder / "whole.parquet"
    rows = [
        {"question": ROW["question"], "code": "def simple_math_problem():\n    return 7\n"}
    ] * 50
    parquet.write_table(pa.Table.from_pylist(rows), path, write_page_checksum=True)
    return path.read_bytes()


def flipped(whole: bytes, at: int) -> bytes:
    return whole[:at] + bytes(255 - byte for byte in whole[at : at + 8]) + whole[at + 8 :]


def evaluated(site: Site, name: str, content: bytes) -> list[str]:
    """A config that evaluates in training on a file with this content."""
    benchmark = {"name": "it", "kind": "gsm8k", "path": site.write(name, content)}
    learnt = {"kind": "jsonl", "path": site.write("learnt.jsonl", jsonl(ROW))}
    section = {"every_steps": 5, "benchmarks": [benchmark]}
    return [site.config(evaluation=section, data=data(site, learnt))]


def sampled(site: Site, **questions: Any) -> list[str]:
    tree = folders.sample_tree(site.folder, site.folder / "out")
    tree["sampling"]["questions"] |= questions
    write_json(site.folder / "sample.json", tree)
    return [str(site.folder / "sample.json")]


CASES = [
    BadInput(
        name="Parquet without its footer",
        verb="train",
        make=lambda site: read(site, "a.parquet", parquet_bytes(site)[:-20], "parquet"),
        says=["a.parquet is not a whole Parquet file", "damaged = 'skip'"],
    ),
    BadInput(
        name="Parquet of no bytes",
        verb="train",
        make=lambda site: read(site, "a.parquet", b"", "parquet"),
        says=["a.parquet is not a whole Parquet file"],
    ),
    BadInput(
        name="Parquet with a damaged page",
        verb="train",
        make=lambda site: read(site, "a.parquet", flipped(parquet_bytes(site), 40), "parquet"),
        says=["a.parquet, row group 0 is damaged"],
    ),
    BadInput(
        name="Parquet that is said to be JSON lines",
        verb="train",
        make=lambda site: read(site, "a.parquet", parquet_bytes(site), "jsonl"),
        says=["a.parquet' does not end in .jsonl", "set the kind of this file"],
    ),
    BadInput(
        name="gz that is none",
        verb="train",
        make=lambda site: read(site, "a.jsonl.gz", jsonl(ROW)),
        says=["a.jsonl.gz is damaged after line 0"],
    ),
    BadInput(
        name="gz that is cut short",
        verb="train",
        make=lambda site: read(site, "a.jsonl.gz", gzip.compress(jsonl(ROW) * 99)[:-30]),
        says=["a.jsonl.gz is damaged after line"],
    ),
    BadInput(
        name="JSON that is an object",
        verb="train",
        make=lambda site: read(site, "a.json", b'{"question": "x"}'),
        says=["a.json is not a JSON list of rows: it holds an object"],
    ),
    BadInput(
        name="JSON that is a list of texts",
        verb="train",
        make=lambda site: read(site, "a.json", b'["x", "y"]'),
        says=["a.json, entry 0 is no JSON object: it is a text"],
    ),
    BadInput(
        name="JSONL nested 100,000 deep",
        verb="train",
        make=lambda site: read(site, "a.jsonl", jsonl(ROW) + b"[" * 100_000),
        says=["a.jsonl, line 2 is not JSON: it is nested too deeply"],
    ),
    BadInput(
        name="a line of 20 MB",
        verb="train",
        make=lambda site: read(site, "a.jsonl", jsonl(ROW) + b"x" * 20_000_000),
        says=["a.jsonl, line 2 is longer than 16,777,216 bytes"],
    ),
    BadInput(
        name="a source named for another split",
        verb="train",
        make=lambda site: read(site, "test.jsonl", jsonl(ROW)),
        says=["test.jsonl' is named for the test split, but split = 'train'"],
    ),
    BadInput(
        name="a benchmark with a question twice",
        verb="train",
        make=lambda site: evaluated(site, "test.jsonl", jsonl(GSM8K, GSM8K)),
        says=["benchmark it holds 1 questions more than once", "question 1 (", "test.jsonl"],
    ),
    BadInput(
        name="a benchmark that is trained on",
        verb="train",
        make=lambda site: evaluated(site, "test.jsonl", jsonl(GSM8K)),
        says=["'it' shares 1 of its 1 questions with data.sources.0", "data.decontaminate"],
    ),
    BadInput(
        name="a benchmark that is damaged",
        verb="train",
        make=lambda site: evaluated(site, "test.jsonl.gz", b"none"),
        says=["test.jsonl.gz is damaged after line 0"],
    ),
    BadInput(
        name="a test file sampled as train",
        verb="sample",
        make=lambda site: sampled(site, path=site.write("test.jsonl", jsonl(GSM8K))),
        says=["test.jsonl' is named for the test split, but split = 'train'"],
    ),
    BadInput(
        name="SVAMP sampled",
        verb="sample",
        make=lambda site: sampled(site, kind="svamp"),
        says=["SVAMP is one test set", "leave split out"],
    ),
    BadInput(
        name="SVAMP sampled as a test set",
        verb="sample",
        make=lambda site: sampled(site, kind="svamp", split="test"),
        says=["SVAMP is a test set", "'gsm8k' with split = 'train'"],
    ),
    BadInput(
        name="a setting that its kind does not use",
        verb="sample",
        make=lambda site: sampled(site, seed=4),
        says=["seed = 4 with kind = 'gsm8k'", "leave it out"],
    ),
]


@over(CASES)
def test_it_is_refused(case: BadInput, num_ranks: int, site: Site) -> None:
    refused(case, num_ranks, site)
