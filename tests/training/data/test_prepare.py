"""Prepared data: examples, drops, labels, and what a second call does."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.data.preparing import PROBLEMS, QUESTION, config, content, jsonl, row, texts
from tests.training.data.real import real_data
from tests.training.data.test_sources import PROGRAM, candidate
from training import manifest
from training.data import candidates, reasons
from training.data.dataset import SequenceDataset
from training.data.micro_batch import collate
from training.data.pack import Mode
from training.data.prepare import prepare
from training.data.tokenizer import Tokenizer
from training.errors import ConfigError, DataError
from training.execution import programs
from training.execution.sandbox.cutting import cut
from training.records import Candidate


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


def test_damage_that_keeps_a_files_size_is_found_and_repaired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = config(tmp_path / "data", jsonl(tmp_path, row()))
    prepare(wanted)
    before = content(tmp_path / "data")
    shard = tmp_path / "data" / "rows_00000.bin"
    shard.write_bytes(bytes(len(shard.read_bytes())))
    caplog.clear()
    prepare(wanted)
    assert "is damaged (rows_00000.bin has changed since it was written): it is prepared" in (
        caplog.text
    )
    assert content(tmp_path / "data") == before


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


def test_what_the_filters_did_is_written_beside_the_data(tmp_path: Path) -> None:
    benchmark = tmp_path / "test.jsonl"
    taken = "A train leaves its station at 8 and carries 40 sleepy people to the city. How many?"
    benchmark.write_text(json.dumps({"question": taken, "answer": "#### 1"}))
    source = jsonl(
        tmp_path,
        row(),
        row(QUESTION.upper().replace(".", " !")),
        row("Short 1?"),
        row("``` A hat costs \\$30. What do 4 hats cost? ```"),
        row(taken.replace("A train", "The 9 o'clock bus").replace("40", "70")),
    )
    benchmarks = [{"name": "it", "kind": "gsm8k", "path": str(benchmark)}]
    settings = {"decontaminate": benchmarks, "decontaminate_ngram": 14}
    facts = prepare(config(tmp_path / "data", source, **settings))["sources"][0]
    assert facts["dropped"] == {
        reasons.DUPLICATE: 1,
        reasons.TOO_SHORT: 1,
        reasons.NEAR_BENCHMARK: 1,
    }
    assert facts["repaired"] == {reasons.ESCAPE: 1, reasons.DELIMITER: 1}
    assert facts["overlaps"]["13 words"] == 1
    assert facts["overlaps"]["13 words with numbers"] == 0
    prompts = [prompt for prompt, _, _ in texts(tmp_path / "data")]
    assert programs.prompt("A hat costs $30. What do 4 hats cost?") in prompts
    page = (tmp_path / "data" / "filters.md").read_text()
    assert "### question too short\n\n```text\nShort 1?\n```" in page
    assert f"~ {taken}" in page and "BUYS 4" in page
    assert "filters.md" in manifest.read(tmp_path / "data")["outputs"]


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
        "overlaps": {},
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
    settings = {"run_programs": run_programs, "near_duplicate_similarity": 0}
    facts = prepare(config(tmp_path / "data", source, **settings))
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


def test_sources_with_weights_share_no_sequence(tmp_path: Path) -> None:
    rows = [row(f"Ann has {number} apples and buys 4. How many?") for number in range(90)]
    (tmp_path / "more").mkdir()
    sources = [jsonl(tmp_path, *rows[:50]), jsonl(tmp_path / "more", *rows[40:])]
    together = prepare(config(tmp_path / "together", *sources, sequence_length=200))
    weighted = [
        {**source, "weight": weight} for source, weight in zip(sources, (3, 1), strict=True)
    ]
    apart = prepare(config(tmp_path / "apart", *weighted, sequence_length=200))
    assert together["examples"] == apart["examples"] == 90
    assert all("sequences" not in source for source in together["sources"])
    sizes = [source["sequences"] for source in apart["sources"]]
    assert sum(sizes) == apart["sequences"] and min(sizes) > 0
    assert apart["sources"][1]["dropped"] == {"duplicate question": 10}
    first = config(tmp_path / "first", sources[0], sequence_length=200)
    assert prepare(first)["sequences"] == sizes[0]
    prompts = [
        [prompt for prompt, _, _ in texts(tmp_path / name, 200)] for name in ("first", "apart")
    ]
    assert sorted(prompts[0]) == sorted(prompts[1][: len(prompts[0])])


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
    assert facts["sources"][0]["dropped"]["near duplicate of a question"] == 1
    assert facts["examples"] == 7160 - 5 - 1
    assert facts["vocab_size"] == 50_295 and facts["padding_fraction"] < 0.02
    assert manifest.read(tmp_path / "data")["inputs"].keys() == {
        "data.sources.0",
        "data.decontaminate.0",
        "data.tokenizer",
    }
