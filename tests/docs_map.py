"""The file map of docs/architecture.md, made from the first line of every module's docstring.

python -m tests.docs_map        # rewrites the section
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
FOLDERS = ("launch", "training", "parallel", "checkpoints")
_BEGIN, _END = "<!-- file map: begin -->\n", "<!-- file map: end -->\n"


def file_map() -> str:
    """A list for each folder that holds modules; `__init__.py` gives the folder's own line."""
    lines: list[str] = []
    for top in FOLDERS:
        packages = sorted(path.parent for path in (ROOT / top).rglob("__init__.py"))
        for package in packages:
            title = f"**{package.relative_to(ROOT)}/** {_first_line(package / '__init__.py')}"
            lines += [title.strip(), ""]
            modules = sorted(path for path in package.glob("*.py") if path.stem != "__init__")
            lines += [f"- `{path.relative_to(ROOT)}` {_first_line(path)}" for path in modules]
            lines.append("")
    return "\n".join(lines)


def with_map(page: str) -> str:
    """The page with its section renewed."""
    before, rest = page.split(_BEGIN)
    return f"{before}{_BEGIN}\n{file_map()}\n{_END}{rest.split(_END)[1]}"


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return docstring.split("\n", 1)[0]


if __name__ == "__main__":
    PAGE.write_text(with_map(PAGE.read_text("utf-8")), "utf-8")
