"""Cut windows from stored bars and check them.

`cut_windows` labels a window by the close `horizon_bars` later and lets no window or label cross a gap; the newest
windows have no outcome yet ("unresolved") and are predicted only. `cut` requires that windows pass their checks and
suffice for the folds. Tasks pass a `WindowsRef`, not arrays; a task that needs the windows cuts them again from the
same bars, verified by their hash, which takes milliseconds and is cached within a process.
"""

from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from prefect import get_run_logger, task

from data_checks.check_report import require_passed
from data_checks.check_spec import CheckSpec
from data_checks.validate import check_windows
from model.folds import Fold, FoldSpec, naming_bars_needed, split_folds
from model.panel import Panel, PanelSpec, cut_held_out, cut_panel, series_left_out
from model.panel_recipe import PanelRecipe
from model.windows import Windows, WindowSpec, cut_windows
from tasks.console.progress import current_progress
from tasks.results import WindowsRef
from tasks.settings import Settings
from tasks.store.bars_ref import AnyBarsRef, BarsRef, PanelBarsRef
from tasks.store.panel_bars import panel_ref, read_held_out, read_panel
from tasks.workspace import open_workspace


@lru_cache(maxsize=2)
def read_windows(bars: AnyBarsRef, window: WindowSpec) -> Windows:
    """Read the bars and cut all windows, unresolved ones included; cached within a process."""
    if isinstance(bars, PanelBarsRef):
        return read_panel_windows(bars, window).windows
    return cut_windows(open_workspace().bar_store.read_bars(bars), window)


@lru_cache(maxsize=1)
def read_panel_windows(bars: PanelBarsRef, window: WindowSpec) -> Panel:
    """Read the bars of a panel and cut its windows, with the return of each; cached within a process."""
    return cut_panel(read_panel(open_workspace().bar_store, bars), window, bars.panel)


@lru_cache(maxsize=1)
def read_held_out_windows(bars: AnyBarsRef, window: WindowSpec) -> dict[str, Panel]:
    """Read the bars and cut the windows of each held-out series, by symbol; empty without any."""
    if not isinstance(bars, PanelBarsRef) or not bars.held_out:
        return {}
    store = open_workspace().bar_store
    return cut_held_out(read_panel(store, bars), read_held_out(store, bars), window, bars.panel)


@lru_cache(maxsize=2)
def read_folds(bars: AnyBarsRef, window: WindowSpec, folds: FoldSpec) -> tuple[Windows, tuple[Fold, ...]]:
    """Return the resolved windows and the folds over them."""
    windows = read_windows(bars, window).resolved()
    return windows, split_folds(windows, folds)


@task(name="window", task_run_name="cut windows: {window.lookback_bars} bars, horizon {window.horizon_bars}")
def cut(bars: BarsRef, window: WindowSpec, folds: FoldSpec, check: CheckSpec) -> WindowsRef:
    """Cut windows, check them, and require that they suffice for the folds.

    Raises:
        BarsTooShort: the bars do not suffice for one window, or for the folds.
        ChecksFailed: a check of a stopping severity failed.
    """
    with current_progress().step("window"):
        with naming_bars_needed(f"{bars.symbol} {bars.interval}: {bars.rows} bars are stored", window, folds):
            windows = read_windows(bars, window)
            resolved, _ = read_folds(bars, window, folds)
        settings = Settings()
        report = check_windows(resolved, window, bars.series, check, settings.docs_folder / bars.series.name)
        report = replace(report, page_url=settings.link(Path(report.page_url)) if report.page_url else "")
        require_passed(report, check)
        get_run_logger().info(
            "%d windows, %d of them resolved; %d filled bars", len(windows), len(resolved), len(windows.filled)
        )
        return WindowsRef(bars, window, len(windows), len(resolved), float(resolved.labels.mean()), len(windows.filled))


@task(name="read panel", task_run_name="read the stored bars of {interval}")
def read_stored(interval: str, panel: PanelSpec, as_of: datetime | None) -> PanelBarsRef:
    """Return a reference to the stored bars of a panel: of the chosen symbols, or of every series of the interval.

    Raises:
        SpecError: a symbol has no bars, or there are too few series.
    """
    with current_progress().step("read"):
        ref = panel_ref(open_workspace().bar_store, interval, panel, as_of)
        get_run_logger().info("%d series, %d bars until %s", len(ref.refs), ref.rows, ref.closed_at)
        if ref.held_out:
            get_run_logger().info("held out, not trained on: %s", ", ".join(each.symbol for each in ref.held_out))
        return ref


@task(name="cut panel", task_run_name="cut the windows of all series")
def cut_panel_windows(bars: PanelBarsRef, recipe: PanelRecipe) -> WindowsRef:
    """Cut the windows of every series, and require that they suffice for the folds.

    Raises:
        BarsTooShort: the bars do not suffice for one window, or for the folds.
    """
    with current_progress().step("window"):
        windows = read_windows(bars, recipe.window)
        resolved, folds = read_folds(bars, recipe.window, recipe.folds)
        logger = get_run_logger()
        logger.info("%d windows, %d of them resolved", len(windows), len(resolved))
        panel = read_panel_windows(bars, recipe.window).resolved()
        for symbol, reason in series_left_out(recipe.panel, recipe.window, panel, folds).items():
            logger.warning("%s is %s", symbol, reason)
        share = float(resolved.labels.mean())
        return WindowsRef(bars, recipe.window, len(windows), len(resolved), share, len(windows.filled))
