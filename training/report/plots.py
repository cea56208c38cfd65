"""The page's plots, drawn by matplotlib as inline SVG that follows the page's colours.

Every colour here is a stand-in that becomes a CSS variable, so one drawing serves light
and dark pages; text stays text. Series differ by marker and dash as well as by colour,
and the colours are Okabe and Ito's, told apart by colour-blind readers. The same numbers
give the same bytes.
"""

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.report.collect import Benchmark, Curve
from training.report.formatting import Interval, label
from training.report.verifier import Floats, Ranking

INK, MUTED, LINE, PAPER = "#010101", "#020202", "#030303", "#040404"
GREEDY, PASS, MAJORITY, VERIFY, WRONG = "#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04", "#0a0a05"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    PAPER: "--card",
    GREEDY: "--greedy",
    PASS: "--pass",
    MAJORITY: "--majority",
    VERIFY: "--verify",
    WRONG: "--wrong",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "figure.facecolor": "none",
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.4,
    "legend.borderaxespad": 0.0,
}
_WIDTH, _HEIGHT = 5.0, 3.4
_MAX_POINTS = 600
"""Points of a curve: more cannot be seen at the page's width and only make it larger."""


def accuracy_by_k(benchmark: Benchmark) -> str | None:
    """pass@k, majority@k and verify@k over k on a doubling axis, with their bands."""
    series = [
        ("pass@k", benchmark.pass_at_k, PASS, "o", "--"),
        ("majority@k", benchmark.majority_at_k, MAJORITY, "s", "-."),
        ("verify@k", benchmark.verify_at_k, VERIFY, "D", "-"),
    ]
    drawn = [entry for entry in series if entry[1]]
    if not drawn:
        return None
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        for name, values, colour, marker, dash in drawn:
            ks = list(values)
            lows, highs = zip(*(values[k].ends for k in ks), strict=True)
            axes.fill_between(ks, _percent(lows), _percent(highs), color=colour, alpha=0.16, lw=0)
            heights = _percent([values[k].value for k in ks])
            axes.plot(ks, heights, color=colour, marker=marker, linestyle=dash, label=name)
        if benchmark.greedy is not None:
            height = 100 * benchmark.greedy.value
            axes.axhline(height, color=GREEDY, linestyle=":", lw=1.4, label="greedy pass@1")
        axes.set_xscale("log", base=2)
        ticks = sorted({k for _, values, *_ in drawn for k in values})
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()
        axes.set_xlabel("k, candidates per question")
        axes.set_ylabel("questions answered right, %")
        _legend(axes)
        return _svg(figure, f"Accuracy by number of candidates on {benchmark.name}")


def accuracy_by_operations(benchmark: Benchmark) -> str | None:
    """Accuracies on questions grouped by the operations their answer needs."""
    groups = benchmark.by_operations
    largest = benchmark.num_candidates or "N"
    series: list[tuple[str, list[Interval | None], str, str]] = [
        (f"pass@{largest}", [g.pass_at_n for g in groups.values()], PASS, "o"),
        (f"verify@{largest}", [g.verify_at_n for g in groups.values()], VERIFY, "D"),
        (f"majority@{largest}", [g.majority_at_n for g in groups.values()], MAJORITY, "s"),
        ("greedy pass@1", [g.greedy for g in groups.values()], GREEDY, "^"),
    ]
    drawn = [entry for entry in series if any(value is not None for value in entry[1])]
    if not drawn:
        return None
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        for number, (name, values, colour, marker) in enumerate(drawn):
            shift = 0.13 * (number - (len(drawn) - 1) / 2)
            known = [(index + shift, v) for index, v in enumerate(values) if v is not None]
            positions = [position for position, _ in known]
            heights = _percent([value.value for _, value in known])
            lows = _percent([value.ends[0] for _, value in known])
            highs = _percent([value.ends[1] for _, value in known])
            axes.vlines(positions, lows, highs, color=colour, alpha=0.55, lw=1.6)
            axes.plot(positions, heights, color=colour, marker=marker, linestyle="none", label=name)
        names = [f"{key}\nn = {group.num_questions}" for key, group in groups.items()]
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_xlabel("operations the answer needs (n: questions)")
        axes.set_ylabel("questions answered right, %")
        _legend(axes)
        return _svg(figure, f"Accuracy by number of operations on {benchmark.name}")


