"""The tiles of a series on the dashboard: a name, a value and a note each.

Text of `dashboard_content.py`; it reads nothing.
"""

import math

from model.baseline_comparison import ALPHA
from model.metrics import CLASSES
from tasks.champion.live_comparison import MIN_DECISIONS
from tasks.champion.served_predictions import maker_text
from tasks.pages.dashboard_content import SeriesContent
from tasks.pages.dashboard_panel import panel_tile
from tasks.pages.number_format import interval_text, moment_text, p_value_text, price_text


def series_tiles(content: SeriesContent) -> list[tuple[str, str, str]]:
    """Return name, value and note of each tile of a series."""
    shown = (champion_tile, record_tile, prediction_tile, live_score_tile, _evidence)
    return [tile(content) for tile in (shown if content.series.is_panel else (*shown, _bars))]


def champion_tile(content: SeriesContent) -> tuple[str, str, str]:
    """Show the champion, since when it is champion, and the end of its training."""
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


def record_tile(content: SeriesContent) -> tuple[str, str, str]:
    """Show the log loss difference of the champion's record to the base rate."""
    name = "Out-of-sample vs. base rate"
    numbers = content.compared.numbers if content.compared else {}
    mean, low, high, count = (numbers.get(f"base_rate.{key}") for key in ("difference", "low", "high", "n"))
    if mean is None or low is None or high is None or count is None:
        return name, "unknown", "the decision log has no comparison for this champion"
    corrected, side = content.corrected_p, "better" if mean < 0 else "worse"
    known = not math.isnan(corrected)
    differs = corrected <= ALPHA if known else high < 0 or low > 0
    finding = (f"significantly {side}" if known else side) if differs else "no significant difference"
    p_value = f" (corrected p {p_value_text(corrected, '= ')})" if known else ""
    interval = f"{interval_text(low, high, '+.4f')}, n = {count:.0f}"
    return name, f"{mean:+.4f}", f"log loss (lower is better), {interval}: {finding}{p_value}"


def prediction_tile(content: SeriesContent) -> tuple[str, str, str]:
    """Show the newest prediction, and who made it where another version has become champion since."""
    found, champion = content.predictions, content.champion.version if content.champion else None
    if content.series.is_panel:
        return panel_tile(found, champion)
    if not len(found):
        command = f"`riseorfall predict --symbol {content.series.symbol} --interval {content.series.interval}`"
        by_hand = f"not scheduled: {command} stores one"
        by_flow = "the flow predict stores one for each closed bar"
        return "Next prediction", "none yet", by_flow if content.is_scheduled else by_hand
    decided, resolves = moment_text(found.decided_at[-1]), moment_text(found.resolves_at[-1])
    by = maker_text(found.versions[-1], champion)
    question = f"that the close at {resolves} is above the close at {decided}; {by}"
    outcome = "" if found.labels[-1] < 0 else f"; actual: {CLASSES[found.labels[-1]]}"
    late = "; late: stored after its outcome was due, so it does not count as evidence" if found.late[-1] else ""
    name = "Next prediction" if found.labels[-1] < 0 else "Newest prediction"
    return f"{name}, P(rise)", f"{found.probabilities[-1]:.1%}", f"{question}{outcome}{late}"


def live_score_tile(content: SeriesContent) -> tuple[str, str, str]:
    """Show the log loss of live predictions with its interval."""
    numbers = content.health["live"]
    count = int(numbers.get("live_predictions", 0))
    if not count:
        note = "no live prediction has an outcome yet" if numbers else "the monitor has not run yet"
        return "Live log loss", "none yet", note
    interval = f"interval from {MIN_DECISIONS} outcomes on;"
    of_panel = "live_closes" in numbers
    counts = f"{count} at {numbers['live_closes']:.0f} closes" if of_panel else str(count)
    if of_panel:
        interval = f"interval from {MIN_DECISIONS} closes on;"
    if count >= MIN_DECISIONS and "live_log_loss_low" in numbers:
        interval = interval_text(numbers["live_log_loss_low"], numbers["live_log_loss_high"])
    return (
        "Live log loss",
        f"{numbers['live_log_loss']:.4f}",
        f"{interval} vs. base rate {numbers['base_rate_log_loss']:.4f}; n = {counts}",
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
    reader = "read again by the next ingest" if content.is_scheduled else "no schedule reads it again"
    notes = {"csv": f"; from a file; {reader}", "sample": "; historical: no later bars are fetched"}
    note = notes.get(content.health.get("source", ""), "")  # of an exchange, or not known without a champion: none
    return "Newest close", newest_close(content), f"bar closed at {closed}{note}"


def newest_close(content: SeriesContent) -> str:
    """Return the newest close."""
    return price_text(float(content.bars.column("close")[-1]))
