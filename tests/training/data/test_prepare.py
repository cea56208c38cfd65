# pyright: reportPrivateUsage=false
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from parallel.workers.array import ArrayTask
from parallel.workers.pool import WorkerPool
from tests.ranks import ROOT
from tests.training.data.real import real_data
from tests.training.data.test_sources import PROGRAM, candidate
from training import manifest
from training.config import PrepareConfig, resolved
from training.data import candidates, parts
from training.data import prepare as prepare_module
from training.data.loader import SequenceDataset, collate
from training.data.pack import Mode
from training.data.prepare import prepare, prepare_array_task
from training.data.tokenizer import Tokenizer
from training.errors import ConfigError, DataError
from training.execution import programs
from training.execution.sandbox.cutting import cut
from training.lifecycle.attempts import parts_folder
from training.records import Candidate

PROBLEMS = {"kind": "problems", "num_examples": 1100}
QUESTION = "Ann has 3 apples and buys 4. How many are there?"


def config(folder: Path, *sources: dict[str, Any], **data: Any) -> PrepareConfig:
    settings: dict[str, Any] = {
        "folder": str(folder),
        "sources": sources or [PROBLEMS],
        "tokenizer": {"source": "train", "vocab_size": 400},
        "sequence_length": 512,
        "num_workers": 1,
        "run_programs": False,
        **data,
    }
    if any(source["kind"] == "candidates" for source in sources):
        del settings["run_programs"]  # theirs were run already
    # CPU time is scarce where tests run side by side.
    return PrepareConfig.model_validate({"data": settings, "execution": {"timeout_seconds": 5}})


def jsonl(folder: Path, *rows: dict[str, str]) -> dict[str, Any]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"kind": "jsonl", "path": str(path)}


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def row(question: str = QUESTION, program: str = PROGRAM) -> dict[str, str]:
    return {"question": question, "program": program}


def texts(folder: Path, sequence_length: int = 512) -> list[tuple[str, str, int]]:
    """(prompt, program, program's mode) of every example."""
    dataset, tokenizer = (
        SequenceDataset(folder, sequence_length=sequence_length),
        Tokenizer.load(folder),
    )
    found: list[tuple[str, str, int]] = []
    for number in range(len(dataset)):
        at = dataset.sequence(number)
        start = 0
        ids: list[int] = []
        pieces: list[str] = []
        for length in at.lengths.tolist():
            ids = at.tokens[start : start + length].tolist()
            start += length
            pieces.append(tokenizer.decode(ids))
        for place in range(0, len(pieces), 2):
            found.append((pieces[place], pieces[place + 1], int(at.modes[place + 1])))
        assert ids[-1] == tokenizer.end_token
    return found


def test_built_in_problems_become_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = prepare(config(tmp_path / "data"))
    output = capsys.readouterr().out
    assert "problems: rows read" in output and "1,100" in output and "padding" in output
    found = texts(tmp_path / "data")
    dropped = facts["sources"][0]["dropped"]
    assert facts["examples"] == len(found) == 1100 - sum(dropped.values())
    assert all(mode == Mode.SUPERVISED for _, _, mode in found)
    prompt, program, _ = found[0]
    assert cut(prompt + program).program == program
    dataset = SequenceDataset(tmp_path / "data", sequence_length=512)
    batches = [
        collate([dataset.sequence(number)], sequence_length=512, head="language_model")
        for number in range(len(dataset))
    ]
    assert sum(batch.num_tokens for batch in batches) == facts["tokens"]
    assert sum(batch.num_supervised for batch in batches) == facts["supervised_tokens"]
    assert facts["padding_fraction"] < 0.1
    assert not (tmp_path / "data.parts").exists()


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path) -> None:
    for workers in (1, 2, 3):
        prepare(config(tmp_path / str(workers), num_workers=workers, run_programs=True))
    one, two, three = (content(tmp_path / workers) for workers in ("1", "2", "3"))
    assert "rows_00000.bin" in one and one == two == three


