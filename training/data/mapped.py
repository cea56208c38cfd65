"""Reads rows of tables whose columns a config names: questions, completions and their labels.

    for row in answers(source, raw, where): ...    # {"question", "completion", "reward", "gold"}

Every source with `columns.completion` is read by this. A row with a list of completions, as
rollouts of one question are published, becomes a row for each of them. What a config has to be
corrected for is an error that names the row; a row that is damaged is a `Damaged`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, cast

from training.config import SourceConfig
from training.data.chunks import Damaged, Piece, Row, kind
from training.errors import DataError
from training.execution.answers import extract
from training.execution.numbers import parse_number, read_gold

Place = Callable[[], str]
"""Where a row stands, as a message names it."""


class Fault(ValueError):
    """A row that cannot be used; the message says why."""


def answers(source: SourceConfig, raw: Row, place: Place) -> Iterator[Row | Damaged]:
    """A row for each completion of a row of the source's file, by what its columns hold.

    Raises:
        DataError: a reward is not between 0 and 1.
    """
    try:
        question = question_of(source, raw)
        texts = _texts(source, raw)
        rewards = _of_each(source, raw, "reward", len(texts))
        golds = _of_each(source, raw, "gold", len(texts))
    except Fault as fault:
        yield Damaged(reason="row is damaged", message=f"{place()}: {fault}")
        return
    for text, reward, gold in zip(texts, rewards, golds, strict=True):
        if reward is not None:
            reward = _checked(reward, source, place)
        yield {"question": question, "completion": text, "reward": reward, "gold": gold}


def question_of(source: SourceConfig, raw: Row) -> str:
    """The question of a row, without white space around it.

    Raises:
        Fault: the row has none.
    """
    value = _cell(source, raw, "question")
    if isinstance(value, list):
        value = _of_user(cast("list[object]", value))
    return _text(value, f"columns.question = {source.columns.question!r}").strip()


def gold_of(gold: object) -> float | None:
    """The number that a gold answer is or states; None: it is none, such as a formula."""
    if isinstance(gold, str):
        for how in ("hashes", "boxed"):
            if (number := extract(gold, how)) is not None:
                return number
        return parse_number(gold)
    try:
        return read_gold(gold)
    except ValueError:
        return None


def is_body(text: str) -> bool:
    """Whether code is a function's body, as a generator writes it after the prompt: indented."""
    return text.lstrip("\n")[:1] in (" ", "\t")


def completions_of(source: SourceConfig, piece: Piece) -> int:
    """The number of completions of a piece's first row: in lists, rows are larger than others."""
    first = next(piece.rows(), None)
    try:
        return 1 if first is None or isinstance(first, Damaged) else len(_texts(source, first)) or 1
    except Fault:
        return 1


def parquet_columns(source: SourceConfig) -> tuple[str, ...]:
    """The columns of a Parquet file that hold what is read."""
    named = cast("dict[str, str]", source.columns.model_dump()).values()
    return tuple(sorted({name.partition(".")[0] for name in named if name}))


def _cell(source: SourceConfig, raw: Row, role: str) -> Any:
    name: str = getattr(source.columns, role)
    value: Any = raw
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise Fault(
                f"there is no {name}, which columns.{role} names: the columns are "
                f"{', '.join(map(str, raw))}"
            )
        value = cast("Mapping[str, Any]", value)[key]
    return value


def _texts(source: SourceConfig, raw: Row) -> list[str]:
    value = _cell(source, raw, "completion")
    what = f"columns.completion = {source.columns.completion!r}"
    if not isinstance(value, list):
        return [_text(value, what)]
    texts = [
        _text(entry, f"entry {number} of {what}")
        for number, entry in enumerate(cast("list[object]", value))
    ]
    return texts if source.kind == "rollouts" else ["\n".join(texts)]


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise Fault(f"{what} is {_kind(value)}: a text is needed")
    return value


def _of_user(messages: Sequence[object]) -> object:
    for message in reversed(messages):
        if isinstance(message, Mapping):
            content = cast("Mapping[str, object]", message)
            if content.get("role") == "user":
                return content.get("content")
    raise Fault("the list of messages holds none with role = 'user', whose content is a question")


def _of_each(source: SourceConfig, raw: Row, role: str, number: int) -> Sequence[Any]:
    """The label of each completion; a gold answer may stand once for all of them."""
    if not getattr(source.columns, role):
        return [None] * number
    value = _cell(source, raw, role)
    is_listed = isinstance(_cell(source, raw, "completion"), list) and source.kind == "rollouts"
    if not is_listed or (role == "gold" and not isinstance(value, list)):
        values: Sequence[Any] = [value] * number
    elif not isinstance(value, list):
        raise Fault(f"{role} is {_kind(value)} beside a list of {number} completions")
    elif len(values := cast("list[Any]", value)) != number:
        raise Fault(f"there are {number} completions and {len(values)} values of {role}")
    if any(value is None for value in values):
        raise Fault(f"there is no {role}: columns.{role} = {getattr(source.columns, role)!r}")
    return values


def _checked(reward: object, source: SourceConfig, place: Place) -> float:
    number = float(reward) if isinstance(reward, (int, float, Decimal)) else math.nan
    if not 0 <= number <= 1:
        raise DataError(
            f"{place()}: columns.reward = {source.columns.reward!r} is {reward!r:.80}: a reward is "
            "a number from 0 to 1, or true or false. Scale the rewards, or name columns.gold in "
            "place of columns.reward, and the answers are compared with it"
        )
    return number


def _kind(value: object) -> str:
    in_json = value is None or isinstance(value, (bool, int, float, str, list, dict))
    return kind(value) if in_json else f"of type {type(value).__name__}"
