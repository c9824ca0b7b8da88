"""The explanation of one prediction as parts of a page: attribution by bar, filter activations, gates.

Text and charts only; the numbers come from `model/explanation.py`. `riseorfall explain` makes a page of these parts; a
retrain report shows them in a section.
"""

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped
from markupsafe import Markup

from model.explanation import ActivationMap, Explanation
from model.explanation_charts import attribution_chart, filters_chart, map_chart
from tasks.pages.html_page import Page, facts, heading, paragraph, side_by_side, table, value_with_note
from tasks.pages.number_format import moment_text, points_text

STRONGEST_BARS = 5
FLOAT32_TOLERANCE = 1e-6  # a smaller difference between the network's and the served probability is rounding
STATES = ("cell state", "hidden state")  # of either sign; gates run from 0 to 1
OUTCOME_OF_LABEL = {1: "a rise followed", 0: "a fall followed", -1: "outcome not known yet"}
MAP_NOTES = {
    "input gate": "Blue, open: the new input enters the cell state.",
    "forget gate": "Blue, open: the cell state is kept; orange, closed: it is dropped.",
    "output gate": "Blue, open: the cell state is passed on.",
    "cell state": "The memory of the layer.",
    "hidden state": "The output of the layer; the prediction uses the last column.",
    "update gate": "Blue, open: the state is kept; orange, closed: it is replaced.",
    "reset gate": "Orange, closed: the new candidate state ignores the old state.",
}


@dataclass(frozen=True, slots=True)
class Explained:
    """An explanation with its place in time.

    Attributes:
        explanation: of the window.
        opened_at: shape (lookback,), datetime64[us], UTC: open times of its bars.
        decided_at: close of its last bar, datetime64[us], UTC.
        label: the outcome: 1 rise, 0 fall, -1 not known yet.
        in_sample: whether the window and its outcome were training data of the network.
        probability: P(rise) as served: the mean of all ensemble members, calibrated. The probability of the
            explained network alone may differ.
    """

    explanation: Explanation
    opened_at: Shaped[np.ndarray, " lookback"]
    decided_at: np.datetime64
    label: int
    in_sample: bool
    probability: float

    def strongest(self, count: int = STRONGEST_BARS) -> list[int]:
        """Return the positions in the window of the bars with the largest attributions, the largest first."""
        order = np.argsort(-np.abs(self.explanation.attribution.by_bar()), kind="stable")
        return [int(position) for position in order[:count]]


def explanation_parts(page: Page, explained: Explained) -> list[Markup]:
    """Return the explanation of one window as parts of a section."""
    found = explained.explanation
    parts = [_summary(explained)]
    parts.append(
        page.chart(
            attribution_chart(found, explained.opened_at),
            "Attribution: the contribution of each bar to P(rise).",
            "Blue raises P(rise), orange lowers it; below, by feature. Contributions sum to the difference from a "
            "window of constant prices, in percentage points (pp).",
        )
    )
    parts += [heading("Bars with the largest contributions"), _strongest_table(explained)]
    if found.filters is not None:
        parts += [heading("Filters of the first layer"), page.chart(
            filters_chart(found.filters, found.features), "Kernels of the first convolution.",
            "Blue: positive weights; orange: negative. Each kernel slides over the standardised window.")]  # fmt: skip
    if found.activations:
        maps = [_activation(page, each, explained) for each in found.activations]
        parts += [heading("Activation of each filter"), side_by_side(*maps)]
    for gates in found.gates:
        layer = re.sub("lstm|gru", lambda kind: kind[0].upper(), gates.layer)
        parts.append(heading(f"Gates and states of the {layer}"))
        charts = [
            page.chart(
                map_chart(values, explained.opened_at, row="unit", opens=name not in STATES),
                f"{name[0].upper()}{name[1:]}.",
                MAP_NOTES[name],
            )
            for name, values in gates.maps.items()
        ]
        parts.append(side_by_side(*charts))
    parts += [paragraph(line, quiet=True) for line in found.lacks]
    return parts


def _summary(explained: Explained) -> Markup:
    found = explained.explanation.attribution
    training = (
        "In-sample: the network was trained on this window, so its probability is no forecast."
        if explained.in_sample
        else "Out-of-sample: the network was not trained on this window."
    )
    differs = abs(found.probability - explained.probability) >= FLOAT32_TOLERANCE
    own = (
        {"P(rise) of the explained network": f"{found.probability:.2%} ({explained.explanation.kind})"}
        if differs
        else {}
    )
    return facts(
        {
            "Decided at": moment_text(explained.decided_at),
            "P(rise)": f"{explained.probability:.2%}; {OUTCOME_OF_LABEL[explained.label]}",
            **own,
            "At constant prices": f"{found.flat_probability:.2%}",
            "Difference, attributed to the bars": f"{points_text(found.probability - found.flat_probability, 2)} "
            f"(numerical error {found.gap:.1e}, {found.steps} steps)",
            "Training data": training,
        }
    )


def _strongest_table(explained: Explained) -> Markup:
    found = explained.explanation
    contributions = found.attribution.by_bar()
    rows = [
        (
            moment_text(explained.opened_at[place]),
            points_text(contributions[place], 3),
            *(
                value_with_note(points_text(found.attribution.values[place, k], 3), f"{found.window[place, k]:,.6g}")
                for k in range(len(found.features))
            ),
        )
        for place in explained.strongest()
    ]
    head = ("bar opened at", "contribution", *(value_with_note(f"of {name}", "its value") for name in found.features))
    return table(head, rows)


def _activation(page: Page, found: ActivationMap, explained: Explained) -> Markup:
    reach = f"Column t depends on bars t - {found.reach_before} to t + {found.reach_after}."
    return page.chart(
        map_chart(found.values, explained.opened_at, row="filter", opens=False),
        f"{found.layer}, {found.values.shape[1]} filters.",
        f"{reach} Blue: the filter's pattern is present; orange: its opposite.",
    )
