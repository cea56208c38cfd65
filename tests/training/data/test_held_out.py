"""Questions that are evaluated and learnt from: found wherever both are at hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launch.check import main as check
from tests import small
from tests.ranks import ROOT
from tests.training.data.test_sources import PROGRAM, candidate
from tests.training.stages import folders
from training.config import EvaluateConfig, RecipeConfig, SampleConfig, TrainConfig, load, resolved
from training.data import candidates, held_out
from training.data.held_out import refuse_shared
from training.errors import ConfigError, DataError
from training.files import write_json
from training.stages.runs import evaluate, sample

QUESTIONS = [f"Ann has {number} apples. How many has she got?" for number in range(8)]


def gsm8k(path: Path, questions: list[str]) -> Path:
    """The questions as a file of GSM8K's form, which is a source as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"question": q, "answer": "<<1+1=2>>2 #### 2", "program": PROGRAM} for q in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def spelt_otherwise(questions: list[str]) -> list[str]:
    return [question.upper().replace(".", "  ,\n") for question in questions]


def benchmark(name: str, path: Path | str, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "gsm8k", "path": str(path), **more}


def recipe(folder: Path, *more: str) -> list[str]:
    """The arguments of a recipe: trained on 0-3, sampled on 0-3 as well, evaluated on 4-7."""
    gsm8k(folder / "learnt" / "train.jsonl", QUESTIONS[:4])
    gsm8k(folder / "asked" / "test.jsonl", QUESTIONS[4:])
    return [
        str(ROOT / "configs" / "recipe_gsm8k_small.toml"),
        f"run.folder={folder / 'run'}",
        f"generator.data.sources.0.path={folder / 'learnt'}",
        "generator.data.decontaminate=[]",
        f"sampling.questions.path={folder / 'learnt'}",
        "sampling.questions.num_questions=4",
        f"evaluation.benchmarks.0.path={folder / 'asked'}",
        *more,
    ]


def recipe_config(folder: Path, *more: str) -> RecipeConfig:
    words = recipe(folder, *more)
    return load(RecipeConfig, words[:1], words[1:])


def test_a_recipe_evaluates_nothing_it_samples_or_trains_on(tmp_path: Path) -> None:
    words = recipe(tmp_path)
    assert check(["recipe", *words]) == 0
    gsm8k(tmp_path / "asked" / "test.jsonl", spelt_otherwise(QUESTIONS[2:]))
    with pytest.raises(ConfigError) as error:
        check(["recipe", *words])
    sampled, trained = str(error.value).splitlines()
    assert "evaluation.benchmarks 'gsm8k' shares 2 of its 6 questions with sampling." in sampled
    assert "Ann has 2 apples" in sampled and "sample or evaluate others" in sampled
    assert "shares 2 of its 6 questions with generator.data.sources.0" in trained
    assert "data.decontaminate" in trained


def test_what_decontamination_drops_is_not_learnt(tmp_path: Path) -> None:
    gsm8k(tmp_path / "more" / "train.jsonl", QUESTIONS)
    gsm8k(tmp_path / "other" / "test.jsonl", spelt_otherwise(QUESTIONS[4:]))
    more = f"generator.data.sources.0.path={tmp_path / 'more'}"
    with pytest.raises(DataError, match=r"shares 4 of its 4 questions with generator\.data"):
        refuse_shared(recipe_config(tmp_path, more))
    entry = f"[{{name='other', kind='gsm8k', path='{tmp_path / 'other'}'}}]"
    refuse_shared(recipe_config(tmp_path, more, f"generator.data.decontaminate={entry}"))


def test_evaluation_in_training_counts_where_it_happens(tmp_path: Path) -> None:
    entry = f"[{{name='seen', kind='gsm8k', path='{tmp_path / 'learnt'}', split='train'}}]"
    more = f"verifier.evaluation.benchmarks={entry}"
    refuse_shared(recipe_config(tmp_path, more))
    with pytest.raises(DataError, match=r"verifier\.evaluation\.benchmarks 'seen' shares 4"):
        refuse_shared(recipe_config(tmp_path, more, "verifier.evaluation.every_steps=10"))


