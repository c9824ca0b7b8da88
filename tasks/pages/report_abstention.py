"""The section of a report on decisions with and without an opinion: a table, and what is guaranteed about it."""

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup

from model.abstention import OpinionScores
from model.bootstrap import Interval
from tasks.pages.html_page import paragraph, table, value_with_note
from tasks.pages.number_format import with_interval

HEAD = (
    "opinion by",
    "opinions",
    "coverage",
    "accuracy ↑",
    "log loss ↓",
    "vs. base rate",
    "move, bps ↑",
)


def abstention_section(found: Mapping[str, OpinionScores], *, of_panel: bool = False) -> list[Markup]:
    """Return the numbers of all decisions and of those with an opinion, by stated share and by stated coverage.

    Args:
        found: by rule: `all`, `share`, `coverage`.
        of_panel: whether several series decide at a close.
    """
    of_closes = (
        " Share and coverage are taken within each close and averaged over closes; the level is the same for all "
        "series of a close."
        if of_panel
        else ""
    )
    move = "mean move in the predicted direction" if of_panel else "mean move of the price in the predicted direction"
    drawn = "stationary block bootstrap over whole closes" if of_panel else "stationary block bootstrap"
    share, coverage = found["share"], found["coverage"]
    of_share = "{:.1%} to {:.1%}".format(*share.guaranteed)
    of_coverage = f"at least {coverage.guaranteed[0]:.1%}"
    rows = [
        _row("all decisions", found["all"]),
        _row(f"share of {share.stated:.0%}", share, of_share=of_share),
        _row(f"coverage of {coverage.stated:.0%}", coverage, of_coverage=of_coverage),
    ]
    return [
        paragraph(
            "The network has an opinion where its probability is far enough from 50 %. How far is fixed at each close "
            "from earlier decisions only, in two ways: so that a stated share of decisions has an opinion, or so that "
            f"a stated share of prediction sets holds the outcome.{of_closes}"
        ),
        table(HEAD, rows, stacked=True),
        paragraph(
            "Without an opinion the prediction set holds both outcomes and is always right, so coverage says little "
            "about skill: read the accuracy of the opinions, which is measured and not guaranteed. The share of "
            "opinions and the coverage of the sets are guaranteed for any sequence of prices, within the bounds below "
            f"them. The move is the {move} until the outcome, before costs. "
            f"Below each number its 95 % interval ({drawn}).",
            quiet=True,
        ),
    ]


def _row(name: str, found: OpinionScores, *, of_share: str = "", of_coverage: str = "") -> tuple[object, ...]:
    """Return a line of the table: a rule with its numbers, and what it guarantees."""
    return (
        name,
        value_with_note(f"{found.opinions:,} ({found.share:.1%})", of_share),
        value_with_note(f"{found.coverage:.1%}", of_coverage),
        _number(found.accuracy, ".1%"),
        _number(found.log_loss, ".4f"),
        _number(found.vs_base_rate, "+.4f"),
        _number(found.move_bps, "+.1f"),
    )


def _number(found: Interval, form: str) -> Markup:
    """Return a mean with its interval; without an opinion there is none."""
    return value_with_note("none") if np.isnan(found.value) else with_interval(found, form)
