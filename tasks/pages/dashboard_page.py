"""The dashboard: each series with its champion, newest prediction, live score, chart, decisions and reports.

Series with a champion come first, then those with decisions; those that have bars only are rows of one table. More
than `MOST_SECTIONS` series are rows of one table too, those with alarms first, each with a link to a page of its own.
Text, tables and charts of `dashboard_content.py`; it reads nothing. Parts that change carry a name, by which the page
replaces them when it reloads itself (`templates/reload.js`).
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
from markupsafe import Markup

from model.baseline_comparison import ALPHA
from model.metrics import CLASSES, predicts_rise
from model.series_chart import series_chart
from tasks.champion.live_comparison import MIN_DECISIONS
from tasks.champion.served_predictions import LivePredictions
from tasks.pages.dashboard_content import SeriesContent
from tasks.pages.html_page import (
    Page,
    alerts,
    decision_list,
    folded,
    heading,
    joined,
    link,
    link_here,
    live,
    paragraph,
    table,
    tiles,
)
from tasks.pages.number_format import interval_text, moment_text, p_value_text, price_text

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
    if of_one:
        next_runs = [run for run in next_runs if run["series"] in {_title(each) for each in content}]
    page = Page("riseorfall", scripts="reports", reload_seconds=RELOAD_SECONDS)
    addresses = joined([link(name, address) for name, address in links.items() if address], " · ")
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
        live(f"{name}-tiles", tiles(_tiles(content))),
        live(f"{name}-predictions", *_predictions(content.predictions)),
        *_chart(page, content),
        live(f"{name}-decisions", heading("Last decisions"), _decisions(content)),
        live(f"{name}-reports", *_reports(content)),
    ]


def _all_series(content: Sequence[SeriesContent]) -> Markup:
    """Show many series, one row each; those with alarms first."""
    alarms = {id(each): [*each.health["alarms"], *([each.problem] if each.problem else [])] for each in content}
    rows = [
        (
            link_here(_title(each), f"?series={each.series.name}"),
            _champion(each)[1],
            _newest_prediction(each.predictions)[1],
            _record(each)[1],
            _live_score(each)[1],
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
            _close(each),
            f"by the champion of {each.health['predicted_by']}" if each.health["predicted_by"] else "no champion yet",
        )
        for each in content
    ]
    head = ("series", "bars", "newest bar closed at (UTC)", "close", "predicted")
    alarms = [alarm for each in content for alarm in each.health["alarms"]]
    return [
        live("bars-only-alarms", alerts(alarms)),
        live("bars-only", table(head, rows, text_columns=len(head), stacked=True)),
    ]


def _close(content: SeriesContent) -> str:
    return price_text(float(content.bars.column("close")[-1]))


def _links(content: SeriesContent) -> Markup:
    """Link the runs of the series in MLflow, with our columns, and the champion's report."""
    links = [
        link("MLflow runs", content.mlflow_runs) if content.mlflow_runs.startswith("http") else "",
        link_here("report of the champion", content.champion_report) if content.champion_report else "",
    ]
    return paragraph(joined([each for each in links if each], " · "))


def _hold(text: str, forms: Mapping[str, str]) -> Markup:
    """Show a hold with the ways to lift it."""
    form = [", or ", link("the form lift_hold in Prefect", forms["lift_hold"])] if "lift_hold" in forms else []
    return paragraph(joined([f"Held: {text}", *form, "."], ""))


def _tiles(content: SeriesContent) -> list[tuple[str, str, str]]:
    if content.series.is_panel:
        forecast = ("Predictions", "not stored", "`riseorfall predict --panel` prints them; panels have no monitor yet")
        return [_champion(content), _record(content), forecast]
    return [
        _champion(content),
        _record(content),
        _newest_prediction(content.predictions),
        _live_score(content),
        _evidence(content),
        _bars(content),
    ]


def _champion(content: SeriesContent) -> tuple[str, str, str]:
    champion = content.champion
    if champion is None and content.problem:
        return "Champion", "unknown", "it cannot be read"
    if champion is None:
        return "Champion", "none yet", "the first retrain that passes its checks is promoted"
    since = f"since {content.since.decided_at:%Y-%m-%d %H:%M} UTC, " if content.since else ""
    return (
        "Champion",
        f"version {champion.version}",
        f"{since}trained until {champion.trained_until:%Y-%m-%d %H:%M} UTC",
    )


def _record(content: SeriesContent) -> tuple[str, str, str]:
    """Show the log loss difference to the base rate with which the champion was promoted."""
    name = "Out-of-sample vs. base rate"
    numbers = content.promotion.numbers if content.promotion else {}
    mean, low, high, count = (numbers.get(f"base_rate.{key}") for key in ("difference", "low", "high", "n"))
    if mean is None or low is None or high is None or count is None:
        return name, "unknown", "the decision log has no comparison for this champion"
    corrected, side = content.corrected_p, "better" if mean < 0 else "worse"
    known = not math.isnan(corrected)
    differs = corrected <= ALPHA if known else high < 0 or low > 0
    finding = (f"significantly {side}" if known else side) if differs else "no significant difference"
    p_value = f" (corrected p {p_value_text(corrected, '= ')})" if known else ""
    return name, f"{mean:+.4f}", f"log loss, {interval_text(low, high, '+.4f')}, n = {count:.0f}: {finding}{p_value}"


