"""Columns of a source: what each kind needs, and what it does not read."""

import re
from pathlib import Path
from typing import Any

import pytest
import tomli
from pydantic import ValidationError

from training.config import DataConfig, SourceConfig

ROOT = Path(__file__).parents[3]
REWARDED = {"completion": "response", "reward": "score"}
JUDGED = {"completion": "response", "gold": "answer"}


def source(kind: str, **settings: Any) -> SourceConfig:
    return SourceConfig.model_validate({"kind": kind, "path": "x.jsonl", **settings})


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("rollouts", {}, "needs columns.completion"),
        ("rollouts", {"columns": {"completion": "a"}}, "neither columns.reward nor columns.gold"),
        (
            "rollouts",
            {"columns": {**REWARDED, **JUDGED}},
            "reward = 'score', gold = 'answer': name one of columns.reward",
        ),
        ("jsonl", {"columns": REWARDED}, "columns.reward = 'score' with kind = 'jsonl'.*rollouts"),
        ("jsonl", {"columns": {"question": "q"}}, "question = 'q' without columns.completion"),
        ("parquet", {"form": "prose"}, "form = 'prose' needs columns.completion"),
        ("rollouts", {"columns": JUDGED, "extractor": "boxed"}, "extractor = 'boxed', which"),
        (
            "rollouts",
            {"columns": REWARDED, "form": "prose", "extractor": "hashes"},
            "extractor = 'hashes', which is read with form = 'prose' and columns.gold only",
        ),
        (
            "rollouts",
            {"columns": JUDGED, "reward_threshold": 0.9},
            "reward_threshold = 0.9, which is read with columns.reward only",
        ),
        ("rollouts", {"columns": REWARDED, "reward_threshold": 0.0}, "greater than 0"),
        ("gsm8k", {"form": "prose"}, "form = 'prose' with kind = 'gsm8k', which does not read it"),
        ("candidates", {"columns": JUDGED}, "columns = .* with kind = 'candidates'"),
        ("jsonl", {"balance": "question"}, "only 'candidates' and 'rollouts' are labelled"),
    ],
)
def test_columns_that_do_not_fit_the_kind_are_refused(
    kind: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        source(kind, **settings)


def test_programs_are_run_where_something_is_compared_with_their_results() -> None:
    def data(*sources: SourceConfig, **settings: Any) -> DataConfig:
        return DataConfig.model_validate({"folder": "data/x", "sources": sources, **settings})

    judged, rewarded = source("rollouts", columns=JUDGED), source("rollouts", columns=REWARDED)
    prose = source("rollouts", columns=JUDGED, form="prose")
    both = data(judged, rewarded, prose)
    assert both.is_for_verifier and [both.runs(each) for each in both.sources] == [
        True,
        False,
        False,
    ]
    code, text = source("jsonl"), source("jsonl", columns={"completion": "a"}, form="prose")
    learnt = data(code, text)
    assert not learnt.is_for_verifier and [learnt.runs(each) for each in learnt.sources] == [
        True,
        False,
    ]
    assert not data(code, run_programs=False).runs(code)
    with pytest.raises(ValidationError, match=r"run_programs = false with sources.0.columns.gold"):
        data(source("jsonl", columns=JUDGED), run_programs=False)
    with pytest.raises(ValidationError, match="with sources of kind 'rollouts', for which"):
        data(judged, run_programs=False)


def test_the_entries_that_the_docs_show_are_sources() -> None:
    page = (ROOT / "docs" / "data.md").read_text("utf-8")
    entries = re.findall(r"^\|.*\| `(\{ kind = .*\})` \|$", page, re.MULTILINE)
    assert len(entries) == 4
    for entry in entries:
        found = SourceConfig.model_validate(tomli.loads(f"source = {entry}")["source"])
        assert found.columns.completion
