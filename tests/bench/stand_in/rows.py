"""Writes the stand-in's rows: each a pure function of the seed and of its number.

About half of the rows are GSM8K training questions with numbers, names and wording drawn anew; the
others are problems of the built-in writer at all its difficulties, several variants of each. As in
the public set, some rows repeat an earlier question with another program, and a quarter of the
programs are wrong.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tests.bench.stand_in import damage, words
from tests.bench.stand_in.body import Body, compiled
from tests.bench.stand_in.mistakes import mistaken
from tests.bench.stand_in.template import Template, template_of
from training.data import gsm8k
from training.data.problems import Difficulty, write_problem
from training.data.problems.words import Draw

WRITTEN_FRACTION = 0.5
"""Rows from the built-in writer."""
VARIANTS = 20
"""Rows of each of its problems; a call of the paper's teacher gives ten variants."""
REPEATED_FRACTION = 0.115
"""Rows that repeat an earlier question: the paper has 11.0M distinct ones among 12.3M."""
NEARLY_REPEATED_FRACTION = 0.15
"""Of those, the rows whose question differs in case, space or punctuation."""
WRONG_FRACTION = 0.265
"""Programs with a mistake; a few of these give the right number by chance."""
ASIDE_FRACTION = 0.33
"""Rows with an irrelevant fact, as in GSM-IC; all rows of a template with few variants."""
OPENER_FRACTION = 0.25
NAMED_FRACTION = 0.7
"""GSM8K programs that assign the numbers to variables first."""
COMMENTED_FRACTION = 0.15
WHOLE_DIVISION_FRACTION = 0.2
"""Programs that divide without a rest with `//`; the others do it with `/` and give a float."""
SINGLE_QUOTES_FRACTION = 0.05
ESCAPED_DOLLAR_FRACTION = 0.05
FLOAT_FRACTION = 0.15
"""Signatures that return `float` rather than `int`."""