def differences(benchmarks: Sequence[Benchmark], measures: Mapping[str, str]) -> str | None:
    """Each paired benchmark's differences from GSM8K as horizontal intervals around zero.

    Args:
        benchmarks: From top to bottom.
        measures: Keys of `Against.measures`, and how the legend calls them.
    """
    found = [(b.name, b.against) for b in benchmarks if b.against and b.against.measures]
    if not found:
        return None
    looks = {"pass_at_1": (GREEDY, "^"), "majority_at_n": (MAJORITY, "s")}
    with matplotlib.rc_context({**_STYLE, "axes.grid.axis": "x"}):
        figure, axes = _figure(height=1.3 + 0.5 * len(found))
        axes.axvline(0, color=MUTED, lw=1.2)
        for number, (key, name) in enumerate(measures.items()):
            shift = 0.22 * (number - (len(measures) - 1) / 2)
            colour, marker = looks.get(key, (VERIFY, "D"))
            known = [
                (row + shift, against.measures[key].difference)
                for row, (_, against) in enumerate(found)
                if key in against.measures
            ]
            heights = [height for height, _ in known]
            lows, highs = (_percent([value.ends[end] for _, value in known]) for end in (0, 1))
            axes.hlines(heights, lows, highs, color=colour, alpha=0.55, lw=1.6)
            values = _percent([value.value for _, value in known])
            axes.plot(values, heights, color=colour, marker=marker, linestyle="none", label=name)
        axes.set_yticks(range(len(found)), [name for name, _ in found])
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.set_xlabel("difference, points")
        columns = len(measures)
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.02), ncols=columns, fontsize=10)
        return _svg(figure, "Differences from GSM8K by question")


def loss_curve(curve: Curve) -> str:
    """Training loss over tokens, and below it the accuracies measured in training."""
    losses = {k: v for k, v in curve.evaluations.items() if k.rsplit("/", 1)[-1] == "loss"}
    shown = {k: v for k, v in curve.evaluations.items() if _is_accuracy(k)}
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(height=5.0 if shown else _HEIGHT)
        below = None
        if shown:
            figure.clear()
            axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2.4])
        scale, unit = _token_scale(curve)
        positions, heights = _thinned(numpy.array(curve.tokens) / scale, numpy.array(curve.losses))
        run = -(-len(curve.losses) // len(heights))
        raw = "every step" if run == 1 else f"means of about {run} steps"
        axes.plot(positions, heights, color=PASS, alpha=0.35, lw=1.0, label=raw)
        axes.plot(positions, _smoothed(heights), color=PASS, label="smoothed")
        for name, values in losses.items():
            measured_at = [position / scale for position, _ in values]
            mark = label(name.rpartition("/")[0] or "held out")
            axes.plot(measured_at, [v for _, v in values], "D", color=WRONG, label=mark)
        axes.set_ylabel("loss, nats per token" if curve.name == "generator" else "loss")
        # The first steps of a random model would squeeze all the rest.
        if len(heights) > 20:
            top = float(numpy.quantile(heights, 0.99))
            axes.set_ylim(top=top + 0.08 * (top - float(heights.min())))
        _legend(axes)
        if below is not None:
            _draw_evaluations(below, shown, scale)
        (below or axes).set_xlabel(unit)
        return _svg(figure, f"Loss of the {curve.name}")


def score_histogram(ranking: Ranking, name: str) -> str | None:
    """Scores of right candidates and of the rest, each as a fraction of its own kind."""
    scores = numpy.concatenate([ranking.right, ranking.other])
    if not len(scores):
        return None
    low, high = float(scores.min()), float(scores.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    if low == high:
        low, high = low - 0.5, high + 0.5
    bins = numpy.linspace(low, high, 31)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        for kind, values, colour, dash in (
            ("right", ranking.right, PASS, "-"),
            ("wrong or failed", ranking.other, WRONG, "--"),
        ):
            if not len(values):
                continue
            percents = 100 * numpy.histogram(values, bins)[0] / len(values)
            text = f"{kind} ({len(values):,})"
            axes.stairs(percents, bins, fill=True, color=colour, alpha=0.22)
            axes.stairs(percents, bins, color=colour, lw=1.6, ls=dash, label=text)
        axes.set_xlabel("verifier score of a candidate")
        axes.set_ylabel("percent of its kind")
        axes.set_ylim(bottom=0)
        _legend(axes)
        return _svg(figure, f"Verifier scores on {name}")


def _draw_evaluations(
    axes: Axes, shown: Mapping[str, Sequence[tuple[float, float]]], scale: float
) -> None:
    looks = {
        "verify_at_k": (VERIFY, "D"),
        "majority_at_k": (MAJORITY, "s"),
        "pass_at_k": (PASS, "o"),
    }
    benchmarks = list(dict.fromkeys(key.rpartition("/")[0] for key in shown))
    for key, values in shown.items():
        name, _, metric = key.rpartition("/")
        colour, marker = looks.get(metric, (GREEDY, "^"))
        dash = ("-", "--", ":", "-.")[benchmarks.index(name) % 4]
        text = f"{label(name)} {metric.replace('_at_', '@')}".strip()
        positions = [position / scale for position, _ in values]
        heights = _percent([value for _, value in values])
        axes.plot(positions, heights, color=colour, marker=marker, linestyle=dash, label=text)
    axes.set_ylabel("answered right, %")
    _legend(axes)


def _is_accuracy(key: str) -> bool:
    names = ("pass_at_1", "pass_at_k", "majority_at_k", "verify_at_k")
    return key.rsplit("/", 1)[-1] in names


def _figure(height: float = _HEIGHT) -> tuple[Figure, Axes]:
    # No pyplot: it would keep figures and pick a backend for the whole process.
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _legend(axes: Axes) -> None:
    handles = axes.get_legend_handles_labels()[1]
    # A legend wider than the axes would squeeze them.
    wide = len(handles) > 3 or sum(len(text) for text in handles) > 44
    columns = 2 if wide else max(1, len(handles))
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.02), ncols=columns, fontsize=10)
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))


