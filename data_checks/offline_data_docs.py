"""Makes the Data Docs readable offline: pages that load nothing, and an index of the runs.

Great Expectations' pages load styles, scripts and images from other hosts, and such a script draws its index: behind a
firewall there would be unstyled text and an empty list. This module removes those references and adds a small style
sheet. It knows files, not checks. Caution: it edits HTML as one version of the library writes it; pages of another
version stay readable with less styling.
"""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from model.plurals import counted

STYLES = Path(__file__).with_name("offline_data_docs.css")
INDEX = "index.html"
RUNS = "runs.jsonl"  # one line per run, appended; the index is made from it
LISTED_RUNS = 100  # newest runs on the index: `housekeeping` deletes the pages of older ones
ELSEWHERE = re.compile(
    r"""<script[^>]*\ssrc="https?://[^>]*>\s*</script>|<(?:link|img)[^>]*?(?:href|src)="(?:https?:|[./]*static/)[^>]*>""",
    re.DOTALL,
)
FILTER = (
    "<script>function showAllValidations(){document.body.classList.remove('failed-only')}"
    "function hideSucceededValidations(){document.body.classList.add('failed-only')}</script>"
)
STATUS = re.compile(r'(Status:</span> )<i class="[^"]*"[^>]*></i> (?:Failed|Succeeded)')
SCRIPT_OR_CODE = re.compile(r"<script.*?</script>|`([^`<>]+)`", re.DOTALL)  # Great Expectations' scripts have backticks


def adopt_page(built: Path, page: Path, status: str = "") -> None:
    """Copy a built page to its place without the references to other hosts.

    Args:
        built: page of Great Expectations, which calls a suite failed where one rule failed, whatever its severity.
        page: where it goes.
        status: replaces that verdict; empty: it has none.
    """
    html = ELSEWHERE.sub("", built.read_text(encoding="utf-8"))
    html = html.replace("<br> Data asset: None", "")
    html = STATUS.sub(lambda found: f"{found[1]}{escape(status)}", html) if status else html
    html = SCRIPT_OR_CODE.sub(lambda found: f"<code>{found[1]}</code>" if found[1] else found[0], html)
    html = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    html = html.replace("</head>", f"<style>{STYLES.read_text(encoding='utf-8')}</style></head>", 1)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html.replace("</body>", f"{FILTER}</body>", 1), encoding="utf-8")


def describe_status(failures: Mapping[str, int], *, stopped: bool) -> str:
    """Return what the checks mean for the run, and how many rules failed by severity.

    >>> describe_status({"critical": 0, "warning": 3, "info": 1}, stopped=False)
    'passed: the run went on with 3 warnings and 1 note'
    """
    found = " and ".join(text for _, text in _counts(failures))
    if stopped:
        return f"failed: {found} stopped the run"
    return f"passed: the run went on with {found}" if found else "passed"


def _counts(failures: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return severity and counted rules that failed, the most severe first; none of a severity without any."""
    words = {"critical": "critical failure", "warning": "warning", "info": "note"}
    return [(kind, counted(failures[kind], noun)) for kind, noun in words.items() if failures.get(kind)]


def list_run(docs_dir: Path, run: dict[str, Any]) -> None:
    """Add a run to the index, and redirect `latest.html` to it.

    Args:
        docs_dir: folder of the pages.
        run: page, suite, run, checked_at, rules (how many), failures (failed rules by severity), and whether they
            stopped the run.
    """
    with (docs_dir / RUNS).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(run) + "\n")
    (docs_dir / INDEX).write_text(_index(reversed(listed_runs(docs_dir))), encoding="utf-8")
    target = escape(quote(run["page"]))
    (docs_dir / "latest.html").write_text(
        '<!doctype html><meta charset="utf-8"><title>Newest check</title>'
        f'<meta http-equiv="refresh" content="0; url={target}"><a href="{target}">The newest check</a>\n',
        encoding="utf-8",
    )


def listed_runs(docs_dir: Path) -> list[dict[str, Any]]:
    """Return the runs that the index links, oldest first; a line that a killed process left half-written is none."""
    path, runs = docs_dir / RUNS, []
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
        with suppress(ValueError):
            runs.append(json.loads(line))
    return runs[-LISTED_RUNS:]


def _index(runs: Iterable[dict[str, Any]]) -> str:
    rows = "\n".join(_row(run) for run in runs)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data checks</title>'
        f"<style>{STYLES.read_text(encoding='utf-8')}</style></head><body><h4>Data checks, newest first</h4>"
        "<p>Each line is one run of a suite of rules; its page shows every rule and the bars that violate it.</p>"
        "<p>The counts are rules that failed, not bars. Critical failures stop the run before it goes on to the next "
        "step; with warnings and notes it goes on (<code>--check.stop-on warning</code> lets warnings stop it too).</p>"
        '<div class="show-scrollbars">'
        "<table><thead><tr><th>Checked</th><th>Suite</th><th>Run</th><th>Rules</th><th>Result</th></tr></thead>"
        f"<tbody>\n{rows}\n</tbody></table></div></body></html>\n"
    )


def _row(run: dict[str, Any]) -> str:
    classes = {"critical": "badge-danger", "warning": "badge-warning", "info": "badge-info"}
    counts = "".join(f'<span class="badge {classes[kind]}">{text}</span>' for kind, text in _counts(run["failures"]))
    stopped = run.get("stopped", bool(run["failures"].get("critical")))  # lines of 0.1 do not say it
    if stopped:
        result = f'<i class="fas fa-times"></i> stopped the run: {counts}'
    else:
        result = f"passed with {counts}" if counts else '<i class="fas fa-check-circle"></i> passed'
    page = escape(quote(run["page"]))
    cells = (
        f'<a href="{page}">{escape(run["checked_at"])}</a>',
        escape(run["suite"]),
        escape(run["run"]),
        str(run["rules"]),
        result,
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