_FEW_VARIANTS = 10_000
"""Variants of a template below which its about 900 rows would often be equal."""
_MISTAKES = 5
"""Wrong versions of a GSM8K program."""
_MISTAKES_OF_VARIANTS = 2
"""Wrong versions of a problem of the writer."""
_BLOCK = 1024
"""Rows among which the variants of the writer's problems lie."""
_DIFFICULTIES = (
    Difficulty(min_operations=1, max_operations=3, max_distractors=0),
    Difficulty(min_operations=2, max_operations=4, max_distractors=1),
    Difficulty(
        min_operations=2, max_operations=5, max_distractors=2, max_given=200, max_number=5000
    ),
    Difficulty(min_operations=3, max_operations=7, max_distractors=1, max_number=9999),
    Difficulty(min_operations=4, max_operations=10, max_distractors=0),
    Difficulty(min_operations=2, max_operations=5, max_distractors=1, decimals=True),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A row in TinyGSM's form, and what is known of it."""

    question: str
    code: str
    answer: float
    """Of the question."""
    value: float
    """That the program computes, where it is not damaged."""
    form: str
    """How the row is damaged; empty for most."""
    is_repeated: bool

    @property
    def is_wrong(self) -> bool:
        """Whether the program gives another number than the question asks for."""
        return abs(self.value - self.answer) > 1e-6


class Writer:
    """Writes rows; holds the templates of GSM8K's questions."""

    def __init__(self, gsm8k_train: Path, *, seed: int) -> None:
        """Make the templates, in about ten seconds.

        Args:
            gsm8k_train: GSM8K's `train.jsonl`.
            seed: Other rows for another seed.

        Raises:
            OSError: the file cannot be read.
        """
        self._seed = seed
        self._templates = list(_gsm8k_templates(gsm8k_train))
        self._mistakes: dict[int, list[Body]] = {}
        self._problem = lru_cache(256)(self._written_template)

    def row(self, index: int) -> Row:
        """The row of this number."""
        draw = Draw(self._seed << 40 | index)
        story, source = draw, index
        is_repeated = index > _BLOCK and self._hash(index, 1) < REPEATED_FRACTION
        if is_repeated:
            source = self._earlier(draw, index)
            story = Draw(self._seed << 40 | source)
        key, template = self._template(source)
        question, texts, found, answer = _asked(template, story)
        body, value = template.body, answer
        if draw.random() < WRONG_FRACTION:
            body, value = self._mistaken(key, template, found, answer, draw)
        is_whole = body is template.body and template.divides_wholly
        code = _code(question, body, texts, draw, value, can_divide_wholly=is_whole)
        if is_repeated and draw.random() < NEARLY_REPEATED_FRACTION:
            question = _nearly(question, draw)
        form = damage.form_of(draw)
        if form:
            question, code = damage.damaged(form, question, code, draw)
        return Row(question, code, answer, value, form, is_repeated)

    def _earlier(self, draw: Draw, index: int) -> int:
        """An earlier row that is no repeat; a GSM8K one, since the writer's would take long."""
        source = draw.below(index)
        while self._hash(source, 1) < REPEATED_FRACTION or self._is_written(source):
            source -= 1
            if source < 0:
                source = index - 1
        return source

    def _hash(self, index: int, salt: int) -> float:
        """A number in [0, 1) that looks drawn, without a generator of its own."""
        x = (index * 0x9E3779B97F4A7C15 + (self._seed * 31 + salt) * 0xD1342543DE82EF95) % 2**64
        x = ((x ^ (x >> 31)) * 0xBF58476D1CE4E5B9) % 2**64
        return (x ^ (x >> 29)) % 2**53 / 2**53

    def _is_written(self, index: int) -> bool:
        return self._hash(index, 2) < WRITTEN_FRACTION

    def _template(self, index: int) -> tuple[int, Template]:
        """The row's template with its number: negative for a problem of the writer."""
        place = self._hash(index, 3)
        if not self._is_written(index):
            key = int(place * len(self._templates))
            return key, self._templates[key]
        num_problems = int(_BLOCK * WRITTEN_FRACTION / VARIANTS)
        problem = index // _BLOCK * num_problems + int(place * num_problems)
        return -1 - problem, self._problem(problem)[0]

    def _written_template(self, problem: int) -> tuple[Template, list[Body]]:
        """A problem of the writer as a template; the next one if it states no number to draw."""
        for attempt in range(100):
            difficulty = _DIFFICULTIES[(problem + attempt) % len(_DIFFICULTIES)]
            written = write_problem(self._seed + attempt, problem, difficulty)
            if template := template_of(written.question, written.program, is_varied=False):
                return template, []
        raise AssertionError(f"no template in 100 problems from {problem}")

    def _mistaken(
        self,
        key: int,
        template: Template,
        found: Sequence[int | float],
        answer: float,
        draw: Draw,
    ) -> tuple[Body, float]:
        """A wrong version of the template's body, and what it computes."""
        bodies = self._mistakes.setdefault(key, []) if key >= 0 else self._problem(-1 - key)[1]
        if not bodies:
            own = Draw(self._seed << 40 | abs(key))
            most = _MISTAKES if key >= 0 else _MISTAKES_OF_VARIANTS
            for version in mistaken(template.lines, len(found), own, most):
                bodies.append(
                    Body.from_lines(version, template.names, compiled(version, len(found)))
                )
        start = draw.below(len(bodies)) if bodies else 0
        for body in (*bodies[start:], *bodies[:start]):
            value = _computed(body, found)
            if value is not None and value > 0 and value != answer:
                return body, value
        return template.body, answer


def _computed(body: Body, values: Sequence[int | float]) -> float | None:
    try:
        value = body.compute(values)
    except (ArithmeticError, NameError):
        return None
    return value if isinstance(value, (int, float)) and abs(value) < 1e9 else None


def _gsm8k_templates(path: Path) -> list[Template]:
    templates: list[Template] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        try:
            program = gsm8k.program_of(row["question"], row["answer"])
        except gsm8k.NoProgramError:
            continue
        if template := template_of(row["question"], program, is_varied=True):
            templates.append(template)
    return templates


def _asked(template: Template, draw: Draw) -> tuple[str, list[str], Sequence[int | float], float]:
    """The question with its numbers, names and words drawn; the texts; the numbers; the answer."""
    found, answer = template.draw_numbers(draw)
    texts = template.draw_texts(draw, found)
    is_alike = template.num_variants < _FEW_VARIANTS
    aside = _aside(draw) if is_alike or draw.random() < ASIDE_FRACTION else ""
    question = template.question.format(*texts, aside=aside)
    if template.takes_opener and draw.random() < OPENER_FRACTION:
        if question.split(" ", 1)[0] in words.LOWERED:
            question = question[0].lower() + question[1:]
        question = draw.pick(words.OPENERS).format(place=draw.pick(words.PLACES)) + question
    return question, texts, found, answer


_PEOPLE = tuple(sorted(words.FEMALE | words.MALE))
_SIGHTED = tuple(noun.many for group in words.THINGS[:10] for noun in group)


def _aside(draw: Draw) -> str:
    """An irrelevant fact."""
    when = draw.pick(words.WHEN)
    text = draw.pick(words.FACTS).format(
        name=draw.pick(_PEOPLE),
        number=draw.between(2, 60),
        place=draw.pick(words.SIGHTS),
        things=draw.pick(_SIGHTED),
        adjective=draw.pick(words.ADJECTIVES),
        relative=draw.pick(words.RELATIVES),
        season=draw.pick(words.SEASONS),
        when=when,
        when_capital=when.capitalize(),
    )
    return text + " "


def _code(
    question: str,
    body: Body,
    texts: list[str],
    draw: Draw,
    value: float,
    *,
    can_divide_wholly: bool,
) -> str:
    """The whole function, in one of the teacher's styles."""
    styles = draw.random
    lines: Sequence[str] = body.inline
    if body.named and styles() < NAMED_FRACTION:
        lines = body.named
    elif styles() < COMMENTED_FRACTION:
        lines = [part for pair in zip(body.comments, body.inline, strict=True) for part in pair]
    style = styles()
    ending = (
        f"    result = {body.last}\n    return result" if style < 0.8 else f"    return {body.last}"
    )
    separator = "\n\n" if styles() < 0.35 else "\n"
    text = "    " + "\n    ".join(lines) + separator + ending
    text = text.format(*texts)
    if can_divide_wholly and styles() < WHOLE_DIVISION_FRACTION:
        text = text.replace(" / ", " // ")
    mark = "'''" if styles() < SINGLE_QUOTES_FRACTION else '"""'
    if "$" in question and styles() < ESCAPED_DOLLAR_FRACTION:
        question = question.replace("$", "\\$")
    kind = "float" if value != int(value) or styles() < FLOAT_FRACTION else "int"
    end = "\n" if styles() < 0.6 else ""
    return (
        f"def simple_math_problem() -> {kind}:\n    {mark}\n    {question}\n    {mark}\n{text}{end}"
    )


def _nearly(question: str, draw: Draw) -> str:
    """The question with another case, space or punctuation."""
    match draw.below(5):
        case 0:
            return question.lower()
        case 1:
            return question.replace(". ", ".  ")
        case 2:
            return question.replace(",", "")
        case 3:
            return question.rstrip("?") + " ?"
        case _:
            return question.replace("?", ".")
