"""What the parts share: where they run, how large, and when a clock may be read."""

import gc
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from training.config import TrainConfig, load

ROOT = Path(__file__).resolve().parents[3]

_TOY_MODELS = {
    "1b3": {"hidden_size": 64, "num_layers": 3, "num_heads": 4, "ffn_size": 256},
    "125m": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "ffn_size": 128},
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One run of the suite."""

    device: torch.device
    toy: bool
    """Tiny shapes: shows that everything works, says nothing about speed."""

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def document_tokens(self) -> int:
        """Mean tokens of a document; TinyGSM's examples have about 150."""
        return 20 if self.toy else 150

    def config(self, name: str, *overrides: str) -> TrainConfig:
        """The shipped config `generator_NAME.toml`, its sizes cut down in a toy run.

        What it leaves to the card is fixed: 4 sequences at a time, activations kept.
        """
        fixed = ("training.micro_batch_sequences=4", "model.activation_checkpointing=false")
        overrides = (*fixed, *overrides)
        if self.toy:
            shape = {**_TOY_MODELS[name], "vocab_size": 512, "max_tokens": 128}
            cut = [f"model.{key}={value}" for key, value in shape.items()]
            overrides = (*cut, "data.sequence_length=128", *overrides)
        return load(TrainConfig, [ROOT / "configs" / f"generator_{name}.toml"], overrides)

    def wait(self) -> None:
        """Until the device has done what it was asked: only then does a clock mean anything."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def timed(self, work: Callable[[], Any], *, warmup: int, repeats: int) -> list[float]:
        """Wall-clock seconds of each repeat, after some that do not count."""
        seconds: list[float] = []
        for number in range(warmup + repeats):
            self.wait()
            begin = time.perf_counter()
            work()
            self.wait()
            if number >= warmup:
                seconds.append(time.perf_counter() - begin)
        return seconds

    def forget_memory(self) -> None:
        """Free what nothing refers to any more, and count the peak anew."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)


def spread(seconds: list[float]) -> float:
    """(slowest - fastest) / median: what one number hides."""
    return (max(seconds) - min(seconds)) / median(seconds)


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # the tests put None into sys.modules to hide a package
        return False
