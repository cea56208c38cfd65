"""Parts divided among ranks: every rank has questions, and every question one rank."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from parallel.ranks import Ranks
from parallel.workers.array import ArrayTask
from tests.ranks import run_distributed
from tests.training.evaluation.test_work import rank
from tests.training.stages import folders
from training.config import EvaluateConfig, SampleConfig
from training.data import candidates
from training.evaluation import slices, work
from training.evaluation.sampler import Sampler
from training.stages.runs.evaluate import evaluate
from training.stages.runs.sample import sample

NUM_RANKS = 8


@pytest.mark.parametrize("num_ranks", [1, 2, 5, 8, 21, 22, 64, 2000])
def test_every_rank_has_questions_and_every_question_one_rank(num_ranks: int) -> None:
    parts = work.parts(1319, questions_per_part=64)  # GSM8K's test set: 21 parts
    asked: list[list[int]] = []
    for number in range(num_ranks):
        mine = slices.of_rank(parts, rank(number, num_ranks), size=lambda part: part.size)
        asked.append([n for part, piece in mine for n in range(*piece.of(part))])
    assert sorted(n for of_rank in asked for n in of_rank) == list(range(1319))
    if num_ranks <= 1319:
        assert all(asked)
    # Whole parts are even but for the last part's size; what is left is divided by questions.
    assert max(map(len, asked)) - min(map(len, asked)) <= (64 if num_ranks <= 21 else 1)


def _drawn(ranks: Ranks, tree: dict[str, Any]) -> int:
    """Evaluate or sample; how many questions this rank asked."""
    asked = 0
    original = Sampler.candidates

    def counting(sampler: Sampler, questions: Any, *rest: Any, **more: Any) -> Any:
        nonlocal asked
        asked += len(questions)
        return original(sampler, questions, *rest, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Sampler, "candidates", counting)
        if "evaluation" in tree:
            evaluate(EvaluateConfig.model_validate(tree), ranks)
        else:
            sample(SampleConfig.model_validate(tree), ranks)
    return asked


@pytest.mark.parametrize("verb", ["evaluate", "sample"])
def test_ranks_beyond_the_parts_work_and_the_files_are_one_ranks(tmp_path: Path, verb: str) -> None:
    num_questions = NUM_RANKS + 1
    folders.write_inputs(tmp_path, num_questions)
    found: list[list[Any]] = []
    for num_ranks in (1, NUM_RANKS):
        folder = tmp_path / str(num_ranks)
        if verb == "evaluate":
            benchmark = {"name": "toy", "kind": "gsm8k", "path": str(tmp_path / "gsm8k")}
            tree = folders.evaluate_tree(
                tmp_path, folder, benchmarks=[benchmark], questions_per_part=4
            )
            parts = folder / "parts" / "toy"
        else:
            tree = folders.sample_tree(
                tmp_path, folder, checkpoints=[str(tmp_path / "step_1")], questions_per_part=4
            )
            parts = folder
        asked = run_distributed(_drawn, num_ranks, tree)
        assert sum(asked) == num_questions and all(asked)
        paths = candidates.part_paths(parts)
        assert len(paths) == 3 and not candidates.slice_paths(parts)
        found.append(
            [[(c.question_id, c.index, c.program) for c in candidates.read(path)] for path in paths]
        )
        shutil.rmtree(folder)
    assert found[0] == found[1]


def test_what_a_killed_attempt_left_of_a_part_is_removed(tmp_path: Path) -> None:
    planned = work.parts(8, questions_per_part=4)
    for part in planned:
        candidates.write(slices.Slice(0, (0, 2, 4)).path(tmp_path, part), [], labels={})
    work.waiting(tmp_path, planned, "this", looks_only=True)
    assert len(candidates.slice_paths(tmp_path)) == 2
    # Another task of the job array may be writing its own.
    assert len(work.waiting(tmp_path, planned, "this", array_task=ArrayTask(1, 2))) == 1
    assert [path.name for path in candidates.slice_paths(tmp_path)] == ["slice-00001-0.parquet"]
