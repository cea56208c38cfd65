"""A run folder is one stage's: others, and somebody's own files, are never written over."""

import json
from pathlib import Path

import pytest

from training.errors import DamagedFileError
from training.lifecycle.run_folder import refuse_other_recipes, refuse_others


def write(folder: Path, name: str, content: object = "mine") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("verb", ["train", "sample", "evaluate"])
def test_a_folder_with_other_files_is_used(tmp_path: Path, verb: str) -> None:
    refuse_others(tmp_path / "absent", verb=verb)
    for name in ("notes.txt", "logs/job-5/rank-000.log", "attempts.jsonl", "config.json"):
        write(tmp_path, name)
    refuse_others(tmp_path, verb=verb)


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "metrics.jsonl",
        "summary.json",
        "checkpoints/step_100/weights",
        "part-00000.parquet",
        "parts/toy/part-00000.parquet",
        "evaluation.json",
        "candidates_toy.parquet",
        "questions_toy.parquet",
    ],
)
def test_what_a_stage_would_write_over_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    with pytest.raises(FileExistsError, match=f"holds {name.split('/')[0]} and no run.json"):
        refuse_others(tmp_path, verb="train")


def test_a_run_is_one_verb_s(tmp_path: Path) -> None:
    configs = {
        "train": {"run": {}, "training": {}, "evaluation": {}},
        "sample": {"run": {}, "sampling": {}},
        "evaluate": {"run": {}, "evaluation": {}},
    }
    for verb, config in configs.items():
        write(tmp_path, "run.json", config)
        write(tmp_path, "metrics.jsonl")
        refuse_others(tmp_path, verb=verb)
        for other in configs.keys() - {verb}:
            with pytest.raises(FileExistsError, match=f"holds the run.json of {verb}"):
                refuse_others(tmp_path, verb=other)
    write(tmp_path, "run.json", {"training": {}})
    with pytest.raises(FileExistsError, match="of no run of ours"):
        refuse_others(tmp_path, verb="train")
    write(tmp_path, "run.json", [])
    with pytest.raises(DamagedFileError, match="holds a list.*set another run.folder"):
        refuse_others(tmp_path, verb="train")


def test_a_recipe_s_folder_is_a_recipe_s(tmp_path: Path) -> None:
    stages = ["generator", "verifier"]
    refuse_other_recipes(tmp_path / "absent", stages)
    write(tmp_path, "notes.txt")
    refuse_other_recipes(tmp_path, stages)
    for name in ("generator.json", "report.html", "seconds.json"):
        write(tmp_path, name)
        with pytest.raises(FileExistsError, match=f"holds {name} and no config.json"):
            refuse_other_recipes(tmp_path, stages)
        (tmp_path / name).unlink()
    write(tmp_path, "config.json", {"architectures": ["PhiForCausalLM"]})
    with pytest.raises(FileExistsError, match="holds a config.json of something else"):
        refuse_other_recipes(tmp_path, stages)
    write(tmp_path, "config.json", {"run": {}, "generator": {}, "verifier": {}})
    refuse_other_recipes(tmp_path, stages)


def test_a_job_that_starts_at_the_same_moment_is_no_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_file = Path.is_file

    def then_written(path: Path) -> bool:
        found = is_file(path)
        write(tmp_path, "run.json", {"run": {}, "sampling": {}})
        write(tmp_path, "config.json", {"run": {}, "generator": {}, "verifier": {}})
        return found

    monkeypatch.setattr(Path, "is_file", then_written)
    refuse_others(tmp_path, verb="sample")
    (tmp_path / "config.json").unlink()
    refuse_other_recipes(tmp_path, ["generator"])
