"""Lines of docs/cluster.md as commands, and what a training run that they start has logged."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.ranks import ROOT
from training.config import TrainConfig, resolved
from training.files import write_json

_DOCS = (ROOT / "docs" / "cluster.md").read_text()


def documented(*words: str) -> str:
    """The one command line of the documentation that has all these words."""
    lines = [line for line in _DOCS.splitlines() if line.startswith("    ")]
    (found,) = (line for line in lines if all(word in line for word in words))
    return found.partition("  #")[0].strip() if "  #" in found.strip() else found.strip()


BIN = str(Path(sys.executable).parent)
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    # Tests may run as root, and on a single core.
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def shell_environment() -> dict[str, str]:
    """As a person's shell: nothing of ranks in it; this Python first."""
    ours = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    clean = {name: value for name, value in os.environ.items() if name not in ours}
    return {**clean, **SETTINGS, "PATH": f"{BIN}{os.pathsep}{clean['PATH']}"}


def train_config(base: TrainConfig, folder: Path) -> Path:
    """A config file of a run in `folder`, beside it."""
    tree: dict[str, Any] = resolved(base)
    tree["run"]["folder"] = str(folder)
    path = folder.with_name(f"{folder.name}.json")
    write_json(path, tree)
    return path


def losses(folder: Path) -> list[float]:
    """The loss of every step, then the number of data-parallel ranks."""
    logged = (folder / "metrics.jsonl").read_text().splitlines()
    saved = folder / "checkpoints" / f"step_{len(logged)}" / "train_state.json"
    ranks = json.loads(saved.read_text())["layout"]["data"]
    return [json.loads(line)["train/loss"] for line in logged] + [ranks]
