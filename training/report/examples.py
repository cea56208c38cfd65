"""The page's part on single questions: what was chosen, what else was there, what it gave."""

import textwrap
from collections.abc import Mapping, Sequence

from training.records import Candidate
from training.report.formatting import MISSING, number
from training.report.markup import escape, section, table
from training.report.verifier import Answer, Case, Kind

_KINDS: dict[Kind, tuple[str, str]] = {
    "saved": ("The verifier saved the answer", "good"),
    "missed": ("A right program was there and another was chosen", "bad"),
    "solved": ("Answered right", ""),
    "unsolved": ("No candidate was right", ""),
}
_MAX_ANSWERS = 6
_MAX_CHARACTERS = 4000


def examples_section(cases: Mapping[str, Sequence[Case]]) -> str:
    """Questions by benchmark; the first benchmark's are open."""
    blocks: list[str] = []
    for name, chosen in cases.items():
        if chosen:
            opened = "" if blocks else " open"
            content = "".join(_case(case) for case in chosen)
            blocks.append(f"<details{opened}><summary>{escape(name)}</summary>{content}</details>")
    intro = (
        "The clearest of each kind, chosen by the gap between scores. Answers are what the "
        "candidates' programs gave when they ran."
    )
    return section("examples", "Examples", "".join(blocks), intro)


def _case(case: Case) -> str:
    title, tone = _KINDS[case.kind]
    programs = "".join(_program(why, candidate) for why, candidate in case.programs)
    known = ""
    if case.right_value is not None:
        known = f" \u00b7 right answer {escape(number(case.right_value))}"
    return (
        f'<article class="card case"><p class="kind {tone}">{title}</p>'
        f"<blockquote>{escape(case.question)}</blockquote>"
        f'<p class="note">{escape(case.question_id)}{known}</p>'
        f'<div class="pair">{programs}</div>{_votes(case.answers)}</article>'
    )


def _program(why: str, candidate: Candidate) -> str:
    if candidate.verdict == "failed":
        outcome = candidate.error or candidate.status or "no number"
    else:
        outcome = f"gave {number(candidate.value)}"
    program = textwrap.dedent(candidate.program)
    if len(program) > _MAX_CHARACTERS:
        program = f"{program[:_MAX_CHARACTERS]}\n… cut after {_MAX_CHARACTERS} characters"
    details = [f'<span class="{candidate.verdict}">{candidate.verdict}</span>', escape(outcome)]
    if candidate.score is not None:
        details.append(f"score {candidate.score:.3f}")
    details.append(f"T {candidate.temperature:g}" if candidate.temperature else "greedy")
    return (
        f"<div><h3>{escape(why)}</h3><div>{' · '.join(details)}</div>"
        f"<pre>{escape(program)}</pre></div>"
    )


def _votes(answers: Sequence[Answer]) -> str:
    rows = [
        (
            escape(number(answer.value)),
            f'<span class="{answer.verdict}">{answer.verdict}</span>',
            str(answer.num_candidates),
            MISSING if answer.best_score is None else f"{answer.best_score:.3f}",
        )
        for answer in answers[:_MAX_ANSWERS]
    ]
    left = len(answers) - len(rows)
    more = f'<p class="note">and {left} other answers</p>' if left else ""
    head = ("answer", "verdict", "candidates", "best score")
    return f'<div class="votes">{table(head, rows)}{more}</div>'
