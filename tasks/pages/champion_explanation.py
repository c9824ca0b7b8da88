"""Explains one window of a series with the champion's network and writes the explanation as a page.

The network is the Keras file that the registry keeps for warm starts and inspection (`network.keras`), so TensorFlow is
loaded here, unlike for a prediction. Caution: the explanation of an in-sample window shows what the network memorised;
the page marks it.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from model.bars import Bars, Series
from model.calibration import UNCALIBRATED, Calibrator
from model.errors import SpecError
from model.explanation import explain_window
from model.times import iso_text, to_datetime64
from model.windows import WindowSpec, cut_windows
from tasks.champion.commit_decision import sync_champion_alias
from tasks.pages.explanation_page import Explained, explanation_parts
from tasks.pages.html_page import Page
from tasks.pages.number_format import moment_text
from tasks.pages.written_pages import write_page
from tasks.settings import Settings
from tasks.workspace import Workspace


@dataclass(frozen=True, slots=True)
class WrittenExplanation:
    """The explanation of one window, and the path of its page."""

    series: Series
    version: str
    explained: Explained
    path: Path

    def headline(self) -> str:
        """Return probability, decision time and version in one line."""
        decided_at = moment_text(self.explained.decided_at)
        return f"P(rise) {self.explained.probability:.4f} at {decided_at} by version {self.version}"

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as JSON values: the contribution of every bar, oldest first."""
        found, names = self.explained.explanation, self.explained.explanation.features
        total, shares = found.attribution.by_bar(), found.attribution.values
        return {
            "symbol": self.series.symbol,
            "interval": self.series.interval,
            "version": self.version,
            "decided_at": iso_text(self.explained.decided_at),
            "probability": self.explained.probability,
            "network_probability": found.attribution.probability,
            "flat_probability": found.attribution.flat_probability,
            "outcome": {1: "rise", 0: "fall"}.get(self.explained.label),
            "learned": self.explained.in_sample,
            "bars": [
                {
                    "opened_at": iso_text(at),
                    "added": float(total[place]),
                    "added_by": {name: float(shares[place, k]) for k, name in enumerate(names)},
                }
                for place, at in enumerate(self.explained.opened_at)
            ],
            "strongest": [iso_text(self.explained.opened_at[place]) for place in self.explained.strongest()],
            "page": str(self.path),
        }


def explain_champion(series: Series, settings: Settings, at: datetime | None = None) -> WrittenExplanation:
    """Explain the champion's probability for one window, and write the page.

    Args:
        series: whose champion and bars.
        settings: where both are stored, and where the page is written.
        at: decision time of the window, UTC: the close of its last bar; None for the newest.

    Raises:
        NoChampion: no version has been promoted yet.
        SpecError: no window has that decision time.
        UnsoundModel: the champion's files cannot be read.
    """
    from model.network_files import network_from_bytes  # imported here: loads TensorFlow

    workspace = Workspace(settings, series)
    champion = sync_champion_alias(workspace).require(workspace)
    loaded = workspace.registry.read_version(champion.version)
    store = workspace.bar_store
    bars = store.read_bars(store.ref(series))
    network = network_from_bytes(loaded.keras())
    known = bars, loaded.recipe().window, champion.trained_until
    explained = explain_at(network, *known, at, loaded.calibrator())
    title = f"{series.symbol} {series.interval}: why P(rise) is {explained.probability:.1%}"
    subtitle = f"Version {champion.version}, trained until {champion.trained_until:%Y-%m-%d %H:%M} UTC. "
    page = Page(title, subtitle + f"Decided at {moment_text(explained.decided_at)}.")
    page.lead(*explanation_parts(page, explained))
    stamp = np.datetime_as_string(explained.decided_at, unit="m").item().replace(":", "")
    path = write_page(settings, series.name, f"explain-{stamp}Z.html", page.html())
    return WrittenExplanation(series, champion.version, explained, path)


def explain_at(
    network: Any,
    bars: Bars,
    window: WindowSpec,
    trained_until: datetime,
    at: datetime | None = None,
    calibrator: Calibrator = UNCALIBRATED,
) -> Explained:
    """Explain the window with a given decision time, or the newest one.

    Args:
        network: a `keras.Model` of `model.networks.build_network`.
        bars: the bars, oldest first.
        window: spec of the network's training windows; its stride does not matter.
        trained_until: close of the last bar of its training data.
        at: decision time of the window, UTC; None for the newest.
        calibrator: applied to the network's probabilities before they are served.

    Raises:
        BarsTooShort: there is no window.
        SpecError: no window has that decision time; the message names the nearest ones.
    """
    windows = cut_windows(bars, window.model_copy(update={"stride_bars": 1}))
    place = len(windows) - 1 if at is None else _place(windows.decided_at, to_datetime64(at))
    chosen = windows.take(np.arange(place, place + 1))
    back = np.arange(window.lookback_bars, 0, -1)
    label, values = int(chosen.labels[0]), chosen.values()
    explanation = explain_window(network, values[0], window.features)
    predicted = np.array([explanation.attribution.probability])
    if explanation.kind != network.name:  # a member of an ensemble is explained
        predicted = np.asarray(network(values, training=False), dtype=np.float64)[:, 0]
    return Explained(
        explanation=explanation,
        opened_at=chosen.decided_at[0] - back * bars.delta,
        decided_at=chosen.decided_at[0],
        label=label,
        in_sample=bool(label >= 0 and chosen.resolved_at[0] <= to_datetime64(trained_until)),
        probability=float(calibrator.apply(predicted)[0]),
    )


def _place(decided_at: np.ndarray, wanted: np.datetime64) -> int:
    """Return the index of the window with a decision time."""
    place = int(np.searchsorted(decided_at, wanted))
    if place < len(decided_at) and decided_at[place] == wanted:
        return place
    near = [moment_text(decided_at[k]) for k in (place - 1, place) if 0 <= k < len(decided_at)]
    raise SpecError(
        f"explain: expected a window decided at {moment_text(wanted)} (the close of its last bar), found none; "
        f"the nearest: {' and '.join(near)}. Pass one of these with --at, or omit --at for the newest."
    )
