"""Words to avoid: looks for the rules of docs/words.toml in prose and messages.

    python -m tests.prose                        # README, docs, configs, code, job scripts
    python -m tests.prose training parallel      # the docstrings, comments and texts of these

Code blocks and `code` of Markdown are left out. Exit code 1: something was found.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli

ROOT = Path(__file__).parent.parent
RULES = ROOT / "docs" / "words.toml"
DEFAULT = (
    *("README.md", "CONTRIBUTING.md", "AGENTS.md", "CHANGELOG.md", "docs", "configs"),
    *("launch", "training", "parallel", "checkpoints", "slurm"),
)
_KINDS = (".md", ".py", ".toml", ".sh")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One entry of docs/words.toml."""

    find: re.Pattern[str]
    use: str
    example: str
    exempt: tuple[str, ...]


def rules() -> list[Rule]:
    """All rules, in the file's order."""
    return [
        Rule(
            find=re.compile(entry["find"], re.IGNORECASE),
            use=entry["use"],
            example=entry["example"],
            exempt=tuple(entry.get("except", ())),
        )
        for entry in tomli.loads(RULES.read_text("utf-8"))["rule"]
    ]


def findings(paths: Iterable[Path]) -> Iterator[str]:
    """One line for each place where a rule matches: file, line, what was found, what to write."""
    known = rules()
    for path in paths:
        name = str(path.resolve().relative_to(ROOT))
        for line, text in _prose(path):
            for rule in known:
                if name in rule.exempt:
                    continue
                for match in rule.find.finditer(text):
                    at = line + text.count("\n", 0, match.start())
                    found = " ".join(match[0].split())
                    yield f"{name}:{at}: {found!r}: write {rule.use}"


def files_of(names: Sequence[str]) -> list[Path]:
    """The files that names of files and folders stand for."""
    found: list[Path] = []
    for name in names:
        path = ROOT / name
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [file for file in inside if file.suffix in _KINDS and file != RULES]
    return found


def _prose(path: Path) -> Iterator[tuple[int, str]]:
    """(first line, text) of everything in a file that people read."""
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        yield 1, _without_code(text)
    elif path.suffix == ".py":
        yield from _python(text)
    else:
        for number, line in enumerate(text.splitlines(), start=1):
            yield number, line.partition("#")[2]


def _without_code(page: str) -> str:
    """A Markdown page with blanks for code, so that line numbers stay."""

    def blank(code: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", code[0])

    # Docstrings are searched where they stand.
    page = re.sub(r"<!-- file map: begin -->.*<!-- file map: end -->", blank, page, flags=re.DOTALL)
    page = re.sub(r"^(```|~~~).*?^\1[ \t]*$", blank, page, flags=re.MULTILINE | re.DOTALL)
    page = re.sub(r"^    .*$", blank, page, flags=re.MULTILINE)
    return re.sub(r"`[^`]+`", blank, page)


def _python(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def main(argv: Sequence[str]) -> int:
    """Print what is found; 1: something is."""
    found = list(findings(files_of(argv or DEFAULT)))
    print("\n".join(found) if found else "prose: nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
