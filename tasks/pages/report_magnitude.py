"""The section of a report on the expected move: its score vs. the baselines, its calibration, the expected return.

For ranks of a panel the move is the distance from the median of the other series, and the section says so.
"""

from markupsafe import Markup

from model.expected_moves import MOVE_BASELINES
from model.label_names import LabelKind
from model.move_evaluation import NETWORK, MoveEvaluation
from tasks.pages.html_page import paragraph, table, value_with_note
from tasks.pages.number_format import interval_text, p_value_text, with_interval

NAMES = {
    NETWORK: "network",
    "training_mean": "mean move of the training windows",
    "trailing_mean": "mean move of the window, rescaled",
}
HEAD = ("expected move by", "score ↓", "network's score minus this", "p-value")
INTRODUCTION: dict[LabelKind, str] = {
    "rise": "The network also predicts the size of the move until the outcome: the expected absolute log return. The "
    "expected return is direction times size, (2 P - 1) times the expected move; the policies threshold and no-trade "
    "band use it.",
    "rank": "The network also predicts the size of the move relative to the panel until the outcome: the expected "
    "absolute difference between the log return and that of the median of the other series. The expected return in "
    "excess of the median is direction times size, (2 P - 1) times the expected move.",
}


def magnitude_section(
    found: MoveEvaluation, label: LabelKind = "rise", intervals: str = "stationary block bootstrap"
) -> list[Markup]:
    """Return the scores of the expected move, and how far expected sizes and returns were right.

    Args:
        found: the scores.
        label: what the network predicts the direction of.
        intervals: how the intervals were made.
    """
    rows: list[tuple[object, ...]] = [(NAMES[NETWORK], with_interval(found.scores[NETWORK], ".4f"), "", "")]
    for name in MOVE_BASELINES:
        versus = found.differences[name]
        difference = value_with_note(f"{versus.mean:+.4f}", interval_text(versus.low, versus.high, "+.4f"))
        rows.append((NAMES[name], with_interval(found.scores[name], ".4f"), difference, p_value_text(versus.p_value)))
    calibration = [
        ("mean expected move", f"{found.mean_expected:.2%}"),
        ("mean actual move / mean expected move (calibrated: 1)", with_interval(found.ratio, ".2f")),
        ("slope of actual on expected returns (calibrated: 1, no skill: 0)", with_interval(found.return_slope, ".2f")),
    ]
    return [
        paragraph(INTRODUCTION[label]),
        table(HEAD, rows, own=0),
        table(("calibration", "value"), calibration),
        paragraph(
            "The score is proper for a mean: minus the log likelihood of an exponential distribution with that mean, "
            "in nats; only differences mean something. Each fold learns its mean, and the factor of the window's own "
            f"mean move, on the windows that trained and validated its network. Intervals are 95 %, {intervals}; "
            "p-values are not corrected.",
            quiet=True,
        ),
    ]
