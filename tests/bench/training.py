"""Compares our training with the Trainer of transformers, on the same examples and weights.

    make bench-train
    python -m tests.bench.training build/bench-train --turns 5 --json OUT

Every way goes once over the same examples in every turn, with the same number of examples in an
update, the ways in turn. Counted are the tokens of the examples: padding is not useful. The ratios
are ours over theirs of the same turn; printed are medians, smallest and largest in brackets. One
process, as many threads as OMP_NUM_THREADS says. A way whose packages are missing is left out.
"""

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from parallel.engine import Engine
from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.ranks import discover
from tests.bench.gpu.engines import PlainEngine, TrainingEngine, fresh_model
from tests.bench.gpu.setting import Setting, installed
from tests.bench.gpu.theirs import QUIET, with_weights_of
from training.config import PrepareConfig, TrainConfig, load
from training.data.dataset import SequenceDataset
from training.data.loader import Loader
from training.data.micro_batch import Batch
from training.data.prepare import prepare

CONFIG = Path("configs/generator_demo.toml")
CPU = torch.device("cpu")
RATE = 1e-4
_PACKED = "ours, {} sequences at a time"
_BARE = "plain torch loop, {} sequences at a time"

Timed = tuple[float, float, float]
"""Seconds, CPU seconds, and the mean loss, of one turn."""


def main(argv: list[str] | None = None) -> None:
    """Prepare the examples, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="where the examples are prepared and kept")
    parser.add_argument("overrides", nargs="*", help="of the demo's config: model.hidden_size=384")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=24, help="updates in a turn")
    parser.add_argument("--json", type=Path, help="also write all numbers to this file")
    arguments = parser.parse_args(argv)
    config = _config(arguments.folder, arguments.overrides)
    prepare(PrepareConfig(data=config.data, execution=config.execution))
    steps = _steps(config, arguments.steps)
    ways = _ways(config, steps)
    found: dict[str, list[Timed]] = {name: [] for name in ways}
    for turn in range(arguments.turns + 1):
        for name, run in ways.items():
            timed = run()
            if turn:  # the first turn fills caches
                found[name].append(timed)
            gc.collect()
    num_tokens = sum(batch.num_tokens for step in steps for batch in step)
    _print(found, num_tokens, config)
    if arguments.json:
        content = {"overrides": arguments.overrides, "tokens": num_tokens, "turns": found}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


def _config(folder: Path, overrides: Sequence[str]) -> TrainConfig:
    fixed = (f"data.folder={folder / 'data'}", "data.sources.0.num_examples=4000")
    # What transformers' Trainer has too.
    shared = ("training.prompt_loss_weight=1", "training.device=cpu", "parallel.zero_stage=0")
    return load(TrainConfig, [CONFIG], [*fixed, *shared, *overrides])


def _steps(config: TrainConfig, count: int) -> list[list[Batch]]:
    """The micro-batches of each update."""
    dataset = SequenceDataset(config.data.folder, sequence_length=config.data.sequence_length)
    loader = Loader(
        dataset,
        seed=0,
        global_batch_sequences=config.training.global_batch_sequences,
        micro_batch_sequences=config.training.sequences_at_a_time,
        rank=0,
        world_size=1,
        head="language_model",
    )
    try:
        return [loader.next_step() for _ in range(count)]
    finally:
        loader.close()


def _ways(config: TrainConfig, steps: list[list[Batch]]) -> dict[str, Callable[[], Timed]]:
    whole = config.training.global_batch_sequences
    ways: dict[str, Callable[[], Timed]] = {}
    for sequences in sorted({config.training.sequences_at_a_time, whole}):
        training = config.training.model_copy(update={"micro_batch_sequences": sequences})
        changed = config.model_copy(update={"training": training})
        mine = _steps(changed, len(steps))
        ours, bare = _engine(changed), PlainEngine(fresh_model(config.model, CPU), changed)
        ways[_PACKED.format(sequences)] = lambda engine=ours, mine=mine: _turn(engine, mine)
        ways[_BARE.format(sequences)] = lambda engine=bare, mine=mine: _turn(engine, mine)
    if not installed("accelerate"):
        print("transformers' Trainer is left out: it needs accelerate")
        return ways
    examples = [example for step in steps for batch in step for example in _examples(batch)]
    together = round(len(examples) / len(steps))
    settings: dict[str, dict[str, Any]] = {
        "Trainer, padded to the longest of a batch": {},
        "Trainer, batches of similar lengths": {"train_sampling_strategy": "group_by_length"},
        "Trainer, flattened": {"flattened": True},
        "Trainer, padded to the sequence length": {"pad_to": config.data.sequence_length},
    }
    for name, chosen in settings.items():
        ways[name] = _Theirs(config, examples, together, **chosen).turn
    return ways


def _engine(config: TrainConfig) -> Engine:
    ranks = discover()
    ranks.connect(CPU)
    groups = Groups.connect(Layout.from_config(config, ranks.world_size), ranks)
    model = fresh_model(config.model, CPU)
    return parallelize(config, groups, CPU, value_of=cast(Any, model).get_parameter)


def _turn(engine: TrainingEngine, steps: list[list[Batch]]) -> Timed:
    seconds, cpu, losses = time.perf_counter(), time.process_time(), 0.0
    for step in steps:
        weight = sum(batch.weight for batch in step)
        loss = engine.train_step(step, loss_normalizer=weight, learning_rate=RATE)
        losses += float(loss) / weight
    return time.perf_counter() - seconds, time.process_time() - cpu, losses / len(steps)


def _examples(batch: Batch) -> list[Tensor]:
    """The tokens of each example."""
    ids, tokens = batch.document_ids, batch.tokens
    return [
        tokens[row][ids[row] == number]
        for row in range(len(ids))
        for number in range(int(ids[row].max()) + 1)
    ]


class _Theirs:
    """transformers' `PhiForCausalLM` under its Trainer."""

    def __init__(
        self,
        config: TrainConfig,
        examples: list[Tensor],
        together: int,
        *,
        flattened: bool = False,
        pad_to: int = 0,
        **arguments: Any,
    ) -> None:
        ours, setting = fresh_model(config.model, CPU), Setting(device=CPU, toy=True)
        self._model = with_weights_of(ours, setting, config)
        self._examples: Any = [
            {"input_ids": example.tolist(), "labels": example.tolist()} for example in examples
        ]
        self._config, self._together, self._arguments = config, together, arguments
        self._collate: Any = _flattened() if flattened else lambda found: _padded(found, pad_to)

    def turn(self) -> Timed:
        """Once over the examples."""
        from transformers import Trainer, TrainerCallback, TrainingArguments

        marks: list[tuple[float, float]] = []

        class Clock(TrainerCallback):
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                marks.append((time.perf_counter(), time.process_time()))

            on_train_end = on_train_begin

        optimizer = self._config.optimizer
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                num_train_epochs=1,
                per_device_train_batch_size=self._together,
                learning_rate=RATE,
                lr_scheduler_type="constant",
                weight_decay=optimizer.weight_decay,
                adam_beta1=optimizer.beta1,
                adam_beta2=optimizer.beta2,
                max_grad_norm=optimizer.max_grad_norm,
                use_cpu=True,
                **QUIET,
                **self._arguments,
            )
            trainer: Any = Trainer(
                model=self._model,
                args=arguments,
                train_dataset=self._examples,
                data_collator=self._collate,
                callbacks=[Clock()],
            )
            loss = float(trainer.train().training_loss)
        (begin, cpu), (end, cpu_end) = marks
        return end - begin, cpu_end - cpu, loss


