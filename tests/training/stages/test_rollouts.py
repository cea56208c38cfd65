"""A verifier is trained on rollouts of a generator that is not ours."""

import json
from pathlib import Path

from parallel.ranks import Ranks
from tests import small
from training.files import read_json
from training.stages.runs.train import train


def test_a_verifier_learns_from_lists_of_foreign_rollouts(tmp_path: Path, ranks: Ranks) -> None:
    path = tmp_path / "rollouts.jsonl"
    with path.open("w") as file:
        for number in range(3, 60):
            row = {
                "prompt": [
                    {"role": "user", "content": f"Ann has {number} apples and buys 4. How many?"}
                ],
                "completions": [f"{number} + 4 = {number + 4}", f"{number} - 4 = {number - 4}"],
                "rewards": [1.0, 0.0],
            }
            file.write(json.dumps(row) + "\n")
    source = {
        "kind": "rollouts",
        "path": str(path),
        "form": "prose",
        "columns": {"question": "prompt", "completion": "completions", "reward": "rewards"},
        "balance": "question",
    }
    base = small.config(tmp_path)
    config = small.config(
        tmp_path,
        model={**small.MODEL, "head": "verifier"},
        data={
            **base.data.model_dump(mode="json", include={"folder", "tokenizer"}),
            "sequence_length": 128,
            "num_workers": 1,
            "prepare_if_missing": True,
            "run_programs": False,
            "sources": [source],
        },
    )
    train(config, ranks)
    facts = read_json(tmp_path / "data" / "manifest.json")["facts"]
    assert (facts["head"], facts["examples"], facts["right_examples"]) == ("verifier", 114, 57)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [row["train/loss"] for row in map(json.loads, lines) if "train/loss" in row]
    assert losses[-1] < losses[0]
