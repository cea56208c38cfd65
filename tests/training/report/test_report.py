import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import pytest
from rich.console import Console

from tests.training.report.run_folder import write_run
from training.files import read_json, write_json
from training.report import build_report, summary_table
from training.report.collect import collect
from training.report.settings import setting_rows

SECTIONS = {
    "headline",
    "settings",
    "accuracy",
    "operations",
    "loss",
    "scores",
    "data",
    "examples",
    "reading",
}
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that every element is closed in order and collects what matters."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sections: set[str] = set()
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
                if tag == "section":
                    self.sections.add(value)
            if name in ("href", "src", "action"):
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag


def build(folder: Path) -> tuple[str, Page, dict[str, Any]]:
    path = build_report(folder)
    assert path == folder / "report.html"
    text = path.read_text("utf-8")
    return text, Page(text), read_json(folder / "report.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("report") / "demo", questions=60)


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_only_a_report_is_written_over(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "demo", questions=5)
    build(folder)
    build(folder)
    mine = '{"benchmarks": "mine"}' if name.endswith("json") else "<title>mine: report</title>"
    (folder / name).write_text(mine)
    with pytest.raises(FileExistsError, match=f"{name} is there and no report wrote it"):
        build(folder)
    assert (folder / name).read_text() == mine


def test_json_holds_the_evaluation_unchanged_and_the_run(whole: Path) -> None:
    _, _, report = build(whole)
    assert report["benchmarks"] == read_json(whole / "evaluation/evaluation.json")["benchmarks"]
    entry = report["benchmarks"]["demo_test"]
    assert set(entry["pass_at_1"]) == {"value", "low", "high"}
    assert list(entry["verify_at_k"]) == ["1", "2", "4", "8", "16"]
    run = report["run"]
    assert (run["name"], run["seed"]) == ("demo", 1)
    # 6 layers of 443,904 + 768 (attention, MLP, LayerNorm), embedding, last norm, head.
    body = 6 * (4 * (192 * 192 + 192) + 2 * 192 * 768 + 960 + 384) + 1024 * 192 + 384
    assert run["parameters"] == {"generator": body + 1024 * 193, "verifier": body + 192}
    assert run["seconds"]["generator"] == pytest.approx(900 * 0.41)
    assert run["seconds"]["evaluation"] == 96.4
    assert run["data"]["data_generator"]["dropped"]["too_long"] == 211
    assert sum(group["right"] for group in run["candidates"]) > 0
    assert 0.5 < report["verifier"]["demo_test"]["auc"] < 1
    json.dumps(report, allow_nan=False)


def test_page_has_every_section_and_fetches_nothing(whole: Path) -> None:
    text, page, _ = build(whole)
    assert page.sections == SECTIONS
    assert "://" not in text
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids)), "drawings share names of parts"
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(page.ids)
    assert "prefers-color-scheme: dark" in text
    assert "0\u20131 irrelevant facts; programs misread 25 % of the misleading facts" in text
    # Two each of accuracy, operations, loss and scores.
    assert page.tags.count("svg") == 8
    for variable in set(re.findall(r"var\((--[\w-]+)\)", text)):
        assert f"{variable}:" in text, variable


def test_the_same_run_gives_the_same_bytes(whole: Path) -> None:
    first = build(whole)[0]
    assert build(whole)[0] == first


def test_examples_show_a_saved_and_a_missed_answer(whole: Path) -> None:
    text, _, _ = build(whole)
    assert "The verifier saved the answer" in text
    assert "A right program was there and another was chosen" in text
    assert "eaten &amp; never paid for" in text


