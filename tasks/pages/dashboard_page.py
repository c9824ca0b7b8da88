"""The dashboard: each series with its champion, newest prediction, live score, chart, decisions and reports.

Series with a champion come first, then those with decisions; those that have bars only are rows of one table. More
than `MOST_SECTIONS` series are rows of one table too, those with alarms first, each with a link to a page of its own.
Text, tables and charts of `dashboard_content.py`; it reads nothing. Parts that change carry a name, by which the page
replaces them when it reloads itself (`templates/reload.js`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
from jaxtyping import Bool
from markupsafe import Markup

from model.label_names import UNKNOWN
from model.metrics import CLASSES, predicts_rise
from model.plurals import counted
from model.series_chart import series_chart
from tasks.pages.dashboard_content import SeriesContent
from tasks.pages.dashboard_panel import outcome_text, panel_predictions
from tasks.pages.dashboard_tiles import (
    champion_tile,
    live_score_tile,
    newest_close,
    prediction_tile,
    record_tile,
    series_tiles,
)
from tasks.pages.html_page import (
    Page,
    alerts,
    decision_list,
    folded,
    heading,
    joined,
    link,
    link_here,
    link_within,
    live,
    paragraph,
    table,
    target,
    tiles,
)
from tasks.pages.number_format import moment_text
from tasks.services.scheduled_runs import is_scheduled

RELOAD_SECONDS = 60
LAST_PREDICTIONS = 10
LAST_REPORTS = 30
MOST_SECTIONS = 12  # own choice: a page of 200 sections had 14 MB and did not load within 90 s


def dashboard_page(
    content: Sequence[SeriesContent],
    links: Mapping[str, str],
    next_runs: Sequence[Mapping[str, str]],
    now: datetime,
    forms: Mapping[str, str] | None = None,
    *,
    of_one: bool = False,
) -> str:
    """Return the dashboard as HTML.

    Args:
        content: of each series, by name.
        links: address by name, of the other pages.
        next_runs: `name`, `at` and `series` of the next scheduled runs, soonest first.
        now: time of writing, UTC.
        forms: address of the form that starts a run, by deployment.
        of_one: the content is that of one of many series; the page links to the others, and is about it alone.
    """
    forms = forms or {}
    if next_runs:
        content = [replace(each, is_scheduled=is_scheduled(_title(each), next_runs)) for each in content]
    if of_one:
        next_runs = [run for run in next_runs if run["series"] in {_title(each) for each in content}]
    page = Page("riseorfall", scripts="reports", reload_seconds=RELOAD_SECONDS)
    starts = {"Retrain now (a form of Prefect)": forms.get("quick", "")}
    addresses = joined([link(name, address) for name, address in {**links, **starts}.items() if address], " · ")
    if of_one:
        page.lead(paragraph(link_here("all series", "./")))
    page.lead(live("clock", paragraph(f"As of {now:%Y-%m-%d %H:%M} UTC", quiet=True)), paragraph(addresses))
    page.lead(live("runs", paragraph(_next_runs(next_runs), quiet=True)))
    waiting = dict.fromkeys(run["series"] for run in next_runs if run["series"])
    for each in content:
        waiting.pop(_title(each), None)
    if not content and not waiting:
        page.lead(
            paragraph(
                "No series has bars yet. The first scheduled or submitted `retrain` fetches them; this page then shows "
                "its champion, predictions and decisions by itself."
            )
        )
    own = [each for each in content if not each.has_bars_only]
    many = len(own) > MOST_SECTIONS
    if many:
        page.section("All series", live("all-series", _all_series(own)))
    for each in sorted(own, key=lambda each: each.champion is None) if not many else ():
        page.section(_title(each), *_series(page, each, forms))
    bars_only = [each for each in content if each.has_bars_only]
    if bars_only:
        page.section("Series without a model of their own", *_bars_only(bars_only))
    for name in waiting:
        page.section(name, live(f"{name}-waiting", _waiting(name, next_runs, forms)))
    return page.html()


def _title(content: SeriesContent) -> str:
    return f"{content.series.symbol} {content.series.interval}"


def _next_runs(runs: Sequence[Mapping[str, str]]) -> str:
    """List the runs by series, the series in the order of their soonest run; those of no series last."""
    if not runs:
        return ""
    names = sorted(dict.fromkeys(run["series"] for run in runs), key=lambda name: not name)
    parts = (
        f"{f'{name}: ' if name else ''}{', '.join(_run_text(run) for run in runs if run['series'] == name)}"
        for name in names
    )
    return f"Next runs (UTC): {'; '.join(parts)}"


def _run_text(run: Mapping[str, str]) -> str:
    return f"{run['name']} {run['at'][:16].replace('T', ' ')}"


def _waiting(name: str, runs: Sequence[Mapping[str, str]], forms: Mapping[str, str]) -> Markup:
    """Say of a scheduled series without bars when its first retrain is, and where to start it."""
    first = next((run["at"] for run in runs if (run["series"], run["name"]) == (name, "retrain")), "")
    at = f" The first retrain is at {first[11:16]} UTC on {first[:10]}." if first else ""
    start = joined([" Start it now: ", link("retrain, in Prefect", forms["retrain"])], "") if "retrain" in forms else ""
    return paragraph(joined([f"{name}: no bars yet.{at}", start], ""))


def _series(page: Page, content: SeriesContent, forms: Mapping[str, str]) -> list[Markup]:
    name, alarms = content.series.name, list(content.health["alarms"])
    if content.problem and content.problem not in alarms:
        alarms.append(content.problem)
    return [
        live(f"{name}-links", _links(content)),
        live(f"{name}-alarms", alerts(alarms)),
        live(f"{name}-holds", *(_hold(str(hold), forms) for hold in content.holds)),
        live(f"{name}-tiles", tiles(series_tiles(content))),
        live(
            f"{name}-predictions",
            *(panel_predictions(content.predictions) if content.series.is_panel else _predictions(content)),
        ),
        *_chart(page, content),
        live(f"{name}-decisions", heading("Last decisions"), _decisions(content)),
        live(f"{name}-refused", refused_bars(content)),
        live(f"{name}-reports", *_reports(content)),
    ]


def _all_series(content: Sequence[SeriesContent]) -> Markup:
    """Show many series, one row each; those with alarms first."""
    alarms = {id(each): [*each.health["alarms"], *([each.problem] if each.problem else [])] for each in content}
    rows = [
        (
            link_here(_title(each), f"?series={each.series.name}"),
            champion_tile(each)[1],
            prediction_tile(each)[1],
            record_tile(each)[1],
            live_score_tile(each)[1],
            f"{each.decisions[0].decided_at:%Y-%m-%d} {each.decisions[0].action}" if each.decisions else "none yet",
            "; ".join(alarms[id(each)]) or "none",
        )
        for each in sorted(content, key=lambda each: not alarms[id(each)])
    ]
    head = (
        "series",
        "champion",
        "newest P(rise)",
        "log loss vs. base rate",
        "live log loss",
        "last decision",
        "alarms",
    )
    return table(head, rows, text_columns=len(head), stacked=True)


def _bars_only(content: Sequence[SeriesContent]) -> list[Markup]:
    """Show series that have bars only, one row each, and their alarms."""
    rows = [
        (
            _title(each),
            f"{each.bar_count:,}",
            moment_text(each.bars.closed_at[-1]).removesuffix(" UTC"),
            newest_close(each),
            f"by the champion of {each.health['predicted_by']}" if each.health["predicted_by"] else "no champion yet",
            link_here("data checks", each.data_docs) if each.data_docs else "none",
        )
        for each in content
    ]
    head = ("series", "bars", "newest bar closed at (UTC)", "close", "predicted", "Data Docs")
    alarms = [alarm for each in content for alarm in each.health["alarms"]]
    return [
        live("bars-only-alarms", alerts(alarms)),
        live("bars-only", table(head, rows, text_columns=len(head), stacked=True)),
        live("bars-only-refused", *(refused_bars(each, f" of {_title(each)}") for each in content)),
    ]


def _links(content: SeriesContent) -> Markup:
    """Link the runs of the series in MLflow, with our columns, the champion's report, and the Data Docs."""
    links = [
        link("MLflow runs", content.mlflow_runs) if content.mlflow_runs.startswith("http") else "",
        link_here("report of the champion", content.champion_report) if content.champion_report else "",
        link_here("data checks", content.data_docs) if content.data_docs else "",
        link_within(counted(content.refused_count, "refused bar"), _refused_id(content)) if content.refused else "",
    ]
    return paragraph(joined([each for each in links if each], " · "))