def _newest_prediction(found: LivePredictions) -> tuple[str, str, str]:
    if not len(found):
        return "Next prediction", "none yet", "the flow predict stores one for each closed bar"
    decided, resolves = moment_text(found.decided_at[-1]), moment_text(found.resolves_at[-1])
    question = f"that the close at {resolves} is above the close at {decided}; version {found.versions[-1]}"
    outcome = "" if found.labels[-1] < 0 else f"; actual: {CLASSES[found.labels[-1]]}"
    late = "; late: stored after its outcome was due, so it does not count as evidence" if found.late[-1] else ""
    name = "Next prediction" if found.labels[-1] < 0 else "Newest prediction"
    return f"{name}, P(rise)", f"{found.probabilities[-1]:.1%}", f"{question}{outcome}{late}"


def _live_score(content: SeriesContent) -> tuple[str, str, str]:
    numbers = content.health["live"]
    count = int(numbers.get("live_predictions", 0))
    if not count:
        note = "no live prediction has an outcome yet" if numbers else "the monitor has not run yet"
        return "Live log loss", "none yet", note
    interval = f"interval from {MIN_DECISIONS} outcomes on;"
    if count >= MIN_DECISIONS and "live_log_loss_low" in numbers:
        interval = interval_text(numbers["live_log_loss_low"], numbers["live_log_loss_high"])
    return (
        "Live log loss",
        f"{numbers['live_log_loss']:.4f}",
        f"{interval} vs. base rate {numbers['base_rate_log_loss']:.4f}; n = {count}",
    )


def _evidence(content: SeriesContent) -> tuple[str, str, str]:
    numbers = content.health["live"]
    if not numbers.get("live_predictions"):
        return "Evidence of decay", "none yet", "an e-process starts with the first outcome"
    monitored = numbers["watched_at"][:16].replace("T", " ")
    threshold = f"e-process of version {numbers['version']}; alarm at {numbers['evidence_threshold']:.3g}"
    return "Evidence of decay", f"{numbers['evidence']:.3g}", f"{threshold}; monitored {monitored} UTC"


def _bars(content: SeriesContent) -> tuple[str, str, str]:
    if not len(content.bars):
        if content.problem:
            return "Newest bar", "unknown", "it cannot be read"
        return "Newest bar", "none yet", "all bars of this series are in quarantine"
    closed = moment_text(content.bars.closed_at[-1])
    from_file = content.health.get("source") == "csv"
    ends = "; from a file; read again by the next ingest" if from_file else "; historical: no later bars are fetched"
    note = "" if content.health["live_source"] else ends
    return "Newest close", _close(content), f"bar closed at {closed}{note}"


def _chart(page: Page, content: SeriesContent) -> list[Markup]:
    if not len(content.bars):
        return []
    bars, record, found = content.bars, content.record, content.predictions
    record = record.take(record.decided_at >= bars.closed_at[0])
    shown = found.decided_at >= bars.closed_at[0]
    live = int(shown.sum())
    predicted = len(record) + live > 0
    first = min([*record.decided_at[:1], *found.decided_at[shown][:1]], default=bars.closed_at[0])
    kept = bars.closed_at >= first if predicted else np.full(len(bars), fill_value=True)
    figure = series_chart(
        bars.closed_at[kept],
        bars.column("close")[kept],
        record,
        found.decided_at[shown],
        found.probabilities[shown],
        found.labels[shown],
    )
    chart = page.zoomable_chart(
        figure,
        f"Close{' and P(rise)' if predicted else ''} of {_title(content)}.",
        f"{len(record):,} out-of-sample probabilities of the champion and {live:,} live prediction"
        f"{'' if live == 1 else 's'}; colour: the actual outcome."
        if predicted
        else "No predictions yet.",
    )
    return [chart]


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
                row.reasons[0] if row.reasons else "",
                link_here("report", reports[row.decision_id]) if row.decision_id in reports else "",
            )
            for row in content.decisions
        ]
    )


def _predictions(found: LivePredictions) -> list[Markup]:
    if not len(found):
        return []
    rows = [
        (
            moment_text(found.decided_at[place]).removesuffix(" UTC"),
            moment_text(found.resolves_at[place]).removesuffix(" UTC"),
            f"{found.probabilities[place]:.1%}",
            CLASSES[int(predicts_rise(found.probabilities[place : place + 1])[0])],
            _outcome(found, place),
            found.versions[place],
            "late" if found.late[place] else "in\u00a0time",
        )
        for place in range(len(found) - 1, max(-1, len(found) - 1 - LAST_PREDICTIONS), -1)
    ]
    head = ("decided at (UTC)", "for the close at", "P(rise)", "predicted", "actual", "version", "stored")
    return [heading("Last predictions"), table(head, rows, text_columns=len(head), stacked=True)]


def _outcome(found: LivePredictions, place: int) -> str:
    """Return the actual outcome and whether the prediction was right; spaces do not break."""
    if found.labels[place] < 0:
        return "open"
    right = bool(predicts_rise(found.probabilities[place : place + 1])[0]) == (found.labels[place] == 1)
    return f"{CLASSES[found.labels[place]]} {'✓ right' if right else '✗ wrong'}".replace(" ", "\u00a0")


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