def test_a_second_call_does_nothing_a_changed_one_starts_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = jsonl(tmp_path, row())
    prepare(config(tmp_path / "data", source))
    before = (tmp_path / "data" / "rows_00000.bin").stat().st_mtime_ns
    caplog.clear()
    prepare(config(tmp_path / "data", source, num_workers=2))
    assert "is up to date (1 sequences" in caplog.text
    assert (tmp_path / "data" / "rows_00000.bin").stat().st_mtime_ns == before
    jsonl(tmp_path, row(), row(QUESTION.replace("Ann", "Bob")))
    assert prepare(config(tmp_path / "data", source))["examples"] == 2
    facts = prepare(config(tmp_path / "data", source, train_on_prompt=True))
    assert facts["supervised_tokens"] == facts["tokens"] - 2  # all but the first of each


def test_the_manifest_names_no_path_but_the_config_s(tmp_path: Path) -> None:
    prepare(config(tmp_path / "data"))
    assert str(tmp_path) not in (tmp_path / "data" / "manifest.json").read_text()


def test_every_reason_to_drop_is_counted(tmp_path: Path) -> None:
    benchmark = tmp_path / "test.jsonl"
    taken = "A train leaves its station every single morning and carries many sleepy people"
    benchmark.write_text(json.dumps({"question": taken, "answer": "#### 1"}))
    source = jsonl(
        tmp_path,
        row(),
        row(),
        row("Short 1?"),
        row("How many apples would there be on the table?"),
        row(f"{taken}, 17 of them awake. How many?"),
        row(QUESTION + "b", "    result = 1 / 0\n    return result"),
        row(QUESTION + "c", "    result = 'many'\n    return result"),
        row(QUESTION + "d", "    return result +"),
        row(
            QUESTION + "e",
            "    result = 0\n    while True:\n        result += 1\n    return result",
        ),
        row(QUESTION + "f", "   "),
        row(QUESTION + "g", "    x = 1\n" * 300 + PROGRAM),
        row(QUESTION + "\ud800"),
        {"question": QUESTION + "h", "code": "def f("},
    )
    facts = prepare(
        config(
            tmp_path / "data",
            source,
            decontaminate=[{"name": "it", "kind": "gsm8k", "path": str(benchmark)}],
            decontaminate_ngram=10,
            run_programs=True,
        )
    )
    assert facts["sources"][0]["dropped"] == {
        "duplicate question": 1,
        "question too short": 1,
        "question without a number": 1,
        "overlaps a benchmark": 1,
        "program fails": 2,
        "program gives no finite number": 1,
        "program runs too long": 1,
        "program is empty": 1,
        "longer than a sequence": 1,
        "half a character in the text": 1,
        "code cannot be cut into question and program": 1,
    }
    assert texts(tmp_path / "data") == [(programs.prompt(QUESTION), PROGRAM, Mode.SUPERVISED)]


def test_damage_is_refused_or_skipped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    good = [json.dumps(row(QUESTION + letter)) for letter in "abc"]
    listed = json.dumps({"question": [QUESTION], "program": PROGRAM})
    unlike = json.dumps({"asked": QUESTION})
    lines = [good[0], '{"question": ', good[1], listed, unlike, "[" * 100_000]
    (tmp_path / "mine" / "train-0.jsonl").write_text("\n".join(lines))
    (tmp_path / "mine" / "train-1.jsonl").write_text(good[2])
    source = {"kind": "jsonl", "path": str(tmp_path / "mine")}
    with pytest.raises(DataError, match=r"train-0\.jsonl, line 2 is not JSON(.|\n)*= 'skip'"):
        prepare(config(tmp_path / "data", source))
    facts = prepare(config(tmp_path / "data", {**source, "damaged": "skip"}))
    assert facts["sources"][0] == {
        "kind": "jsonl",
        "rows_read": 7,
        "examples_kept": 3,
        "dropped": {"line is damaged": 2, "question is no text": 1, "empty code": 1},
        "repaired": {},
    }
    assert "dropped: line is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("run_programs", [True, False])