def _refused_id(content: SeriesContent) -> str:
    return f"refused-{content.series.name}"


def refused_bars(content: SeriesContent, of: str = "") -> Markup:
    """List the newest bars in quarantine; nothing without any."""
    if not content.refused:
        return Markup()
    more = f" The newest {len(content.refused)} are shown." if len(content.refused) < content.refused_count else ""
    head = ("bar opened at (UTC)", "rule", "value", "source")
    return folded(
        f"Refused bars{of} ({content.refused_count:,})",
        paragraph(f"In quarantine: neither trained on nor predicted from.{more} `riseorfall release` accepts a bar."),
        target(_refused_id(content), table(head, content.refused, text_columns=len(head), stacked=True)),
    )


def _hold(text: str, forms: Mapping[str, str]) -> Markup:
    """Show a hold with the ways to lift it."""
    form = [", or by ", link("the form lift_hold in Prefect", forms["lift_hold"])] if "lift_hold" in forms else []
    return paragraph(joined([f"{text[0].upper()}{text[1:]}", *form, "."], ""))


def _chart(page: Page, content: SeriesContent) -> list[Markup]:
    if not len(content.bars):
        return []
    bars, record, found = content.bars, content.record, content.predictions
    record = record.take(record.decided_at >= bars.closed_at[0])
    shown = found.decided_at >= bars.closed_at[0]
    late = np.array(found.late, dtype=np.bool_)[shown]
    predicted = len(record) + len(late) > 0
    first = min([*record.decided_at[:1], *found.decided_at[shown][:1]], default=bars.closed_at[0])
    kept = bars.closed_at >= first if predicted else np.full(len(bars), fill_value=True)
    figure = series_chart(
        bars.closed_at[kept],
        bars.column("close")[kept],
        record,
        found.decided_at[shown],
        found.probabilities[shown],
        found.labels[shown],
        late,
    )
    chart = page.zoomable_chart(
        figure,
        f"Close{' and P(rise)' if predicted else ''} of {_title(content)}.",
        f"{len(record):,} out-of-sample probabilities of the champion{_counted_predictions(late)}; colour: the actual "
        "outcome."
        if predicted
        else "No predictions yet.",
    )
    return [chart]


