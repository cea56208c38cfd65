"""Programs to run, and the processes that run them."""

import textwrap
from pathlib import Path


def function(body: str) -> str:
    return "def simple_math_problem():\n" + textwrap.indent(textwrap.dedent(body), "    ")


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found |= {int(child)} | descendants(int(child))
    return found


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
