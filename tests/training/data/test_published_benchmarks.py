"""Every published benchmark, from files in the form in which its repository holds them."""

import io
import json
import logging
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests import hub_cache
from tests.training.data.preparing import config, jsonl, row
from training.config import BenchmarkConfig
from training.config.benchmark_sets import SETS, BenchmarkKind
from training.data import reasons
from training.data.benchmarks import ORIGINAL, question_set, questions, text_key
from training.data.decontaminate import Overlap
from training.data.prepare import prepare
from training.errors import DataError

Rows = list[dict[str, Any]]
COPY = "refs/convert/parquet"
SEED = "A shop has 3 boxes of 4 pens. How many pens are in the shop?"


def marked(count: int, **more: Any) -> Rows:
    return [
        {"question": f"Question {n} of 9?", "answer": f"<<{n}+1={n + 1}>>\n#### {n + 1}", **more}
        for n in range(count)
    ]


def symbolic(name: str) -> Rows:
    return marked(2, id=0, instance=1, original_id=7, original_question=SEED, canary=name)


PLUS: Rows = [
    {
        "question": "A shop has 3 boxes.",
        "answer": answer,
        "solution": "",
        "perturbation_type": f"kind {number % 2}",
        "seed_question": SEED,
    }
    for number, answer in enumerate(("12", "1/2", "None", "1,200"))
]
ASDIV: Rows = [
    {"body": "Seven red apples are here.", "question": "How many?", "answer": answer, "formula": ""}
    for answer in ("7 (apples)", "2 (red); 3 (blue)", "5:2")
]
FILES: dict[str, dict[str, Rows]] = {
    "gsm8k": {"main/test-00000-of-00001.parquet": marked(3)},
    "svamp": {
        f"data/{split}-00000-of-00001-ab.parquet": [
            {"Body": f"A {split}.", "Question": "How many?", "Answer": "2.0", "ID": f"chal-{split}"}
        ]
        for split in ("train", "test")
    },
    "gsm8k_platinum": {"main/test-00000-of-00001.parquet": marked(3, cleaning_status="revised")},
    "gsm1k": {"default/test/0000.parquet": [{"question": "How many?", "answer": "1,205"}]},
    "gsm_symbolic": {f"{name}/test.jsonl": symbolic(name) for name in ("main", "p1", "p2")},
    "gsm_plus": {
        "data/test-00000-of-00001.jsonl": PLUS,
        "data/testmini-00000-of-00001.jsonl": PLUS[:1],
        "GSM-Plus.json": PLUS,
    },
    "asdiv": {"asdiv/validation-00000-of-00001.parquet": ASDIV},
    "mawps": {
        "data/test-00000-of-00001-4f.parquet": [
            {"question": "How many?", "result": "7/2", "result_float": 3.5}
        ],
        "original-splits/test-00000-of-00001-4f.parquet": [],
    },
    "multiarith": {
        f"{split}.json": [{"question": f" A {split}?", "final_ans": "8"}]
        for split in ("train", "test")
    },
    "mgsm": {
        f"{language}/{split}/0000.parquet": [
            {"question": f"{language} {split}", "answer": None, "answer_number": 18}
        ]
        for language in ("en", "de")
        for split in ("train", "test")
    },
}


def content(name: str, rows: Rows) -> bytes:
    if name.endswith(".parquet"):
        stream = io.BytesIO()
        parquet.write_table(pa.Table.from_pylist(rows), stream)
        return stream.getvalue()
    if name.endswith(".jsonl"):
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    return json.dumps(rows).encode()


def write(folder: Path, files: dict[str, Rows]) -> Path:
    for name, rows in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content(name, rows))
    return folder


def benchmark(kind: str, **settings: Any) -> BenchmarkConfig:
    return BenchmarkConfig.model_validate(
        {"name": "it", "kind": kind, **{key: str(value) for key, value in settings.items()}}
    )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with every published set, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for kind, files in FILES.items():
        published = SETS[kind]  # pyright: ignore[reportArgumentType]
        blobs = {name: content(name, rows) for name, rows in files.items()}
        revision = published.revision or "main"
        hub_cache.lay_out(tmp_path, published.hub, blobs, revision=revision)
    return tmp_path


def test_the_table_has_every_kind() -> None:
    assert set(SETS) == set(get_args(BenchmarkKind)) - {"problems"}
    assert set(FILES) == set(SETS) - {"table"}
    page = (Path(__file__).parents[3] / "docs" / "benchmarks.md").read_text("utf-8")
    for kind, published in SETS.items():
        assert f"| `{kind}` |" in page and published.hub in page, kind


@pytest.mark.parametrize(
    ("kind", "ids", "golds"),
    [
        ("gsm8k", ["gsm8k-test-0", "gsm8k-test-1", "gsm8k-test-2"], [1, 2, 3]),
        ("svamp", ["svamp-chal-train", "svamp-chal-test"], [2, 2]),
        ("gsm8k_platinum", [f"gsm8k_platinum-test-{n}" for n in range(3)], [1, 2, 3]),
        ("gsm1k", ["gsm1k-test-0"], [1205]),
        ("gsm_symbolic", ["gsm_symbolic-main-test-0", "gsm_symbolic-main-test-1"], [1, 2]),
        ("gsm_plus", [f"gsm_plus-test-{n}" for n in (0, 1, 3)], [12, 0.5, 1200]),
        ("asdiv", ["asdiv-0"], [7]),
        ("mawps", ["mawps-data-test-0"], [3.5]),
        ("multiarith", ["multiarith-0", "multiarith-1"], [8, 8]),
        ("mgsm", ["mgsm-en-test-0"], [18]),
    ],
)
def test_each_is_read_from_the_hub_without_a_path(
    hub: Path, kind: str, ids: list[str], golds: list[float]
) -> None:
    found = questions(benchmark(kind))

    assert [question.id for question in found] == ids
    assert [question.gold for question in found] == golds


