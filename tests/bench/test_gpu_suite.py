"""The GPU suite at toy size on the CPU: what runs here runs the first time it meets a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bench.gpu import table
from tests.bench.gpu.__main__ import LIMIT_SECONDS
from tests.bench.gpu.sequences import counts, labels_in_place, micro_batches
from tests.bench.gpu.setting import ROOT, Setting

pytestmark = pytest.mark.slow

TOY = Setting(device=torch.device("cpu"), toy=True)

_HIDDEN = """
import runpy, sys
for name in ("deepspeed", "megatron", "megatron.core", "wandb", "accelerate"):
    sys.modules[name] = None
sys.argv = ["gpu", *sys.argv[1:]]
runpy.run_module("tests.bench.gpu", run_name="__main__")
"""


def suite(
    *arguments: str | Path, program: tuple[str, ...] = ("-m", "tests.bench.gpu")
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=570,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_part_runs(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    run = suite("--toy", "--profile", "--out", out)
    assert run.returncode == 0, run.stdout + run.stderr
    result = read(out)
    assert list(result["parts"]) == list(LIMIT_SECONDS)
    for name, part in result["parts"].items():
        assert part["status"] == "ok", (name, part)
        assert part["rows"], name
        assert f"{name}: ok" in run.stdout
    assert result["toy"] and result["device"]["kind"] == "cpu"
    assert result["versions"]["torch"] == torch.__version__
    assert "--toy" in result["command"] and result["date"]
    checks = [row for part in result["parts"].values() for row in part["rows"] if "passed" in row]
    assert len(checks) == 7 and all(row["passed"] for row in checks)
    # A CPU's peak is not known: no utilisation, rather than a guess.
    assert all(row["mfu"] is None for row in result["parts"]["train"]["rows"])
    shown = suite("--show", out).stdout
    assert "TOY SIZES, cpu" in shown and shown.count("\n| ---") == len(LIMIT_SECONDS)


def test_without_what_a_gpu_machine_may_lack(tmp_path: Path) -> None:
    out = tmp_path / "part.json"
    run = suite("--part", "train", "--toy", "--out", out, program=("-c", _HIDDEN))
    assert run.returncode == 0, run.stdout + run.stderr
    found = read(out)
    assert {row["engine"] for row in found["rows"]} == {"plain"}
    assert not any("error" in row for row in found["rows"])
    assert any("deepspeed is not installed" in note for note in found["notes"])


def test_a_part_that_fails_is_reported_and_the_next_still_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['training.evaluation.generate'] = None\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    out = tmp_path / "gpu.json"
    run = suite("--toy", "--only", "sample,matmul", "--out", out)
    assert run.returncode == 1
    parts = read(out)["parts"]
    assert parts["sample"]["status"] == "error"
    assert "training.evaluation.generate" in parts["sample"]["error"]
    assert parts["matmul"]["status"] == "ok"


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without CUDA")
def test_full_sizes_are_refused_on_a_cpu() -> None:
    run = suite()
    assert run.returncode == 2
    assert "--toy" in run.stderr


def test_an_unknown_part_is_named() -> None:
    run = suite("--only", "trian")
    assert run.returncode == 2
    assert "'trian' is none of matmul" in run.stderr


@pytest.mark.parametrize("toy", [True, False])
def test_sequences_are_packed_and_supervised_like_the_recipe(toy: bool) -> None:
    setting = Setting(device=torch.device("cpu"), toy=toy)
    config = setting.config("1b3")
    batches = micro_batches(setting, config, count=4, sequences=4)
    assert len(batches) == 4
    num_examples, found = sum(batch.num_examples for batch in batches), counts(batches)
    assert abs(found.tokens / num_examples / setting.document_tokens - 1) < 0.15
    assert abs(found.supervised / found.tokens - 0.45) < 0.02
    for batch in batches:
        real = batch.document_ids >= 0
        assert real.float().mean() > 0.95
        following = batch.supervised + 1
        assert torch.equal(batch.labels, batch.tokens.flatten()[following])
        ids = batch.document_ids.flatten()
        assert torch.equal(ids[batch.supervised], ids[following])
        in_place = labels_in_place(batch).flatten()
        assert torch.equal(in_place[following], batch.labels)
        assert (in_place >= 0).sum() == len(batch.labels)


def test_tables() -> None:
    rows = [{"what": "a", "rate": 12345.6, "mfu": None}, {"what": "bb", "passed": False}]
    assert table.plain(rows).splitlines()[1] == "a     12,346  -    -"
    assert table.markdown(rows).splitlines()[2] == "| a | 12,346 | - | - |"
