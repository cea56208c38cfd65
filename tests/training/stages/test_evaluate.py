"""The evaluate stage, end to end with tiny models."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from parallel.ranks import Ranks
from tests.ranks import run_ranks
from tests.training.evaluation import models
from tests.training.stages import folders
from training import manifest
from training.config import EvaluateConfig
from training.data import candidates
from training.data.corrections import question_key
from training.errors import CheckpointError
from training.files import read_json
from training.records import Candidate
from training.stages.runs.evaluate import EVALUATION, evaluate

NAMES = {"toy": 7, "rest": 2}


@pytest.fixture(scope="module")
def evaluated(inputs: Path, ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole stage; tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("evaluated") / "evaluation"
    run(inputs, folder, ranks)
    return folder


def run(inputs: Path, folder: Path, ranks: Ranks, **evaluation: Any) -> dict[str, Any]:
    tree = folders.evaluate_tree(inputs, folder, **evaluation)
    return evaluate(EvaluateConfig.model_validate(tree), ranks)


def whole(folder: Path, name: str) -> list[Candidate]:
    return list(candidates.read(folder / f"candidates_{name}.parquet"))


def times(folder: Path) -> dict[Path, int]:
    return {
        path.relative_to(folder): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("part-*.parquet"))
    }


def test_all_measures_are_written_with_intervals(evaluated: Path):
    content = read_json(evaluated / EVALUATION)
    assert {n: b["num_questions"] for n, b in content["benchmarks"].items()} == NAMES
    for benchmark in content["benchmarks"].values():
        assert benchmark["num_candidates"] == 4
        for name in ("pass_at_k", "majority_at_k", "verify_at_k"):
            assert list(benchmark[name]) == ["1", "2", "4"]
            assert set(benchmark[name]["4"]) == {"value", "low", "high"}
        assert set(benchmark["pass_at_1"]) == {"value", "low", "high"}
        assert {name for name in benchmark if name.startswith("verify_minus")} == {
            "verify_minus_pass_at_1",
            "verify_minus_sampled_pass_at_1",
            "verify_minus_majority_at_n",
        }


def test_candidates_have_scores_and_the_greedy_one_is_last(evaluated: Path):
    for name, num_questions in NAMES.items():
        found = whole(evaluated, name)
        assert len(found) == 5 * num_questions
        assert [(c.index, c.temperature) for c in found[:5]] == [
            (0, 0.7),
            (1, 0.7),
            (2, 1.0),
            (3, 1.0),
            (4, 0.0),
        ]
        assert all(candidate.score is not None for candidate in found)
        questions = parquet.read_table(evaluated / f"questions_{name}.parquet").to_pylist()
        assert [row["id"] for row in questions] == [c.question_id for c in found[::5]]
        assert all(isinstance(json.loads(row["tags"]), dict) for row in questions)
    # A question means the same under another cut of the set.
    assert [c.program for c in whole(evaluated, "rest")] == [
        c.program for c in whole(evaluated, "toy")[25:]
    ]


def test_the_manifest_names_inputs_and_outputs(evaluated: Path):
    content = manifest.read(evaluated)
    assert set(content["inputs"]) == {
        "generator",
        "verifier",
        "questions.toy",
        "questions.rest",
    }
    assert set(content["outputs"]) == {
        EVALUATION,
        *(f"{kind}_{name}.parquet" for kind in ("candidates", "questions") for name in NAMES),
    }
    assert content["facts"]["seconds"] > 0


def test_two_ranks_evaluate_the_same_and_print_one_table(
    inputs: Path, evaluated: Path, tmp_path: Path
):
    folder = tmp_path / "evaluation"
    config = folders.written(tmp_path, folders.evaluate_tree(inputs, folder))
    first, second = run_ranks(2, ["launch/evaluate.py", config, "--local_rank=1"])
    for name in NAMES:
        ours, theirs = whole(folder, name), whole(evaluated, name)
        assert [c.program for c in ours] == [c.program for c in theirs]
        for mine, other in zip(ours, theirs, strict=True):
            # Batches of other sizes round otherwise.
            assert mine.score == pytest.approx(other.score, rel=1e-4, abs=1e-5)
    assert "verify" in first.stdout and "toy" in first.stdout
    assert not second.stdout.strip()


def test_a_finished_stage_is_left_alone(
    inputs: Path, evaluated: Path, ranks: Ranks, caplog: pytest.LogCaptureFixture
):
    before = times(evaluated)
    content = run(inputs, evaluated, ranks)
    assert content == read_json(evaluated / EVALUATION) and times(evaluated) == before
    assert "nothing to do" in caplog.text


def test_a_killed_stage_resumes(inputs: Path, evaluated: Path, ranks: Ranks, tmp_path: Path):
    folder = tmp_path / "evaluation"
    shutil.copytree(evaluated, folder)
    (folder / manifest.MANIFEST).unlink()
    (folder / EVALUATION).unlink()
    candidates.part_path(folder / "parts" / "toy", 2).unlink()
    before = times(folder)
    content = run(inputs, folder, ranks)
    assert content == read_json(evaluated / EVALUATION)
    assert whole(folder, "toy") == whole(evaluated, "toy")
    after = times(folder)
    assert {path: after[path] for path in before} == before and len(after) == len(before) + 1


def test_another_verifier_scores_the_same_candidates(
    inputs: Path, evaluated: Path, ranks: Ranks, tmp_path: Path
):
    folder = tmp_path / "evaluation"
    shutil.copytree(evaluated, folder)
    other = models.write_verifier(tmp_path / "other", seed=9)
    # Were a candidate drawn again, the missing generator would be missed.
    run(inputs, folder, ranks, verifier=str(other))
    first, second = whole(evaluated, "toy"), whole(folder, "toy")
    assert [c.program for c in first] == [c.program for c in second]
    assert [c.score for c in first] != [c.score for c in second]
    content = run(inputs, folder, ranks, verifier="")
    assert {c.score for c in whole(folder, "toy")} == {None}
    assert content["verifier"] is None
    assert not [name for name in content["benchmarks"]["toy"] if name.startswith("verify")]


@pytest.mark.parametrize(
    ("evaluation", "error", "words"),
    [
        ({"generator": "no/such/folder/x"}, FileNotFoundError, "no/such/folder/x"),
        ({"verifier": "no/such/folder/x"}, FileNotFoundError, "no/such/folder/x"),
    ],
)
def test_missing_models_end_in_one_message(
    inputs: Path,
    ranks: Ranks,
    tmp_path: Path,
    evaluation: dict[str, Any],
    error: type[Exception],
    words: str,
):
    with pytest.raises(error, match=words):
        run(inputs, tmp_path / "evaluation", ranks, **evaluation)


def test_a_generator_is_no_verifier(inputs: Path, ranks: Ranks, tmp_path: Path):
    with pytest.raises(CheckpointError, match="holds a generator, not a verifier"):
        run(inputs, tmp_path / "evaluation", ranks, verifier=str(inputs / "step_1"))


def test_a_benchmark_named_twice_is_refused(inputs: Path, ranks: Ranks, tmp_path: Path):
    twice = [{"name": "toy", "kind": "gsm8k", "path": str(inputs / "gsm8k")}] * 2
    with pytest.raises(ValueError, match="has the name 'toy' twice, in toy, toy"):
        run(inputs, tmp_path / "evaluation", ranks, benchmarks=twice)


def test_a_benchmark_may_be_called_as_an_input_is(
    inputs: Path, ranks: Ranks, tmp_path: Path
) -> None:
    """Its fingerprint once took the place of the generator's, so that another went unseen."""
    benchmark = {"name": "generator", "kind": "gsm8k", "path": str(inputs / "gsm8k")}
    settings = {"benchmarks": [{**benchmark, "num_questions": 2}], "verifier": ""}
    generator = models.write_generator(tmp_path / "generator", seed=3)
    folder = tmp_path / "evaluation"
    run(inputs, folder, ranks, **settings, generator=str(generator))
    before = whole(folder, "generator")
    models.write_generator(generator, seed=4)
    run(inputs, folder, ranks, **settings, generator=str(generator))
    assert [c.program for c in whole(folder, "generator")] != [c.program for c in before]


