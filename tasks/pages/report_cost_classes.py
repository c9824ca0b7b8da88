"""The section of a report on the three classes of a cost: proper scores, calibration, confusion matrix."""

import numpy as np
from markupsafe import Markup

from model.cost_class_evaluation import NETWORK, CostClassEvaluation
from model.cost_classes import CLASS_BASELINES, CLASS_NAMES
from model.metrics import normalise_rows
from tasks.pages.html_page import folded, paragraph, preformatted, table, value_with_note
from tasks.pages.number_format import interval_text, p_value_text, with_interval

NAMES = {
    NETWORK: "network",
    "base_rates": "shares of the training windows",
    "trailing_move": "logistic regression on the window's mean move",
}
HEAD = ("classes by", "log loss ↓", "Brier score ↓", "network's log loss minus this", "p-value")


def cost_classes_section(found: CostClassEvaluation, intervals: str = "stationary block bootstrap") -> list[Markup]:
    """Return scores, calibration errors and the confusion matrix of the three classes.

    Args:
        found: the scores.
        intervals: how the intervals were made.
    """
    rows: list[tuple[object, ...]] = [_row(found, NETWORK, "", "")]
    for name in CLASS_BASELINES:
        versus = found.differences[name]
        difference = value_with_note(f"{versus.mean:+.4f}", interval_text(versus.low, versus.high, "+.4f"))
        rows.append(_row(found, name, difference, p_value_text(versus.p_value)))
    counts = np.array(found.confusion)
    shares = normalise_rows(counts)
    matrix = [
        (f"actual {name}", *(value_with_note(f"{share:.1%}", f"{count:,}") for share, count in zip(*each, strict=True)))
        for name, each in zip(CLASS_NAMES, zip(shares, counts, strict=True), strict=True)
    ]
    classes = [
        (name, f"{share:.1%}", f"{error:.3f}")
        for name, share, error in zip(CLASS_NAMES, found.shares, found.calibration_errors, strict=True)
    ]
    return [
        paragraph(
            "The network also predicts three classes of the outcome: the close is lower by more than "
            f"{found.cost_bps:g} bps, higher by more, or neither. They take no part in the promotion, the policies or "
            "the abstention."
        ),
        table(HEAD, rows, own=0),
        table(("class", "share of windows", "expected calibration error"), classes),
        table(("confusion matrix, rows add up to 100 %", *(f"predicted {name}" for name in CLASS_NAMES)), matrix),
        folded("Classification report", preformatted(found.report())),
        paragraph(
            "Log loss and Brier score are proper for three classes. Baselines are learned fold by fold on the windows "
            "that trained and validated the network; the regression knows how volatile a window is, and no direction "
            f"within it. The predicted class is the most probable one. Intervals are 95 %, {intervals}; p-values are "
            "not corrected.",
            quiet=True,
        ),
    ]


def _row(found: CostClassEvaluation, name: str, difference: object, p_value: object) -> tuple[object, ...]:
    scores = (with_interval(each[name], ".4f") for each in (found.log_loss, found.brier_score))
    return NAMES[name], *scores, difference, p_value
