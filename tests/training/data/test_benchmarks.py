import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests import hub_cache
from tests.training.data.real import real_data
from training.config import BenchmarkConfig
from training.data.benchmarks import files_of, questions
from training.errors import ConfigError, DataError

ROWS = [
    {"question": f"Question {number}?", "answer": f"<<1+{number}=x>>\n#### {number + 1},000"}
    for number in range(5)
]


def benchmark(path: Path | str = "", kind: str = "gsm8k", **settings: Any) -> BenchmarkConfig:
    return BenchmarkConfig.model_validate(
        {"name": "it", "kind": kind, "path": str(path), **settings}
    )


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_gsm8k_from_a_file_and_from_a_folder(tmp_path: Path) -> None:
    lines(tmp_path / "test.jsonl", ROWS)
    lines(tmp_path / "train.jsonl", ROWS[:2])
    found = questions(benchmark(tmp_path))
    assert [question.id for question in found] == [f"gsm8k-test-{n}" for n in range(5)]
    assert found[4].text == "Question 4?" and found[4].gold == 5000
    assert found[4].tags == {"operations": 1}
    assert questions(benchmark(tmp_path / "test.jsonl")) == found
    assert len(questions(benchmark(tmp_path, split="train"))) == 2


def test_gsm8k_from_the_hub_s_files(tmp_path: Path) -> None:
    for name in ("main", "socratic"):
        (tmp_path / name).mkdir()
        parquet.write_table(
            pa.Table.from_pylist(ROWS), tmp_path / name / "test-00000-of-00001.parquet"
        )
    assert len(questions(benchmark(tmp_path))) == 5


def test_a_cut_keeps_the_ids(tmp_path: Path) -> None:
    path = lines(tmp_path / "test.jsonl", ROWS)
    found = questions(benchmark(path, skip_questions=1, num_questions=2))
    assert [question.id for question in found] == ["gsm8k-test-1", "gsm8k-test-2"]


def test_too_few_questions_are_an_error(tmp_path: Path) -> None:
    path = lines(tmp_path / "test.jsonl", ROWS)
    with pytest.raises(DataError, match="num_questions = 3 need more.*it gave 2"):
        questions(benchmark(path, skip_questions=3, num_questions=3))


def test_missing_files_and_columns_say_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"path of benchmark it = .*no such file or folder"):
        questions(benchmark(tmp_path / "nothing"))
    with pytest.raises(DataError, match=r"holds no test split: expected test\.parquet"):
        questions(benchmark(tmp_path))
    lines(tmp_path / "test.jsonl", [{"q": "?"}])
    with pytest.raises(DataError, match="no column 'answer': it has q"):
        questions(benchmark(tmp_path))
    lines(tmp_path / "test.jsonl", [{"question": "a", "answer": "none"}])
    with pytest.raises(DataError, match="test question 0: no number after ####"):
        questions(benchmark(tmp_path))
    lines(tmp_path / "test.jsonl", [{"question": "a", "answer": "#### " + "1" * 400}])
    with pytest.raises(DataError, match="test question 0: .*gold is .* a finite number is needed"):
        questions(benchmark(tmp_path))
    (tmp_path / "test.jsonl").write_text('{"question": "a", "answer"\n')
    with pytest.raises(ValueError, match=r"test\.jsonl, line 1 is not JSON"):
        questions(benchmark(tmp_path))


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (10**400, "(401 characters): a finite"),
        ("1" * 400, "(402 characters): a finite"),
        (float("inf"), "inf: a finite"),
        (None, "None: a number is needed"),
        (True, "True: a number is needed"),
        ("many", "'many': a number is needed"),
    ],
)
def test_svamp_answers_that_are_no_gold_are_named(
    answer: object, shown: str, tmp_path: Path
) -> None:
    rows = [{"Body": "A", "Question": "Q?", "Answer": given} for given in (2.0, answer)]
    (tmp_path / "SVAMP.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match="SVAMP question 1: gold is ") as caught:
        questions(benchmark(tmp_path, kind="svamp"))
    assert shown in str(caught.value) and len(str(caught.value)) < 400


def test_sets_of_the_hub_are_read_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def content(rows: list[dict[str, str]]) -> bytes:
        parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "table")
        return (tmp_path / "table").read_bytes()

    gsm8k = {
        "main/test-00000-of-00001.parquet": content(ROWS),
        "main/train-00000-of-00001.parquet": b"",
    }
    other = {"socratic/test-00000-of-00001.parquet": b""}
    hub_cache.lay_out(tmp_path, "openai/gsm8k", gsm8k | other)
    svamp = {
        f"data/{split}-00000-of-00001-{number}.parquet": content(
            [{"Body": f"A {split}", "Question": "Q?", "Answer": "2.0"}]
        )
        for number, split in enumerate(("train", "test"))
    }
    hub_cache.lay_out(tmp_path, "ChilleD/SVAMP", svamp)
    assert len(questions(benchmark("openai/gsm8k"))) == 5
    found = questions(benchmark("ChilleD/SVAMP", kind="svamp"))
    assert [question.text for question in found] == ["A train Q?", "A test Q?"]
    with pytest.raises(DataError, match="hf download no/network.*set path of benchmark it"):
        questions(benchmark("no/network"))


