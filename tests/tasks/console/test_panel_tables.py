"""The forecast of a panel in a terminal of 80 columns: every number whole, one time of decision above the table."""

import re
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from model.bootstrap import Interval
from model.cost_classes import CLASS_COLUMNS
from model.label_names import LABEL_NAMES, LabelKind
from model.panel_evaluation import RankScores
from model.trading import TradingSpec
from model.trading_policy_comparison import PolicyComparison, PolicyResult
from tasks.console.command_output import policies_table
from tasks.console.panel_tables import ranks_table, show_panel_forecast
from tasks.console.prediction_tables import show_predictions

CLASSES = dict(zip(CLASS_COLUMNS, (0.3456, 0.4321, 0.2223), strict=True))


def row(symbol: str, probability: float, day: int = 2, opinion: str | None = None, **further: float) -> dict[str, Any]:
    times = {"decided_at": f"2026-01-0{day}T00:00:00+00:00", "resolves_at": f"2026-01-0{day + 1}T00:00:00+00:00"}
    stated = {"trained_on": True, "late": False, "opinion": opinion}
    return {"symbol": symbol, "probability": probability, **stated, **times, **further}


def shown(capsys: pytest.CaptureFixture[str], *rows: dict[str, Any], label: str = "rise") -> str:
    found = {"series": "PANEL-1d", "version": "3", "label": label, "predictions": list(rows), "left_out": {}}
    show_panel_forecast(found | {"backfilled": 0})
    return capsys.readouterr().out


def test_all_outputs_fit_and_a_series_of_another_close_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    sized = {"expected_move": 0.0266, "expected_return": -0.000401, **CLASSES}
    found = shown(
        capsys, row("DOGE-USD", 0.49, **sized), row("BTC-USD", 0.51, **sized), row("SOL-USD", 0.5, 1, **sized)
    )
    assert "PANEL-1d version 3, decided at 2026-01-02 UTC, resolves at 2026-01-03 UTC" in found
    (line,) = [each for each in found.splitlines() if "BTC-USD" in each]
    assert line.split() == ["BTC-USD", "0.5100", "2.66%", "-0.040%", "34.56%", "43.21%", "22.23%"]
    assert "…" not in found
    assert "SOL-USD: decided at 2026-01-01 UTC, resolves at 2026-01-02 UTC" in found
    assert found.index("BTC-USD") < found.index("SOL-USD") < found.index("DOGE-USD")


def test_a_network_of_p_alone_has_no_further_columns(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, row("BTC-USD", 0.51))
    assert "move" not in found
    assert "P(down)" not in found
    assert "opinion" not in found


def test_opinions_fit_beside_all_outputs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    sized = {"expected_move": 0.0266, "expected_return": -0.000401, **CLASSES}
    found = shown(
        capsys,
        row("BTC-USD", 0.51, opinion="rise", **sized),
        row("1000BTT-USD", 0.49, opinion="none", **sized),
        row("ETH-USD", 0.5, **sized),
    )
    lines = {line.split()[0]: line.split() for line in found.splitlines() if "%" in line}
    assert lines["BTC-USD"][:4] == ["BTC-USD", "0.5100", "yes", "2.66%"]
    assert lines["1000BTT-USD"][2:4] == ["no", "2.66%"]
    assert lines["ETH-USD"][2] == "2.66%"
    assert "opinion: 1 of 2 series, among the most confident by the share stated at retrain" in found
    assert "…" not in found


def result(net_return: float, break_even_bps: float) -> PolicyResult:
    bounds = {"break_even_bps_low": break_even_bps - 111.1, "break_even_bps_high": break_even_bps + 111.1}
    return PolicyResult({"net_return": net_return, "break_even_bps": break_even_bps, **bounds}, (), ())


def lines(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """Return the lines of the table in a terminal of 80 columns, each cut at two blanks or more; no cell is wrapped."""
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    return [[part.strip() for part in re.split(" {2,}", line) if part.strip()] for line in shown.splitlines()]


def test_ranks_of_baselines_and_plain_ranks_stand_beside_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    by = ("by_gradient_boosting", "by_linear_factor_model", "by_reversal_20_bars")
    earned = {"market_neutral": result(0.12, 9.1), "market_neutral_by_expected_return": result(-0.34, -12.5)}
    earned |= {f"market_neutral_{each}": result(-9.99, np.nan) for each in by}
    names = ("network", "base_rate", "gradient_boosting", "linear_factor_model", "reversal_20_bars")
    ranks = RankScores({name: Interval(0.548, 0.541, 0.554) for name in names}, {})
    comparison = PolicyComparison(TradingSpec(kind="long_short"), earned, 2, 0.0)
    Console(width=80).print(ranks_table(ranks, comparison))
    shown = lines(capsys)
    assert ["network", "0.548 [0.541, 0.554]", "+12.0%", "9.1 [-102.0, 120.2]"] in shown
    assert ["network, by return", "-34.0%", "-12.5 [-123.6, 98.6]"] in shown
    for name in ("gradient boosting", "linear factor model", "reversal 20 bars"):
        assert [name, "0.548 [0.541, 0.554]", "-999.0%", "nothing traded"] in shown
    assert ["base rate", "0.548 [0.541, 0.554]"] in shown
    Console(width=80).print(ranks_table(ranks, None))
    assert ["reversal 20 bars", "0.548 [0.541, 0.554]"] in lines(capsys)


def test_policies_of_baselines_stand_beside_those_of_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("sign", "no_trade_band", "sign_by_linear_factor_model", "no_trade_band_by_linear_factor_model")
    comparison = PolicyComparison(TradingSpec(policy="no_trade_band"), {name: result(0.5, 1.0) for name in names}, 2, 0)
    Console(width=80).print(policies_table(comparison))
    shown = lines(capsys)
    assert ["Policies, long or flat, at 15 bps per side; chosen: no-trade band"] in shown
    assert ["no-trade band", "network", "+50.0%", "1.0 [-110.1, 112.1]"] in shown
    assert ["no-trade band", "linear factor model", "+50.0%", "1.0 [-110.1, 112.1]"] in shown
    Console(width=80).print(policies_table(comparison, of_panel=True))
    assert ["Policies, long or flat, at 15 bps per side"] in lines(capsys)


@pytest.mark.parametrize("label", ["rise", "rank"])
def test_served_predictions_with_opinions_fit_80_columns(
    label: LabelKind, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    low, high = LABEL_NAMES[label].classes
    served = {"resolves_at": "2026-01-02T05:00:00+00:00", "probability": 0.53, "version": "12", "late": False}
    served |= {"symbol": "LINK-USDT", "label": label, "predicted": high}
    known = {"outcome": low, "right": False, "opinion": high}
    show_predictions([served | known, served | {"outcome": None, "right": None, "opinion": "none"}])
    found = capsys.readouterr().out
    assert "…" not in found
    held, silent = (line.split() for line in found.splitlines() if "LINK-USDT" in line)
    assert ("yes" in held, "no" in silent) == (True, True)
    assert held[-2:] == silent[-2:] == ["in", "time"]
