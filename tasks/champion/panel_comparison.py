"""What is particular when a challenger of a panel is compared with its champion; see `challenger_vs_champion.py`.

The windows that both decided are compared: the same close and series. The champion is scored by its own out-of-sample
record up to the end of its training, then by what its network predicts for later windows. Those predictions are
computed now; the stored ones are not read.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from model.bars import Bars
from model.errors import BarsTooShort
from model.panel import cut_panel
from model.panel_recipe import PanelRecipe
from model.plurals import counted
from model.promotion_rule import Clause
from model.record import Record
from model.times import to_datetime64
from model.walk_forward import pool_records
from model.windows import Windows
from tasks.registry.model_files import LoadedVersion
from tasks.registry.model_registry import Version

MOST_NAMED = 3  # series in a reason
CHECKED_WINDOWS = 5_000  # own choice: fewest windows of the sanity check; a second to predict


def other_panel_question(ours: PanelRecipe, theirs: PanelRecipe, version: str) -> Clause | None:
    """Return the clause that replaces the comparison where the two predict different outcomes or series; else None.

    Args:
        ours: recipe of the challenger.
        theirs: recipe of the champion.
        version: number of the challenger.
    """
    own, other = _question(ours, theirs), _question(theirs, ours)
    if own == other:
        return None
    reason = (
        f"the challenger predicts {own}; the champion {other}: they are not compared, and the panel of an interval "
        f"has one champion. To promote it all the same: riseorfall promote --version {version} --symbol {ours.symbol} "
        f'--interval {ours.interval} --force --reason "...", or the form promote with force and a reason'
    )
    return Clause("champion", passed=False, reason=reason, numbers={})


def _question(recipe: PanelRecipe, opponent: PanelRecipe) -> str:
    """Describe what a recipe predicts; equal for equal outcomes of panels that have a series in common.

    A rank is one among the series of its panel: among others, or at closes with fewer of them, it is another outcome.
    """
    panel = recipe.panel
    outcome = f"label {panel.label}, {counted(recipe.window.horizon_bars, 'bar')} ahead"
    if not {*panel.symbols} & {*opponent.panel.symbols}:
        return f"{outcome}, of {', '.join(panel.symbols[:MOST_NAMED])}{_further(panel.symbols)}"
    if panel.label != "rank":
        return outcome
    further = sorted(set(panel.symbols) - set(opponent.panel.symbols))
    named = f", {', '.join(further)} among them," if further else ""
    return f"{outcome}, among {len(panel.symbols)} series{named} at closes of at least {panel.least_series}"


def _further(symbols: Sequence[str]) -> str:
    return f" and {len(symbols) - MOST_NAMED} more" if len(symbols) > MOST_NAMED else ""


def predict_since(
    loaded: LoadedVersion, bars: Mapping[str, Bars], first: np.datetime64 | None
) -> tuple[Windows, Float64[np.ndarray, "window output"]]:
    """Return the windows from a close on and their uncalibrated outputs, in the order of time and symbol.

    Args:
        loaded: files of a version.
        bars: by symbol, of its panel.
        first: oldest close, such as the first of a record; the newest `CHECKED_WINDOWS` windows are always included.
            None: those alone.
    """
    recipe = loaded.panel_recipe()
    windows = cut_panel(bars, recipe.window, recipe.panel).windows
    start = max(0, len(windows) - CHECKED_WINDOWS)
    if first is not None:
        start = min(start, int(np.searchsorted(windows.decided_at, first)))
    chosen = windows.take(np.arange(start, len(windows)))
    return chosen, loaded.predictor(calibrated=False).run(chosen)


def panel_record(version: Version, loaded: LoadedVersion, bars: Mapping[str, Bars], challenger: Record) -> Record:
    """Return a version's own record, followed by what it predicts for the challenger's windows after its training.

    Args:
        version: the version.
        loaded: its files.
        bars: by symbol, of the challenger's panel.
        challenger: record of the challenger.

    Raises:
        UnsoundModel: the version's files cannot be read.
    """
    recipe, record = loaded.panel_recipe(), loaded.record()
    loaded.predictor()  # a champion whose network cannot be read is broken, whether or not it predicts below
    later = challenger.decided_at[challenger.decided_at >= to_datetime64(version.trained_until)]
    return pool_records([record, *_later_record(loaded, recipe, bars, later[0])]) if len(later) else record


def _later_record(
    loaded: LoadedVersion, recipe: PanelRecipe, bars: Mapping[str, Bars], first: np.datetime64
) -> list[Record]:
    """Return what a champion predicts for the resolved windows from a close on; none where it cannot be computed.

    A champion whose inputs describe its panel predicts no other panel.
    """
    if recipe.context_count and set(recipe.panel.symbols) != set(bars):
        return []
    predictor = loaded.predictor()
    try:
        windows = cut_panel(bars, predictor.window, recipe.panel).resolved().windows
    except BarsTooShort:
        return []
    windows = windows.take(windows.decided_at >= first)
    fold = np.full(len(windows), -1, dtype=np.int64)
    probabilities = predictor.predict_windows(windows)
    return [Record(windows.decided_at, windows.resolved_at, windows.labels, probabilities, fold, windows.symbols)]
