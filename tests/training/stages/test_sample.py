"""The sample stage, end to end with tiny models: any ranks, killed or not, the same candidates."""

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from parallel.ranks import Ranks
from parallel.workers.array import ArrayTask
from tests.ranks import kill_ranks, run_ranks, start_ranks
from tests.training.evaluation import models
from tests.training.stages import folders
from training import manifest
from training.config import ConfigError, SampleConfig
from training.data import candidates
from training.data.tokenizer import Tokenizer
from training.errors import CheckpointError, DataError
from training.evaluation.sampler import Sampler
from training.records import Candidate
from training.stages.runs.sample import sample


@pytest.fixture(scope="module")
def sampled(inputs: Path, ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole stage; tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("sampled") / "candidates"
    run(inputs, folder, ranks)
    return folder


def run(inputs: Path, folder: Path, ranks: Ranks, **sampling: Any) -> None:
    tree = folders.sample_tree(inputs, folder, **sampling)
    sample(SampleConfig.model_validate(tree), ranks)


def drawn(folder: Path) -> list[Candidate]:
    return list(candidates.read(folder))


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in candidates.part_paths(folder)}


def test_every_question_gets_its_candidates_of_every_checkpoint_and_temperature(sampled: Path):
    found = drawn(sampled)
    by_question: dict[str, list[Candidate]] = {}
    for candidate in found:
        by_question.setdefault(candidate.question_id, []).append(candidate)
    assert len(by_question) == folders.NUM_QUESTIONS
    for group in by_question.values():
        assert sorted((c.index, c.generator, c.temperature) for c in group) == [
            (0, "step_1", 0.7),
            (1, "step_1", 1.0),
            (2, "step_2", 0.7),
            (3, "step_2", 1.0),
        ]
    # 4 chunks of at most 2 questions for each of 2 checkpoints.
    assert [path.name for path in candidates.part_paths(sampled)] == [
        f"part-{number:05d}.parquet" for number in range(8)
    ]


def test_the_manifest_counts_what_is_there(sampled: Path):
    content = manifest.read(sampled)
    facts, found = content["facts"], drawn(sampled)
    assert content["stage"] == "sample"
    assert set(content["inputs"]) == {"questions", "checkpoints.step_1", "checkpoints.step_2"}
    assert set(content["outputs"]) == set(times(sampled))
    assert facts["candidates"] == len(found) == 28 and facts["questions"] == 7
    assert facts["distinct"] == len({(c.question_id, c.program) for c in found})
    assert facts["right"] + facts["wrong"] + facts["failed"] == 28
    assert facts["candidates_per_second"] > 0
    assert list(facts["by_generator"]) == ["step_1", "step_2"]
    assert sum(facts["by_generator"]["step_2"]["0.7"].values()) == 7


def test_two_ranks_draw_the_same_candidates(inputs: Path, sampled: Path, tmp_path: Path):
    folder = tmp_path / "candidates"
    config = folders.written(tmp_path, folders.sample_tree(inputs, folder))
    first, second = run_ranks(2, ["launch/sample.py", config, "--local_rank=0"])
    assert drawn(folder) == drawn(sampled)
    assert "28 candidates" in first.stdout and not second.stdout
    assert manifest.read(folder)["facts"]["distinct"] == len(
        {(c.question_id, c.program) for c in drawn(sampled)}
    )


