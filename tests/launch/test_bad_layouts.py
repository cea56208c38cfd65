"""Impossible layouts are refused on the login node: before torch is even imported, and with
all the numbers in the message."""

import subprocess
import sys

import pytest

from tests.ranks import ROOT, rank_environment

CONFIG = str(ROOT / "configs" / "generator_1b3.toml")


@pytest.mark.parametrize(
    ("num_ranks", "overrides", "parts"),
    [
        (3, ["parallel.tensor=3"], ["parallel.tensor = 3", "num_heads = 32", "vocab_size = 51200"]),
        (5, ["parallel.pipeline=5"], ["parallel.pipeline = 5", "model.num_layers = 24"]),
        (2, ["parallel.pipeline=2", "parallel.zero_stage=3"], ["pipeline = 2", "zero_stage = 3"]),
        (6, ["parallel.tensor=4"], ["4 x 1 = 4", "the 6 ranks", "multiple of 4"]),
        (
            16,
            ["parallel.tensor=2", "training.global_batch_sequences=100"],
            ["global_batch_sequences = 100", "1 x 8 = 8", "16 ranks / 2 = 8; auto is at least 1"],
        ),
        (
            8,
            ["parallel.tensor=8", "parallel.sequence_parallel=true", "data.sequence_length=1276"],
            ["data.sequence_length = 1276", "parallel.tensor = 8"],
        ),
        (2, ["parallel.sequence_parallel=true"], ["sequence_parallel = true", "tensor = 1"]),
    ],
)
def test_it_is_refused_with_its_arithmetic(
    num_ranks: int, overrides: list[str], parts: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "launch/train.py", CONFIG, *overrides],
        cwd=ROOT,
        env=rank_environment(0, num_ranks, 1),
        capture_output=True,
        text=True,
        timeout=120,
    )
    imported, said = [], []
    for line in done.stderr.splitlines():
        (imported if line.startswith("import time:") else said).append(line)
    assert done.returncode == 2, done.stderr[-2000:]
    assert all(part in "\n".join(said) for part in parts), said
    assert len(said) == 1
    names = {line.rpartition("|")[2].strip() for line in imported}
    assert "pydantic" in names and "torch" not in names
