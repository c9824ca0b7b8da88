"""Training on a panel of 42 series vs. one series of as many windows: the same epoch, and memory that grows with bars.

Both train the default network on 84,000 windows of 30 bars in batches of 1,024, and alternate. The panel's windows come
from 42 feature matrices in the order of time, so neighbouring windows of a batch lie far apart in memory. The last line
is the memory of what is kept for all windows, against that of the windows themselves, copied out.
"""

import numpy as np
from synthetic_series import walk
from timed_comparison import Line, alternate, compared

from model.networks import NetworkSpec
from model.panel import PanelSpec, cut_panel
from model.training import Trainer, TrainingSpec
from model.windows import Windows, WindowSpec, cut_windows

SERIES, WINDOWS_EACH, BATCH = 42, 2_000, 1_024


def lines(rounds: int) -> list[Line]:
    """Compare an epoch, and the memory of the windows."""
    spec = WindowSpec()
    bars = {f"C{number}": walk(WINDOWS_EACH + spec.lookback_bars, seed=number) for number in range(SERIES)}
    panel = cut_panel(bars, spec, PanelSpec()).resolved().windows
    one = cut_windows(walk(len(panel) + spec.lookback_bars, seed=99), spec).resolved()
    trainer = Trainer(NetworkSpec(), TrainingSpec(batch_size=BATCH), spec.lookback_bars, 4)

    def epoch(windows: Windows) -> None:
        trainer.fit(windows, np.arange(len(windows)), epochs=1)

    seconds = alternate({"panel": lambda: epoch(panel), "one": lambda: epoch(one)}, rounds)
    line = compared(
        f"an epoch of {len(panel):,} windows: one series / {SERIES} series", seconds["panel"], seconds["one"]
    )
    speed = Line(line.what, line.ours, line.theirs, "s", line.ratio, "0.9x", line.spread, (line.ratio or 0) >= 0.9)
    kept = (panel.features.nbytes + panel.ends.nbytes + panel.labels.nbytes + panel.symbols.nbytes) / 2**20
    copied = len(panel) * spec.lookback_bars * 4 * 8 / 2**20
    memory = Line("memory of the panel's windows / copied out", kept, copied, "MiB", copied / kept)
    return [speed, memory]
