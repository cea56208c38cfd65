"""Command lines as the documentation shows them, checked without being run.

    for line in shown(page.read_text()):
        check(line, scratch)              # raises what the command itself would print

The command line goes through the verb's own parser, and its configs and overrides through the
project's loader, so a renamed option or key is an error. Words in capitals (CONFIG, RUN, FOLDER)
and files that are not in the repository stand for a file of the reader's, N for a number.
"""

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from pydantic import BaseModel

from training.config import (
    EvaluateConfig,
    RecipeConfig,
    SampleConfig,
    TrainConfig,
    load,
)

ROOT = Path(__file__).parent.parent
KINDS: dict[str, type[BaseModel]] = {
    "train": TrainConfig,
    "prepare": TrainConfig,
    "plan": TrainConfig,
    "sample": SampleConfig,
    "evaluate": EvaluateConfig,
    "recipe": RecipeConfig,
}
_CONFIGS = {
    "sample": '[run]\nfolder = "runs/x"\n[sampling]\ncheckpoints = ["runs/g/checkpoints/step_1"]\n',
    "evaluate": '[run]\nfolder = "runs/x"\n[evaluation]\ngenerator = "runs/g"\n'
    'benchmarks = [{ name = "gsm8k", kind = "gsm8k", path = "openai/gsm8k" }]\n',
    "recipe": "",
}
_SHIPPED = {"recipe": ROOT / "configs" / "recipe_demo.toml"}
_TRAINING = ROOT / "configs" / "generator_demo.toml"
_ENDS = {"|", ">", ">>", "&&", ";", "&", "2>"}
_STARTS = (
    *("python ", "tinygsm ", "deepspeed ", "torchrun ", "mpirun ", "srun ", "sbatch "),
    *("slurm/", "bash slurm/", "make ", ".venv/bin/python ", "env "),
)
_FENCE = re.compile(r"^(```|~~~)(\w*)\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)


class _Parsed(Exception):
    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__()
        self.arguments = arguments


def shown(page: str) -> list[str]:
    """The command lines of a Markdown page: in its blocks of code, and those within a sentence."""
    blocks = [body for _, kind, body in _FENCE.findall(page) if kind in ("", "sh", "bash")]
    prose = _FENCE.sub("\n", page)
    blocks += [
        re.sub(r"^    ", "", block, flags=re.MULTILINE)
        for block in re.findall(r"(?:^    .*\n)+", prose, re.MULTILINE)
    ]
    inline = re.findall(r"`([^`]+)`", re.sub(r"(?:^    .*\n)+", "\n", prose, flags=re.MULTILINE))
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    lines += [" ".join(text.split()) for text in inline]
    return [line.strip() for line in lines if line.strip().startswith(_STARTS) and "…" not in line]


def shown_in_help(path: Path) -> list[str]:
    """The command lines in the head of a verb's module or of a job script, without usage forms.

    What follows three blanks describes the line.
    """
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        head = ast.get_docstring(ast.parse(text)) or ""
    else:
        head = "\n".join(re.findall(r"^# ?(?!!)(.*)$", text, re.MULTILINE))
    lines = [re.split(r" {3,}", line)[0] for line in shown(head + "\n")]
    return [line for line in lines if "[" not in line]


def check(line: str, scratch: Path) -> bool:
    """Check one command line; False: it calls nothing of this project.

    Args:
        line: As `shown` gives it.
        scratch: A folder for configs that stand in for CONFIG.

    Raises:
        ValueError: an option, a key or a value is wrong (argparse's and pydantic's messages).
        AssertionError: a file, a module or a make target is not there.
    """
    words = _command(line)
    if words[0] == "make":
        return _check_make(words[1:])
    if words[0] == "tinygsm" and len(words) > 1:
        return _check_verb(words[1], words[2:], scratch)
    if "launch.cli" in words:
        verb, *rest = words[words.index("launch.cli") + 1 :]
        return _check_verb(verb, rest, scratch)
    if "-m" in words[1:3]:
        assert importlib.util.find_spec(words[words.index("-m") + 1]), line
        return True
    for position, word in enumerate(words):
        if found := re.fullmatch(r"launch/(\w+)\.py", word):
            return _check_verb(found[1], words[position + 1 :], scratch)
    scripts = [word for word in words if re.fullmatch(r"slurm/\w+\.sh", word)]
    if not scripts:
        return False
    return _check_job(words, scratch)


def _command(line: str) -> list[str]:
    """The words of a line's first command, without its comment."""
    words = shlex.split(line.replace("<", ""), comments=True)
    end = next((at for at, word in enumerate(words) if word in _ENDS), len(words))
    return [word for word in words[:end] if not re.match(r"^(>|2>|>>)", word)]


def _check_make(words: Sequence[str]) -> bool:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            assert name in targets, f"make {name}: the Makefile has {', '.join(targets)}"
        elif name == "SETTINGS":
            load(RecipeConfig, [_SHIPPED["recipe"]], shlex.split(value))
        elif name == "TESTS":
            assert (ROOT / value).exists(), value
    return True


def _check_job(words: Sequence[str], scratch: Path) -> bool:
    """`sbatch [--name=value ...] slurm/JOB.sh [FILES and overrides]`, also with submit.sh."""
    words = [word for word in words if word not in ("sbatch", "bash", "slurm/submit.sh")]
    words = [word for word in words if word != "--dry-run"]
    position = next((at for at, word in enumerate(words) if word.startswith("slurm/")), None)
    if position is None:
        return True  # of `slurm/submit.sh` only the name
    for option in words[:position]:
        assert option.startswith("--"), f"{option}: sbatch's options are written --name=value"
    script, rest = ROOT / words[position], list(words[position + 1 :])
    assert script.is_file(), words[position]
    settings = [word for word in rest if not word.startswith("--")]
    verb = next((name for name in (*KINDS, "report") if script.stem.startswith(name)), "")
    if verb in KINDS and settings:
        body = re.sub(r"^\s*#.*$", "", script.read_text(), flags=re.MULTILINE)
        own = re.findall(r"configs/\w+\.toml", body)
        if any("=" not in word for word in settings):
            own = []  # a script reads its own config only where none is named
        _load(verb, [str(ROOT / name) for name in own] + settings, scratch)
    return True


def _check_verb(verb: str, words: Sequence[str], scratch: Path) -> bool:
    """Parse a verb's command line as the verb does, and load what it names."""
    if verb.isupper():
        return True
    assert (ROOT / "launch" / f"{verb}.py").is_file(), f"launch/{verb}.py"
    if not words:
        return True  # in a sentence: only its name
    parsed = _parse(verb, ["2" if word == "N" else word for word in words])
    settings = getattr(parsed, "settings", None)
    if settings is None:
        return True
    if verb == "check":
        verb, settings = settings[0], settings[1:]
    if not any("=" not in word for word in settings) and getattr(parsed, "default_file", None):
        settings = [parsed.default_file, *settings]
    _load(verb, settings, scratch)
    return True


def _parse(verb: str, words: Sequence[str]) -> argparse.Namespace:
    """What the verb's own parser makes of the words; nothing after it is run."""
    parse: Any = argparse.ArgumentParser.parse_known_intermixed_args

    def stop_after(self: Any, args: Any = None, namespace: Any = None) -> NoReturn:
        found, unknown = parse(self, args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        raise _Parsed(found)

    module = importlib.import_module(f"launch.{verb}")
    with patch.object(argparse.ArgumentParser, "parse_known_intermixed_args", stop_after):
        try:
            module.main([*words])
        except _Parsed as parsed:
            return parsed.arguments
        except SystemExit as ended:  # --help
            assert not ended.code, ended.code
            return argparse.Namespace()
    raise AssertionError(f"launch/{verb}.py parses no arguments")


def _load(verb: str, settings: Sequence[str], scratch: Path) -> None:
    files: list[Path] = []
    overrides: list[str] = []
    for word in settings:
        if "=" in word:
            overrides.append(word)
        elif re.fullmatch(r"[A-Z_]+(\.toml)?", word) or not (ROOT / word).is_file():
            files.append(_stand_in(verb, word, scratch))
        else:
            files.append(ROOT / word)
    load(KINDS[verb], files, overrides)


def _stand_in(verb: str, word: str, scratch: Path) -> Path:
    """A config of the verb where the page names a file of the reader's own."""
    assert not word.startswith("configs/"), f"{word} is not there"
    if verb not in ("sample", "evaluate"):
        return _SHIPPED.get(verb, _TRAINING)
    path = scratch / f"{verb}.toml"
    path.write_text(_CONFIGS[verb], "utf-8")
    return path


def paths_named(page: str) -> list[str]:
    """Files of the project that a page names anywhere: `configs/…`, `launch/…`, `slurm/…`."""
    return re.findall(r"(?<!tests/)\b((?:configs|launch|slurm)/[a-z0-9_]+\.(?:toml|py|sh))\b", page)
