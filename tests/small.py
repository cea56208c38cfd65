"""A training run small enough for tests: built-in problems, a toy model, seconds on a core."""

from pathlib import Path
from typing import Any

from training.config import PrepareConfig, TrainConfig
from training.data.prepare import prepare

MODEL: dict[str, Any] = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "ffn_size": 64,
    "vocab_size": 512,
    "max_tokens": 256,
    "init_std": 0.05,
}


def config(folder: Path, **sections: dict[str, Any]) -> TrainConfig:
    """A generator's config below `folder`; `sections` are merged over it."""
    tree: dict[str, Any] = {
        "run": {"folder": str(folder / "run"), "name": "small"},
        "model": MODEL,
        "data": {
            "folder": str(folder / "data"),
            "sequence_length": 256,
            "num_workers": 1,
            "run_programs": False,
            "tokenizer": {"source": "train", "vocab_size": 400},
            "sources": [{"kind": "problems", "num_examples": 300}],
        },
        "training": {
            "max_steps": 10,
            "global_batch_sequences": 8,
            "micro_batch_sequences": 4,
            "precision": "fp32",
            "device": "cpu",
        },
        "checkpoint": {"every_steps": 5},
        "optimizer": {"learning_rate": 1e-2, "warmup_steps": 2},
        "tracking": {"mode": "disabled"},
    }
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    if any(source["kind"] in ("candidates", "rollouts") for source in tree["data"]["sources"]):
        del tree["data"]["run_programs"]  # not read for a verifier
    return TrainConfig.model_validate(tree)


def prepared(folder: Path, **sections: dict[str, Any]) -> TrainConfig:
    """The same with its data prepared."""
    made = config(folder, **sections)
    prepare_data(made)
    return made


def prepare_data(made: TrainConfig) -> None:
    """Prepare the data of a config."""
    prepare(PrepareConfig(data=made.data, execution=made.execution))