def test_built_in_problems_are_cut_by_index() -> None:
    whole = questions(benchmark(kind="problems", num_questions=6, seed=7))
    cut = questions(benchmark(kind="problems", skip_questions=4, num_questions=2, seed=7))
    assert cut == whole[4:]
    assert len({question.text for question in whole}) == 6
    other = questions(benchmark(kind="problems", num_questions=6, seed=8))
    assert not {question.text for question in whole} & {question.text for question in other}
    for question in whole:
        assert 2 <= int(question.tags["operations"]) <= 4 and question.tags["story"]


def test_an_unknown_kind_of_story_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="spaceships"):
        questions(
            benchmark(kind="problems", num_questions=1, difficulty={"story_kinds": ["spaceships"]})
        )


def test_real_gsm8k() -> None:
    test = questions(benchmark(real_data("gsm8k")))
    train = questions(benchmark(real_data("gsm8k"), split="train"))
    assert (len(test), len(train)) == (1319, 7473)
    assert sum(question.gold < 0 for question in test + train) == 5
    assert all(question.gold.is_integer() for question in test + train)
    rows = [
        json.loads(line)["answer"].rpartition("####")[2]
        for name in ("train", "test")
        for line in real_data(f"gsm8k/{name}.jsonl").read_text("utf-8").splitlines()
    ]
    with_comma = [index for index, text in enumerate(rows) if "," in text]
    assert len(with_comma) == 93
    for index in with_comma:
        assert (train + test)[index].gold == int(rows[index].replace(",", ""))


def test_real_svamp() -> None:
    found = questions(benchmark(real_data("svamp"), kind="svamp"))
    assert len(found) == len({question.id for question in found}) == 1000
    assert found[0].text.endswith("on each pack How much do you have to pay to buy each pack?")
    assert found[0].gold == 51
    assert questions(benchmark(real_data("svamp/SVAMP.json"), kind="svamp")) == found


def test_a_folder_s_exact_file_comes_before_its_variants(tmp_path: Path) -> None:
    """GSM8K's repository holds `test_socratic.jsonl` beside `test.jsonl`: the same questions."""
    lines(tmp_path / "test.jsonl", ROWS)
    lines(tmp_path / "test_socratic.jsonl", ROWS)
    lines(tmp_path / "example_model_solutions.jsonl", ROWS)
    config = benchmark(tmp_path)
    assert files_of(config) == [tmp_path / "test.jsonl"]
    assert len(questions(config)) == 5
    (tmp_path / "test.jsonl").unlink()
    assert files_of(config) == [tmp_path / "test_socratic.jsonl"]
    lines(tmp_path / "test_main.jsonl", ROWS)
    with pytest.raises(DataError, match=r"test_main\.jsonl, test_socratic\.jsonl: name one"):
        files_of(config)


def test_numbered_files_of_a_split_are_read_together(tmp_path: Path) -> None:
    names = ("test-00000-of-00002-1f0c.jsonl", "test-00001-of-00002-9a.jsonl")
    for at, name in enumerate(names):
        lines(tmp_path / name, ROWS[at * 2 : at * 2 + 2])
    lines(tmp_path / "test_socratic.jsonl", ROWS)
    assert files_of(benchmark(tmp_path)) == [tmp_path / name for name in names]
    assert len(questions(benchmark(tmp_path))) == 4


def test_repeated_questions_are_refused_with_their_files(tmp_path: Path) -> None:
    lines(tmp_path / "test-0.jsonl", ROWS[:4])
    again = {**ROWS[1], "question": " question  1 "}
    lines(tmp_path / "test-1.jsonl", [ROWS[4], again, ROWS[2]])
    with pytest.raises(
        DataError,
        match=r"benchmark it holds 2 questions more than once: 'Question 1\?' is question 1 "
        r"\(.*test-0\.jsonl\) and question 5 \(.*test-1\.jsonl\)",
    ):
        questions(benchmark(tmp_path))
    assert len(questions(benchmark(tmp_path, num_questions=5))) == 5


def test_built_in_problems_may_repeat_by_chance() -> None:
    easy = {"min_operations": 1, "max_operations": 1, "max_distractors": 0, "num_phrasings": 1}
    narrow = {**easy, "num_names": 8, "num_items": 6, "max_given": 12, "story_kinds": ["bakery"]}
    found = questions(benchmark(kind="problems", num_questions=2000, difficulty=narrow))
    assert len(found) == 2000 > len({question.text for question in found})


def test_a_file_named_for_another_split_is_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "test.jsonl", ROWS)
    with pytest.raises(DataError, match="named for the test split, but split = 'train'"):
        questions(benchmark(path, split="train"))
    other = lines(tmp_path / "testimony.jsonl", ROWS)
    assert len(questions(benchmark(other, split="train"))) == 5
