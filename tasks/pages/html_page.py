"""One self-contained HTML page: sections, tables and interactive charts, readable on a phone and without a network.

Knows HTML and nothing of retrains. The HTML is in `templates/` (Jinja2 with autoescape): text is escaped unless it is
`Markup`, which only the macros of `templates/parts.html.j2` make. Plotly's script is embedded once, each chart as JSON,
and the page's Content-Security-Policy forbids loading anything. Caution: JSON inside a script element ends at the first
`</script`, so it is written with `<` escaped.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

LINK_SCHEMES = ("http://", "https://", "file://")  # other addresses, such as javascript:, are shown as text
CHART_HEIGHT_PIXELS = 400  # where the figure names none
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Section(NamedTuple):
    """A section of a page: its title, and its parts in order."""

    title: str
    parts: tuple[Markup, ...]


class Page:
    """A page that grows section by section."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        """Begin with a heading.

        Args:
            title: of the page and of the browser's tab.
            subtitle: a line below it.
        """
        self.title = title
        self._lead: list[Markup] = [paragraph(subtitle, quiet=True)]
        self._sections: list[Section] = []
        self._charts: list[Markup] = []

    def lead(self, *parts: Markup) -> None:
        """Add parts above all sections."""
        self._lead += parts

    def section(self, title: str, *parts: Markup) -> None:
        """Add a section; the navigation at the top links to it."""
        self._sections.append(Section(title, parts))

    def chart(self, figure: "Figure", caption: str, note: str = "") -> Markup:
        """Embed a chart's numbers in the page; return the element that shows it.

        Args:
            figure: the chart.
            caption: what it shows.
            note: how to read it.
        """
        self._charts.append(htmlsafe_json_dumps(figure, dumps=lambda chart: str(chart.to_json())))
        height = int(figure.layout.height or CHART_HEIGHT_PIXELS)
        return _part("chart", len(self._charts), height, caption, note)

    def html(self) -> str:
        """Render the page."""
        return TEMPLATES.get_template("page.html.j2").render(
            title=self.title,
            lead=self._lead,
            sections=self._sections,
            charts=self._charts,
            plotly=_plotly_script() if self._charts else "",
        )


def paragraph(text: object, *, quiet: bool = False) -> Markup:
    """Return a paragraph; nothing for an empty text."""
    return _part("paragraph", text, quiet) if text else Markup()


def heading(text: object) -> Markup:
    """Return a heading within a section."""
    return _part("heading", text)


def link(text: str, address: str) -> Markup:
    """Return a link; plain text where the address is empty or its scheme is not one of `LINK_SCHEMES`."""
    if address.startswith(LINK_SCHEMES):
        return _part("link", text, address)
    return _part("value_with_note", f"{text}: {address}" if address else text, "")


def value_with_note(value: object, note: object = "") -> Markup:
    """Return a value with a smaller note below it, such as its confidence interval."""
    return _part("value_with_note", value, note)


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, text_columns: int = 1, own: int = -1) -> Markup:
    """Return a table that scrolls within its own box.

    Args:
        head: column names.
        rows: cells.
        text_columns: leading columns that hold text; the others hold numbers, aligned right.
        own: index of the row to emphasise; none by default.
    """
    return _part("table", head, list(rows), text_columns, own)


def facts(pairs: Mapping[str, object]) -> Markup:
    """Return a list of names and values; empty values are left out."""
    return _part("facts", [(name, value) for name, value in pairs.items() if str(value)])


def tiles(found: Iterable[tuple[str, str, str]]) -> Markup:
    """Return the name, value and note of a few headline numbers."""
    return _part("tiles", list(found))


def side_by_side(*parts: Markup) -> Markup:
    """Return charts next to one another where the page is wide enough."""
    return _part("side_by_side", parts)


def folded(summary: str, *parts: Markup) -> Markup:
    """Return parts that open on demand."""
    return _part("folded", summary, parts)


def preformatted(value: object) -> Markup:
    """Return a value as indented JSON."""
    return _part("preformatted", json.dumps(value, indent=2, default=str))


def decision_banner(kind: str, headline: str, reasons: Sequence[str], note: str) -> Markup:
    """Return the decision with its reasons.

    Args:
        kind: promote, hold or reject: the colour; empty for none.
        headline: the decision in a sentence.
        reasons: one line each.
        note: a smaller line below.
    """
    return _part("decision", kind, headline, reasons, note)


def joined(parts: Iterable[object], separator: str) -> Markup:
    """Return parts in one line with a separator between them."""
    return _part("joined", list(parts), separator)


def _part(macro: str, *values: Any) -> Markup:
    """Render a macro of `templates/parts.html.j2`."""
    part: Markup = getattr(TEMPLATES.get_template("parts.html.j2").module, macro)(*values)
    return part


@lru_cache(maxsize=1)
def _plotly_script() -> str:
    from plotly.offline import get_plotlyjs  # imported here: five megabytes that only a page with charts needs

    return str(get_plotlyjs())