def _counted_predictions(late: Bool[np.ndarray, " prediction"]) -> str:
    """Count the predictions by whether they were stored before their outcome was due."""
    counts = {"live prediction": int((~late).sum()), "late prediction": int(late.sum())}
    return "".join(f", {counted(number, name)}" for name, number in counts.items() if number)


def _decisions(content: SeriesContent) -> Markup:
    if not content.decisions:
        return paragraph("None yet.")
    reports = {row.decision_id: path for row, path in content.reports}
    return decision_list(
        [
            (
                f"{row.decided_at:%Y-%m-%d %H:%M} UTC",
                row.action,
                f"version {row.version}{' (by hand)' if row.forced else ''}",
                f"champion: {row.champion_after or 'none'}",
                row.marked_reasons(),
                link_here("report", reports[row.decision_id]) if row.decision_id in reports else "",
            )
            for row in content.decisions
        ]
    )


def _predictions(content: SeriesContent) -> list[Markup]:
    found, unknown = content.predictions, "unknown: the bars end here" if content.is_historical else UNKNOWN
    if not len(found):
        return []
    rows = [
        (
            moment_text(found.decided_at[place]).removesuffix(" UTC"),
            moment_text(found.resolves_at[place]).removesuffix(" UTC"),
            f"{found.probabilities[place]:.1%}",
            CLASSES[int(predicts_rise(found.probabilities[place : place + 1])[0])],
            outcome_text(found, place, unknown),
            found.versions[place],
            "late" if found.late[place] else "in\u00a0time",
        )
        for place in range(len(found) - 1, max(-1, len(found) - 1 - LAST_PREDICTIONS), -1)
    ]
    head = ("decided at (UTC)", "for the close at", "P(rise)", "predicted", "actual", "version", "stored")
    return [heading("Last predictions"), table(head, rows, text_columns=len(head), stacked=True)]


def _reports(content: SeriesContent) -> list[Markup]:
    """Return links to the reports, newest first."""
    links = [
        link_here(f"{row.decided_at:%Y-%m-%d %H:%M} UTC, version {row.version}: {row.action}", path)
        for row, path in content.reports[:LAST_REPORTS]
    ]
    return (
        [
            folded(
                f"{'All' if len(links) == len(content.reports) else 'Newest'} reports ({len(links)})",
                *(paragraph(each) for each in links),
            )
        ]
        if links
        else []
    )
