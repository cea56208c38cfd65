"""The report as one HTML file: no script, nothing fetched, light and dark.

Text from models, data and configs goes through `markup.escape`; a content security
policy in the page forbids scripts and the network besides.
"""

from collections.abc import Iterator, Mapping, Sequence

from training.report import plots
from training.report.against import against_section
from training.report.collect import Benchmark, Curve, Run
from training.report.data_section import data_section
from training.report.examples import examples_section
from training.report.findings import at_n, findings
from training.report.formatting import (
    MISSING,
    Interval,
    percent,
    percent_range,
    points,
    points_range,
)
from training.report.markup import card, escape, figure, grid, section, table, terms
from training.report.settings import setting_rows
from training.report.style import STYLE
from training.report.verifier import Case, Ranking

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_POLICY_TAG = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
_TITLE_ENDS = ": report</title>"


def is_report(text: str) -> bool:
    """Whether `render` made this page."""
    return _POLICY_TAG in text and _TITLE_ENDS in text


def render(
    run: Run,
    rankings: Mapping[str, Ranking],
    cases: Mapping[str, Sequence[Case]],
    seconds: Mapping[str, float],
) -> str:
    """The whole page. `rankings` and `cases` are by benchmark; what is missing is left out."""
    name = str((run.config.get("run") or {}).get("name") or run.folder.name)
    sections = [
        ("headline", "Results", _headline(run)),
        ("settings", "What was run", _settings(run, seconds)),
        ("against", "Beside GSM8K", against_section(run.benchmarks)),
        ("accuracy", "Accuracy by k", _accuracy(run)),
        ("operations", "By operations", _operations(run)),
        ("loss", "Training", _training(run)),
        ("scores", "Verifier scores", _scores(rankings)),
        ("data", "Data", data_section(run)),
        ("examples", "Examples", examples_section(cases)),
        ("reading", "How to read the numbers", _reading()),
    ]
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, text in sections if text)
    body = "".join(text for _, _, text in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"{_POLICY_TAG}\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)}{_TITLE_ENDS}\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{escape(name)}</h1>"
        '<p class="lead">A generator writes programs for word problems; a verifier chooses among '
        f"them.</p><nav>{links}</nav></header>\n{body}</main>\n</body>\n</html>\n"
    )


def _headline(run: Run) -> str:
    if not run.benchmarks:
        note = "No evaluation was found in this run's folder, so there are no accuracies to show."
        return section("headline", "Results", f"<p>{note}</p>")
    cards = grid(_headline_card(benchmark) for benchmark in run.benchmarks)
    return section("headline", "Results", cards + card(_headline_table(run.benchmarks)))


def _headline_card(benchmark: Benchmark) -> str:
    verified, majority = at_n(benchmark.verify_at_k), at_n(benchmark.majority_at_k)
    largest = max(benchmark.verify_at_k, default=benchmark.num_candidates)
    shown = (
        ("greedy pass@1", benchmark.greedy, "--greedy"),
        ("sampled pass@1", benchmark.pass_at_k.get(1), "--pass"),
        (f"majority@{largest}", majority, "--majority"),
        (f"verify@{largest}", verified, "--verify"),
        (f"pass@{largest}", at_n(benchmark.pass_at_k), "--pass"),
    )
    rows = "".join(_range(name, value, colour) for name, value, colour in shown if value)
    big = verified or benchmark.greedy
    what = f"verify@{largest}" if verified else "greedy pass@1"
    top = f'<div class="big">{percent(big.value)} <small>{what}</small></div>' if big else ""
    sentences = "".join(
        f'<p class="finding {finding.tone}">{escape(finding.text)}</p>'
        for finding in findings(benchmark)
    )
    size = f"{benchmark.num_questions:,} questions"
    return card(
        f'<h3>{escape(benchmark.name)} <span class="note">{size}</span></h3>{top}'
        f'<div class="ranges">{rows}</div>{sentences}'
    )


def _range(name: str, value: Interval, colour: str) -> str:
    low, high = (min(1.0, max(0.0, end)) for end in value.ends)
    band = f"left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%;background:var({colour})"
    mark = f"left:{100 * value.value:.2f}%;background:var({colour})"
    return (
        f'<span>{name}</span><div class="track"><i style="{band}"></i><b style="{mark}"></b></div>'
        f"<span>{percent(value.value)}</span>"
    )


def _headline_table(benchmarks: Sequence[Benchmark]) -> str:
    head = (
        "benchmark",
        "questions",
        "pass@1<br>greedy",
        "pass@1<br>sampled",
        "pass@N",
        "majority@N",
        "verify@N",
        "verify@N −<br>greedy pass@1",
        "verify@N −<br>majority@N",
    )
    shown = [(name, row) for benchmark in benchmarks for name, row in _headline_rows(benchmark)]
    rows = [
        (
            name,
            f"{benchmark.num_questions:,}<small>{_counts(benchmark)}</small>",
            _percent(benchmark.greedy),
            _percent(benchmark.pass_at_k.get(1)),
            _percent(at_n(benchmark.pass_at_k)),
            _percent(at_n(benchmark.majority_at_k)),
            _percent(at_n(benchmark.verify_at_k)),
            _difference(benchmark.verify_minus_greedy),
            _difference(benchmark.verify_minus_majority),
        )
        for name, benchmark in shown
    ]
    below = "Percent of questions; differences in points. 95\u00a0% intervals below each value."
    if any(benchmark.num_left_out for benchmark in benchmarks):
        below += " Left out: questions whose published gold answer is no single number."
    if any(benchmark.corrected for benchmark in benchmarks):
        below += " Corrected golds: the same candidates, judged again by corrected gold answers."
    return f'{table(head, rows)}<p class="note" style="margin:.8rem 0 0">{below}</p>'


