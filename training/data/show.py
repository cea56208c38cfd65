"""Packed examples for people: what the model sees, and what of it is learnt.

    show(config, count=3, seed=1)        # a PrepareConfig

The marks are made from the loader's own labels, so what is shown is what training does.
"""

import numpy as np
from rich.console import Console
from rich.text import Text

from training.config import PrepareConfig
from training.data.loader import Batch, RowDataset, batch_of, rows_at
from training.data.prepared import compare
from training.data.tokenizer import Tokenizer


def show(config: PrepareConfig, count: int, *, seed: int, console: Console | None = None) -> None:
    """Print the first `count` examples that training with this seed sees; «…» is supervised.

    Raises:
        FileNotFoundError: the data is not prepared.
        DataError: it was prepared from something else than this config says.
    """
    console, data = console or Console(), config.data
    found = compare(config)
    found.check()
    if note := found.note():
        console.print(note)
    dataset = RowDataset(data.folder, sequence_length=data.sequence_length)
    tokenizer = Tokenizer.load(data.folder)
    shown = 0
    order = rows_at(np.arange(len(dataset)), num_rows=len(dataset), seed=seed)
    for number in order.tolist():
        row = dataset.row(number)
        batch = batch_of([row], sequence_length=data.sequence_length, head=dataset.facts["head"])
        for example in range(batch.num_examples):
            if shown == count:
                return
            shown += 1
            console.rule(f"row {number}, example {example + 1} of {batch.num_examples}")
            console.print(_marked(batch, example, dataset.facts["head"], tokenizer), soft_wrap=True)


def _marked(batch: Batch, example: int, head: str, tokenizer: Tokenizer) -> Text:
    """The example's text with supervised stretches marked."""
    places = (batch.document_ids[0] == example).nonzero().flatten().tolist()
    tokens, supervised = batch.tokens[0].tolist(), batch.supervised[0].tolist()
    if head == "verifier":
        learnt = {place for place in places if supervised[place]}
        right = any(batch.labels[0, place] == 1 for place in learnt)
        style, told = ("green", "right") if right else ("red", "wrong")
    else:
        learnt = {place + 1 for place in places if supervised[place]}
        style, told = "green", "program"
    end = "<end>" if tokens[places[-1]] == tokenizer.end_token else ""
    text = Text(f"{len(places)} tokens, {len(learnt)} supervised ({told})\n", style="dim")
    start = 0
    while start < len(places):
        marked = places[start] in learnt
        stop = start
        while stop < len(places) and (places[stop] in learnt) == marked:
            stop += 1
        piece = tokenizer.decode([tokens[place] for place in places[start:stop]])
        if stop == len(places):
            piece += end
        text.append(f"«{piece}»" if marked else piece, style=style if marked else "")
        start = stop
    return text
