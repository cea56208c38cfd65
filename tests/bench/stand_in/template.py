"""Turns a question and its program into a template whose numbers, names and words can be drawn."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

from tests.bench.stand_in import words
from tests.bench.stand_in.body import (
    Body,
    Compute,
    Line,
    Names,
    checked,
    divides_wholly,
    lines_of,
    with_placeholders,
)
from tests.bench.stand_in.numbers import Number, constants_of, numbers_of
from training.data.problems.words import Draw, Noun, identifier

_WEEKDAYS = frozenset(noun.one for noun in words.THINGS[-1])
_VOWELS = tuple("aeiouAEIOU")
_MAX_PHRASES = 8
_SENTENCE_END = re.compile(r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)[.?!] (?=[A-Z$\d])")
OPENED = words.FEMALE | words.MALE | words.LOWERED

Texts = tuple[str, ...]
"""One choice in all its forms."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A name, a thing or a phrase, and what it can be exchanged for."""

    options: tuple[Texts, ...]
    is_unique: bool
    """Whether it must not come out as another word of the question."""


@dataclass(frozen=True, slots=True)
class Template:
    """A question as a format string, its program, and the choices that fill both."""

    question: str
    """The last sentence follows `{aside}`, the place of an irrelevant fact."""
    numbers: tuple[Number, ...]
    options: tuple[tuple[int | float, ...], ...]
    """Values of each number to draw from."""
    choices: tuple[Choice, ...]
    taken: frozenset[str]
    """Words that no unique choice may come out as."""
    lines: tuple[Line, ...]
    names: Names
    body: Body
    check: Compute
    """The answer for some numbers; None if a value on the way is not sensible."""
    takes_opener: bool
    """Whether the question can begin with a place."""
    divides_wholly: bool
    """Whether `//` can stand for `/`."""

    @property
    def num_variants(self) -> int:
        """Ways to fill the question, most of which pass the check."""
        return prod(map(len, self.options)) * prod(len(choice.options) for choice in self.choices)

    def draw_numbers(self, draw: Draw) -> tuple[list[int | float], int | float]:
        """Numbers that give a sensible answer, and the answer."""
        for _ in range(3):
            found = [draw.pick(options) for options in self.options]
            answer = self.check(found)
            if answer is not None:
                return found, answer
        found = [number.value for number in self.numbers]
        answer = self.check(found)
        assert answer is not None  # the original numbers pass
        for at, options in enumerate(self.options):
            for _ in range(4):
                kept, found[at] = found[at], draw.pick(options)
                new = self.check(found)
                if new is not None:
                    answer = new
                    break
                found[at] = kept
        return found, answer

    def draw_texts(self, draw: Draw, found: Sequence[int | float]) -> list[str]:
        """The arguments of the format strings, except the aside."""
        texts: list[str] = []
        for number, value in zip(self.numbers, found, strict=True):
            texts += number.texts(value)
        taken = set(self.taken)
        for choice in self.choices:
            options = choice.options
            at = int(draw.random() * len(options))
            for _ in options if choice.is_unique else ():
                if options[at][0] not in taken:
                    break
                at = (at + 1) % len(options)
            taken.add(options[at][0])
            texts += options[at]
        return texts


def template_of(question: str, program: str, *, is_varied: bool) -> Template | None:
    """The template of a question and the body of its program; None if nothing can be drawn.

    Args:
        question: Its text.
        program: The body of its program.
        is_varied: Whether to exchange things and phrases as well, and to look for the values of
            each number that fit the others; takes about a millisecond.
    """
    question = re.sub(r"\s+", " ", question).strip()
    lines = lines_of(program)
    numbers = [
        number
        for number in numbers_of(question, constants_of(line.expression for line in lines))
        if number.options
    ]
    if not numbers:
        return None
    lines = with_placeholders(lines, numbers)
    check = checked(lines, numbers)
    original = [number.value for number in numbers]
    if check is None or check(original) is None:
        return None
    spans = _Spans(question)
    for number in numbers:
        spans.number(number)
    choices = _choices(question, program, spans) if is_varied else _name_choices(question, spans)
    names = Names(question, numbers if is_varied else (), lines, spans.identifiers)
    return Template(
        question=_formatted(question, spans),
        numbers=tuple(numbers),
        options=_fitting(numbers, check) if is_varied else tuple(n.options for n in numbers),
        choices=tuple(choices),
        taken=frozenset(re.findall(r"[A-Z][a-z]+", question)),
        lines=lines,
        names=names,
        body=Body.from_lines(lines, names, check),
        check=check,
        takes_opener=question.split()[0] in OPENED,
        divides_wholly=divides_wholly(lines, numbers),
    )


def _fitting(numbers: Sequence[Number], check: Compute) -> tuple[tuple[int | float, ...], ...]:
    """The options of each number that fit the original values of the others, or all."""
    values = [number.value for number in numbers]

    def fitting(at: int) -> tuple[int | float, ...]:
        options = numbers[at].options
        fit = [o for o in options if check([*values[:at], o, *values[at + 1 :]]) is not None]
        return tuple(fit) or options

    return tuple(fitting(at) for at in range(len(numbers)))


