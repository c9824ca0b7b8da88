"""An explanation as parts of a page: what each bar added, what the filters answered to, how the gates moved.

Words and pictures only; the numbers are `model/explanation.py`'s. The same parts make the page of `riseorfall explain` and
a section of a retrain's report.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from model.explanation import ActivationMap, Explanation
from model.interactive_charts import attribution_chart, filters_chart, map_chart
from tasks.pages.html_page import Html, Page, facts, heading, paragraph, side_by_side, table

STRONGEST_BARS = 5
SAME = 1e-6  # float32: below, the network explained says what is served
STATES = ("cell state", "hidden state")  # run to both sides of zero; gates run from 0 to 1


@dataclass(frozen=True, slots=True)
class Explained:
    """An explanation with its place in time.

    Attributes:
        explanation: of the window.
        opened_at: shape (lookback,), datetime64[us], UTC: open times of its bars.
        decided_at: close of its last bar, datetime64[us], UTC.
        label: what followed: 1 rise, 0 fall, -1 not known yet.
        learned: whether the network learned from this window, so that it knew the outcome.
        said: P(rise) that is served: the mean of all members, calibrated; the explained network's own may differ.
    """

    explanation: Explanation
    opened_at: Shaped[np.ndarray, " lookback"]
    decided_at: np.datetime64
    label: int
    learned: bool
    said: float

    def strongest(self, count: int = STRONGEST_BARS) -> list[int]:
        """Return the places in the window of the bars that moved P(rise) most, the strongest first."""
        order = np.argsort(-np.abs(self.explanation.attribution.by_bar()), kind="stable")
        return [int(place) for place in order[:count]]


def explanation_parts(page: Page, explained: Explained) -> list[Html]:
    """Return everything that is to be said about one window, as parts of a section."""
    found = explained.explanation
    parts = [_summary(explained)]
    parts.append(
        page.chart(
            attribution_chart(found, explained.opened_at),
            "What each bar added to P(rise).",
            "Blue pushed towards a rise, orange towards a fall; below, which channel did. The shares sum to the "
            "difference from a window in which nothing moves.",
        )
    )
    parts += [heading("The strongest bars"), _strongest_table(explained)]
    if found.filters is not None:
        parts += [heading("What the first layer looks for"), page.chart(
            filters_chart(found.filters, found.features), "Kernels of the first convolution.",
            "Blue counts for, orange against; each kernel slides over the standardised window.")]  # fmt: skip
    if found.activations:
        maps = [_activation(page, each, explained) for each in found.activations]
        parts += [heading("What each filter answered to"), side_by_side(*maps)]
    for gates in found.gates:
        parts.append(heading(f"How the {gates.layer} opened and closed"))
        charts = [
            page.chart(
                map_chart(values, explained.opened_at, row="unit", opens=name not in STATES),
                f"{name[0].upper()}{name[1:]}.",
                _READINGS[name],
            )
            for name, values in gates.maps.items()
        ]
        parts.append(side_by_side(*charts))
    parts += [paragraph(line, quiet=True) for line in found.lacks]
    return parts


_READINGS = {
    "input gate": "Blue, open: what is new enters the memory.",
    "forget gate": "Blue, open: the memory is kept; orange, shut: it is dropped.",
    "output gate": "Blue, open: the memory is handed on.",
    "cell state": "The memory itself.",
    "hidden state": "What is handed on; the last column is what the decision rests on.",
    "update gate": "Blue, open: the state is kept; orange, shut: it is replaced.",
    "reset gate": "Orange, shut: the old state is left out of the new one.",
}


def outcome(label: int) -> str:
    """Word what followed."""
    return {1: "a rise followed", 0: "a fall followed"}.get(label, "the outcome is not known yet")


def moment(at: np.datetime64) -> str:
    """Word a moment, to the minute, UTC."""
    return f"{np.datetime_as_string(at, unit='m').item().replace('T', ' ')} UTC"


def _summary(explained: Explained) -> Html:
    found = explained.explanation.attribution
    learned = (
        "The network learned from this window, so it shows what was memorised, not what was foreseen."
        if explained.learned
        else "The network did not learn from this window."
    )
    differs = abs(found.probability - explained.said) >= SAME
    own = {"Of the network explained": f"{found.probability:.2%} ({explained.explanation.kind})"} if differs else {}
    return facts(
        {
            "Decided at": moment(explained.decided_at),
            "P(rise)": f"{explained.said:.2%}; {outcome(explained.label)}",
            **own,
            "Of a window in which nothing moves": f"{found.flat_probability:.2%}",
            "Difference, shared among the bars": f"{found.probability - found.flat_probability:+.2%} "
            f"(the shares miss it by {found.gap:.1e}, {found.steps} steps)",
            "Learned": learned,
        }
    )


def _strongest_table(explained: Explained) -> Html:
    found = explained.explanation
    shares = found.attribution.by_bar()
    rows = [
        (
            moment(explained.opened_at[place]),
            f"{shares[place]:+.3%}",
            *(f"{found.attribution.values[place, k]:+.3%}" for k in range(len(found.features))),
            *(f"{found.window[place, k]:,.6g}" for k in range(len(found.features))),
        )
        for place in explained.strongest()
    ]
    head = ("bar opened at", "added", *(f"by {name}" for name in found.features), *found.features)
    return table(head, rows)


def _activation(page: Page, found: ActivationMap, explained: Explained) -> Html:
    reach = f"Column t looks at bars t - {found.reach_before} to t + {found.reach_after}."
    return page.chart(
        map_chart(found.values, explained.opened_at, row="filter", opens=False),
        f"{found.layer}, {found.values.shape[1]} filters.",
        f"{reach} Blue: the pattern is there; orange: its opposite.",
    )
