"""The full run's result as Markdown."""

from typing import Any

_TITLE = "# Twelve million examples"


def as_markdown(found: dict[str, Any]) -> str:
    """The page of a result."""
    machine, settings, steps = found["machine"], found["settings"], found["steps"]
    lines = [
        _TITLE,
        "",
        f"{found['date']}, {settings['rows']:,} rows of the stand-in in {settings['shards']} "
        f"shards, seed {settings['seed']}; {found['workers']} workers on {machine['cores']} cores "
        f"({machine['cpu']}), Python {machine['python']}. Written by "
        "`python -m tests.bench.twelve_million`.",
        "",
        "CPU is sampled every two seconds: what a process takes after its last sample is missing, "
        "and the programs that run in processes of their own.",
        "",
        "| step | attempts | wall | CPU | CPU a row | peak memory | largest process |",
        "|---|---|---|---|---|---|---|",
        *(_row(name, step, settings["rows"]) for name, step in steps.items()),
        "",
        *_data(steps),
        *_checks(steps, found["killed_and_equal"]),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, step: dict[str, Any], num_rows: int) -> str:
    per_row = step["cpu_seconds"] / num_rows * 1e6
    cells = (
        name,
        str(step["attempts"]),
        _duration(step["wall_seconds"]),
        _duration(step["cpu_seconds"]),
        f"{per_row:.0f} µs",
        f"{step['peak_bytes'] / 1e6:,.0f} MB",
        f"{step['largest_process_bytes'] / 1e6:,.0f} MB",
    )
    return f"| {' | '.join(cells)} |"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _data(steps: dict[str, Any]) -> list[str]:
    written, measured = steps["write"]["facts"], steps["measure"]["facts"]
    facts = steps["prepare"]["facts"]["facts"]
    wrong = written["counts"]["wrong program"] / written["counts"]["rows"]
    return [
        f"{measured['rows']:,} rows ({written['bytes'] / 1e9:.2f} GB): "
        f"{measured['distinct_questions']:,} distinct questions, "
        f"{measured['distinct_normalised_questions']:,} without case, space and punctuation; "
        f"{wrong:.1%} of the programs wrong. Prepared: {facts['examples']:,} examples of "
        f"{facts['tokens']:,} tokens in {facts['sequences']:,} sequences, "
        f"{facts['padding_fraction']:.2%} padding.",
        "",
    ]


def _checks(steps: dict[str, Any], killed: dict[str, int]) -> list[str]:
    order, losses = steps["order"]["facts"], steps["train"]["facts"]["losses"]
    ranks = ", ".join(map(str, order["ranks"]))
    lines = [
        f"- Order: equal over {ranks} ranks at all {order['steps_compared']:,} steps compared, "
        f"batches to the bit at {len(order['batches_compared_at'])} random points, and after "
        f"{len(order['resumed_at'])} resumes with other numbers of ranks.",
        f"- First batch {order['first_batch_seconds']:.2f} s after the imports "
        f"({order['first_batch_cpu_seconds']:.2f} CPU seconds), "
        f"{order['first_batch_peak_bytes'] / 1e6:,.0f} MB resident.",
        f"- {len(losses)} training steps, losses {', '.join(f'{loss:.4f}' for loss in losses)}.",
    ]
    if killed:
        times = ", ".join(f"{name} {number} times" for name, number in killed.items())
        lines.append(f"- Killed ({times}) and continued: the same bytes.")
    return lines