def test_sets_of_the_hub_are_compared_by_position(tmp_path: Path) -> None:
    hub = [
        f"{key}.path=openai/gsm8k"
        for key in ("generator.data.sources.0", "sampling.questions", "evaluation.benchmarks.0")
    ]
    config = recipe_config(tmp_path, *hub, "sampling.questions.skip_questions=500")
    refuse_shared(config)
    held = "evaluation.benchmarks.0.split=train", "evaluation.benchmarks.0.num_questions=502"
    with pytest.raises(DataError) as error:
        refuse_shared(recipe_config(tmp_path, *hub, "sampling.questions.skip_questions=500", *held))
    sampled, trained = str(error.value).splitlines()
    assert "shares 2 questions with sampling.questions (question 500 to question 501" in sampled
    assert "shares 502 questions with generator.data.sources.0" in trained


def test_problems_are_compared_by_text_and_seed(tmp_path: Path, monkeypatch: Any) -> None:
    source = {"kind": "problems", "num_examples": 200}
    asked = {"name": "it", "kind": "problems", "num_questions": 50}

    def config(**benchmark: Any) -> TrainConfig:
        section = {"every_steps": 5, "benchmarks": [{**asked, **benchmark}]}
        return small.config(tmp_path, data={"sources": [source]}, evaluation=section)

    with pytest.raises(DataError, match=r"'it' shares \d+ of its \d+ questions with data.sour"):
        refuse_shared(config(seed=1))
    refuse_shared(config(seed=1, skip_questions=200))
    refuse_shared(config())
    monkeypatch.setattr(held_out, "_MOST_ROWS", 10)
    with pytest.raises(DataError, match=r"shares 20 questions .*question 180 to question 199"):
        refuse_shared(config(seed=1, skip_questions=180))


def run_of(folder: Path, **sections: Any) -> str:
    """A checkpoint's folder in a run with this config."""
    write_json(folder / "run.json", resolved(small.config(folder, **sections)))
    return str(folder / "checkpoints" / "step_1")


def test_sample_knows_what_its_generator_was_evaluated_on(tmp_path: Path) -> None:
    gsm8k(tmp_path / "gsm8k" / "train.jsonl", QUESTIONS)
    held = benchmark("held", tmp_path / "gsm8k", split="train", num_questions=3)
    generator = run_of(tmp_path / "g", evaluation={"every_steps": 5, "benchmarks": [held]})
    tree = folders.sample_tree(tmp_path, tmp_path / "out", checkpoints=[generator])
    with pytest.raises(DataError, match="'held' shares 3 of its 3 questions with sampling"):
        sample.status(SampleConfig.model_validate(tree))
    tree["sampling"]["questions"]["skip_questions"] = 3
    refuse_shared(SampleConfig.model_validate(tree))


def test_evaluate_knows_what_its_models_learnt_from(tmp_path: Path) -> None:
    gsm8k(tmp_path / "gsm8k" / "test.jsonl", QUESTIONS)
    found = [replace(candidate(), question=question) for question in QUESTIONS[:3] * 2]
    candidates.write(candidates.part_path(tmp_path / "candidates", 0), found, labels={})
    source = {"kind": "candidates", "path": str(tmp_path / "candidates")}
    learnt = {"kind": "jsonl", "path": str(gsm8k(tmp_path / "mine.jsonl", QUESTIONS[6:]))}
    tree = folders.evaluate_tree(
        tmp_path,
        tmp_path / "out",
        generator=run_of(tmp_path / "g", data=small_data(tmp_path, learnt)),
        verifier=run_of(
            tmp_path / "v",
            model={**small.MODEL, "head": "verifier"},
            data=small_data(tmp_path, source),
        )
        + "/huggingface",
        benchmarks=[benchmark("toy", tmp_path / "gsm8k")],
    )
    with pytest.raises(DataError) as error:
        evaluate.status(EvaluateConfig.model_validate(tree))
    generator, verifier = str(error.value).splitlines()
    assert "shares 2 of its 8 questions" in generator and "g/checkpoints/step_1" in generator
    assert "shares 3 of its 8 questions" in verifier and "sample candidates of others" in verifier
    (tmp_path / "mine.jsonl").unlink()
    (tmp_path / "candidates" / "part-00000.parquet").unlink()
    refuse_shared(EvaluateConfig.model_validate(tree))  # no longer at hand


