"""What the dashboard shows of a panel's predictions: a tile, and the highest and lowest of the newest close."""

from markupsafe import Markup

from model.label_names import LABEL_NAMES, RISE_NAMES, UNKNOWN
from model.metrics import predicts_rise
from tasks.champion.panel_status import newest_outcome, newest_places
from tasks.champion.served_predictions import LivePredictions, maker_text
from tasks.pages.html_page import heading, paragraph, table
from tasks.pages.number_format import moment_text

EXTREMES = 5  # series shown at each end of a close


def panel_tile(found: LivePredictions, champion: str | None) -> tuple[str, str, str]:
    """Return name, value and note of the tile about the newest close."""
    if not len(found):
        return "Next predictions", "none yet", "`riseorfall predict --panel` stores them"
    newest = newest_places(found)
    late = sum(found.late[place] for place in newest)
    note = (
        f"{LABEL_NAMES[found.kinds[-1]].probability} of each at the close of {moment_text(found.resolves_at[-1])}, "
        f"decided at {moment_text(found.decided_at[-1])}; {maker_text(found.versions[-1], champion)}"
    )
    outcome = newest_outcome(found)
    at = outcome["resolves_at"][:16].replace("T", " ") if outcome else ""
    right = f"; {outcome['right']} of {outcome['outcomes']} right at {at} UTC" if outcome else ""
    stored_late = f"; {late} late: stored after the outcome was due" if late else ""
    return "Newest predictions", f"{len(newest)} series", f"{note}{right}{stored_late}"


def panel_predictions(found: LivePredictions) -> list[Markup]:
    """Return the highest and the lowest predictions of the newest close as a table; all of few series."""
    if not len(found):
        return []
    order = newest_places(found)
    shown = [*order[:EXTREMES], *order[-EXTREMES:]] if len(order) > 2 * EXTREMES else [*order]
    names = LABEL_NAMES[found.kinds[-1]]
    rows = [
        (
            found.symbols[place],
            f"{found.probabilities[place]:.1%}",
            names.classes[int(predicts_rise(found.probabilities[place : place + 1])[0])],
            outcome_text(found, int(place)),
            found.versions[place],
            "late" if found.late[place] else "in\u00a0time",
        )
        for place in shown
    ]
    head = ("series", names.probability, "predicted", "actual", "version", "stored")
    title = f"Predictions decided at {moment_text(found.decided_at[-1])}"
    left_out = len(order) - len(shown)
    note = f"The {EXTREMES} highest and the {EXTREMES} lowest of {len(order)} series." if left_out else ""
    return [
        heading(title),
        *([paragraph(note)] if note else []),
        table(head, rows, text_columns=len(head), stacked=True),
    ]


def outcome_text(found: LivePredictions, place: int, unknown: str = UNKNOWN) -> str:
    """Return the actual outcome and whether the prediction was right, where spaces do not break; else `unknown`."""
    if found.labels[place] < 0:
        return unknown
    classes = LABEL_NAMES[found.kinds[place]].classes if found.kinds else RISE_NAMES.classes
    right = bool(predicts_rise(found.probabilities[place : place + 1])[0]) == (found.labels[place] == 1)
    return f"{classes[found.labels[place]]} {'✓ right' if right else '✗ wrong'}".replace(" ", "\u00a0")
