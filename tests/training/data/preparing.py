"""Small prepare stages: their configs and sources, and what they wrote."""

import json
from pathlib import Path
from typing import Any

from tests.training.data.test_sources import PROGRAM
from training.config import PrepareConfig
from training.data.dataset import SequenceDataset
from training.data.tokenizer import Tokenizer

PROBLEMS = {"kind": "problems", "num_examples": 1100}
QUESTION = "Ann has 3 apples and buys 4. How many are there?"


def config(folder: Path, *sources: dict[str, Any], **data: Any) -> PrepareConfig:
    settings: dict[str, Any] = {
        "folder": str(folder),
        "sources": sources or [PROBLEMS],
        "tokenizer": {"source": "train", "vocab_size": 400},
        "sequence_length": 512,
        "num_workers": 1,
        "run_programs": False,
        **data,
    }
    if any(source["kind"] in ("candidates", "rollouts") for source in sources):
        del settings["run_programs"]  # not read for a verifier
    # CPU time is scarce where tests run side by side.
    return PrepareConfig.model_validate({"data": settings, "execution": {"timeout_seconds": 5}})


def jsonl(folder: Path, *rows: dict[str, Any]) -> dict[str, Any]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"kind": "jsonl", "path": str(path)}


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def row(question: str = QUESTION, program: str = PROGRAM) -> dict[str, str]:
    return {"question": question, "program": program}


def texts(folder: Path, sequence_length: int = 512) -> list[tuple[str, str, int]]:
    """(prompt, program, program's mode) of every example."""
    dataset, tokenizer = (
        SequenceDataset(folder, sequence_length=sequence_length),
        Tokenizer.load(folder),
    )
    found: list[tuple[str, str, int]] = []
    for number in range(len(dataset)):
        at = dataset.sequence(number)
        start = 0
        ids: list[int] = []
        pieces: list[str] = []
        for length in at.lengths.tolist():
            ids = at.tokens[start : start + length].tolist()
            start += length
            pieces.append(tokenizer.decode(ids))
        for place in range(0, len(pieces), 2):
            found.append((pieces[place], pieces[place + 1], int(at.modes[place + 1])))
        assert ids[-1] == tokenizer.end_token
    return found
