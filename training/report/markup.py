"""Small pieces of HTML that every section is made of.

`escape` is the one gate for text from models, data and configs.
"""

import html
import re
from collections.abc import Iterable, Sequence

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def escape(text: str) -> str:
    """Text made harmless for element content and attributes; control characters shown as `�`."""
    return html.escape(_CONTROL.sub("\ufffd", text.replace("\r\n", "\n")), quote=True)


def section(anchor: str, title: str, content: str, intro: str = "") -> str:
    """A section with its heading; nothing at all when there is no content."""
    if not content:
        return ""
    lead = f'<p class="note">{intro}</p>' if intro else ""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{lead}{content}</section>\n'


def grid(cards: Iterable[str]) -> str:
    """Cards side by side where there is room; nothing when there are none."""
    content = "".join(cards)
    return f'<div class="grid">{content}</div>' if content else ""


def card(content: str) -> str:
    """A framed box."""
    return f'<div class="card">{content}</div>'


def figure(title: str, drawing: str | None, caption: str = "") -> str:
    """A framed drawing; nothing when there is none."""
    if drawing is None:
        return ""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="card"><h3>{escape(title)}</h3>{drawing}{below}</figure>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are markup already; each row's first cell is its heading."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td>{cell}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def terms(rows: Iterable[tuple[str, str]], *, short: bool = False) -> str:
    """A list of terms with their descriptions, from plain text.

    `short` ones stay side by side on narrow screens.
    """
    kind = ' class="short"' if short else ""
    items = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in rows)
    return f"<dl{kind}>{items}</dl>" if items else ""


def bar(parts: Iterable[tuple[str, float]], total: float) -> str:
    """A horizontal bar of (CSS variable, amount) parts against a total."""
    pieces = "".join(
        f'<i style="width:{100 * amount / total:.3f}%;background:var({colour})"></i>'
        for colour, amount in parts
        if amount and total
    )
    return f'<div class="bar">{pieces}</div>'


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """What the colours of bars mean: (CSS variable, word)."""
    items = "".join(
        f'<span><i style="background:var({colour})"></i>{escape(word)}</span>'
        for colour, word in entries
    )
    return f'<div class="key">{items}</div>'
