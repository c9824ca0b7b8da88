"""One self-contained HTML page: sections, tables and interactive charts, readable on a phone and without a network.

Knows HTML and nothing of retrains. Everything goes through `escaped` unless it is `Html` already, which only this
module and the pages that use it make. Plotly's script is embedded once, charts as JSON, and the page forbids itself to
load anything (Content-Security-Policy). The trap: JSON inside a script element ends at the first `</script`, so `<`
is written as an escape.
"""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

LINKED = ("http://", "https://", "file://")  # schemes that may stand in a link
# Nothing is loaded from anywhere. `unsafe-eval`: plotly compiles the shaders' bindings of its larger charts.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
DRAW = """
for (const place of document.querySelectorAll(".chart")) {
  const chart = JSON.parse(document.getElementById(place.id + "-json").textContent);
  Plotly.newPlot(place, chart.data, chart.layout, {responsive: true, displayModeBar: false, scrollZoom: false});
}
"""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


class Page:
    """A page that grows section by section."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        """Begin with a heading.

        Args:
            title: of the page and of the browser's tab.
            subtitle: a line below it.
        """
        self.title = title
        self._head = [f"<h1>{escaped(title)}</h1>", paragraph(subtitle, quiet=True) if subtitle else ""]
        self._sections: list[tuple[str, str]] = []
        self._charts: list[str] = []

    def lead(self, *parts: Html) -> None:
        """Add what stands above all sections."""
        self._head += parts

    def section(self, title: str, *parts: Html) -> None:
        """Add a section; it appears among the links at the top."""
        self._sections.append((title, "\n".join(parts)))

    def chart(self, figure: "Figure", caption: str, note: str = "") -> Html:
        """Take a chart into the page; return where it is to stand.

        Args:
            figure: the chart.
            caption: what it shows.
            note: how to read it.
        """
        number = len(self._charts) + 1
        self._charts.append(str(figure.to_json()).replace("<", "\\u003c"))
        height = int(figure.layout.height or 400)
        return Html(
            f"<figure><figcaption>{escaped(caption)} <span>{escaped(note)}</span></figcaption>"
            f'<div class="chart" id="chart-{number}" style="height:{height}px"></div></figure>'
        )

    def html(self) -> str:
        """Return the whole page."""
        links = "".join(f'<a href="#part-{n}">{escaped(title)}</a>' for n, (title, _) in enumerate(self._sections, 1))
        parts = [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>{escaped(self.title)}</title>",
            f"<style>{_style()}</style></head><body><main>",
            *self._head,
            f"<nav>{links}</nav>" if links else "",
            *(
                f'<section><h2 id="part-{n}">{escaped(title)}</h2>{body}</section>'
                for n, (title, body) in enumerate(self._sections, 1)
            ),
            "</main>",
            *(
                f'<script type="application/json" id="chart-{n}-json">{chart}</script>'
                for n, chart in enumerate(self._charts, 1)
            ),
            f"<script>{_plotly_script()}</script><script>{DRAW}</script>" if self._charts else "",
            "</body></html>",
        ]
        return "\n".join(part for part in parts if part)


def escaped(text: object) -> str:
    """Return text as HTML: as it is where it is `Html`, escaped otherwise."""
    return text if isinstance(text, Html) else html.escape(str(text))


def paragraph(text: object, *, quiet: bool = False) -> Html:
    """Return a paragraph."""
    kind = ' class="quiet"' if quiet else ""
    return Html(f"<p{kind}>{escaped(text)}</p>") if text else Html("")


def heading(text: object) -> Html:
    """Return a heading within a section."""
    return Html(f"<h3>{escaped(text)}</h3>")


def link(text: str, address: str) -> Html:
    """Return a link; the bare text where the address is empty or of a scheme that a report has no use for."""
    if not address.startswith(LINKED):
        return Html(escaped(text if not address else f"{text}: {address}"))
    return Html(f'<a href="{html.escape(address)}" rel="noreferrer">{escaped(text)}</a>')


def number(text: object, note: object = "") -> Html:
    """Return a number with a smaller note below it, such as its interval."""
    return Html(f"{escaped(text)}<small>{escaped(note)}</small>" if note else escaped(text))


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, text_columns: int = 1, own: int = -1) -> Html:
    """Return a table that scrolls within its own box.

    Args:
        head: names of the columns.
        rows: cells.
        text_columns: leading columns that are words; the others are numbers, set to the right.
        own: index of a row to be set apart; none by default.
    """
    kinds = ["" if column < text_columns else ' class="number"' for column in range(len(head))]
    cells = "".join(f"<th{kind}>{escaped(name)}</th>" for kind, name in zip(kinds, head, strict=True))
    lines = [f"<tr>{cells}</tr>"]
    for place, row in enumerate(rows):
        cells = "".join(f"<td{kind}>{escaped(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        kind = ' class="own"' if place == own else ""
        lines.append(f"<tr{kind}>{cells}</tr>")
    return Html(f'<div class="scroll"><table>{"".join(lines)}</table></div>')


def facts(pairs: Mapping[str, object]) -> Html:
    """Return names and what they stand for; empty ones are left out."""
    lines = [f"<dt>{escaped(name)}</dt><dd>{escaped(what)}</dd>" for name, what in pairs.items() if str(what)]
    return Html(f"<dl>{''.join(lines)}</dl>")


def tiles(found: Iterable[tuple[str, str, str]]) -> Html:
    """Return name, value and note of a few numbers, large."""
    parts = [
        f'<div class="tile"><div class="name">{escaped(name)}</div><div class="value">{escaped(value)}</div>'
        f'<div class="note">{escaped(note)}</div></div>'
        for name, value, note in found
    ]
    return Html(f'<div class="tiles">{"".join(parts)}</div>')


def side_by_side(*parts: Html) -> Html:
    """Return charts beside one another where the page is wide enough."""
    return Html(f'<div class="pair">{"".join(parts)}</div>')


def folded(summary: str, *parts: Html) -> Html:
    """Return parts that open on demand."""
    return Html(f"<details><summary>{escaped(summary)}</summary>{''.join(parts)}</details>")


def preformatted(value: object) -> Html:
    """Return a value as indented JSON."""
    return Html(f"<pre>{html.escape(json.dumps(value, indent=2, default=str))}</pre>")


@lru_cache(maxsize=1)
def _style() -> str:
    return Path(__file__).with_name("html_page.css").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _plotly_script() -> str:
    from plotly.offline import get_plotlyjs  # here: five megabytes that only a report needs

    return str(get_plotlyjs())
