"""The bars that `tune` may see: those before the test bars of every recipe that it may find.

A recipe selected on its test bars has an optimistic record, as the article's checkpoint has; so no trial sees them.
"""

import numpy as np

from model.bars import Bars
from model.errors import BarsTooShort
from model.folds import split_folds
from model.recipe import Recipe
from model.search_space import choices_of
from model.windows import cut_windows


def bars_before_test(bars: Bars, recipe: Recipe) -> Bars:
    """Return the bars that closed before the first decision of the test of any recipe that the search may find.

    A longer lookback loses more windows at each gap, so that the same number of test windows begins earlier: the
    earliest begin among all lookbacks counts.

    Raises:
        BarsTooShort: there are too few bars for the recipe's own folds.

    Time: every bar closes before that decision, so no test label depends on them.
    """
    first = _first_test_decision(bars, recipe)
    for lookback_bars in choices_of(recipe)["lookback_bars"]:
        window = recipe.window.model_copy(update={"lookback_bars": lookback_bars})
        try:
            first = min(first, _first_test_decision(bars, recipe.model_copy(update={"window": window})))
        except BarsTooShort:  # a retrain with this lookback would fail for the same reason
            continue
    return bars.closed_by(first - np.timedelta64(1, "us"))


def _first_test_decision(bars: Bars, recipe: Recipe) -> np.datetime64:
    windows = cut_windows(bars, recipe.window).resolved()
    return min(windows.decided_at[fold.test].min() for fold in split_folds(windows, recipe.folds))
