"""Cut windows from stored bars and check them.

Tasks pass a `WindowsRef`, not arrays; a task that needs the windows cuts them again from the same bars, which takes
milliseconds and is cached within a process.
"""

from functools import lru_cache

from prefect import get_run_logger, task

from data_checks.check_spec import CheckSpec
from data_checks.validate import check_windows, require_passed
from model.folds import Fold, FoldSpec, split_folds
from model.windows import Windows, WindowSpec, cut_windows
from tasks.console.progress import current_progress
from tasks.results import WindowsRef
from tasks.settings import Settings
from tasks.store.bars_ref import BarsRef
from tasks.workspace import open_workspace


@lru_cache(maxsize=2)
def read_windows(bars: BarsRef, window: WindowSpec) -> Windows:
    """Read the bars and cut all windows, unresolved ones included; cached within a process."""
    return cut_windows(open_workspace().bar_store.read_bars(bars), window)


@lru_cache(maxsize=2)
def read_folds(bars: BarsRef, window: WindowSpec, folds: FoldSpec) -> tuple[Windows, tuple[Fold, ...]]:
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
        windows = read_windows(bars, window)
        resolved, _ = read_folds(bars, window, folds)
        report = check_windows(resolved, window, bars.series, check, Settings().docs_folder / bars.series.name)
        require_passed(report, check)
        get_run_logger().info(
            "%d windows, %d of them resolved; %d filled bars", len(windows), len(resolved), len(windows.filled)
        )
        return WindowsRef(bars, window, len(windows), len(resolved), float(resolved.labels.mean()), len(windows.filled))
