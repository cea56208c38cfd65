"""Which config a job script reads. Outside of a job it only checks, which takes no Slurm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ranks import ROOT


def _call(folder: Path, script: str, *words: str, ranks: int = 1) -> tuple[int, str, str]:
    """Call `slurm/SCRIPT.sh` as a person would on a login node, with this Python."""
    site = folder / "site.sh"
    lines = [f"python_command=({sys.executable})", "python_login_command=()", "srun_options=()"]
    site.write_text("\n".join([*lines, "site_options=()", "site_cpu_options=()"]))
    ours = {"TINYGSM_SITE": str(site), "TINYGSM_RANKS": str(ranks), "TINYGSM_REPOSITORY": str(ROOT)}
    others = {name: os.environ[name] for name in os.environ if not name.startswith("SLURM_")}
    done = subprocess.run(
        ["bash", str(ROOT / "slurm" / f"{script}.sh"), *words],
        cwd=folder,
        env={**others, **ours},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("script", "sequences"), [("train_1b3", "128"), ("train_verifier_1b3", "64")]
)
def test_without_a_config_the_default_one_is_changed_by_overrides(
    tmp_path: Path, script: str, sequences: str
) -> None:
    code, _, said = _call(tmp_path, script, "optimizer.learning_rate=2e-4", ranks=7)
    assert code == 2
    assert f"global_batch_sequences = {sequences} is not a multiple of" in said
    assert _call(tmp_path, script, "training.global_batch_sequences=9", ranks=7)[2].count(" = 9 is")


@pytest.mark.parametrize("script", ["train", "train_1b3", "train_verifier_1b3"])
def test_a_named_config_replaces_the_default_one(tmp_path: Path, script: str) -> None:
    # What the default configs set is not in it, so merged with them it would say `true`.
    config = ROOT / "configs" / "generator_demo.toml"
    code, shown, said = _call(tmp_path, script, str(config), "optimizer.eps=1e-7", "--dry-run")
    assert code == 0, said
    for line in (
        "  optimizer.eps = 1e-07  # default: 1e-08",
        "  model.activation_checkpointing = false",
        "  evaluation.benchmarks = []",
        f"as a job: slurm/submit.sh --nodes=1 --ntasks-per-node=1 --gpus-per-node=1 "
        f"slurm/train.sh {config} optimizer.eps=1e-7",
    ):
        assert line in shown.splitlines(), f"{line} is not in\n{shown}"


@pytest.mark.parametrize("words", [(), ("optimizer.eps=1e-7",), ("--dry-run",)])
def test_a_script_without_a_default_asks_for_a_config(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    code, shown, said = _call(tmp_path, "train", *words)
    assert (code, shown) == (2, "")
    assert "no config file: name one" in said
