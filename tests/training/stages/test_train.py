# pyright: reportPrivateUsage=false
"""A training run as a stage: the data it trains on is the data that its config describes."""

import errno
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from parallel.ranks import Ranks
from tests import small
from tests.training.data.preparing import content, jsonl, row
from tests.training.evaluation import models
from training import manifest
from training.config import ConfigError, PrepareConfig, TrainConfig, resolved
from training.data.prepare import prepare
from training.data.tokenizer import Tokenizer
from training.errors import DataError
from training.files import read_json, sha256_file, write_json
from training.models import build
from training.stages.runs import train as train_stage
from training.stages.runs.train import status, train

QUESTION = "Ann has {} apples and buys 4. How many are there?"
SHORT = {"max_steps": 2, "global_batch_sequences": 4}


def config(folder: Path, **sections: dict[str, Any]) -> TrainConfig:
    """Two steps on the problems of a file."""
    training = {**SHORT, "micro_batch_sequences": 4, "precision": "fp32", "device": "cpu"}
    source = {"kind": "jsonl", "path": str(folder / "rows.jsonl")}
    base = small.config(folder).model_dump(mode="json")
    base["training"] |= training
    base["checkpoint"] |= {"every_steps": 1}
    base["optimizer"]["warmup_steps"] = 1
    base["data"] |= {"sources": [source]}
    for name, section in sections.items():
        base[name] |= section
    return TrainConfig.model_validate(base)