def test_a_losing_verifier_is_named_as_one(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", skill=-1.0, benchmarks=("demo_test",), questions=60)
    text, _, report = build(folder)
    assert any("Majority voting beats" in said for said in report["findings"]["demo_test"])
    assert "Majority voting beats the verifier" in text
    assert "below the single greedy program" in text


def test_without_a_verifier_its_parts_are_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", verifier=False, benchmarks=("demo_test",), questions=30)
    text, page, report = build(folder)
    assert page.sections == SECTIONS - {"scores"}
    assert "verifier" not in report["run"]["steps"] and report["verifier"] == {}
    assert "No verifier was evaluated" in text
    assert "The majority&#x27;s answer" in text


@pytest.mark.parametrize(
    ("gone", "sections"),
    [
        ("evaluation", {"accuracy", "operations", "scores", "examples"}),
        ("evaluation/candidates_demo_test.parquet", {"scores", "examples"}),
        ("generator", set[str]()),
        ("candidates", set[str]()),
        ("config.json", set[str]()),
    ],
)
def test_missing_pieces_leave_the_rest(tmp_path: Path, gone: str, sections: set[str]) -> None:
    folder = write_run(tmp_path / "run", benchmarks=("demo_test",), questions=20)
    (folder / gone).rename(tmp_path / "gone")
    _, page, report = build(folder)
    assert page.sections == SECTIONS - sections
    assert bool(report["benchmarks"]) == (gone != "evaluation")


def test_evaluation_with_only_the_least(tmp_path: Path) -> None:
    entry: dict[str, Any] = {"num_questions": 3, "num_candidates": 4, "pass_at_1": 0.5}
    entry |= {"verify_at_k": {"4": {"value": 0.75, "low": None, "high": None}}}
    write_json(tmp_path / "evaluation.json", {"benchmarks": {"few": entry}})
    _, page, _ = build(tmp_path)
    assert page.sections == {"headline", "accuracy", "reading"}


def test_a_folder_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no result of a recipe"):
        build_report(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        build_report(tmp_path / "absent")


def test_text_of_models_and_data_is_shown_not_obeyed(tmp_path: Path) -> None:
    attack = '</pre></style><script>alert("x")</script><img src=x onerror=1>$\\frac{1}$\x1b\x00'
    folder = write_run(tmp_path / "run", benchmarks=("demo_test",), questions=20)
    path = folder / "evaluation/candidates_demo_test.parquet"
    rows = parquet.read_table(path).to_pylist()
    for row in rows:
        row |= {"question": attack, "program": attack, "error": attack}
        row["question_id"] = attack + row["question_id"]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    config = read_json(folder / "config.json")
    config["run"]["name"] = attack
    config["generator"]["model"]["initial_weights"] = attack
    write_json(folder / "config.json", config)
    evaluation = read_json(folder / "evaluation/evaluation.json")
    evaluation["benchmarks"]['<script>"$x'] = evaluation["benchmarks"]["demo_test"]
    write_json(folder / "evaluation/evaluation.json", evaluation)
    metrics = folder / "generator/metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("eval/demo_test", "eval/<script>$x"))
    manifest = read_json(folder / "data_generator/manifest.json")
    manifest["facts"]["dropped"][attack] = 3
    write_json(folder / "data_generator/manifest.json", manifest)

    text, page, _ = build(folder)
    assert not {"script", "img"} & set(page.tags)
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text and "\x00" not in text


def test_table_fits_a_terminal_of_eighty_columns(whole: Path) -> None:
    report = build(whole)[2]
    report["benchmarks"]["[red]x[/red]"] = {"num_questions": 7, "pass_at_1": {"value": 0.125}}
    written = io.StringIO()
    console = Console(width=80, file=written)
    console.print(summary_table(report))
    text = written.getvalue()
    entry = report["benchmarks"]["demo_test"]
    row = next(line for line in text.splitlines() if "demo_test" in line)
    assert f"{100 * entry['verify_at_k']['16']['value']:.1f}" in row
    assert f"{100 * entry['verify_minus_pass_at_1']['value']:+.1f}" in row
    assert "[red]x" in text and "12.5" in text and "…" not in text
    console.print(summary_table({"benchmarks": {}}))


def test_seeds_that_are_a_trainings_own_are_reported(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_run(folder)
    config = read_json(folder / "config.json")
    config["verifier"]["run"] = {"seed": 78}
    write_json(folder / "config.json", config)
    assert ("Seed", "1; the verifier's 78") in setting_rows(collect(folder), {})
