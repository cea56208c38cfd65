"""Print a plan as tables.

for table in tables(plan, config):
    console.print(table)
"""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from parallel.planning.plan import Plan, StagePlan, sent
from parallel.planning.trace import DOCUMENT_TOKENS, supervised_fraction
from training.config import TrainConfig

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SHOWN_RANKS = 4


def tables(plan: Plan, config: TrainConfig) -> Iterator[RenderableType]:
    """The tables and texts, from top to bottom."""
    yield Text(_headline(plan))
    yield Text(_groups(plan))
    yield _memory(plan)
    if len(plan.stages) > 1:
        yield _stages(plan)
    yield _traffic(plan.mine)
    yield Text(_assumptions(plan, config), style="dim")


def in_units(num_bytes: int) -> str:
    """Bytes with a unit: `1.5 GiB`."""
    value, unit = float(num_bytes), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:,.{0 if unit == 0 else 1}f} {_UNITS[unit]}"


def in_short(ranks: tuple[int, ...]) -> str:
    """Ranks, abbreviated: `0, 8, ... 248 (32 ranks)`."""
    steps = {after - before for before, after in zip(ranks, ranks[1:], strict=False)}
    if len(ranks) <= _SHOWN_RANKS or len(steps) > 1:
        return ", ".join(map(str, ranks))
    step = steps.pop()
    return f"{ranks[0]}, {ranks[0] + step}, ... {ranks[-1]} ({len(ranks):,} ranks)"


def _headline(plan: Plan) -> str:
    count = plan.num_micro_batches
    bubble = f"; pipeline bubble {plan.bubble:.1%}" if plan.layout.pipeline > 1 else ""
    return (
        f"{plan.layout.world_size:,} ranks: {plan.layout}\n"
        f"{plan.parameters:,} parameters; {count} micro-batch{'es' * (count > 1)} per step on each "
        f"data-parallel rank{bubble}"
    )


def _groups(plan: Plan) -> str:
    place = plan.place
    return (
        f"rank {plan.rank}: tensor rank {place.tensor}, data-parallel rank {place.data}, "
        f"pipeline stage {place.stage}\n"
        f"  tensor group    {in_short(plan.tensor_ranks)}\n"
        f"  data group      {in_short(plan.data_ranks)}\n"
        f"  pipeline group  {in_short(plan.pipeline_ranks)}"
    )


def _memory(plan: Plan) -> Table:
    mine = plan.mine
    table = _table(f"Memory of rank {plan.rank}", ("", "bytes"))
    table.add_row("parameters", f"{mine.parameters:,}")
    in_flight = f" x {mine.num_in_flight} micro-batches" if mine.num_in_flight > 1 else ""
    for label, num_bytes in (
        ("weights", mine.weights_bytes),
        ("gathered weights", mine.gathered_bytes),
        ("gradients", mine.gradients_bytes),
        ("optimizer state", mine.optimizer_bytes),
        (f"activations{in_flight}", mine.activations_bytes),
        ("pipeline buffers", mine.pipeline_bytes),
        ("gradient bucket, in the backward pass", mine.bucket_bytes),
        ("flattened gradients, after it", mine.flattened_bytes),
    ):
        if num_bytes:
            table.add_row(label, in_units(num_bytes))
    table.add_section()
    table.add_row("peak", Text(in_units(mine.total_bytes), style="bold"))
    if mine.host_bytes:
        table.add_row("main memory, offloaded", in_units(mine.host_bytes))
    table.add_row("main memory, copies for a checkpoint", in_units(mine.copies_bytes))
    return table


def _stages(plan: Plan) -> Table:
    table = _table(
        "Pipeline stages: parameters of the whole stage, bytes of each rank",
        (
            "stage",
            "blocks",
            "parameters",
            "matmul\nparameters",
            "states",
            "activations",
            "in\nflight",
            "peak",
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
        "Communication of one optimizer step",
        ("", "ranks", "operation", "full\ntensor", "sent by\neach rank"),
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
        # Numbers are never truncated: on a narrow terminal the labels wrap instead.
        is_label = number == 0
        table.add_column(heading, justify="left" if is_label else "right", no_wrap=not is_label)
    return table


def _assumptions(plan: Plan, config: TrainConfig) -> str:
    fraction = supervised_fraction(config)
    supervised = "every token" if fraction == 1.0 else f"{fraction:.0%} of the tokens"
    device = "GPUs" if plan.on_gpu else "CPUs"
    return (
        "Activations are what autograd saves of a micro-batch of "
        f"{config.training.sequences_at_a_time} x {config.data.sequence_length} tokens in "
        f"documents of {DOCUMENT_TOKENS}, {supervised} supervised, with attention as on {device}. "
        "Bytes sent are those of ring collectives: 2 (n - 1) / n of the full tensor for an "
        "all-reduce, (n - 1) / n for an all-gather or a reduce-scatter. Not included: norms and "
        "flags, a few bytes each, and what single kernels, NCCL, CUDA's context and the "
        "allocator's fragmentation take."
    )
