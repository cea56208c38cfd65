"""The recipe end to end at toy size: every stage, a kill, a second call, a failing stage."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.ranks import ROOT

pytestmark = pytest.mark.slow

# Small in every number; the shape of the recipe is the demo's.
TOY = [
    "num_ranks=2",
    "generator.model.hidden_size=32",
    "generator.model.ffn_size=64",
    "generator.model.num_layers=2",
    "verifier.model.hidden_size=32",
    "verifier.model.ffn_size=64",
    "verifier.model.num_layers=2",
    "generator.data.sources.0.num_examples=200",
    "generator.training.max_steps=6",
    "generator.optimizer.warmup_steps=2",
    "generator.checkpoint.every_steps=3",
    # Sampled steps are kept whatever the retention.
    "generator.checkpoint.keep_latest=1",
    'sampling.checkpoints=["3","6"]',
    "sampling.questions.num_questions=8",
    "sampling.num_candidates=4",
    "sampling.max_new_tokens=30",
    # A model this small writes no right program: there is nothing to balance.
    "verifier.data.sources.0.balance=none",
    "verifier.training.max_steps=3",
    "verifier.optimizer.warmup_steps=1",
    "verifier.checkpoint.every_steps=3",
    "evaluation.num_candidates=4",
    "evaluation.max_new_tokens=30",
    "evaluation.benchmarks.0.num_questions=4",
    "evaluation.benchmarks.1.num_questions=4",
    "evaluation.benchmarks.2.num_questions=4",
    "evaluation.num_bootstrap=100",
    "tracking.mode=offline",
]
STAGES = ["data_generator", "generator", "candidates", "data_verifier", "verifier", "evaluation"]


def _command(folder: Path, *more: str) -> list[str]:
    config = str(ROOT / "configs" / "recipe_demo.toml")
    recipe = str(ROOT / "launch" / "recipe.py")
    return [sys.executable, recipe, config, f"run.folder={folder}", *TOY, *more]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def _run(folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        _command(folder, *more),
        env=_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def _made(folder: Path) -> dict[str, float]:
    """When each stage's manifest was written."""
    return {
        stage: (folder / stage / "manifest.json").stat().st_mtime
        for stage in STAGES
        if (folder / stage / "manifest.json").exists()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that was killed -9 while it trained, and called again."""
    folder = tmp_path_factory.mktemp("recipe") / "toy"
    first = subprocess.Popen(_command(folder), env=_environment(), cwd=ROOT, text=True)
    deadline = time.monotonic() + 400
    while not (folder / "generator" / "checkpoints" / "step_3").exists():
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert "generator" not in _made(folder)
    done = _run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming from" in done.stdout and "step_3" in done.stdout
    return folder


def test_every_stage_leaves_its_manifest_and_the_report_is_whole(finished: Path) -> None:
    assert list(_made(finished)) == STAGES
    report = json.loads((finished / "report.json").read_text())
    assert set(report["benchmarks"]) == {"problems", "longer", "new_stories"}
    for benchmark in report["benchmarks"].values():
        assert benchmark["num_questions"] == 4 and benchmark["num_candidates"] == 4
        assert set(benchmark["pass_at_1"]) == {"value", "low", "high"}
        for name in ("pass_at_k", "majority_at_k", "verify_at_k"):
            assert set(benchmark[name]) == {"1", "2", "4"}
        assert set(benchmark["verify_minus_pass_at_1"]) >= {"value", "low", "high"}
    page = (finished / "report.html").read_text()
    assert "<svg" in page and "verify" in page


@pytest.mark.parametrize(("name", "architecture"), [("smollm2", "llama"), ("qwen3", "qwen3")])
def test_a_recipe_of_another_architecture_is_whole(
    tmp_path: Path, name: str, architecture: str
) -> None:
    folder = tmp_path / "toy"
    done = _run(folder, str(ROOT / "configs" / f"recipe_demo_{name}.toml"), "num_ranks=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(_made(folder)) == STAGES
    for last, head in (
        ("generator/checkpoints/step_6", "CausalLM"),
        ("verifier/checkpoints/step_3", "SequenceClassification"),
    ):
        config = json.loads((folder / last / "huggingface" / "config.json").read_text())
        assert config["model_type"] == architecture
        assert config["architectures"][0].endswith(f"For{head}")
        assert config["num_key_value_heads"] == 2
    assert set(json.loads((folder / "report.json").read_text())["benchmarks"]) == {
        "problems",
        "longer",
        "new_stories",
    }


def test_the_metrics_of_two_lives_are_one_record(finished: Path) -> None:
    lines = (finished / "generator" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    runs = {
        path.name.split("-")[3]  # offline-run-TIME-ID-PIECE
        for path in (finished / "generator" / "wandb").glob("offline-run-*")
    }
    assert len(runs) == 1, "both attempts have the same W&B id"


def test_a_second_call_skips_what_is_there(finished: Path) -> None:
    before = _made(finished)
    done = _run(finished)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("nothing to do") == len(STAGES)
    assert _made(finished) == before


def test_a_change_redoes_its_stage_alone(finished: Path) -> None:
    before = _made(finished)
    done = _run(finished, "evaluation.benchmarks.0.num_questions=6")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("nothing to do") == len(STAGES) - 1
    after = _made(finished)
    assert [stage for stage in STAGES if before[stage] != after[stage]] == ["evaluation"]
    report = json.loads((finished / "report.json").read_text())
    assert report["benchmarks"]["problems"]["num_questions"] == 6


def test_a_failing_stage_stops_the_recipe_with_one_message(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    done = _run(folder, "generator.data.min_question_characters=100000")
    assert done.returncode == 2
    assert "stage data_generator ended with exit code 2" in done.stdout
    assert "Traceback" not in done.stderr
    assert not _made(folder)


def _started(folder: Path, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        _command(folder, *more),
        env=_environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _interrupt(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert "interrupted" in err and "Traceback" not in err


def test_ctrl_c_saves_and_the_next_call_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    more = ["generator.training.max_steps=3000", 'sampling.checkpoints=["3","3000"]']
    process = _started(folder, *more)
    metrics = folder / "generator" / "metrics.jsonl"
    deadline = time.monotonic() + 400
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 4:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    _interrupt(process)
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert (folder / "generator" / "checkpoints" / f"step_{steps[-1]}" / "manifest.json").exists()


def test_ctrl_c_while_sampling_ends_and_the_next_call_resumes(finished: Path) -> None:
    folder = finished / "candidates"
    shutil.rmtree(finished / "verifier")  # it would not resume with other candidates
    more = ["sampling.questions.num_questions=64", "sampling.questions_per_part=16"]
    more += ["sampling.micro_batch_candidates=2", "sampling.max_new_tokens=60"]
    process = _started(finished, *more)

    def parts() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.glob("part-*.parquet")}

    before = parts()
    deadline = time.monotonic() + 400
    while not parts().keys() or parts().items() & before.items():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    _interrupt(process)
    kept = parts()
    assert 0 < len(kept) < 8 and not (folder / "manifest.json").exists()
    done = _run(finished, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(parts()) == 8 and kept.items() <= parts().items()
    assert json.loads((folder / "manifest.json").read_text())["facts"]["candidates"] == 256
