"""A plan as tables for people.

console.print(*tables(plan))
"""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from parallel.planning.plan import Plan, StagePlan, sent
from parallel.planning.trace import DOCUMENT_TOKENS, supervised_share
from training.config import TrainConfig

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SHOWN_RANKS = 4


def tables(plan: Plan, config: TrainConfig) -> Iterator[RenderableType]:
    """What to print, top to bottom."""
    yield Text(_headline(plan))
    yield Text(_groups(plan))
    yield _memory(plan)
    if len(plan.stages) > 1:
        yield _stages(plan)
    yield _traffic(plan.mine)
    yield Text(_assumptions(plan, config), style="dim")


def in_units(num_bytes: int) -> str:
    """Bytes as people read them: `1.5 GiB`."""
    value, unit = float(num_bytes), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:,.{0 if unit == 0 else 1}f} {_UNITS[unit]}"


def in_short(ranks: tuple[int, ...]) -> str:
    """Ranks as a person would write them: `0, 8, ... 248 (32 ranks)`."""
    steps = {after - before for before, after in zip(ranks, ranks[1:], strict=False)}
    if len(ranks) <= _SHOWN_RANKS or len(steps) > 1:
        return ", ".join(map(str, ranks))
    step = steps.pop()
    return f"{ranks[0]}, {ranks[0] + step}, ... {ranks[-1]} ({len(ranks):,} ranks)"


def _headline(plan: Plan) -> str:
    count = plan.num_micro_batches
    bubble = f"; the pipeline's bubble is {plan.bubble:.1%}" if plan.layout.pipeline > 1 else ""
    return (
        f"{plan.layout.world_size:,} ranks: {plan.layout}\n"
        f"{plan.parameters:,} parameters; {count} micro-batch{'es' * (count > 1)} in a step of "
        f"each data share{bubble}"
    )


def _groups(plan: Plan) -> str:
    place = plan.place
    return (
        f"rank {plan.rank} is tensor part {place.tensor}, data share {place.data}, "
        f"pipeline stage {place.stage}\n"
        f"  tensor group    {in_short(plan.tensor_ranks)}\n"
        f"  data group      {in_short(plan.data_ranks)}\n"
        f"  pipeline group  {in_short(plan.pipeline_ranks)}"
    )


def _memory(plan: Plan) -> Table:
    mine = plan.mine
    table = _table(f"Memory of rank {plan.rank}", ("", "held"))
    table.add_row("parameters", f"{mine.parameters:,}")
    in_flight = f" x {mine.num_in_flight} micro-batches" if mine.num_in_flight > 1 else ""
    for words, num_bytes in (
        ("weights", mine.weights_bytes),
        ("weights gathered for a while", mine.gathered_bytes),
        ("gradients", mine.gradients_bytes),
        ("optimizer state", mine.optimizer_bytes),
        (f"activations{in_flight}", mine.activations_bytes),
        ("pipeline's buffers", mine.pipeline_bytes),
        ("gradients' bucket, in the backward pass", mine.bucket_bytes),
        ("gradients' copy, after it", mine.flattened_bytes),
    ):
        if num_bytes:
            table.add_row(words, in_units(num_bytes))
    table.add_section()
    table.add_row("most at a time", Text(in_units(mine.total_bytes), style="bold"))
    return table


def _stages(plan: Plan) -> Table:
    table = _table(
        "Pipeline stages: parameters of all their tensor parts, bytes of each rank",
        (
            "stage",
            "blocks",
            "parameters",
            "that\nmultiply",
            "states",
            "activations",
            "in\nflight",
            "most at\na time",
        ),
    )
    fullest = max(stage.total_bytes for stage in plan.stages)
    for stage in plan.stages:
        states = stage.weights_bytes + stage.gradients_bytes + stage.optimizer_bytes
        table.add_row(
            str(stage.stage),
            f"{stage.blocks[0]}-{stage.blocks[-1]}",
            _in_millions(stage.stage_parameters),
            _in_millions(stage.multiplying_parameters),
            in_units(states),
            in_units(stage.activations_bytes),
            str(stage.num_in_flight),
            Text(in_units(stage.total_bytes), style="bold" if stage.total_bytes == fullest else ""),
        )
    return table


def _in_millions(count: int) -> str:
    return f"{count / 1e6:,.2f} M"


def _traffic(mine: StagePlan) -> Table:
    table = _table(
        "Exchanged in one optimizer step",
        ("", "ranks", "how", "the whole", "sent by\neach rank"),
    )
    for transfer in mine.transfers:
        table.add_row(
            transfer.purpose,
            f"{transfer.num_ranks:,}",
            transfer.operation,
            in_units(transfer.num_bytes),
            in_units(sent(transfer)),
        )
    table.add_section()
    table.add_row("", "", "", "", Text(in_units(mine.sent_bytes), style="bold"))
    return table


def _table(title: str, headings: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    for number, heading in enumerate(headings):
        # Figures are never cut: on a narrow terminal the words fold instead.
        words = number == 0
        table.add_column(heading, justify="left" if words else "right", no_wrap=not words)
    return table


def _assumptions(plan: Plan, config: TrainConfig) -> str:
    share = supervised_share(config)
    supervised = "every token" if share == 1.0 else f"{share:.0%} of the tokens"
    device = "GPUs" if plan.on_gpu else "CPUs"
    return (
        f"Activations are what autograd saves of a micro-batch of "
        f"{config.training.micro_batch_sequences} x {config.data.sequence_length} tokens in "
        "documents of "
        f"{DOCUMENT_TOKENS}, {supervised} supervised, with attention as on {device}. "
        "Sent is what a ring sends: 2 (n - 1) / n of the whole for an all-reduce, (n - 1) / n for "
        "an all-gather or a reduce-scatter. Norms and flags, a few bytes each, are left out; so "
        "are temporaries of single operations, above all the gradient of the logits."
    )
