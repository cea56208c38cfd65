"""Prepared data beside a config: what differs is named, what is not on this machine is listed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.training.data.preparing import QUESTION, config, jsonl, row
from training import manifest
from training.config import PrepareConfig
from training.data.prepare import prepare
from training.data.prepared import compare, made_from
from training.data.tokenizer import Tokenizer
from training.errors import DataError, UserError


def changed(made: PrepareConfig, **data: Any) -> PrepareConfig:
    tree = made.model_dump(mode="json")
    return PrepareConfig.model_validate({**tree, "data": {**tree["data"], **data}})


@pytest.fixture
def made(tmp_path: Path) -> PrepareConfig:
    """Data prepared from a file, tokenised by a tokenizer in a folder, beside a benchmark."""
    source = jsonl(tmp_path, row(), row(QUESTION.replace("Ann", "Bob")))
    Tokenizer.train([QUESTION], vocab_size=300).save(tmp_path / "tokenizer")
    benchmark = {"name": "it", "kind": "gsm8k", "path": str(tmp_path / "test.jsonl")}
    taken = "A train leaves its station every single morning and carries many sleepy people"
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": taken, "answer": "#### 1"}))
    made = config(
        tmp_path / "data",
        source,
        tokenizer={"source": str(tmp_path / "tokenizer")},
        decontaminate=[benchmark],
    )
    prepare(made)
    return made


def test_every_setting_that_decides_the_content_is_named_with_both_values(
    made: PrepareConfig,
) -> None:
    assert compare(made).is_current and not compare(made).not_compared
    tree = made.model_dump(mode="json")["data"]
    source = {**tree["sources"][0], "num_examples": 1}
    found = compare(
        changed(made, train_on_prompt=True, sequence_length=256, sources=[source, source])
    )
    assert not found.is_current
    for expected in (
        "data.sequence_length was 512, is 256",
        "data.train_on_prompt was False, is True",
        "data.sources.0.num_examples was 0, is 1",
        "data.sources.1.kind was not set, is 'jsonl'",
    ):
        assert expected in found.differences
    with pytest.raises(DataError, match=r"data\.train_on_prompt was False, is True"):
        found.check()


def test_how_and_where_it_was_made_does_not_matter(made: PrepareConfig, tmp_path: Path) -> None:
    shutil.copytree(made.data.folder, tmp_path / "copy")
    other = changed(made, folder=tmp_path / "copy", num_workers=7, prepare_if_missing=True)
    assert compare(other).is_current
    timeouts = made.model_copy(
        update={"execution": made.execution.model_copy(update={"timeout_seconds": 1.0})}
    )
    assert compare(timeouts).is_current, "no program was run"
    assert (
        "data.run_programs was False, is True"
        in compare(changed(made, run_programs=True)).differences
    )


def test_a_changed_input_is_named_with_both_fingerprints(
    made: PrepareConfig, tmp_path: Path
) -> None:
    inputs = manifest.read(made.data.folder)["inputs"]
    jsonl(tmp_path, row())
    (tmp_path / "test.jsonl").write_text("")
    Tokenizer.train(["other"], vocab_size=300).save(tmp_path / "tokenizer")
    differences = compare(made).differences
    assert [line.split(" ")[0] for line in differences] == list(inputs)
    for line, before in zip(differences, inputs.values(), strict=True):
        assert f"had the fingerprint {before[:12]}, has " in line


def test_inputs_that_are_not_on_this_machine_are_listed(
    made: PrepareConfig, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").unlink()
    (tmp_path / "test.jsonl").unlink()
    shutil.rmtree(tmp_path / "tokenizer")
    found = compare(made)
    assert found.is_current
    assert [entry.split(" ")[0] for entry in found.not_compared] == [
        "data.sources.0",
        "data.decontaminate.0",
        "data.tokenizer",
    ]
    assert str(tmp_path / "rows.jsonl") in found.note() and "were not compared" in found.note()
    assert (
        "data.train_on_prompt was False, is True"
        in compare(changed(made, train_on_prompt=True)).differences
    ), "settings are compared anywhere"


def test_files_of_one_name_in_two_folders_are_two_files(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        jsonl(folder / name, row(QUESTION.replace("Ann", name.upper())))
    made = config(tmp_path / "data", {"kind": "jsonl", "path": str(folder)})
    assert prepare(made)["examples"] == 2
    jsonl(folder / "a", row(), row(QUESTION.replace("Ann", "Cleo")))
    assert not compare(made).is_current
    assert prepare(made)["examples"] == 3
    # The folder as a whole may be anywhere.
    before = manifest.read(made.data.folder)["inputs"]
    shutil.move(folder, tmp_path / "moved")
    prepare(config(tmp_path / "other", {"kind": "jsonl", "path": str(tmp_path / "moved")}))
    assert manifest.read(tmp_path / "other")["inputs"] == before


def test_a_folder_of_an_older_version_is_refused_and_prepared_again(made: PrepareConfig) -> None:
    path = made.data.folder / manifest.MANIFEST
    content = json.loads(path.read_text())
    num_sequences = content["facts"].pop("sequences")
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"older version.*prepare it again"):
        compare(made).check()
    assert prepare(made)["sequences"] == num_sequences
    assert compare(made).is_current


def test_damaged_or_foreign_folders_are_not_current(made: PrepareConfig, tmp_path: Path) -> None:
    folder = made.data.folder
    path = folder / manifest.MANIFEST
    content = json.loads(path.read_text())
    shard = folder / "rows_00000.bin"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-2])
    assert compare(made).differences == [
        f"rows_00000.bin has {len(whole) - 2} bytes, not {len(whole)}"
    ]
    shard.unlink()
    assert compare(made).differences == ["rows_00000.bin is missing"]
    path.write_text(json.dumps({**content, "stage": "train"}))
    assert not compare(made).is_prepared
    with pytest.raises(FileNotFoundError, match=r"holds no prepared data.*launch/prepare\.py"):
        compare(made).check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], r"holds a list, not a JSON object"),
        ({"outputs": []}, "its outputs are no JSON object"),
        ({"config": 3, "facts": None}, "config, facts is no JSON object"),
        ({"outputs": {"rows_00000.bin": None}}, "no size and SHA-256 of rows_00000.bin"),
        ({"outputs": {"../x": {"bytes": 3, "sha256": "0" * 64}}}, "no path within the folder"),
    ],
)
def test_a_malformed_manifest_is_one_message(
    made: PrepareConfig, change: Any, message: str
) -> None:
    path = made.data.folder / manifest.MANIFEST
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **change} if isinstance(change, dict) else change))
    with pytest.raises(UserError, match=message):
        compare(made)


def test_limits_of_programs_that_are_not_run_do_not_matter(tmp_path: Path) -> None:
    for source, matters in (
        ({"kind": "problems", "num_examples": 1}, True),
        ({"kind": "candidates", "path": str(tmp_path)}, False),
    ):
        data = {"folder": str(tmp_path / "data"), "sources": [source]}
        first, second = (
            made_from(
                PrepareConfig.model_validate(
                    {"data": data, "execution": {"timeout_seconds": limit}}
                )
            )
            for limit in (1.0, 2.0)
        )
        assert (first != second) == matters


def test_keys_that_were_added_since_do_not_make_data_old(made: PrepareConfig) -> None:
    """What earlier versions prepared has none of these keys, and stays up to date."""
    (entry,) = manifest.read(made.data.folder)["config"]["data"]["decontaminate"]
    assert not {"subset", "question_column", "answer_column"} & set(entry)
    other = {**entry, "kind": "table", "answer_column": "gold"}
    assert "data.decontaminate.0.answer_column was not set, is 'gold'" in (
        compare(changed(made, decontaminate=[other])).differences
    )
