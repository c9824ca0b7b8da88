"""A panel with a held-out coin: scored, shown as not in training, and without influence on any weight."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from panel_home import RECIPE, SYMBOLS, coins, store_coins
from sklearn.metrics import log_loss
from synthetic_bars import random_walk

from flows.retrain_panel import retrain_panel
from model.bars import PANEL, Bars, Series
from model.panel import PanelSpec
from model.panel_promotion import PanelPromotion
from tasks.console.panel_tables import show_panel_retrain
from tasks.registry.run_artifacts import held_out_record, read_evaluation
from tasks.results import PanelRetrain
from tasks.settings import Settings
from tasks.workspace import Workspace

pytestmark = pytest.mark.e2e  # two retrains of a panel; tests/model/test_held_out.py has its parts
GENEROUS = PanelPromotion(base_rate_tolerance=1, base_rate_margin=1, champion_tolerance=1, champion_margin=1)
SPEC = PanelSpec(held_out=("XRP-USD", "NEW-USD"), label="rank", inputs="cross_section", least_series=3)


@dataclass(frozen=True)
class Retrained:
    """A home and the retrain in it."""

    home: Path
    result: PanelRetrain

    def workspace(self) -> Workspace:
        return Workspace(Settings(home=self.home, tracking_uri="", store="", public_url=""), Series(PANEL, "1d"))

    def fold_runs(self) -> list[str]:
        workspace = self.workspace()
        children = workspace.runs.client.search_runs(
            [workspace.runs.experiment_id()], f"tags.`mlflow.parentRunId` = '{self.result.run_id}'"
        )
        return [run.info.run_id for run in sorted(children, key=lambda run: int(run.data.tags["fold"]))]


def retrained(place: Path, seed: int) -> Retrained:
    """Retrain the three coins without XRP-USD, a random walk of a seed, and NEW-USD, which has three bars."""
    other = random_walk(240, seed=seed)
    out = {"XRP-USD": other, "NEW-USD": Bars("1d", other.opened_at[-3:], other.ohlcv[-3:])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RISEORFALL_HOME", str(place))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store_coins(Settings(), coins() | out)
        return Retrained(place, retrain_panel(panel=SPEC, promotion=GENEROUS, **RECIPE))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Retrained, Retrained]:
    """Two homes that differ in the bars of the held-out coins only."""
    place = tmp_path_factory.mktemp("held out")
    return retrained(place / "one", 11), retrained(place / "other", 12)


def test_other_bars_of_a_held_out_coin_change_no_weight_and_no_probability(both: tuple[Retrained, Retrained]) -> None:
    one, other = both
    files = [each.workspace().registry.read_version("1") for each in both]
    assert files[0].network_sha256 == files[1].network_sha256
    assert files[0].panel_recipe().panel.symbols == SYMBOLS
    assert one.result.windows.bars.sha256 != other.result.windows.bars.sha256  # the same retrain would not be repeated
    records = [read_evaluation(each.workspace().runs, each.result.run_id) for each in both]
    for name in ("probabilities", "labels", "decided_at", "symbols"):
        np.testing.assert_array_equal(getattr(records[0][0], name), getattr(records[1][0], name))
    np.testing.assert_array_equal(records[0][1], records[1][1])
    for ours, theirs in zip(one.fold_runs(), other.fold_runs(), strict=True):
        for name in ("validation.parquet", "uncalibrated.parquet", "calibrator.json"):
            assert one.workspace().runs.read_file(ours, name) == other.workspace().runs.read_file(theirs, name)
    assert one.result.evaluation.series == other.result.evaluation.series
    assert one.result.evaluation.held_out != other.result.evaluation.held_out


def test_a_held_out_coin_is_scored_in_the_test_periods_and_marked(
    both: tuple[Retrained, Retrained], capsys: pytest.CaptureFixture[str]
) -> None:
    one, _ = both
    workspace, found = one.workspace(), one.result.evaluation
    record, _ = read_evaluation(workspace.runs, one.result.run_id)
    held_out = held_out_record(workspace.runs, one.fold_runs())
    assert set(held_out.symbols) == {"XRP-USD"}
    assert set(record.symbols) == set(SYMBOLS)
    np.testing.assert_array_equal(np.unique(held_out.decided_at), np.unique(record.decided_at))
    folds = dict(zip(record.decided_at, record.fold, strict=True))
    assert [folds[at] for at in held_out.decided_at] == held_out.fold.tolist()
    (scores,) = found.held_out
    assert (scores.symbol, scores.trained_on) == ("XRP-USD", False)
    assert scores.scores["log_loss"] == pytest.approx(log_loss(held_out.labels, held_out.probabilities))
    assert found.left_out["NEW-USD"].startswith("held out, but not tested")
    data = workspace.runs.client.get_run(one.result.run_id).data
    assert data.params["panel.held_out"] == "('NEW-USD', 'XRP-USD')"
    assert data.metrics["test/held_out_log_loss"] == pytest.approx(scores.scores["log_loss"])
    assert data.metrics["test/held_out_vs_base_rate_low"] == pytest.approx(scores.against_base_rate.low)
    content = json.loads(workspace.runs.read_file(one.result.run_id, "evaluation/series.json"))
    table = pd.DataFrame(content["data"], columns=content["columns"]).set_index("symbol")
    assert table["trained_on"].to_dict() == {**dict.fromkeys(SYMBOLS, True), "XRP-USD": False}
    page = Path(one.result.report).read_text(encoding="utf-8")
    assert page.count("not in training") == 2
    show_panel_retrain(one.result, {}, workspace.settings, Path("log"))
    assert "XRP-USD, not trained on: log loss" in " ".join(capsys.readouterr().out.split())