def _flattened() -> Any:
    from transformers import DataCollatorWithFlattening

    return DataCollatorWithFlattening()


def _padded(found: list[dict[str, list[int]]], least: int) -> dict[str, Tensor]:
    longest = max(least, *(len(each["input_ids"]) for each in found))
    tokens = torch.zeros(len(found), longest, dtype=torch.long)
    labels, mask = torch.full_like(tokens, -100), torch.zeros_like(tokens)
    for row, each in enumerate(found):
        size = len(each["input_ids"])
        tokens[row, :size] = labels[row, :size] = torch.tensor(each["input_ids"])
        mask[row, :size] = 1
    return {"input_ids": tokens, "labels": labels, "attention_mask": mask}


def _print(found: dict[str, list[Timed]], num_tokens: int, config: TrainConfig) -> None:
    model = config.model
    table = Table(
        title=f"{model.num_layers} layers of {model.hidden_size}, {num_tokens:,} tokens a turn, "
        f"{torch.get_num_threads()} threads"
    )
    table.add_column("way")
    for name in ("tokens/s", "tokens/CPU s", "ours is faster by", "in CPU seconds", "mean loss"):
        table.add_column(name, justify="right")
    best = found[_PACKED.format(config.training.global_batch_sequences)]
    for name, turns in found.items():
        ratios = [
            [theirs[part] / ours[part] for theirs, ours in zip(turns, best, strict=True)]
            for part in range(2)
        ]
        table.add_row(
            name,
            *(f"{num_tokens / statistics.median(t[part] for t in turns):,.0f}" for part in (0, 1)),
            *(
                f"{statistics.median(each):.2f} [{min(each):.2f}, {max(each):.2f}]"
                for each in ratios
            ),
            f"{statistics.mean(turn[2] for turn in turns):.4f}",
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
