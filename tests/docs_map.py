"""Two sections of docs/architecture.md that are made from other files.

The import layers are those of pyproject.toml; the file map is the first line of every module's
docstring.

    python -m tests.docs_map        # rewrites both
"""

import ast
import re
from pathlib import Path

import tomli

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
FOLDERS = ("launch", "training", "parallel", "checkpoints")


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


def layers() -> str:
    """The table of import layers, from the lowest."""
    settings = tomli.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (contract,) = (entry for entry in settings["contracts"] if entry["type"] == "layers")
    lines = ["| layer | modules |", "|---|---|"]
    for number, layer in enumerate(reversed(contract["layers"]), start=1):
        modules = ", ".join(f"`{name.strip()}`" for name in re.split("[:|]", layer))
        lines.append(f"| {number} | {modules} |")
    return "\n".join([*lines, ""])


def with_map(page: str) -> str:
    """The page with both sections renewed."""
    for name, section in (("layers", layers()), ("file map", file_map())):
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        before, rest = page.split(begin)
        page = f"{before}{begin}\n{section}\n{end}{rest.split(end)[1]}"
    return page


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return docstring.split("\n", 1)[0]


if __name__ == "__main__":
    PAGE.write_text(with_map(PAGE.read_text("utf-8")), "utf-8")