def _percent(fractions: Sequence[float]) -> list[float]:
    return [100 * fraction for fraction in fractions]


def _token_scale(curve: Curve) -> tuple[float, str]:
    if not curve.counts_tokens:
        return 1.0, "steps"
    for size, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if curve.tokens[-1] >= 2 * size:
            return size, f"tokens seen, {name}"
    return 1.0, "tokens seen"


def _thinned(positions: Floats, heights: Floats) -> tuple[Floats, Floats]:
    """Means of equal runs of points, so that at most `_MAX_POINTS` are left."""
    if len(positions) <= _MAX_POINTS:
        return positions, heights
    runs = numpy.array_split(numpy.arange(len(positions)), _MAX_POINTS)
    return (
        numpy.array([positions[run].mean() for run in runs]),
        numpy.array([heights[run].mean() for run in runs]),
    )


def _smoothed(heights: Floats) -> Floats:
    """Centred mean over about a fortieth of the curve, so that it does not lag."""
    reach = len(heights) // 80
    sums = numpy.concatenate([[0.0], numpy.cumsum(heights)])
    positions = numpy.arange(len(heights))
    # Near the ends the window narrows on both sides alike.
    reaches = numpy.minimum(reach, numpy.minimum(positions, len(heights) - 1 - positions))
    first, last = positions - reaches, positions + reaches + 1
    return (sums[last] - sums[first]) / (last - first)


def _svg(figure: Figure, title: str) -> str:
    """The drawing as an `<svg>` element for an HTML page: no prologue, ids unique on the page."""
    buffer = io.StringIO()
    metadata: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=metadata)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :].strip()
    for unwanted in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r"<!--.*?-->"):
        drawing = re.sub(unwanted, "", drawing, flags=re.DOTALL)
    opening, rest = drawing.split(">", 1)
    opening = re.sub(r'\s(xmlns(:\w+)?|version|width|height)="[^"]*"', "", opening)
    drawing = f"{opening}>{rest}".replace("xlink:href", "href")
    # One page holds many drawings, and each gives its parts the same ids. Nothing refers to
    # groups, so theirs are removed; clip paths and markers are referred to.
    drawing = re.sub(r'<g id="[^"]+"', "<g", drawing)
    own = re.sub(r"\W+", "-", title.lower())
    drawing = re.sub(r'id="([^"]+)"', rf'id="{own}-\1"', drawing)
    drawing = re.sub(r'href="#([^"]+)"', rf'href="#{own}-\1"', drawing)
    drawing = re.sub(r"url\(#([^)]+)\)", rf"url(#{own}-\1)", drawing)
    for colour, variable in _VARIABLES.items():
        drawing = drawing.replace(colour, f"var({variable})")
    name = html.escape(title, quote=True)
    return drawing.replace("<svg", f'<svg role="img" aria-label="{name}"', 1)