def test_the_message_without_a_network_names_the_revision(hub: Path) -> None:
    (hub / "hub" / "datasets--ScaleAI--gsm1k").rename(hub / "gone")

    with pytest.raises(
        DataError, match=f"hf download ScaleAI/gsm1k --repo-type dataset --revision {COPY}"
    ):
        questions(benchmark("gsm1k"))


def test_a_subset_is_a_folder(tmp_path: Path) -> None:
    folder = write(tmp_path, FILES["gsm_symbolic"] | FILES["mgsm"])

    found = questions(benchmark("gsm_symbolic", path=folder, subset="p1"))
    assert [question.id for question in found] == [
        "gsm_symbolic-p1-test-0",
        "gsm_symbolic-p1-test-1",
    ]
    german = questions(benchmark("mgsm", path=folder, subset="de"))
    assert [question.text for question in german] == ["de test"]
    with pytest.raises(DataError, match=r"has no folder 'ja' for this subset: it has de, en"):
        questions(benchmark("mgsm", path=folder, subset="ja"))


def test_variants_name_their_original(tmp_path: Path) -> None:
    for kind in ("gsm_symbolic", "gsm_plus"):
        found = questions(benchmark(kind, path=write(tmp_path / kind, FILES[kind])))
        assert {question.tags[ORIGINAL] for question in found} == {text_key(f"  {SEED.upper()}\n")}
    assert [question.tags["type"] for question in found] == ["kind 0", "kind 1", "kind 1"]


def test_golds_that_are_no_number_are_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = question_set(benchmark("gsm_plus", path=write(tmp_path, FILES["gsm_plus"])))

    assert len(found.questions) == 3 and len(found.left_out) == 1
    assert "question 2: gold is 'None'" in found.left_out[0]
    assert "1 of 4 questions have no number as gold answer and are left out" in caplog.text


def test_a_set_without_any_number_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, {"test.jsonl": [{"question": "Why?", "answer": "because"}]})

    with pytest.raises(DataError, match="no question whose gold answer is a number: question 0"):
        questions(benchmark("gsm1k", path=tmp_path))


def test_published_sets_may_repeat_a_question(tmp_path: Path) -> None:
    write(tmp_path, {"test.jsonl": [{"question": "Why?", "answer": "7"}] * 2})

    assert len(questions(benchmark("gsm1k", path=tmp_path))) == 2
    with pytest.raises(DataError, match="holds 1 questions more than once"):
        questions(benchmark("table", path=tmp_path))


@pytest.mark.parametrize("name", ["test.jsonl", "test.parquet", "mine.json"])
def test_a_table_has_any_columns(tmp_path: Path, name: str) -> None:
    rows = [
        {"frage": "Wie viele?", "loesung": "12 (Äpfel)"},
        {"frage": "Und?", "loesung": "#### 3"},
    ]
    path = write(tmp_path, {name: rows}) / name
    columns = {"question_column": "frage", "answer_column": "loesung"}

    found = questions(benchmark("table", path=path, **columns))
    assert [(question.text, question.gold) for question in found] == [
        ("Wie viele?", 12),
        ("Und?", 3),
    ]
    with pytest.raises(
        DataError, match="no column 'answer': it has frage, loesung; set question_column and"
    ):
        questions(benchmark("table", path=path))


def test_a_table_s_gold_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, {"test.jsonl": [*marked(1), {"question": "Why?", "answer": "none"}]})

    with pytest.raises(DataError, match="test question 1: gold is 'none': a number is needed"):
        questions(benchmark("table", path=tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "gsm9k"}, "'problems'.*'gsm8k'.*'gsm_symbolic'.*'mgsm'"),
        ({"kind": "table"}, "kind = 'table' needs a path"),
        ({"kind": "gsm_symbolic", "subset": "p3"}, "set one of main, p1, p2"),
        ({"kind": "svamp", "subset": "main"}, "has no subsets: leave it out"),
        ({"kind": "asdiv", "split": "train"}, "ASDiv is one test set, all of which is read"),
        ({"kind": "mawps", "answer_column": "x"}, "whose columns are known.*kind = 'table'"),
        ({"kind": "problems", "num_questions": 1, "subset": "x"}, "subset = 'x' with kind"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BenchmarkConfig.model_validate({"name": "it", **settings})


def test_each_can_be_decontaminated_against(hub: Path) -> None:
    for kind in FILES:
        texts = [question.text for question in questions(benchmark(kind))]
        overlap = Overlap(texts, ngram=13, similarity=0.5)
        assert all(overlap.hits(text) for text in texts), kind


def test_prepare_drops_what_a_published_set_holds(hub: Path) -> None:
    taken = "The shop of Mr. Lee sells 3 boxes with 4 pens each and 2 single pens. How many pens?"
    source = jsonl(hub, row(), row(taken.replace("3", "30")))
    write(hub, {"platinum/test.jsonl": [{"question": taken, "answer": "#### 14"}]})
    entry = {"name": "it", "kind": "gsm8k_platinum", "path": str(hub / "platinum")}

    facts = prepare(config(hub / "data", source, decontaminate=[entry], decontaminate_ngram=8))

    assert facts["sources"][0]["dropped"] == {reasons.OVERLAP: 1}
