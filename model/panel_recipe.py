"""The recipe of a panel: one network for many series, registered under the reserved symbol PANEL.

Its symbols are listed, never left empty, so two models of one recipe differ by their bars only; a panel of one more
series is another recipe. A version's `recipe.json` is read here, of a panel or of a single series. Caution: registered
versions import this module by name, so it keeps its path.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from model.bars import PANEL, Bars, IntervalName, bars_from_frame
from model.cross_section import CONTEXT
from model.errors import SpecError
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.panel import PanelSpec
from model.presets import panel_preset_for, with_preset
from model.recipe import Recipe
from model.training import TrainingSpec
from model.windows import WindowSpec

if TYPE_CHECKING:
    import pandas as pd

LEAST_SERIES = 2


class PanelRecipe(Recipe):
    """Series and specs of one model of a panel."""

    symbol: Literal["PANEL"] = PANEL
    panel: PanelSpec

    @property
    def context_count(self) -> int:
        """How many inputs of a window describe the other series."""
        return len(CONTEXT) if self.panel.inputs == "cross_section" else 0

    @property
    def fields_off(self) -> dict[str, set[str]]:
        """Fields that change no number; see `Recipe.fields_off`."""
        return super().fields_off | {"panel": set() if self.panel.held_out else {"held_out"}}


@lru_cache(maxsize=64)  # the versions of a daily retrain have one recipe, and it cannot be changed
def read_recipe(text: str | bytes) -> Recipe:
    """Return the recipe of a `recipe.json`: that of a panel if it names one.

    Raises:
        ValueError: it is no recipe.
    """
    content = json.loads(text)
    kind = PanelRecipe if isinstance(content, dict) and "panel" in content else Recipe
    return kind.model_validate_json(text)


def choose_series(stored: Sequence[str], interval: str, panel: PanelSpec, as_of: datetime | None = None) -> PanelSpec:
    """Return the spec with its symbols listed, in alphabetical order: the chosen ones, or all that are not held out.

    Args:
        stored: symbols of the stored series of the interval.
        interval: length of a bar, for the message.
        panel: the spec; its symbols may be empty.
        as_of: time by which they have bars, for the message; None: any.

    Raises:
        SpecError: a symbol has no bars, one of the panel is held out, there are too few series, or the reference is
            none of them.
    """
    held_out = tuple(sorted(set(panel.held_out)))
    symbols = tuple(sorted(set(panel.symbols or stored) - (set() if panel.symbols else set(held_out))))
    listed = ", ".join(sorted(stored)) or "none"
    by = f" closed by {as_of:%Y-%m-%d %H:%M}" if as_of else ""
    ingest = "Ingest earlier bars, use a later --as-of" if as_of else "Ingest them"
    both = sorted(set(symbols) & set(held_out))
    if both:
        raise SpecError(
            f"panel: expected --panel.symbols and --panel.held-out without a common series, found {', '.join(both)} in "
            "both. A series is trained on or held out: name it once."
        )
    absent = sorted(set(held_out) - set(stored))
    if absent:
        raise SpecError(
            f"panel: expected stored {interval} bars{by} of the held-out series {', '.join(held_out)}; missing "
            f"{', '.join(absent)}; stored: {listed}. {ingest}, or choose others with --panel.held-out."
        )
    missing = sorted(set(symbols) - set(stored))
    if missing:
        raise SpecError(
            f"panel: expected stored {interval} bars{by} of {', '.join(symbols)}; missing {', '.join(missing)}; "
            f"stored: {listed}. {ingest}, or choose others with --panel.symbols."
        )
    least = max(LEAST_SERIES, panel.least_series if panel.label == "rank" else 0)
    if len(symbols) < least:
        why = " (--panel.least-series, for the label rank)" if least > LEAST_SERIES else ""
        raise SpecError(
            f"panel: expected at least {least} series{why}, found {len(symbols)}; stored {interval} series"
            f"{by and f' with bars{by}'}: {listed}. Ingest more series{by and ', or use a later --as-of'}."
        )
    if panel.reference and panel.inputs == "cross_section" and panel.reference not in symbols:
        raise SpecError(
            f"panel: expected the reference {panel.reference} among the series of the panel, found "
            f"{', '.join(symbols)}. Choose one of them with --panel.reference."
        )
    return panel.model_copy(update={"symbols": symbols, "held_out": held_out})


def panel_recipe_for(
    interval: IntervalName,
    panel: PanelSpec,
    window: WindowSpec = WindowSpec(),
    folds: FoldSpec = FoldSpec(),
    network: NetworkSpec = NetworkSpec(),
    training: TrainingSpec = TrainingSpec(),
) -> PanelRecipe:
    """Return the recipe of a panel: the fields set here, the rest from the preset of its interval; see `with_preset`.

    Raises:
        SpecError: a warm start, which panels do not have, or classes of a cost for the label rank.
    """
    chosen = with_preset(panel_preset_for(interval), window, folds, network, training)
    if chosen.training.warm_start:
        raise SpecError("panel: expected a fresh start, found --training.warm-start; panels have no warm start.")
    if panel.label == "rank" and chosen.network.beyond_cost_bps:
        raise SpecError(
            "panel: expected --network.beyond-cost-bps 0 with the label rank, found "
            f"{chosen.network.beyond_cost_bps:g}: a cost is paid for the move of a series, not for its distance from "
            "the median of the others. Use --panel.label rise, or --network.magnitude for the expected distance."
        )
    return PanelRecipe(
        interval=interval,
        window=chosen.window,
        folds=chosen.folds,
        network=chosen.network,
        training=chosen.training,
        panel=panel,
    )


def require_whole_panel(found: Iterable[str], recipe: PanelRecipe) -> None:
    """Raise unless the series are those of the panel, where the inputs describe each among the others.

    Raises:
        SpecError: a series is missing, or does not belong to the panel: all ranks would be others.
    """
    symbols, given = set(recipe.panel.symbols), set(found)
    if recipe.context_count and given != symbols:
        missing, further = (", ".join(sorted(each)) or "none" for each in (symbols - given, given - symbols))
        raise SpecError(
            f"{recipe.series.name}: expected bars of every series of the panel and of no other, because the inputs "
            f"describe each among the others; missing: {missing}; not of the panel: {further}. Give the bars of the "
            f"{len(symbols)} series: {', '.join(recipe.panel.symbols)}."
        )


def panel_frame(bars: dict[str, Bars], last: int) -> "pd.DataFrame":
    """Return the newest `last` bars of each series as one frame, with a column `symbol`."""
    import pandas as pd  # imported here: pandas takes a second

    frames = [each.frame().tail(last).assign(symbol=symbol) for symbol, each in bars.items()]
    return pd.concat(frames, ignore_index=True)


def panel_from_frame(frame: "pd.DataFrame", interval: str) -> dict[str, Bars]:
    """Return the bars of each series of a frame with a column `symbol`.

    Raises:
        SpecError: a series of the frame is no series of bars.
    """
    parts = frame.groupby("symbol", sort=True)
    return {str(symbol): bars_from_frame(part, interval) for symbol, part in parts}