def test_functions_are_cut_in_the_sandbox_and_repairs_are_counted(
    tmp_path: Path, run_programs: bool
) -> None:
    whole = programs.source(QUESTION, PROGRAM)
    rows = [
        {"code": whole},
        {"code": f"```python\n{whole}```"},
        {"question": QUESTION + "b", "code": f"def simple_math_problem():\n{PROGRAM}\n"},
        {"question": QUESTION + "c", "code": f"Sure:\n{whole}\nDone."},
        {"code": "def simple_math_problem(:"},
        row(QUESTION + "d"),
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    source = {"kind": "jsonl", "path": str(tmp_path / "mine.jsonl")}
    facts = prepare(config(tmp_path / "data", source, run_programs=run_programs))
    found = facts["sources"][0]
    assert found["repaired"] == {"code fence": 1, "no docstring": 1, "text around the code": 1}
    assert found["dropped"]["code cannot be cut into question and program"] == 1
    assert found["examples_kept"] == 4, "the fenced one repeats the first question"
    assert {text[0] for text in texts(tmp_path / "data")} == {
        programs.prompt(QUESTION + letter) for letter in ("", "b", "c", "d")
    }
    assert {text[1] for text in texts(tmp_path / "data")} == {PROGRAM}


def test_damaged_candidates_are_refused_or_skipped_and_counted(tmp_path: Path) -> None:
    prepare(config(tmp_path / "generator", jsonl(tmp_path, row())))
    written = [candidate(), candidate(PROGRAM.replace("4", "5"), "wrong")]
    paths = [candidates.part_path(tmp_path / "candidates", number) for number in range(2)]
    for path in paths:
        candidates.write(path, written, labels={})
    paths[1].write_bytes(paths[1].read_bytes()[:-9])
    source = {"kind": "candidates", "path": str(tmp_path / "candidates")}
    tokenizer = {"source": str(tmp_path / "generator")}
    with pytest.raises(DataError, match=r"part-00001\.parquet is not a whole Parquet file"):
        prepare(config(tmp_path / "verifier", source, tokenizer=tokenizer))
    source["damaged"] = "skip"
    facts = prepare(config(tmp_path / "verifier", source, tokenizer=tokenizer))
    assert (facts["examples"], facts["sources"][0]["dropped"]) == (2, {"file is damaged": 1})


def test_a_part_that_is_damaged_while_it_waits_is_named(tmp_path: Path) -> None:
    wanted = config(tmp_path / "data", PROBLEMS)
    assert prepare_array_task(wanted, ArrayTask(1, 2)) is None
    (part,) = (tmp_path / "data.parts").glob("part-*")
    whole = part.read_bytes()
    part.write_bytes(whole[:1000] + bytes(255 - byte for byte in whole[1000:1100]) + whole[1100:])
    with pytest.raises(DataError, match=r"part-000000\.parquet.* is damaged: remove it"):
        prepare(wanted)
    part.unlink()
    assert prepare(wanted)["sequences"] > 0


def test_nothing_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    source = jsonl(tmp_path, row("Short 1?"), row("Short 2?"))
    with pytest.raises(DataError, match=r"no example is left(.|\n)*2 dropped: question too short"):
        prepare(config(tmp_path / "data", source))
    empty = jsonl(tmp_path)
    with pytest.raises(DataError, match="0 rows were read"):
        prepare(config(tmp_path / "data", empty))
    assert not (tmp_path / "data").exists() and not (tmp_path / "data.parts").exists()


def test_the_whole_text_form_supervises_the_question_too(tmp_path: Path) -> None:
    prepare(config(tmp_path / "data", jsonl(tmp_path, row()), train_on_prompt=True))
    dataset = SequenceDataset(tmp_path / "data", sequence_length=512)
    assert dataset.sequence(0).modes.tolist() == [Mode.SUPERVISED, Mode.SUPERVISED]


def test_candidates_become_labelled_programs_once_each(tmp_path: Path) -> None:
    prepare(config(tmp_path / "generator", jsonl(tmp_path, row())))
    other = PROGRAM.replace("4", "5")
    failing = "    return 1 / 0"
    written = [
        candidate(),
        candidate(),
        candidate(other, "wrong"),
        candidate(failing, "failed"),
        candidate(other + "  # more", "wrong", finished=False),
    ]
    candidates.write(candidates.part_path(tmp_path, 0), written, labels={})
    source = {"kind": "candidates", "path": str(tmp_path)}
    settings = config(
        tmp_path / "verifier", source, tokenizer={"source": str(tmp_path / "generator")}
    )
    facts = prepare(settings)
    assert (facts["head"], facts["examples"], facts["right_examples"]) == ("verifier", 3, 1)
    assert facts["sources"][0]["dropped"] == {
        "duplicate program of a question": 1,
        "candidate: not finished": 1,
    }
    found = {program: mode for _, program, mode in texts(tmp_path / "verifier")}
    assert found == {PROGRAM: Mode.RIGHT, other: Mode.WRONG, failing: Mode.WRONG}
    assert (
        Tokenizer.load(tmp_path / "verifier").fingerprint
        == Tokenizer.load(tmp_path / "generator").fingerprint
    )
    with pytest.raises(ConfigError, match="generator's tokenizer"):
        prepare(config(tmp_path / "other", source))
    with pytest.raises(ConfigError, match="mixes kinds candidates, problems"):
        prepare(config(tmp_path / "other", source, PROBLEMS))


def test_candidates_are_balanced_after_every_other_filter(tmp_path: Path) -> None:
    """A verdict that other filters thin out costs the other verdict as many."""
    prepare(config(tmp_path / "generator", jsonl(tmp_path, row())))
    long = "    x = 1\n" * 300

    def asked(question: str, name: str, verdicts: dict[str, str]) -> list[Candidate]:
        base = candidate()
        return [
            replace(base, question=question, question_id=name, program=program, verdict=verdict)
            for program, verdict in verdicts.items()
        ]

    def programs_of(kind: str, number: int, before: str = "") -> dict[str, str]:
        return {f"{before}    x = {n}\n    return x  # {kind}": kind for n in range(number)}

    longer = asked(
        QUESTION, "longer", programs_of("right", 4) | programs_of("wrong", 9, long)
        | programs_of("wrong", 2),
    )  # fmt: skip
    gone = asked(QUESTION + "b", "gone", programs_of("right", 3) | programs_of("wrong", 3, long))
    empty = asked(
        QUESTION + "c", "empty", programs_of("right", 2) | {" " * n: "wrong" for n in range(5)}
    )
    twice = [
        *asked(QUESTION + "d", "once", {"    return 1": "right", "    return 2": "wrong"}),
        *asked(QUESTION + "d", "again", {"    return 1": "right", "    return 3": "wrong"}),
    ]
    written = [*longer, *gone, *empty, *twice]
    candidates.write(candidates.part_path(tmp_path, 0), written, labels={})
    source = {"kind": "candidates", "path": str(tmp_path), "balance": "question"}
    facts = prepare(
        config(tmp_path / "verifier", source, tokenizer={"source": str(tmp_path / "generator")})
    )
    kept = Counter((prompt, mode) for prompt, _, mode in texts(tmp_path / "verifier"))
    assert kept == {
        (programs.prompt(QUESTION), Mode.RIGHT): 2,
        (programs.prompt(QUESTION), Mode.WRONG): 2,
        (programs.prompt(QUESTION + "d"), Mode.RIGHT): 1,
        (programs.prompt(QUESTION + "d"), Mode.WRONG): 1,
    }
    assert (facts["examples"], facts["right_examples"]) == (6, 3)
    assert facts["sources"][0]["dropped"] == {
        "longer than a sequence": 12,
        "program is empty": 5,
        "candidate: its question has only right or only wrong programs": 5,
        "candidate: its question has more of this verdict than of the other": 3,
        "duplicate program of a question": 1,
    }


def test_sources_that_are_not_there_are_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        prepare(config(tmp_path / "data", {"kind": "jsonl", "path": str(tmp_path / "x.jsonl")}))
    benchmark = {"name": "it", "kind": "gsm8k", "path": str(tmp_path / "nothing")}
    with pytest.raises(DataError, match="benchmark it"):
        prepare(config(tmp_path / "data", decontaminate=[benchmark]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_prepare_goes_on_from_its_parts(
    tmp_path: Path, stop: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (f"Ann has {number} apples and buys 4. How many?" for number in range(20_000))
    many = jsonl(tmp_path, *map(row, names))
    wanted = config(tmp_path / "data", many, num_workers=2)
    toml = tmp_path / "train.json"
    tree = {"run": {"folder": str(tmp_path / "run")}, "data": resolved(wanted.data)}
    toml.write_text(json.dumps(tree))
    process = subprocess.Popen(
        [sys.executable, "launch/prepare.py", str(toml)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not (made := list(tmp_path.glob("data.parts/part-*.parquet"))):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, stop)
    _, errors = process.communicate(timeout=120)
    assert not (tmp_path / "data").exists()
    if stop != signal.SIGKILL:
        assert process.returncode == 130 and "stopping at the next check" in errors
    (tmp_path / "data.parts" / "packed-0").mkdir()  # as a kill leaves it while packing
    written: list[Path] = []
    write = parts.write

    def recorded(path: Path, converted: parts.Converted, *, made_from: str) -> None:
        written.append(path)
        write(path, converted, made_from=made_from)

    monkeypatch.setattr(parts, "write", recorded)
    facts = prepare(wanted, WorkerPool(1))
    assert written and not set(written) & set(made)
    assert facts == prepare(config(tmp_path / "unbroken", many))
    assert content(tmp_path / "data") == content(tmp_path / "unbroken")
    assert not (tmp_path / "data.parts").exists()


def test_a_source_that_breaks_off_costs_no_part(tmp_path: Path) -> None:
    names = [f"Ann has {number} apples and buys 4. How many?" for number in range(1500)]
    source = jsonl(tmp_path, *map(row, names))
    path = tmp_path / "rows.jsonl"
    whole = path.read_text()
    # So that its first rows, which the tokenizer learns from, are sound.
    path.write_text(whole + "{" + "\n")
    tokenizer = {"source": str(tmp_path / "tokenizer")}
    Tokenizer.train(names, vocab_size=400).save(tmp_path / "tokenizer")
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        prepare(config(tmp_path / "data", source, tokenizer=tokenizer))
    assert [path.name for path in (tmp_path / "data.parts").glob("p*")] == ["part-000000.parquet"]
    path.write_text(whole)
    assert prepare(config(tmp_path / "data", source, tokenizer=tokenizer))["examples"] == 1500


def test_parts_of_another_config_are_made_anew_and_nothing_is_left(tmp_path: Path) -> None:
    assert prepare_array_task(config(tmp_path / "data", PROBLEMS), ArrayTask(1, 2)) is None
    assert list((tmp_path / "data.parts").glob("part-*"))
    prepare(config(tmp_path / "data", PROBLEMS, train_on_prompt=True))
    prepare(config(tmp_path / "unbroken", PROBLEMS, train_on_prompt=True))
    assert content(tmp_path / "data") == content(tmp_path / "unbroken")
    assert not (tmp_path / "data.parts").exists()


def test_jobs_that_share_the_work_write_the_same_bytes(tmp_path: Path) -> None:
    sources = (PROBLEMS | {"num_examples": 2100}, PROBLEMS | {"num_examples": 1030, "seed": 5})
    facts = prepare(config(tmp_path / "alone", *sources))
    shared = config(tmp_path / "shared", *sources)
    assert prepare_array_task(shared, ArrayTask(3, 3)) is None
    assert prepare_array_task(shared, ArrayTask(1, 3)) is None
    assert not (tmp_path / "shared").exists()
    assert prepare_array_task(shared, ArrayTask(2, 3)) == facts
    assert content(tmp_path / "shared") == content(tmp_path / "alone")
    assert prepare_array_task(shared, ArrayTask(1, 3)) == facts, "up to date"


def test_a_second_prepare_leaves_the_first_what_it_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = config(tmp_path / "data", PROBLEMS)
    pack = prepare_module._pack

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    def packing(work: Any, converted: Any, folder: Path) -> Any:
        made = next(converted)
        folder.mkdir()
        monkeypatch.setattr(prepare_module, "_pack", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(wanted)
        assert folder.is_dir()
        monkeypatch.setattr(prepare_module, "_pack", pack)
        return pack(work, chain([made], converted), folder)

    monkeypatch.setattr(prepare_module, "_pack", packing)
    assert prepare(wanted) == prepare(config(tmp_path / "alone", PROBLEMS))
    assert not (tmp_path / "data.parts").exists()


def test_whoever_is_slower_takes_what_the_faster_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = prepare(config(tmp_path / "alone", PROBLEMS))
    pack, write = prepare_module._pack, parts.write

    def packing(work: Any, converted: Any, folder: Path) -> Any:
        made = next(converted)
        monkeypatch.setattr(prepare_module, "_pack", pack)
        assert prepare(wanted) == facts
        return pack(work, chain([made], converted), folder)

    def writing(path: Path, converted: parts.Converted, *, made_from: str) -> None:
        monkeypatch.setattr(parts, "write", write)
        assert prepare(wanted) == facts
        parts.write(path, converted, made_from=made_from)
        parts.refuse_others(path.parent)  # the folder has its mark

    wanted = config(tmp_path / "packed", PROBLEMS)
    monkeypatch.setattr(prepare_module, "_pack", packing)
    assert prepare(wanted) == facts
    wanted = config(tmp_path / "shared", PROBLEMS)
    monkeypatch.setattr(parts, "write", writing)
    assert prepare_array_task(wanted, ArrayTask(2, 2), WorkerPool(1)) == facts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "packed", "shared"]


def test_only_what_a_prepare_wrote_is_replaced(tmp_path: Path) -> None:
    source = jsonl(tmp_path, row())
    data = tmp_path / "data"
    data.mkdir()  # an empty one may be
    prepare(config(data, source))
    before = content(data)
    for path in ("notes.txt", "tokenizer/notes.txt", "mine/notes.txt"):
        (data / path).parent.mkdir(exist_ok=True)
        (data / path).write_text("mine")
        assert prepare(config(data, source))["sequences"] == 1, (
            "up to date, with whatever else is there"
        )
        with pytest.raises(FileExistsError, match=r"holds (mine|.*notes\.txt)"):
            prepare(config(data, source, train_on_prompt=True))
        assert (data / path).read_text() == "mine"
        (data / path).unlink()
        assert content(data) == before and not (tmp_path / "data.parts").exists()
    (data / "mine").rmdir()
    prepare(config(data, source, train_on_prompt=True))
    assert content(data) != before and [*data.parent.glob("data*")] == [data]


def test_a_mount_point_is_refused_before_hours_of_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "data")
    with pytest.raises(FileExistsError, match="is a mount point.*data.folder to a folder in it"):
        prepare(config(tmp_path / "data"))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_file_that_appears_while_it_prepares_stops_the_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = jsonl(tmp_path, row())
    prepare(config(tmp_path / "data", source))
    packed = prepare_module.packed

    def slowly(*arguments: Any, **settings: Any) -> Any:
        (tmp_path / "data" / "notes.txt").write_text("mine")
        return packed(*arguments, **settings)

    monkeypatch.setattr(prepare_module, "packed", slowly)
    with pytest.raises(FileExistsError, match=r"holds notes\.txt"):
        prepare(config(tmp_path / "data", source, train_on_prompt=True))
    assert (tmp_path / "data" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "data" / "rows_00000.bin").exists()


def test_parts_beside_somebody_s_files_are_removed_alone(tmp_path: Path) -> None:
    source = jsonl(tmp_path, row())
    folder = tmp_path / "data.parts"
    folder.mkdir()
    prepare(config(tmp_path / "data", source))  # an empty folder is taken
    assert not folder.exists()
    assert prepare_array_task(config(tmp_path / "other", source), ArrayTask(2, 2)) is None
    marked = tmp_path / "other.parts"
    assert marked.is_dir()
    (marked / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"other\.parts holds notes\.txt"):
        prepare(config(tmp_path / "other", source))
    parts.remove(marked)
    assert [path.name for path in marked.iterdir() if path.suffix == ".txt"] == ["notes.txt"]
    assert not list(marked.glob("part-*")) and not list(marked.glob("tokenizer-*"))


def test_a_folder_named_by_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.folder = '\.' has no name of its own"):
        parts_folder(Path("."))


def test_real_gsm8k_becomes_rows(tmp_path: Path) -> None:
    facts = prepare(
        config(
            tmp_path / "data",
            {"kind": "gsm8k", "path": str(real_data("gsm8k"))},
            tokenizer={"source": str(real_data("codegen_tokenizer"))},
            decontaminate=[{"name": "gsm8k", "kind": "gsm8k", "path": str(real_data("gsm8k"))}],
            sequence_length=1024,
        )
    )
    assert facts["sources"][0]["rows_read"] == 7473
    # Five training questions share 13 words with a test question.
    assert facts["sources"][0]["dropped"]["overlaps a benchmark"] == 5
    assert facts["examples"] == 7160 - 5
    assert facts["vocab_size"] == 50_295 and facts["padding_fraction"] < 0.02
    assert manifest.read(tmp_path / "data")["inputs"].keys() == {
        "data.sources.0",
        "data.decontaminate.0",
        "data.tokenizer",
    }
