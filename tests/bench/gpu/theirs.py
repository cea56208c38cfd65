"""transformers' `PhiForCausalLM` of the same shape, with our weights, or trained by its Trainer."""

import time
from pathlib import Path
from typing import Any

import torch

from tests.bench.gpu.sequences import labels_in_place
from tests.bench.gpu.setting import Setting, installed
from training.config import TrainConfig
from training.config.model_json import config_of
from training.data.micro_batch import Batch
from training.models.build import shape_of
from training.models.heads import LanguageModel
from training.models.huggingface_names import to_huggingface

WITHOUT_ACCELERATE = (
    "accelerate is not installed, which transformers' Trainer needs: its model is trained "
    "by a plain loop with autocast and fused AdamW instead"
)

QUIET: dict[str, Any] = {
    "optim": "adamw_torch_fused",
    "remove_unused_columns": False,
    "logging_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}
"""Arguments of a Trainer that only trains, with the optimizer that ours has."""


def build(setting: Setting, config: TrainConfig, dtype: torch.dtype) -> Any:
    """Their model with random weights, on the device."""
    from transformers import PhiConfig, PhiForCausalLM

    facts = config_of(
        shape_of(config.model).settings(),
        "language_model",
        str(dtype).removeprefix("torch."),
        end_token=None,
    )
    theirs_config = PhiConfig.from_dict(facts)
    theirs_config.use_cache = False  # nothing reads a cache while training
    with torch.device(setting.device):
        model: Any = PhiForCausalLM(theirs_config)
    return model.to(dtype)


def with_weights_of(ours: LanguageModel, setting: Setting, config: TrainConfig) -> Any:
    """Their model with our weights."""
    theirs = build(setting, config, ours.body.embedding.weight.dtype)
    theirs.load_state_dict(
        {
            to_huggingface(name, ours.shape, "language_model"): value
            for name, value in ours.state_dict().items()
        }
    )
    return theirs.eval()


def generated(model: Any, prompts: list[list[int]], new: int, **how: Any) -> torch.Tensor:
    """What `generate` writes after prompts of one length, without an end token."""
    tokens = torch.tensor(prompts).to(model.device)
    with torch.inference_mode():
        output = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=new,
            use_cache=True,
            pad_token_id=0,
            eos_token_id=None,
            **how,
        )
    return output[:, tokens.shape[1] :]


def batch_generated(model: Any, prompts: list[list[int]], new: int, **how: Any) -> list[list[int]]:
    """What `generate_batch`, their continuous batching, writes without an end token.

    Its cache and CUDA graphs are kept for the next call of the process.

    Raises:
        RuntimeError: it did not write all; it logs why, and raises nothing itself.
    """
    from transformers import ContinuousBatchingConfig, GenerationConfig

    config = GenerationConfig(max_new_tokens=new, eos_token_id=-1, pad_token_id=0, **how)
    # On a GPU it finds its own sizes; on a CPU they would fill the machine's memory.
    on_gpu = model.device.type == "cuda"
    sizes = ContinuousBatchingConfig(
        num_blocks=None if on_gpu else 64, max_batch_tokens=None if on_gpu else 256
    )
    found = model.generate_batch(
        prompts,
        generation_config=config,
        continuous_batching_config=sizes,
        progress_bar=False,
        persistent_manager=True,
    )
    tokens = [output.generated_tokens for output in found.values()]
    if [len(each) for each in tokens] != [new] * len(prompts):
        errors = {str(output.error) for output in found.values() if output.error}
        raise RuntimeError(
            f"{len(tokens)} of {len(prompts)} sequences, "
            f"{sum(map(len, tokens))} of {new * len(prompts)} tokens {'; '.join(errors)}"
        )
    return tokens


class Trained:
    """Their model trained on the sequences of these steps, a few steps at a time."""

    def __init__(
        self, setting: Setting, config: TrainConfig, steps: list[list[Batch]], folder: Path
    ) -> None:
        self._setting, self._config, self._folder = setting, config, folder
        self._batches = steps
        self.model = build(setting, config, torch.float32)
        self.name = "Trainer" if installed("accelerate") else "plain loop"
        self.loss = float("nan")

    def seconds(self, *, warmup: int, steps: int) -> list[float]:
        """Seconds of each step, after `warmup` steps that also make the optimizer's state."""
        if self.name == "Trainer":
            return self._by_trainer(warmup + steps)[warmup:]
        return self._by_loop(warmup, steps)

    def _by_trainer(self, steps: int) -> list[float]:
        from transformers import Trainer, TrainerCallback, TrainingArguments

        setting, training = self._setting, self._config.training
        ends: list[float] = []

        class Clock(TrainerCallback):
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                self.on_step_end()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                setting.wait()
                ends.append(time.perf_counter())

        sequences: Any = [
            {"input_ids": tokens, "labels": labels}
            for step in self._batches
            for batch in step
            for tokens, labels in zip(batch.tokens, labels_in_place(batch), strict=True)
        ]
        arguments = TrainingArguments(
            output_dir=str(self._folder),
            max_steps=steps,
            per_device_train_batch_size=training.sequences_at_a_time,
            gradient_accumulation_steps=training.global_batch_sequences
            // training.sequences_at_a_time,
            gradient_checkpointing=self._config.model.recomputes,
            bf16=True,
            learning_rate=1e-6,  # low enough that repeats do not overfit the same sequences
            max_grad_norm=self._config.optimizer.max_grad_norm,
            use_cpu=not setting.on_gpu,
            **QUIET,
        )
        trainer: Any = Trainer(
            model=self.model, args=arguments, train_dataset=sequences, callbacks=[Clock()]
        )
        self.loss = float(trainer.train().training_loss)
        return [end - begin for begin, end in zip(ends, ends[1:], strict=False)]

    def _by_loop(self, warmup: int, steps: int) -> list[float]:
        setting, parameters = self._setting, list(self.model.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=1e-6, fused=True)
        self.model.train()
        number = 0

        def step() -> None:
            nonlocal number
            batches = self._batches[number % len(self._batches)]
            number += 1
            supervised = sum(batch.num_supervised for batch in batches)
            total = torch.zeros((), device=setting.device)
            for batch in batches:
                tokens = batch.tokens.to(setting.device)
                labels = labels_in_place(batch).to(setting.device)
                with torch.autocast(setting.device.type, torch.bfloat16):
                    loss = self.model(
                        input_ids=tokens, labels=labels, num_items_in_batch=supervised
                    ).loss
                loss.backward()
                total += loss.detach()
            torch.nn.utils.clip_grad_norm_(parameters, self._config.optimizer.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            self.loss = float(total)

        return setting.timed(step, warmup=warmup, repeats=steps)