def _headline_rows(benchmark: Benchmark) -> Iterator[tuple[str, Benchmark]]:
    """Heading and numbers: by the published golds and, where there are some, by corrected ones."""
    yield escape(benchmark.name), benchmark
    if benchmark.corrected:
        yield f"{escape(benchmark.name)}<br>corrected golds", benchmark.corrected


def _counts(benchmark: Benchmark) -> str:
    counts = [f"N = {benchmark.num_candidates}"]
    for count, what in (
        (benchmark.num_left_out, "left out"),
        (benchmark.num_changed, "corrected"),
        (benchmark.num_removed, "removed"),
    ):
        if count:
            counts.append(f"{count:,} {what}")
    return "<br>".join(counts)


def _percent(value: Interval | None) -> str:
    if value is None:
        return MISSING
    return f"{100 * value.value:.1f}<small>{percent_range(value)}</small>"


def _difference(value: Interval | None) -> str:
    if value is None:
        return MISSING
    return f"{points(value.value)}<small>{points_range(value)}</small>"


def _settings(run: Run, seconds: Mapping[str, float]) -> str:
    rows = setting_rows(run, seconds)
    return section("settings", "What was run", card(terms(rows)) if rows else "")


def _accuracy(run: Run) -> str:
    drawings = grid(figure(b.name, plots.accuracy_by_k(b)) for b in run.benchmarks)
    intro = (
        "How often the answer is right when k candidates are drawn: any of them (pass@k), the "
        "most frequent answer (majority@k), the one the verifier scores highest (verify@k). "
        "Bands are 95\u00a0% intervals."
    )
    return section("accuracy", "Accuracy by number of candidates", drawings, intro)


def _operations(run: Run) -> str:
    drawings = grid(figure(b.name, plots.accuracy_by_operations(b)) for b in run.benchmarks)
    intro = "Questions grouped by the operations their answer needs. Lines are 95\u00a0% intervals."
    return section("operations", "Accuracy by number of operations", drawings, intro)


def _training(run: Run) -> str:
    drawings = grid(
        figure(curve.name.capitalize(), plots.loss_curve(curve), _training_note(curve))
        for curve in run.curves
    )
    return section("loss", "Training", drawings)


def _training_note(curve: Curve) -> str:
    if not any("/" in name for name in curve.evaluations):
        return ""
    return "Below the loss: accuracies measured during training."


def _scores(rankings: Mapping[str, Ranking]) -> str:
    drawings = grid(
        figure(name, plots.score_histogram(ranking, name), _ranking_note(ranking))
        for name, ranking in rankings.items()
    )
    intro = (
        "Scores of the sampled candidates, each kind as a fraction of its own total. "
        "The further apart, the better the verifier tells right programs from the rest."
    )
    return section("scores", "Verifier scores", drawings, intro)


def _ranking_note(ranking: Ranking) -> str:
    if ranking.pooled_auc is None:
        return "All candidates are of one kind, so there is nothing to tell apart."
    text = f"AUC {ranking.pooled_auc:.3f} over all candidates"
    if ranking.within_auc is not None:
        text += (
            f"; {ranking.within_auc:.3f} within questions (mean over the {ranking.num_mixed:,} "
            "that have both kinds)"
        )
    return f"{text}. 0.5 is chance, 1 is perfect."


def _reading() -> str:
    rows = [
        (
            "greedy pass@1",
            "Fraction of questions whose single program, decoded at temperature 0, is right.",
        ),
        (
            "pass@k",
            "Fraction of questions for which at least one of k sampled programs is right: the "
            "unbiased estimate from all N, averaged over questions. It is what a perfect verifier "
            "would reach, not something a user can have.",
        ),
        (
            "majority@k",
            "The k candidates vote with the numbers they give; the most frequent wins. "
            "It needs no verifier.",
        ),
        (
            "verify@k",
            "The verifier scores k candidates; of those that gave a number the highest is chosen.",
        ),
        (
            "verify@N − pass@1",
            "Difference on the same questions, in percentage points. When its "
            "interval holds zero, the difference may be chance.",
        ),
        (
            "right",
            "The program ran and its number equals the gold answer (within 0.001 where that is "
            "a whole number, else within 0.1 % or rounded to cents). "
            "Wrong: another number. Failed: no number (an error, a time-out, nothing returned).",
        ),
        (
            "95 % interval",
            "Bootstrap over questions: questions are redrawn with replacement, and the "
            "middle 95 % of the results is shown. It covers the choice of questions, not another "
            "seed of training.",
        ),
        (
            "AUC",
            "Probability that a right candidate is scored above one that is not; within "
            "questions is what choosing among one question's candidates depends on.",
        ),
    ]
    return section("reading", "How to read the numbers", card(terms(rows)))
