"""`tinygsm VERB …`: every verb of this folder as one command.

    tinygsm train configs/generator_1b3.toml optimizer.learning_rate=2e-4
    tinygsm train --help
    srun tinygsm train CONFIG
    torchrun --nproc-per-node=8 -m launch.cli train CONFIG

`tinygsm VERB` and `python launch/VERB.py` do the same. Importing this module imports no other, so
that help takes no time.
"""

import ast
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

VERBS = (
    "recipe",
    "prepare",
    "train",
    "sample",
    "evaluate",
    "report",
    "status",
    "export",
    "execute",
    "plan",
    "check",
    "preflight",
)
"""Every verb: a module of this folder with a `main`. First the recipe and its stages in order."""


def main() -> None:
    """Run the verb that the command line names, and end the process with its exit code."""
    argv = sys.argv[1:]
    if not argv or argv[0] in ("-h", "--help"):
        (sys.stdout if argv else sys.stderr).write(usage())  # at once, for `| head`
        sys.exit(0 if argv else 2)
    from launch.arguments import run

    verb_main = _main_of(argv[0])
    # Help and messages begin with this name.
    name = f"tinygsm {argv[0]}" if argv[0] in VERBS else "tinygsm"
    sys.argv = [name, *argv[1:]]
    run(verb_main)


def usage() -> str:
    """All verbs, each with the first line of its module's docstring."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:{width}}  {_purpose(verb)}" for verb in VERBS]
    return "\n".join(
        ["usage: tinygsm VERB [arguments]", "", *lines, "", "tinygsm VERB --help: its arguments\n"]
    )


def _purpose(verb: str) -> str:
    source = (Path(__file__).parent / f"{verb}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def _main_of(verb: str) -> Callable[[Sequence[str]], int]:
    """The `main` of a verb's module; of an unknown verb one that raises `ConfigError`."""
    if verb in VERBS:
        from importlib import import_module

        return import_module(f"launch.{verb}").main
    from difflib import get_close_matches

    from training.config import ConfigError

    nearest = get_close_matches(verb, VERBS, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"the verbs are {', '.join(VERBS)}"

    def refuse(argv: Sequence[str]) -> int:
        raise ConfigError(f"unknown verb {verb!r}; {hint}")

    return refuse


if __name__ == "__main__":
    main()
