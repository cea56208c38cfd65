"""The page's part on benchmarks beside GSM8K: differences by question, or side by side."""

from collections.abc import Mapping, Sequence

from training.report import plots
from training.report.collect import Against, Benchmark
from training.report.findings import at_n
from training.report.formatting import (
    MISSING,
    Interval,
    percent_range,
    points,
    points_range,
)
from training.report.markup import card, escape, figure, grid, section, table

_INTRO = (
    "Benchmarks that hold GSM8K's questions, or variants of them, are compared by question: the "
    "accuracies are of the shared questions only, and several variants of a question count as "
    "their mean. An interval that holds zero may be chance. Other benchmarks are side by side, "
    "with all of their questions."
)


def against_section(benchmarks: Sequence[Benchmark]) -> str:
    """A row for each benchmark that was evaluated beside GSM8K; nothing without one."""
    compared = [benchmark for benchmark in benchmarks if benchmark.against]
    if not compared:
        return ""
    # The verifier's choice, or the vote where there is no verifier.
    best = "verify" if any(benchmark.verify_at_k for benchmark in compared) else "majority"
    measures = {"pass_at_1": "greedy pass@1", f"{best}_at_n": f"{best}@N"}
    head = ["benchmark", "questions"]
    for name in measures.values():
        head += [name.replace(" ", "<br>"), "on GSM8K", "difference"]
    by_name = {benchmark.name: benchmark for benchmark in benchmarks}
    rows = [
        _row(entry.against, entry, by_name, list(measures)) for entry in compared if entry.against
    ]
    below = "Percent of questions; differences in points. 95\u00a0% intervals below each value."
    content = card(f'{table(head, rows)}<p class="note" style="margin:.8rem 0 0">{below}</p>')
    drawing = plots.differences(compared, measures)
    content += grid([figure("Difference from GSM8K", drawing)]) if drawing else ""
    return section("against", "Beside GSM8K", content, _INTRO)


def _row(
    against: Against,
    benchmark: Benchmark,
    by_name: Mapping[str, Benchmark],
    measures: Sequence[str],
) -> list[str]:
    name = escape(benchmark.name)
    if not against.num_pairs:
        reference = by_name.get(against.reference)
        cells = [name, f"{benchmark.num_questions:,}<small>not paired</small>"]
        for here, there in zip(_of_all(benchmark), _of_all(reference), strict=True):
            cells += [_percent(here), _percent(there), MISSING]
        return cells
    cells = [name, f"{against.num_questions:,}<small>of {against.num_pairs:,} on GSM8K</small>"]
    for measure in measures:
        found = against.measures.get(measure)
        if found is None:
            cells += [MISSING] * 3
        else:
            value, ends = points(found.difference.value), points_range(found.difference)
            cells += [_percent(found.here), _percent(found.there), f"{value}<small>{ends}</small>"]
    return cells


def _of_all(benchmark: Benchmark | None) -> tuple[Interval | None, Interval | None]:
    """The two measures on all questions of a benchmark."""
    if benchmark is None:
        return None, None
    return benchmark.greedy, at_n(benchmark.verify_at_k) or at_n(benchmark.majority_at_k)


def _percent(value: Interval | None) -> str:
    if value is None:
        return MISSING
    return f"{100 * value.value:.1f}<small>{percent_range(value)}</small>"