def test_a_model_whose_logits_overflow_is_named(inputs: Path, ranks: Ranks, tmp_path: Path):
    source = str(models.write_overflowing(tmp_path / "large"))
    with pytest.raises(CheckpointError, match="large: the model's logits are not finite"):
        run(inputs, tmp_path / "evaluation", ranks, generator=source)


def test_benchmarks_are_compared_with_gsm8k_and_golds_corrected(
    inputs: Path, ranks: Ranks, tmp_path: Path
) -> None:
    gsm8k = [json.loads(line) for line in (inputs / "gsm8k/test.jsonl").read_text().splitlines()]
    rows: list[dict[str, Any]] = [
        {"question": f"Variant {n}?", "answer": "8", "seed_question": gsm8k[n % 2]["question"]}
        for n in range(4)
    ]
    rows.append({**rows[0], "question": "A vague one?", "answer": "None"})
    (tmp_path / "plus.json").write_text(json.dumps(rows))
    keys = [question_key(row["question"]) for row in gsm8k[:2]]
    lines = [
        {"question_sha256": key, "gold": gold, "source": "this test"}
        for key, gold in zip(keys, (5, "removed"), strict=True)
    ]
    corrections = tmp_path / "corrections.jsonl"
    corrections.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {
        "benchmarks": [
            {"name": "gsm8k", "kind": "gsm8k", "path": str(inputs / "gsm8k")},
            {"name": "plus", "kind": "gsm_plus", "path": str(tmp_path / "plus.json")},
        ],
        "corrections": str(corrections),
    }

    folder = tmp_path / "evaluation"
    found = run(inputs, folder, ranks, **settings)["benchmarks"]

    assert found["gsm8k"]["num_questions"] == NAMES["toy"]
    again = found["gsm8k"]["corrected"]
    assert (again["num_changed"], again["num_removed"]) == (1, 1)
    assert again["num_questions"] == NAMES["toy"] - 1 and set(again["pass_at_1"]) >= {"value"}
    assert found["plus"]["num_left_out"] == 1 and found["plus"]["num_questions"] == 4
    against = found["plus"]["against_gsm8k"]
    assert (against["num_pairs"], against["num_questions"]) == (2, 4)
    assert set(against["verify_at_n"]) == {"here", "there", "difference"}
    # Other corrections change what is measured, and draw nothing.
    before = times(folder)
    corrections.write_text(json.dumps(lines[0]) + "\n")
    found = run(inputs, folder, ranks, **settings)["benchmarks"]
    assert found["gsm8k"]["corrected"]["num_removed"] == 0 and times(folder) == before
