"""One HTML page: sections, tables and charts, light and dark, readable on a phone and without a network.

Knows HTML and nothing of retrains. The HTML is in `templates/` (Jinja2 with autoescape): text is escaped unless it is
`Markup`, which only the macros of `templates/parts.html.j2` make. Each chart is in the page twice: as SVG, and as JSON
that plotly makes interactive, compressed where the page never changes. Plotly's script is one file that all pages of a
folder share; without it, as in a copy that was downloaded from MLflow, the SVG stays. The page's
Content-Security-Policy allows nothing else to be loaded. Caution: JSON inside a script element ends at the first
`</script`, so it is written with `<` escaped.
"""

import base64
import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup, escape

from model.chart_svg import chart_svg

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
COMMAND = re.compile("`([^`<>]+)`")


def with_code(text: object) -> Markup:
    """Escape a text, unless it is markup, and show what stands between backticks as code."""
    return Markup(COMMAND.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped


TEMPLATES.filters["with_code"] = with_code


class Section(NamedTuple):
    """A section of a page: its title, and its parts in order."""

    title: str
    parts: tuple[Markup, ...]


class Page:
    """A page that grows section by section."""

    def __init__(self, title: str, subtitle: str = "", scripts: str = "..", reload_seconds: int = 0) -> None:
        """Begin with a heading.

        Args:
            title: of the page and of the browser's tab.
            subtitle: a line below it.
            scripts: address of the folder with the chart script, relative to the page.
            reload_seconds: the page fetches itself that often and shows what changed; 0: never, and the numbers of its
                charts are compressed.
        """
        self.title = title
        self.scripts = scripts
        self.reload_seconds = reload_seconds
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
        return self._chart(figure, caption, note, zoomable=False)

    def zoomable_chart(self, figure: "Figure", caption: str, note: str = "") -> Markup:
        """Embed a chart over time as `chart` does, with buttons that zoom and move it."""
        return self._chart(figure, caption, note, zoomable=True)

    def _chart(self, figure: "Figure", caption: str, note: str, *, zoomable: bool) -> Markup:
        text = str(figure.to_json())
        self._charts.append(htmlsafe_json_dumps(text, dumps=str) if self.reload_seconds else _compressed(text))
        height = int(figure.layout.height or CHART_HEIGHT_PIXELS)
        picture = Markup(chart_svg(json.loads(text), caption))  # noqa: S704 - its texts are escaped
        return _part("chart", len(self._charts), height, caption, note, picture, zoomable)

    def html(self) -> str:
        """Render the page."""
        return TEMPLATES.get_template("page.html.j2").render(
            title=self.title,
            lead=self._lead,
            sections=self._sections,
            charts=self._charts,
            chart_script=f"{self.scripts}/{chart_script_name()}" if self._charts else "",
            reload_seconds=self.reload_seconds,
        )


def _compressed(text: str) -> Markup:
    """Return a text as gzip in base64, which the page's script reads."""
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode())  # noqa: S704 - letters of base64


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


def link_here(text: str, path: str) -> Markup:
    """Return a link to a page of the same server, by its path relative to this page; a query stays one."""
    return _part("link", text, quote(path, safe="/?="))


def link_within(text: str, name: str) -> Markup:
    """Return a link to the `target` of this name on the same page."""
    return _part("link", text, f"#{quote(name)}")


def target(name: str, part: Markup) -> Markup:
    """Return a part that `link_within` leads to; a browser opens the folded parts around it."""
    return _part("target", name, part)


def live(name: str, *parts: Markup) -> Markup:
    """Return parts that change while the page is open; `name` is unique in the page."""
    return _part("live", name, parts)


def alerts(messages: Sequence[str]) -> Markup:
    """Return alarms, one line each; nothing where there are none."""
    return _part("alerts", messages) if messages else Markup()


def decision_list(
    decisions: Iterable[tuple[str, str, str, str, Sequence[tuple[str, str]], Markup | str]],
) -> Markup:
    """Return decisions as a list, newest first: time, action, version, champion after it, reasons, link to the report.

    Each reason has its mark (passed, failed, or empty). Those of the newest decision are shown, the others on demand
    below the deciding one.
    """
    return _part("decision_list", list(decisions))


def value_with_note(value: object, note: object = "") -> Markup:
    """Return a value with a smaller note below it, such as its confidence interval."""
    return _part("value_with_note", value, note)


def table(
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    text_columns: int = 1,
    own: int = -1,
    stacked: bool = False,
) -> Markup:
    """Return a table that scrolls within its own box.

    Args:
        head: column names.
        rows: cells.
        text_columns: leading columns that hold text; the others hold numbers, aligned right.
        own: index of the row to emphasise; none by default.
        stacked: on a phone each row is a block of names and values, so that nothing lies beyond the right edge.
    """
    return _part("table", head, list(rows), text_columns, own, stacked)


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
    """Return a text as it is, any other value as indented JSON."""
    return _part("preformatted", value if isinstance(value, str) else json.dumps(value, indent=2, default=str))


def decision_banner(kind: str, headline: str, reasons: Sequence[tuple[str, str]], note: str) -> Markup:
    """Return the decision with its reasons.

    Args:
        kind: promote, hold or reject: the colour; empty for none.
        headline: the decision in a sentence.
        reasons: mark (passed, failed, or empty) and text of each, one line each.
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
def chart_script_name() -> str:
    """Return the file name of plotly's script."""
    from plotly.offline import get_plotlyjs_version  # imported here: plotly takes a second

    return f"plotly-{get_plotlyjs_version()}.min.js"
