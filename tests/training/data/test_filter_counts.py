import json
from pathlib import Path

from training.data import filters_page
from training.data.filter_counts import NUM_EXAMPLES, FilterCounts


def _counts(*texts: str) -> FilterCounts:
    counts = FilterCounts()
    for text in texts:
        counts.drop("too short", text)
    return counts


def test_parts_add_up_and_their_first_examples_stay() -> None:
    total = FilterCounts()
    parts = [_counts("a"), _counts("b", "", "c"), _counts("d", "e")]
    parts[1].repair("escape", "x")
    parts[2].overlaps["8 words"] = 2
    for part in parts:
        total.add(FilterCounts.from_json(json.loads(json.dumps(part.to_json()))))
    assert total.dropped == {"too short": 6} and total.repaired == {"escape": 1}
    assert total.overlaps == {"8 words": 2}
    assert total.examples == {"too short": ["a", "b", "c"], "escape": ["x"]}
    assert not total.wants_example("too short") and total.wants_example("escape")
    assert len(total.examples["too short"]) == NUM_EXAMPLES


def test_an_example_is_cut_and_can_be_written() -> None:
    (shown,) = _counts("\ud800" + "a" * 10_000).examples["too short"]
    assert len(shown.encode()) < 1100


def test_the_page_shows_texts_as_they_are(tmp_path: Path) -> None:
    counts = _counts("```python\n# Heading\n```", "| a | b |")
    source = {
        "kind": "jsonl",
        "rows_read": 2_000,
        "examples_kept": 1_998,
        "dropped": {"too short": 2},
        "repaired": {},
        "overlaps": {"8 words": 5},
    }
    page = filters_page.write(tmp_path, [source], [counts]).read_text()
    assert "| rows read | 2,000 | 100.000% |" in page
    assert "| dropped: too short | 2 | 0.100% |" in page
    assert "| 8 words | 5 | 0.250% |" in page
    assert "````text\n```python\n# Heading\n```\n````" in page
    assert "```text\n| a | b |\n```" in page
