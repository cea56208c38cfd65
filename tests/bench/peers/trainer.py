"""transformers' `PhiForCausalLM` with our weights under its Trainer, or under TRL's."""

import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.bench.examples import CPU, LEARNING_RATE
from tests.bench.gpu.engines import fresh_model
from tests.bench.gpu.setting import Setting
from tests.bench.gpu.theirs import QUIET, with_weights_of
from tests.bench.turns import Turn
from training.config import TrainConfig
from training.optimizer import adamw

Updates = Sequence[Sequence[Tensor]]
"""The examples of each update of ours."""


class PeerTrainer:
    """One way to train their model: calling it goes once over the examples.

    Args:
        config: The model and the optimizer.
        base: The class of the trainer, imported late.
        data: What it trains on.
        batch_size: Items of `data` in an update.
        collate: Makes a batch of items; None: the trainer's own.
        more: Arguments for the trainer itself.
        settings: Further arguments of its training arguments.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        base: type[Any],
        arguments: type[Any],
        data: Any,
        batch_size: int,
        collate: Callable[[list[Any]], dict[str, Any]] | None = None,
        more: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self._config, self._data, self._collate = config, data, collate
        self._base, self._arguments, self._more = base, arguments, more or {}
        self._settings = {"per_device_train_batch_size": batch_size, **settings}
        ours = fresh_model(config.model, CPU)
        self._model = with_weights_of(ours, Setting(device=CPU, toy=True), config)
        self._optimizer = adamw(self._model, config.optimizer)
        for group in self._optimizer.param_groups:
            group["lr"] = LEARNING_RATE

    def __call__(self) -> Turn:
        """Once over the examples; making the trainer is not counted."""
        with tempfile.TemporaryDirectory() as folder:
            arguments = self._arguments(
                output_dir=folder,
                num_train_epochs=1,
                max_grad_norm=self._config.optimizer.max_grad_norm,
                use_cpu=True,
                **QUIET,
                **self._settings,
            )
            trainer = _recording(self._base)(
                model=self._model,
                args=arguments,
                train_dataset=self._data,
                data_collator=self._collate,
                optimizers=(self._optimizer, _constant(self._optimizer)),
                callbacks=[],
                **self._more,
            )
            marks: list[tuple[float, float]] = []
            trainer.add_callback(_clock(marks))
            trainer.train()
        (begin, cpu), (end, cpu_end) = marks
        return Turn(
            seconds=end - begin,
            cpu_seconds=cpu_end - cpu,
            tokens=sum(int(tokens) for _, tokens in trainer.seen),
            losses=[float(loss) for loss, _ in trainer.seen],
        )


def padded(config: TrainConfig, updates: Updates) -> PeerTrainer:
    """The examples of each update of ours as one batch, padded to the longest."""
    return _with_our_updates(config, updates, _padded)


def flattened(config: TrainConfig, updates: Updates) -> PeerTrainer:
    """The examples of each update of ours as one sequence without padding."""
    from transformers import DataCollatorWithFlattening

    return _with_our_updates(config, updates, DataCollatorWithFlattening())


def _with_our_updates(config: TrainConfig, updates: Updates, collate: Any) -> PeerTrainer:
    return _trainer(
        config,
        data=[_items(update) for update in updates],
        batch_size=1,
        collate=lambda found: collate(found[0]),
        train_sampling_strategy="sequential",
    )


def grouped(config: TrainConfig, updates: Updates) -> PeerTrainer:
    """Padded batches of examples of similar lengths, as many in each as ours has on average."""
    items = [item for update in updates for item in _items(update)]
    return _trainer(
        config,
        data=items,
        batch_size=-(-len(items) // len(updates)),
        collate=_padded,
        train_sampling_strategy="group_by_length",
    )


def _trainer(config: TrainConfig, **settings: Any) -> PeerTrainer:
    from transformers import Trainer, TrainingArguments

    return PeerTrainer(config, base=Trainer, arguments=TrainingArguments, **settings)


def packed_by_trl(config: TrainConfig, updates: Updates) -> PeerTrainer:
    """TRL's `SFTTrainer(packing=True)`: best-fit packing, then batches without padding."""
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar
    from transformers import PreTrainedTokenizerFast
    from trl.trainer.sft_config import SFTConfig  # pyright: ignore[reportMissingImports]
    from trl.trainer.sft_trainer import SFTTrainer  # pyright: ignore[reportMissingImports]

    from training.data.tokenizer import END, FOLDER

    disable_progress_bar()
    path = config.data.folder / FOLDER / "tokenizer.json"
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_file=str(path), eos_token=END, pad_token=END)
    ids = [example.tolist() for update in updates for example in update]
    return PeerTrainer(
        config,
        base=SFTTrainer,
        arguments=SFTConfig,
        data=Dataset.from_dict({"input_ids": ids}),
        batch_size=config.training.global_batch_sequences,
        more={"processing_class": tokenizer},
        packing=True,
        max_length=config.data.sequence_length,
        gradient_checkpointing=False,  # on by default there
    )


def _recording(base: type[Any]) -> type[Any]:
    """The trainer, which also keeps each update's loss and counts its tokens."""

    class Recording(base):
        def __init__(self, *positional: Any, **named: Any) -> None:
            self.seen: list[tuple[Tensor, Any]] = []
            super().__init__(*positional, **named)

        def training_step(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Tensor:
            mask = inputs.get("attention_mask")
            tokens = inputs["input_ids"].numel() if mask is None else mask.sum()
            loss = super().training_step(model, inputs, *rest, **named)
            self.seen.append((loss, tokens))
            return loss

    return Recording


def _constant(optimizer: torch.optim.Optimizer) -> Any:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)


def _clock(marks: list[tuple[float, float]]) -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            marks.append((time.perf_counter(), time.process_time()))

        on_train_end = on_train_begin

    return Clock()


def _items(examples: Sequence[Tensor]) -> list[dict[str, list[int]]]:
    return [{"input_ids": each.tolist(), "labels": each.tolist()} for each in examples]


def _padded(found: list[dict[str, list[int]]]) -> dict[str, Tensor]:
    longest = max(len(each["input_ids"]) for each in found)
    tokens = torch.zeros(len(found), longest, dtype=torch.long)
    labels, mask = torch.full_like(tokens, -100), torch.zeros_like(tokens)
    for row, each in enumerate(found):
        size = len(each["input_ids"])
        tokens[row, :size] = labels[row, :size] = torch.tensor(each["input_ids"])
        mask[row, :size] = 1
    return {"input_ids": tokens, "labels": labels, "attention_mask": mask}
