"""The loaders that are compared: each an endless stream of shuffled batches of 16 sequences.

`ours` gives all that a training step needs: padded tokens, labels, positions, document ids, loss
weights. The others give token ids (megatron-core: with labels, positions and a loss mask).
"""

import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH = 16


def ours(folder: Path) -> Iterator[Any]:
    """This project's loader over the shards."""
    from tests.bench.loading.make import SEQUENCE_LENGTH
    from training.data.dataset import SequenceDataset
    from training.data.loader import Loader

    yield None  # imports are over
    loader = Loader(
        SequenceDataset(folder, sequence_length=SEQUENCE_LENGTH),
        seed=1,
        global_batch_sequences=BATCH,
        micro_batch_sequences=BATCH,
        rank=0,
        world_size=1,
        head="language_model",
    )
    while True:
        yield loader.next_step()[0].tokens


def megatron(folder: Path) -> Iterator[Any]:
    """megatron-core's `GPTDataset` over the same shards, in torch's `DataLoader`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from megatron.core.datasets.blended_megatron_dataset_builder import (
            BlendedMegatronDatasetBuilder,
        )
        from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from torch import distributed
    from torch.utils.data import DataLoader

    from tests.bench.loading.make import SEQUENCE_LENGTH
    from training import manifest

    # Without it, it refuses more than one pair of files.
    store: Any = getattr(distributed, "HashStore")()  # noqa: B009  (untyped in torch)
    distributed.init_process_group("gloo", rank=0, world_size=1, store=store)
    yield None
    count = manifest.read(folder)["facts"]["sequences"]
    prefixes = sorted(str(path.with_suffix("")) for path in folder.glob("*.idx"))
    tokenizer: Any = types.SimpleNamespace(vocab_size=51_200, eod=50_256, unique_identifiers={})
    config = GPTDatasetConfig(
        random_seed=1,
        sequence_length=SEQUENCE_LENGTH,
        blend=(prefixes, None),
        split="1,0,0",
        path_to_cache=str(folder.parent / "megatron_cache"),
        tokenizer=tokenizer,
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )
    sizes = [int(count * 0.95), 0, 0]
    built: Any = BlendedMegatronDatasetBuilder(GPTDataset, sizes, lambda: True, config).build()[0]
    while True:
        for batch in DataLoader(built, batch_size=BATCH):
            yield batch["tokens"]


def datasets(folder: Path) -> Iterator[Any]:
    """Hugging Face `datasets`, shuffled, in torch's `DataLoader` with a collate that pads."""
    from datasets import load_from_disk
    from torch.utils.data import DataLoader

    yield None
    stored: Any = load_from_disk(str(folder))
    shuffled = stored.shuffle(seed=1, keep_in_memory=True).with_format("numpy")
    while True:
        yield from DataLoader(shuffled, batch_size=BATCH, collate_fn=_padded)


def mosaicml(folder: Path) -> Iterator[Any]:
    """MosaicML Streaming, shuffled, from local MDS shards, in torch's `DataLoader`."""
    from torch.utils.data import DataLoader

    peer = streaming()
    yield None
    peer.base.util.clean_stale_shared_memory()
    dataset = peer.StreamingDataset(local=str(folder), batch_size=BATCH, shuffle=True)
    while True:
        yield from DataLoader(dataset, batch_size=BATCH, collate_fn=_padded)


def streaming() -> Any:
    """MosaicML Streaming, without its data sets of images and texts, which need torchvision."""
    for name in ("vision", "multimodal", "text"):
        sys.modules[f"streaming.{name}"] = types.ModuleType(f"streaming.{name}")
    import streaming as peer  # pyright: ignore[reportMissingImports]

    return peer


def _padded(rows: list[dict[str, Any]]) -> Any:
    import numpy as np
    import torch

    from tests.bench.loading.make import SEQUENCE_LENGTH

    tokens = np.zeros((len(rows), SEQUENCE_LENGTH), np.int64)
    for number, row in enumerate(rows):
        tokens[number, : len(row["tokens"])] = row["tokens"]
    return torch.from_numpy(tokens)


LOADERS: dict[str, tuple[str, Callable[[Path], Iterator[Any]]]] = {
    "ours": ("shards", ours),
    "ours, 32-bit ids": ("wide_shards", ours),
    "megatron-core": ("shards", megatron),
    "datasets": ("arrow", datasets),
    "mosaicml-streaming": ("mds", mosaicml),
}
"""Name to the form of its files and the loader."""
