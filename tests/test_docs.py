"""README and docs agree with the code: files, links, configs, messages, command lines."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli

from tests.commands import ROOT, check, paths_named, shown, shown_in_help
from tests.docs_map import FOLDERS, PAGE, with_map
from training.config import TrainConfig, checked

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "AGENTS.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
TEXTS = {str(page.relative_to(ROOT)): page.read_text("utf-8") for page in PAGES}
HEADS = [*sorted((ROOT / "launch").glob("*.py")), *sorted((ROOT / "slurm").glob("*.sh"))]
COMMANDS = sorted(
    {(name, line) for name, text in TEXTS.items() for line in shown(text)}
    | {(str(path.relative_to(ROOT)), line) for path in HEADS for line in shown_in_help(path)}
)
_MOST_LINES = 200


def test_readme_is_read_in_one_sitting() -> None:
    assert TEXTS["README.md"].count("\n") <= _MOST_LINES


def test_the_file_map_is_current() -> None:
    page = PAGE.read_text("utf-8")

    assert page == with_map(page), "docs/architecture.md is old: python -m tests.docs_map"


def test_every_config_is_named_in_the_readme() -> None:
    for path in (ROOT / "configs").glob("*.toml"):
        assert path.stem in TEXTS["README.md"], path.stem


@pytest.mark.parametrize("name", TEXTS)
def test_every_file_named_is_there(name: str) -> None:
    missing = [path for path in paths_named(TEXTS[name]) if not (ROOT / path).is_file()]
    tests = re.findall(r"`(tests/[\w/]+\.py)", TEXTS[name])
    modules = re.findall(r"`((?:training|parallel|checkpoints)/[\w/]+\.py)`", TEXTS[name])
    missing += [path for path in [*tests, *modules] if not (ROOT / path).is_file()]

    assert not missing


@pytest.mark.parametrize("name", TEXTS)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\(([^)\s]+)\)", TEXTS[name])
    links += re.findall(r'(?:src|srcset|href)="([^"]+)"', TEXTS[name])
    assert links or name in ("AGENTS.md", "docs/sandbox.md")
    for link in links:
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name} links to {link}"
        if anchor:
            assert anchor in _anchors(target), f"{name} links to {link}"


@pytest.mark.parametrize(
    ("name", "line"), COMMANDS, ids=[f"{name}: {line[:60]}" for name, line in COMMANDS]
)
@pytest.mark.usefixtures("hub_of_bases")
def test_every_command_line_is_right(name: str, line: str, tmp_path: Path) -> None:
    check(line, tmp_path)


def test_the_command_lines_are_found() -> None:
    readme = shown(TEXTS["README.md"])

    assert "make demo" in readme
    assert any(line.startswith("tinygsm train") for line in readme)
    assert any(line.startswith("slurm/recipe.sh") for line in readme)


@pytest.mark.parametrize(
    "line",
    [
        "python launch/train.py configs/generator_demo.toml training.max_stepz=3",
        "tinygsm plan configs/generator_demo.toml --worldsize 8",
        "torchrun --nproc-per-node=8 launch/train.py configs/nothing.toml",
        'make demo SETTINGS="run.sead=2"',
        "make nothing",
        "sbatch --nodes=4 slurm/nothing.sh",
        "sbatch slurm/sample.sh CONFIG sampling.candidates=3",
        "python -m training.nothing",
    ],
)
def test_a_wrong_command_line_is_found(line: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, AssertionError)):
        check(line, tmp_path)


@pytest.mark.parametrize("name", TEXTS)
def test_every_config_and_row_shown_is_read(name: str) -> None:
    for kind, block in re.findall(r"^```(toml|json)\n(.*?)^```$", TEXTS[name], re.M | re.S):
        if kind == "toml":
            checked(TrainConfig, tomli.loads(block))
        else:
            assert all(json.loads(line) for line in block.splitlines())


@pytest.mark.parametrize("name", ["docs/troubleshooting.md", "docs/cluster.md"])
def test_every_message_quoted_is_in_the_code(name: str) -> None:
    texts = "\n".join(_texts())
    quoted = [
        message
        for row in re.findall(r"^\| ([^|]*`[^|]*) \|", _tables_of_messages(TEXTS[name]), re.M)
        for message in re.findall(r"`([^`]+)`", row)
        if " " in message
    ]
    assert len(quoted) > 20
    gone = [
        message
        for message in quoted
        # Values stand for others: the text between them is looked for.
        for part in re.split(r"…|;|\d+|NODE|'\w+'", message)
        if len(part.strip()) > 3 and part.strip() not in texts
    ]

    assert not gone


def _tables_of_messages(page: str) -> str:
    """The tables of a page whose first column is headed `message` or `symptom`."""
    return "\n".join(re.findall(r"^\| (?:message|symptom).*\n(?:\|.*\n)+", page, re.M))


def _texts() -> Iterator[str]:
    """All texts in the code, with … for what an f-string fills in."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [getattr(part, "value", None) for part in node.values]
                    yield "".join(part if isinstance(part, str) else "…" for part in parts)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def _anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    text = re.sub(r"^(```|~~~).*?^\1\s*$", "", page.read_text("utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
