"""The rules of docs/words.toml find what they are for, in every kind of file."""

from pathlib import Path

import pytest

from tests import prose
from tests.prose import Rule, findings, rules


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.find.pattern[:30])
def test_a_rule_finds_its_example_and_not_its_advice(rule: Rule) -> None:
    assert rule.find.search(rule.example)
    assert not rule.find.search(rule.use)


def test_prose_is_searched_and_code_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prose, "ROOT", tmp_path.resolve())
    page = tmp_path / "page.md"
    page.write_text("Fine.\n\n    mend it\n\n`mend`\n\nPlease mend it.\n", "utf-8")
    module = tmp_path / "module.py"
    code = '"""Doc."""\n\nmend = "x"\n# mend\nraise ValueError(f"mend {mend}")\n'
    module.write_text(code, "utf-8")

    found = list(findings([page, module]))

    assert [line.split(": ")[0] for line in found] == ["page.md:7", "module.py:5", "module.py:4"]
