"""A training script as one writes it with transformers' Trainer: makes one update, says so.

    python tests/bench/peers/first_update.py MODEL.json DATA BATCH

MODEL.json is a `PhiConfig`, DATA a folder of `datasets` with `input_ids`. Imports nothing of this
project.
"""

import sys
import tempfile
from typing import Any

import torch
from datasets import load_from_disk
from transformers import PhiConfig, PhiForCausalLM, Trainer, TrainerCallback, TrainingArguments


class _Reporter(TrainerCallback):
    def on_step_end(self, *_: Any, **__: Any) -> None:
        print("step 1", flush=True)


def _collate(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    ids = [torch.tensor(item["input_ids"]) for item in items]
    tokens = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    labels = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-100)
    return {"input_ids": tokens, "labels": labels, "attention_mask": (labels != -100).long()}


def main(model: str, data: str, batch: str) -> None:
    """Make the trainer and one update."""
    config: Any = PhiConfig.from_json_file(model)
    examples: Any = load_from_disk(data)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=1,
            per_device_train_batch_size=int(batch),
            optim="adamw_torch_fused",
            learning_rate=1e-4,
            remove_unused_columns=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        network: Any = PhiForCausalLM(config)
        Trainer(
            model=network,
            args=arguments,
            train_dataset=examples,
            data_collator=_collate,
            callbacks=[_Reporter()],
        ).train()


if __name__ == "__main__":
    main(*sys.argv[1:])