def of_data(wanted: TrainConfig) -> PrepareConfig:
    return PrepareConfig(data=wanted.data, execution=wanted.execution)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with problems that `config` names."""
    jsonl(tmp_path, *(row(QUESTION.format(number)) for number in range(60)))
    return tmp_path


def test_stale_data_is_prepared_again_where_that_is_allowed_and_recorded(
    site: Path, ranks: Ranks, caplog: pytest.LogCaptureFixture
) -> None:
    first = config(site, data={"prepare_if_missing": True})
    train(first, ranks)
    assert manifest.read(site / "data")["config"]["data"]["train_on_prompt"] is False
    changed = config(
        site,
        run={"folder": str(site / "again")},
        data={"prepare_if_missing": True, "train_on_prompt": True},
    )
    assert status(changed).message.startswith("prepares its data again, then starts")
    caplog.clear()
    train(changed, ranks)
    assert "data.train_on_prompt was False, is True" in caplog.text
    made, run = manifest.read(site / "data"), manifest.read(site / "again")
    assert made["config"]["data"]["train_on_prompt"] is True
    assert made["facts"]["supervised_tokens"] > made["facts"]["tokens"] * 0.9
    assert run["inputs"]["data"] == manifest.fingerprint(site / "data")
    assert run["config"] == resolved(changed) == read_json(site / "again" / "run.json")
    # The first run was trained on other data, which is to be said and not to be made anew.
    train(changed, ranks)
    assert "nothing to do" in caplog.text
    before = content(site / "data")
    more = config(site, data={"prepare_if_missing": True, "train_on_prompt": True})
    with pytest.raises(ConfigError, match=r"data\.train_on_prompt was False, is True"):
        train(more, ranks)
    assert content(site / "data") == before


def test_a_run_that_is_refused_leaves_the_data_of_its_checkpoints(site: Path, ranks: Ranks) -> None:
    wanted = config(site, data={"prepare_if_missing": True})
    prepare(of_data(wanted))
    before = content(site / "data")
    (site / "run" / "checkpoints" / "step_1").mkdir(parents=True)
    write_json(site / "run" / "run.json", resolved(wanted))
    changed = config(site, data={"prepare_if_missing": True, "train_on_prompt": True})
    for refused in (train, lambda config, _: status(config)):
        with pytest.raises(ConfigError, match="checkpoints of another config"):
            refused(changed, ranks)
    assert content(site / "data") == before


def test_a_run_of_a_version_with_fewer_settings_resumes(site: Path, ranks: Ranks) -> None:
    wanted = config(site, data={"prepare_if_missing": True})
    train(wanted, ranks)
    path = site / "run" / "run.json"
    before = read_json(path)
    del before["data"]["sources"][0]["weight"]
    write_json(path, before)
    longer = config(site, data={"prepare_if_missing": True}, training={"max_steps": 3})
    assert status(longer).message.startswith("resumes from step 2 of 3")
    train(longer, ranks)
    assert (site / "run" / "checkpoints" / "step_3").is_dir()


def test_stale_data_is_refused_where_it_may_not_be_prepared(site: Path, ranks: Ranks) -> None:
    wanted = config(site)
    prepare(of_data(wanted))
    jsonl(site, *(row(QUESTION.format(number)) for number in range(50)))
    with pytest.raises(DataError, match=r"data\.sources\.0 \(.*rows\.jsonl\) had the fingerprint"):
        train(wanted, ranks)
    assert not (site / "run").exists()


def test_data_moved_to_a_machine_without_its_sources_is_used_and_that_is_said(
    site: Path, ranks: Ranks, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(of_data(config(site)))
    shutil.move(site / "data", site / "moved")
    (site / "rows.jsonl").unlink()
    moved = config(site, data={"folder": str(site / "moved")})
    caplog.clear()
    train(moved, ranks)
    path = str(site / "rows.jsonl")
    assert f"were not compared: data.sources.0 ({path})" in caplog.text
    facts = manifest.read(site / "run")["facts"]
    assert facts["inputs_not_compared"] == [f"data.sources.0 ({path})"]
    with pytest.raises(ConfigError, match=r"data\.sequence_length was 256, is 128"):
        train(config(site, data={"folder": str(site / "moved"), "sequence_length": 128}), ranks)


def test_models_that_meet_the_data_have_its_tokenizer(site: Path, ranks: Ranks) -> None:
    prepare(of_data(config(site)))
    weights = str(models.write_generator(site / "weights"))
    verifier = str(models.write_verifier(site / "verifier"))
    benchmark = {"name": "toy", "kind": "problems", "num_questions": 2}
    evaluated = {"every_steps": 1, "benchmarks": [benchmark], "verifier": verifier}
    evaluated |= {"num_candidates": 2}
    for sections, setting in (
        ({"model": {"initial_weights": weights}}, "model.initial_weights"),
        ({"evaluation": evaluated}, "evaluation.verifier"),
    ):
        wanted = config(site, **sections)
        for refused in (train, lambda config, _: status(config)):
            with pytest.raises(DataError, match=f"{setting} = .* have different tokenizers"):
                refused(wanted, ranks)
    assert not (site / "run").exists()
    # A verifier that is never asked may be anything.
    status(config(site, evaluation={**evaluated, "every_steps": 0}))
    Tokenizer.load(site / "data").save(site / "weights")
    status(config(site, model={"initial_weights": weights}))


@pytest.mark.parametrize("error", [FileNotFoundError("no data"), OSError(errno.ESTALE, "stale")])
def test_the_rank_whose_files_differ_is_named(
    site: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    class Two:
        """Rank 1 of two nodes, the first of which has its files."""

        local_rank = 0

        def gather(self, value: Any) -> list[Any]:
            return [{"data": "0"}, value]

    def failing(_: TrainConfig) -> Any:
        raise error

    monkeypatch.setattr(train_stage, "_inputs", failing)
    with pytest.raises(ConfigError, match=f"rank 1: .*{error.args[-1]}"):
        train_stage._inputs_of_all(config(site), cast(Ranks, Two()))


def test_a_restart_reads_its_weights_and_draws_none(
    site: Path, ranks: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = config(site, data={"prepare_if_missing": True})
    train(wanted, ranks)
    newest = wanted.run.folder / "checkpoints" / "step_2"
    before = content(newest / "universal")
    shutil.rmtree(newest)

    def refuse(name: str, *_: Any, **__: Any) -> Any:
        raise AssertionError(f"{name} was drawn")

    monkeypatch.setattr(build, "initial_value", refuse)
    train(wanted, ranks)
    assert content(newest / "universal") == before


def test_a_model_remembers_the_prompts_it_was_trained_on(site: Path, ranks: Ranks) -> None:
    chat = "Q: {question}\nA:\n"
    first = config(site, data={"prompt_template": chat})
    prepare(of_data(first))
    train(first, ranks)
    checkpoint = site / "run" / "checkpoints" / "step_2"
    saved = Tokenizer.load(checkpoint / "huggingface")
    assert saved.template.setting == chat and saved.knows_template
    # Weights of these prompts, data of others.
    other = {"run": {"folder": str(site / "new")}, "model": {"initial_weights": str(checkpoint)}}
    data = {
        "folder": str(site / "other"),
        "tokenizer": {"source": str(site / "data" / "tokenizer")},
    }
    wanted = config(site, **other, data=data)
    prepare(of_data(wanted))
    message = rf"prompt_template = 'function', and model\.initial_weights = {checkpoint} was"
    for refused in (train, lambda config, _: status(config)):
        with pytest.raises(DataError, match=message):
            refused(wanted, ranks)
    assert not (site / "new").exists()
    status(config(site, **other, data={"prompt_template": chat}))
    with pytest.raises(ConfigError, match=r"data\.prompt_template was .*, is 'function'"):
        status(config(site, data=data))


def test_a_checkpoint_of_another_tokenizer_is_refused(site: Path, ranks: Ranks) -> None:
    first = config(site)
    prepare(of_data(first))
    train(first, ranks)
    checkpoint = site / "run" / "checkpoints" / "step_2"
    more = config(site, training={"max_steps": 3})
    status(more)
    (checkpoint / "manifest.json").rename(site / "manifest.json")  # else it is damaged
    Tokenizer.train([QUESTION], vocab_size=300).save(checkpoint / "huggingface")
    content = read_json(site / "manifest.json")
    for path in (checkpoint / "huggingface").iterdir():
        facts = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        content["outputs"][f"huggingface/{path.name}"] = facts
    write_json(checkpoint / "manifest.json", content)
    with pytest.raises(DataError, match=rf"the checkpoint = {checkpoint} have different token"):
        train(more, ranks)