def test_jobs_that_share_the_work_draw_the_same_candidates(
    inputs: Path, sampled: Path, ranks: Ranks, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = tmp_path / "candidates"
    shutil.copytree(sampled, folder)
    (folder / manifest.MANIFEST).unlink()
    # As another config left them: one of another array task, one too many.
    candidates.write(candidates.part_path(folder, 1), drawn(sampled)[:2], labels={"made_from": "x"})
    candidates.write(candidates.part_path(folder, 9), drawn(sampled)[:2], labels={"made_from": "x"})
    for number in (0, 3):
        candidates.part_path(folder, number).unlink()
    config = SampleConfig.model_validate(folders.sample_tree(inputs, folder))
    sample(config, ranks, ArrayTask(1, 3))
    assert "array task 1 of 3 is done; 1 of 8 parts are not yet" in caplog.text
    assert not (folder / manifest.MANIFEST).exists()
    before = times(folder)
    sample(config, ranks, ArrayTask(2, 3))
    after = times(folder)
    assert [name for name, at in after.items() if before.get(name) != at] == ["part-00001.parquet"]
    assert len(after) == 8 and drawn(folder) == drawn(sampled)
    assert manifest.read(folder)["facts"]["candidates"] == 28


def test_a_job_that_fails_in_its_array_task_is_alerted_to_in_the_folder(
    inputs: Path, ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("the GPU fell off the bus")

    monkeypatch.setattr(Sampler, "candidates", fails)
    config = SampleConfig.model_validate(folders.sample_tree(inputs, tmp_path))
    with pytest.raises(RuntimeError):
        sample(config, ranks, ArrayTask(1, 2))
    assert "fell off the bus" in (tmp_path / "alerts.jsonl").read_text()
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_finished_stage_is_left_alone(
    inputs: Path, sampled: Path, ranks: Ranks, caplog: pytest.LogCaptureFixture
):
    before = times(sampled)
    run(inputs, sampled, ranks)
    assert times(sampled) == before
    assert "nothing to do" in caplog.text


def test_a_killed_stage_makes_only_what_is_missing(
    inputs: Path, sampled: Path, ranks: Ranks, tmp_path: Path
):
    folder = tmp_path / "candidates"
    shutil.copytree(sampled, folder)
    (folder / manifest.MANIFEST).unlink()
    for number in (1, 4, 5):
        candidates.part_path(folder, number).unlink()
    (folder / ".part-00001.parquet.1.tmp").write_bytes(b"half a part")
    before = times(folder)
    run(inputs, folder, ranks)
    assert drawn(folder) == drawn(sampled)
    after = times(folder)
    assert {name: after[name] for name in before} == before and len(after) == 8


def test_parts_of_another_config_are_made_anew(
    inputs: Path, sampled: Path, ranks: Ranks, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = tmp_path / "candidates"
    shutil.copytree(sampled, folder)
    run(inputs, folder, ranks, checkpoints=[str(inputs / "step_1")], num_candidates=2)
    assert "8 parts of another config or input are made again" in caplog.text
    assert len(drawn(folder)) == 14 and len(times(folder)) == 4
    # A rounding matter and nothing else: the batch decoded at a time.
    before = times(folder)
    changed = {"checkpoints": [str(inputs / "step_1")], "num_candidates": 2}
    run(inputs, folder, ranks, **changed, micro_batch_candidates=50)
    assert times(folder) == before


def test_never_resuming_refuses_a_folder_with_candidates(inputs: Path, sampled: Path, ranks: Ranks):
    tree = folders.sample_tree(inputs, sampled)
    tree["run"]["resume"] = "never"
    with pytest.raises(FileExistsError, match="holds candidates"):
        sample(SampleConfig.model_validate(tree), ranks)


@pytest.mark.parametrize(
    ("sampling", "error", "words"),
    [
        ({"checkpoints": []}, ConfigError, "sampling.checkpoints is empty"),
        ({"checkpoints": ["no/such/folder/here"]}, FileNotFoundError, "no/such/folder/here"),
    ],
)
def test_wrong_settings_end_in_one_message(
    inputs: Path,
    ranks: Ranks,
    tmp_path: Path,
    sampling: dict[str, Any],
    error: type[Exception],
    words: str,
):
    with pytest.raises(error, match=words):
        run(inputs, tmp_path / "candidates", ranks, **sampling)


def test_an_empty_question_set_is_said_to_be_one(inputs: Path, ranks: Ranks, tmp_path: Path):
    questions = {
        "name": "toy",
        "kind": "gsm8k",
        "path": str(inputs / "gsm8k"),
        "split": "train",
        "skip_questions": 100,
    }
    with pytest.raises(DataError, match="question"):
        run(inputs, tmp_path / "candidates", ranks, questions=questions)


def test_the_command_line_ends_in_one_message_on_two_ranks(inputs: Path, tmp_path: Path):
    tree = folders.sample_tree(inputs, tmp_path / "candidates", checkpoints=["no/such/folder/x"])
    config = folders.written(tmp_path, tree)
    first, second = run_ranks(2, ["launch/sample.py", config], check=False)
    assert (first.returncode, second.returncode) == (2, 2)
    assert first.stderr.count("no/such/folder/x") == 1 and "Traceback" not in first.stderr
    assert not second.stderr.strip()


def test_ctrl_c_ends_in_one_line_and_keeps_what_is_whole(inputs: Path, tmp_path: Path):
    folder = tmp_path / "candidates"
    # Far more than is drawn before the signal: 500 parts of one question.
    models.write_gsm8k(tmp_path / "many", 500)
    path = str(tmp_path / "many")
    questions = {"name": "many", "kind": "gsm8k", "path": path, "split": "train"}
    tree = folders.sample_tree(inputs, folder, questions=questions, questions_per_part=1)
    (process,) = start_ranks(1, ["launch/sample.py", folders.written(tmp_path, tree)])
    try:
        deadline = time.monotonic() + 200
        while not candidates.part_paths(folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        # To the whole group, as a terminal sends it: the jailed processes get it too.
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        kill_ranks([process])
    assert process.returncode == 130
    assert errors == "SIGINT: stopping at the next check\n"
    kept = candidates.part_paths(folder)
    assert 0 < len(kept) < 1000 and not (folder / manifest.MANIFEST).exists()
    assert all(len(list(candidates.read(path))) == 2 for path in kept)


def test_a_model_whose_logits_overflow_is_named(inputs: Path, ranks: Ranks, tmp_path: Path):
    source = str(models.write_overflowing(tmp_path / "large"))
    with pytest.raises(CheckpointError, match="large: the model's logits are not finite"):
        run(inputs, tmp_path / "candidates", ranks, checkpoints=[source])


def test_the_generators_tokenizer_is_recorded(sampled: Path, inputs: Path):
    facts = manifest.read(sampled)["facts"]
    assert facts["tokenizer"] == Tokenizer.load(inputs / "step_1").identity()


def test_another_prompt_template_gives_other_candidates(
    sampled: Path, inputs: Path, ranks: Ranks, tmp_path: Path
):
    run(inputs, tmp_path / "other", ranks, prompt_template="{question}\n")
    ours = [(c.question_id, c.index, c.program) for c in drawn(tmp_path / "other")]
    assert ours != [(c.question_id, c.index, c.program) for c in drawn(sampled)]
    with pytest.raises(ConfigError, match="no chat template"):
        run(inputs, tmp_path / "chat", ranks, prompt_template="chat")
