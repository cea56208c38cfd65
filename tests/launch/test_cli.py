"""`tinygsm VERB …`: the verbs by one command."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.cli import VERBS, usage
from tests.ranks import ROOT


def _tinygsm(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """As the installed script calls it."""
    return subprocess.run(
        [sys.executable, "-c", "from launch.cli import main; main()", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_verbs_are_the_modules_that_have_a_main() -> None:
    found = {
        path.stem
        for path in (ROOT / "launch").glob("*.py")
        if "run(main)" in path.read_text().splitlines()[-1]
    }
    assert found == set(VERBS)


def test_help_lists_every_verb_with_its_line_and_imports_nothing_slow() -> None:
    code = "import sys; from launch.cli import usage; usage(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"torch", "numpy", "pydantic", "launch.arguments"} & set(done.stdout.split())
    done = _tinygsm("--help")
    assert (done.returncode, done.stderr) == (0, "")
    shown = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line[:1] == " ")
    assert tuple(shown) == VERBS
    for verb, purpose in shown.items():
        docstring = ast.get_docstring(ast.parse((ROOT / "launch" / f"{verb}.py").read_text()))
        assert docstring is not None and purpose == docstring.splitlines()[0]


def test_without_a_verb_the_help_is_an_error() -> None:
    done = _tinygsm()
    assert (done.returncode, done.stdout) == (2, "")
    assert usage() in done.stderr


@pytest.mark.parametrize(
    ("verb", "hint"), [("trian", "did you mean train?"), ("xyzzy", "the verbs are recipe,")]
)
def test_an_unknown_verb_is_one_message_with_the_nearest(verb: str, hint: str) -> None:
    done = _tinygsm(verb, "configs/generator_demo.toml")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert repr(verb) in line and hint in line


def test_a_verbs_own_help_and_errors_name_it() -> None:
    assert _tinygsm("train", "--help").stdout.startswith("usage: tinygsm train ")
    done = _tinygsm("train", "optimizer.learnin_rate=1e-3")
    assert done.returncode == 2
    assert done.stderr.startswith("tinygsm train: ")
    assert "did you mean optimizer.learning_rate?" in done.stderr


def test_a_verb_runs_from_any_folder_with_the_default_config(tmp_path: Path) -> None:
    done = _tinygsm("prepare", "--dry-run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "this was --dry-run" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_stage_with_worker_processes_runs(tmp_path: Path) -> None:
    words = ["data.num_workers=2", "data.folder=data", "data.sources.0.num_examples=2000"]
    done = _tinygsm("prepare", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "manifest.json").is_file()