def test_questions_of_rollouts_are_not_evaluated(tmp_path: Path) -> None:
    gsm8k(tmp_path / "gsm8k" / "test.jsonl", QUESTIONS)
    path = tmp_path / "rollouts.jsonl"
    table = [{"prompt": question, "answers": ["7"], "scores": [1]} for question in QUESTIONS[:3]]
    path.write_text("".join(json.dumps(row) + "\n" for row in table))
    columns = {"question": "prompt", "completion": "answers", "reward": "scores"}
    source = {"kind": "rollouts", "path": str(path), "columns": columns, "form": "prose"}
    config = small.config(
        tmp_path,
        model={**small.MODEL, "head": "verifier"},
        data={**small_data(tmp_path, source), "run_programs": False},
        evaluation={"every_steps": 5, "benchmarks": [benchmark("toy", tmp_path / "gsm8k")]},
    )
    with pytest.raises(DataError, match="'toy' shares 3 of its 8 questions with data.sources.0"):
        refuse_shared(config)


def small_data(folder: Path, *sources: dict[str, Any]) -> dict[str, Any]:
    return {"folder": str(folder / "data"), "sequence_length": 256, "sources": list(sources)}


def test_train_and_prepare_look_at_their_own_evaluation(tmp_path: Path) -> None:
    path = gsm8k(tmp_path / "mine.jsonl", QUESTIONS)
    held = benchmark("held", gsm8k(tmp_path / "gsm8k" / "test.jsonl", QUESTIONS[:1]).parent)
    config = small.config(
        tmp_path,
        data=small_data(tmp_path, {"kind": "jsonl", "path": str(path)})
        | {"tokenizer": {"source": "train"}, "prepare_if_missing": True},
        evaluation={"every_steps": 5, "benchmarks": [held]},
    )
    write_json(tmp_path / "config.json", resolved(config))
    for verb in ("train", "prepare"):
        with pytest.raises(ConfigError, match=r"'held' shares 1 of its 1 questions with data\."):
            check([verb, str(tmp_path / "config.json")])


def test_what_is_sound_beside_damage_that_is_skipped_is_compared(tmp_path: Path) -> None:
    path = gsm8k(tmp_path / "mine.jsonl", QUESTIONS)
    path.write_text(path.read_text() + "{torn\n")
    found = [replace(candidate(), question=question) for question in QUESTIONS]
    folder = tmp_path / "candidates"
    for number in range(2):
        candidates.write(candidates.part_path(folder, number), found, labels={})
    damaged = candidates.part_path(folder, 0)
    damaged.write_bytes(damaged.read_bytes()[:-20])
    held = benchmark("held", gsm8k(tmp_path / "gsm8k" / "test.jsonl", QUESTIONS[:1]).parent)
    tree = folders.evaluate_tree(
        tmp_path,
        tmp_path / "out",
        generator=run_of(
            tmp_path / "g",
            data=small_data(tmp_path, {"kind": "jsonl", "path": str(path), "damaged": "skip"}),
        ),
        verifier=run_of(
            tmp_path / "v",
            model={**small.MODEL, "head": "verifier"},
            data=small_data(
                tmp_path, {"kind": "candidates", "path": str(folder), "damaged": "skip"}
            ),
        ),
        benchmarks=[held],
    )
    with pytest.raises(DataError) as error:
        refuse_shared(EvaluateConfig.model_validate(tree))
    generator, verifier = str(error.value).splitlines()
    assert "shares 1 of its 1 questions" in generator and "g/checkpoints/step_1" in generator
    assert "shares 1 of its 1 questions" in verifier and "v/checkpoints/step_1" in verifier
