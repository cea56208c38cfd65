"""The page's part on data: what was kept, what was dropped and why, what was sampled."""

from collections.abc import Iterator, Mapping
from typing import Any

from training.report.collect import Run, Sampled
from training.report.formatting import count, duration, finite, label, number, percent
from training.report.markup import bar, card, escape, grid, legend, section, terms

_VERDICTS = (("right", "--pass"), ("wrong", "--wrong"), ("failed", "--greedy"))
_MAX_FACTS = 24


def data_section(run: Run) -> str:
    """Cards for both prepared sets and for the sampled candidates."""
    cards = [
        _prepared(title, run.facts(stage))
        for stage, title in (
            ("data_generator", "What the generator learned from"),
            ("data_verifier", "What the verifier learned from"),
        )
    ]
    cards.append(_candidates(run.sampled, run.facts("candidates")))
    return section("data", "Data", grid(cards))


def dropped(facts: Mapping[str, Any]) -> dict[str, float]:
    """Examples dropped by reason, from whichever fact says so."""
    for key, value in facts.items():
        if "drop" in key and isinstance(value, Mapping):
            return {str(k): n for k, v in value.items() if (n := finite(v)) is not None}
    return {}


def _prepared(title: str, facts: Mapping[str, Any]) -> str:
    if not facts:
        return ""
    reasons = dropped(facts)
    content = f"<h3>{escape(title)}</h3>{terms(_scalars(facts), short=True)}"
    shown = {reason: n for reason, n in reasons.items() if n}
    if shown:
        largest = max(shown.values())
        rows = "".join(
            f"<span>{escape(label(reason))}</span>{bar([('--wrong', n)], largest)}"
            f"<span>{count(n)}</span>"
            for reason, n in sorted(shown.items(), key=lambda item: -item[1])
        )
        content += f'<h3>Dropped, by reason</h3><div class="bars">{rows}</div>'
    elif reasons:
        content += '<p class="note">Nothing was dropped.</p>'
    return card(content)


def _scalars(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    return list(_walk(facts, prefix))[:_MAX_FACTS]


def _walk(facts: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in facts.items():
        name = f"{prefix}{label(str(key))}"
        amount = finite(value)
        if amount is not None and key == "seconds":
            yield f"{prefix}time", duration(amount)
        elif amount is not None:
            yield name, count(amount)
        elif isinstance(value, str):
            yield name, value
        elif isinstance(value, Mapping) and "drop" not in str(key):
            yield from _walk(value, f"{name}: ")


def _candidates(sampled: tuple[Sampled, ...], facts: Mapping[str, Any]) -> str:
    title = "<h3>Sampled candidates on training questions, by verdict</h3>"
    if not sampled:
        # Without the files, what the manifest says of them is all there is.
        return card(title + terms(_scalars(facts), short=True)) if facts else ""
    rows: list[str] = []
    for group in sampled:
        total = sum(group.counts.values())
        parts = [(colour, group.counts.get(verdict, 0)) for verdict, colour in _VERDICTS]
        name = f"{label(group.generator)}, T {number(group.temperature)}"
        rows.append(
            f"<span>{escape(name)}</span>{bar(parts, total)}"
            f"<span>{percent(group.counts.get('right', 0) / max(1, total))} right</span>"
        )
    totals = {v: sum(group.counts.get(v, 0) for group in sampled) for v, _ in _VERDICTS}
    entries = [(colour, f"{verdict}: {count(totals[verdict])}") for verdict, colour in _VERDICTS]
    scalars = {
        key: value
        for key, value in facts.items()
        if key not in totals and not isinstance(value, Mapping)
    }
    return card(
        f'{title}{legend(entries)}<div class="bars">{"".join(rows)}</div>'
        f"{terms(_scalars(scalars), short=True)}"
    )
