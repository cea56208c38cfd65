"""Finds the numbers of a question that its program uses, and other values for them."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

WORDS: tuple[str, ...] = tuple(
    "zero one two three four five six seven eight nine ten eleven twelve".split()
)

_NUMBER = re.compile(
    r"(?<![\w.,/:#-])(?P<digits>\d+(?:,\d{3})*(?:\.\d+)?)(?![\w/:]|\.\d|,\d|st\b|nd\b|rd\b|th\b)"
    r"|\b(?P<word>three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b"
    r"(?![- ](?:and|times|of a|(?:quarter|third|fifth|half|halve|sixth|eighth|tenth)s?\b))"
)
_NOT_A_COUNT = re.compile(r"(?:Grade|Room|Level|Chapter|Route|Highway|No\.|number|grade)\s$")
_ARTICLE = re.compile(r"\b([Aa]n?) \$?$")
_CLOCK = re.compile(r"\s?(?:[ap]\.?m\b|o'clock)", re.IGNORECASE)
_STATED_OTHERWISE = {
    2: "twice two double pair couple half both second",
    3: "thrice third triple thirds triples tripled",
    4: "quarter fourth quadruple quarters fourths month months weeks",
    5: "fifth fifths nickel nickels",
    6: "sixth",
    7: "seventh week weeks weekly daily",
    8: "eighth",
    10: "tenth dime dimes",
    12: "dozen dozens year years month months yearly annual foot feet inches",
    24: "day days daily",
    25: "quarter quarters",
    30: "month months monthly",
    50: "half",
    52: "week weeks weekly year years",
    60: "hour hours minute minutes seconds hourly",
    100: "percent percentage cents meters",
    365: "year years",
    1000: "kilogram kilograms grams kilometer kilometers meters thousand",
}
"""Words that stand for a number: the program's 60 may come from `hour`, not from a 60 in the
text."""
_MOST_OPTIONS = 48
_YEARS = range(1900, 2101)


@dataclass(frozen=True, slots=True)
class Number:
    """A value that the question states and the program uses, with where the question has it."""

    value: int | float
    spans: tuple[tuple[int, int, bool], ...]
    """Begin, end, and whether it is written as a word."""
    unit: str
    """The word after it."""
    num_decimals: int
    options: tuple[int | float, ...]
    """Other values of the same kind and size."""

    def texts(self, value: int | float) -> tuple[str, str, str, str]:
        """The forms of a value that a template can use, see `texts_of`."""
        return texts_of(value, self.num_decimals)


@cache
def texts_of(value: int | float, num_decimals: int) -> tuple[str, str, str, str]:
    """`12,000`; `12,000`, or a word for a small number; the same with a capital; `12000`."""
    plain = f"{value:.{num_decimals}f}" if num_decimals else f"{value}"
    digits = f"{value:,.{num_decimals}f}" if value >= 10_000 else plain
    word = WORDS[value] if isinstance(value, int) and 3 <= value <= 12 else digits
    return digits, word, word.capitalize(), plain


def numbers_of(question: str, constants: Iterable[int | float]) -> list[Number]:
    """The numbers that can be drawn anew, in the order of the question."""
    used = set(constants)
    words = set(re.findall(r"[a-z]+", question.lower()))
    spans: dict[float, list[tuple[int, int, bool]]] = {}
    fixed: set[float] = set()
    for match in _NUMBER.finditer(question):
        value = _value(match)
        spans.setdefault(value, []).append((*match.span(), match["word"] is not None))
        if _is_fixed(question, match, value):
            fixed.add(value)
    fixed |= {
        value for value in spans if words & set(_STATED_OTHERWISE.get(int(value), "").split())
    }
    fixed |= {value for value in spans if value not in used or value in (0, 1)}
    return [
        _number(question, value, found, sorted(fixed))
        for value, found in spans.items()
        if value not in fixed
    ]


def _number(
    question: str, value: float, spans: list[tuple[int, int, bool]], fixed: list[float]
) -> Number:
    unit = re.match(r"[- ]([a-z]+)", question[spans[0][1] :])
    articles = [match[1] for begin, _, _ in spans if (match := _ARTICLE.search(question[:begin]))]
    low = max((each for each in fixed if each < value), default=0)
    high = min((each for each in fixed if each > value), default=10.0**9)
    return Number(
        value=_plain(value),
        spans=tuple(spans),
        unit=unit[1] if unit else "",
        num_decimals=_num_decimals(question, spans),
        options=tuple(
            each
            for each in _options(question, value, spans)
            if low < each < high and not (articles and _takes_an(each) != _takes_an(value))
        ),
    )


def constants_of(expressions: Iterable[str]) -> list[int | float]:
    """The numbers in Python expressions."""
    return [
        node.value
        for expression in expressions
        for node in ast.walk(ast.parse(expression, mode="eval"))
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float))
    ]


def _value(match: re.Match[str]) -> float:
    if match["word"]:
        return float(WORDS.index(match["word"]))
    return float(match["digits"].replace(",", ""))


def _is_fixed(question: str, match: re.Match[str], value: float) -> bool:
    before, after = question[: match.start()], question[match.end() :]
    return bool(
        _NOT_A_COUNT.search(before)
        or _CLOCK.match(after)
        or (int(value) in _YEARS and not before.endswith("$"))
    )


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _takes_an(value: int | float) -> bool:
    """Whether the number in words begins with a vowel: eight, eleven, eighteen, eighty."""
    return str(value)[0] == "8" or int(value) in (11, 18)


def _num_decimals(question: str, spans: list[tuple[int, int, bool]]) -> int:
    begin, end, _ = spans[0]
    return len(question[begin:end].partition(".")[2])


def _options(
    question: str, value: float, spans: list[tuple[int, int, bool]]
) -> Iterator[int | float]:
    """Values of the same kind and size: a round number stays round, a percentage below 100."""
    low, high, step = _range(question, value, spans)
    count = int((high - low) / step + 1e-9) + 1
    decimals = _num_decimals(question, spans)
    for number in range(0, count, max(1, -(-count // _MOST_OPTIONS))):
        each = low + step * number
        each = round(each, decimals) if decimals else _plain(each)
        if each != value and (decimals != 1 or each % 1):
            yield each


def _range(
    question: str, value: float, spans: list[tuple[int, int, bool]]
) -> tuple[float, float, float]:
    """Least and greatest value, and the step between two."""
    _, end, _ = spans[0]
    after = question[end : end + 12].lower()
    decimals = _num_decimals(question, spans)
    if decimals:
        step = 0.25 if value * 4 == int(value * 4) and decimals > 1 else 10.0**-decimals
        return max(step, _floor(value * 0.4, step)), _floor(value * 2.5, step), step
    if re.match(r"%| ?percent", after):
        step = 5 if value % 5 == 0 else 1
        return step, (95 if value < 100 else value * 2), step
    step = _step(value)
    low, high = max(2.0, _floor(value * 0.4, step), step), _floor(value * 2.5, step) + step
    if any(is_word for _, _, is_word in spans):
        low, high = 3, 12
    if re.match(r"[ -]days?\b", after) and value <= 7 and "week" in question:
        high = 7
    elif re.match(r"[ -]hours?\b", after) and value <= 12:
        high = min(high, 12)
    elif re.match(r"[ -]years?\b", after):
        high = min(high, max(value, 60))
    return low, high, step


def _step(value: float) -> float:
    for step in (1000, 500, 100, 50, 10, 5):
        if value >= 4 * step and value % step == 0:
            return step
    return 1


def _floor(value: float, step: float) -> float:
    return int(value / step + 1e-9) * step