class _Spans:
    """The parts of the question that are replaced, each by one argument of the format string."""

    def __init__(self, question: str) -> None:
        self.question = question
        self.found: dict[int, tuple[int, int]] = {}
        """Begin: end, number of the argument."""
        self.num_texts = 0
        self.identifiers: dict[str, int] = {}
        """Pieces of variable names and the arguments that replace them."""

    def number(self, number: Number) -> None:
        for begin, end, is_word in number.spans:
            self._take(begin, end, int(is_word))
        self.num_texts += 4

    def phrase(self, text: str) -> bool:
        """Replace every occurrence by the next argument; False if there is none."""
        found = self.free(
            rf"(?<!\w){re.escape(text)}(?!\w)" if text[-1] != "$" else re.escape(text)
        )
        for match in found:
            self._take(*match.span(), 0)
        self.num_texts += bool(found)
        return bool(found)

    def name(self, text: str, places: Sequence[int]) -> None:
        for begin in places:
            self._take(begin, begin + len(text), 0)
        self.identifiers[text.lower()] = self.num_texts + 1
        self.num_texts += 2

    def thing(self, noun: Noun) -> bool:
        """Replace both numbers of a noun, with an article before it; False if there is none."""
        forms = (
            (rf"\ban? {noun.one}\b", 2),
            (rf"\bAn? {noun.one}\b", 3),
            (rf"\b{noun.many}\b", 1),
            (rf"\b{noun.one}\b", 0),
            (rf"\b{noun.many.capitalize()}\b", 4),
        )
        is_found = False
        for pattern, form in forms:
            for match in self.free(pattern):
                self._take(*match.span(), form)
                is_found = True
        if is_found:
            self.identifiers[identifier(noun.many)] = self.num_texts + 6
            self.identifiers.setdefault(identifier(noun.one), self.num_texts + 5)
            self.num_texts += 7
        return is_found

    def free(self, pattern: str) -> list[re.Match[str]]:
        return [
            match
            for match in re.finditer(pattern, self.question)
            if not any(
                b < match.end() and match.start() < end for b, (end, _) in self.found.items()
            )
        ]

    def _take(self, begin: int, end: int, form: int) -> None:
        self.found[begin] = (end, self.num_texts + form)


def _choices(question: str, program: str, spans: _Spans) -> list[Choice]:
    """The names, things and phrases of the question that can be exchanged."""
    present = set(re.findall(r"[A-Za-z]+", question)) | set(re.findall(r"[a-z]+", program))
    choices = _name_choices(question, spans)
    for group in _groups(frozenset(present)):
        if group is words.THINGS[-1] and len(_WEEKDAYS & present) != 1:
            continue
        own = [noun for noun in group if noun.one in present or noun.many in present]
        options = tuple(
            _thing_texts(noun)
            for noun in group
            if noun in own[:1] or not {noun.one.split()[-1], noun.many.split()[-1]} & present
        )
        choices += [Choice(options, True) for noun in own if spans.thing(noun)]
    for phrases in words.PHRASES:
        if len(choices) < _MAX_PHRASES and phrases[0] in question and spans.phrase(phrases[0]):
            choices.append(Choice(tuple((each,) for each in phrases), False))
    for ending in words.ENDINGS:
        for match in spans.free(rf"(?<= ){ending}(?=[?.])"):
            spans.found[match.start()] = (match.end(), spans.num_texts)
            spans.num_texts += 1
            choices.append(Choice(tuple((each,) for each in words.ENDINGS), False))
    return choices


def _name_choices(question: str, spans: _Spans) -> list[Choice]:
    choices: list[Choice] = []
    places: dict[str, list[int]] = {}
    for match in re.finditer(r"\b[A-Z][a-z]+\b", question):
        places.setdefault(match[0], []).append(match.start())
    for name, begins in places.items():
        if names := _names_like(name, question):
            spans.name(name, begins)
            choices.append(Choice(_name_texts(names), True))
    return choices


def _names_like(name: str, question: str) -> frozenset[str]:
    """Names that fit the pronouns of the one that they replace; empty if it is no name."""
    if name in words.EITHER:
        is_male = bool(re.search(r"\b(?:he|his|him)\b", question, re.IGNORECASE))
        is_female = bool(re.search(r"\b(?:she|her)\b", question, re.IGNORECASE))
        if is_male == is_female:
            return frozenset()
        return words.MALE if is_male else words.FEMALE
    return next((names for names in (words.FEMALE, words.MALE) if name in names), frozenset())


@cache
def _name_texts(names: frozenset[str]) -> tuple[Texts, ...]:
    return tuple((name, name.lower()) for name in sorted(names))


def _groups(present: frozenset[str]) -> list[tuple[Noun, ...]]:
    """The groups of things that the question has something of."""
    return [
        group
        for group in words.THINGS
        if any(noun.one in present or noun.many in present for noun in group)
    ]


def _thing_texts(noun: Noun) -> Texts:
    article = "an" if noun.one.startswith(_VOWELS) else "a"
    return (
        noun.one,
        noun.many,
        f"{article} {noun.one}",
        f"{article.capitalize()} {noun.one}",
        noun.many.capitalize(),
        identifier(noun.one),
        identifier(noun.many),
    )


def _formatted(question: str, spans: _Spans) -> str:
    """The question with its arguments' numbers in braces."""
    ends = [match.end() for match in _SENTENCE_END.finditer(question)]
    last = ends[-1] if ends else 0
    pieces: list[str] = []
    at = 0
    for begin, (end, argument) in sorted(spans.found.items()):
        pieces += [_piece(question, at, begin, last), f"{{{argument}}}"]
        at = end
    pieces.append(_piece(question, at, len(question), last))
    return "".join(pieces)


def _piece(question: str, begin: int, end: int, last: int) -> str:
    """A literal piece of the question, with the place of the irrelevant fact."""
    if begin < last <= end or begin == last == 0:
        return _literal(question[begin:last]) + "{aside}" + _literal(question[last:end])
    return _literal(question[begin:end])


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
