"""Prints prepared examples as the model sees them, with the supervised tokens marked.

    show(config, count=3, seed=1)        # a PrepareConfig

The marks are derived from the loader's own labels, so they show what training supervises.
"""

import numpy as np
from rich.console import Console
from rich.text import Text

from training.config import PrepareConfig
from training.data.dataset import SequenceDataset
from training.data.micro_batch import Batch, collate
from training.data.order import Order
from training.data.prepared import compare
from training.data.tokenizer import Tokenizer


def show(config: PrepareConfig, count: int, *, seed: int, console: Console | None = None) -> None:
    """Print the first `count` examples that training with this seed sees; «…» is supervised.

    Raises:
        FileNotFoundError: the data is not prepared.
        DataError: it was prepared with another config.
    """
    console, data = console or Console(), config.data
    comparison = compare(config)
    comparison.check()
    if note := comparison.note():
        console.print(note)
    dataset = SequenceDataset(data.folder, sequence_length=data.sequence_length)
    tokenizer = Tokenizer.load(data.folder)
    shown = 0
    head, weights = dataset.facts["head"], data.source_weights
    sizes = dataset.source_sizes() if weights else [len(dataset)]
    order = Order(sizes, weights or [1.0], seed=seed)
    for number in order.indices(np.arange(len(dataset))).tolist():
        sequence = dataset.sequence(number)
        batch = collate([sequence], sequence_length=data.sequence_length, head=head)
        for example in range(batch.num_examples):
            if shown == count:
                return
            shown += 1
            console.rule(f"sequence {number}, example {example + 1} of {batch.num_examples}")
            console.print(_marked(batch, example, head, tokenizer), soft_wrap=True)


def _marked(batch: Batch, example: int, head: str, tokenizer: Tokenizer) -> Text:
    """The example's text with its supervised tokens marked; the batch is of one sequence."""
    positions = (batch.document_ids[0] == example).nonzero().flatten().tolist()
    tokens = batch.tokens[0].tolist()
    labels = dict(zip(batch.supervised.tolist(), batch.labels.tolist(), strict=True))
    if head == "verifier":
        learnt = {position for position in positions if position in labels}
        right = any(labels[position] == 1 for position in learnt)
        style, kind = ("green", "right") if right else ("red", "wrong")
    else:
        learnt = {position + 1 for position in positions if position in labels}
        style, kind = "green", "program"
    end = "<end>" if tokens[positions[-1]] == tokenizer.end_token else ""
    text = Text(f"{len(positions)} tokens, {len(learnt)} supervised ({kind})\n", style="dim")
    start = 0
    while start < len(positions):
        marked = positions[start] in learnt
        stop = start
        while stop < len(positions) and (positions[stop] in learnt) == marked:
            stop += 1
        ids = [tokens[position] for position in positions[start:stop]]
        piece = tokenizer.program(ids) if start else tokenizer.decode(ids)
        if stop == len(positions):
            piece += end
        text.append(f"«{piece}»" if marked else piece, style=style if marked else "")
        start = stop
    return text
