"""The forecast of a panel in a terminal of 80 columns: every number whole, one time of decision above the table."""

from typing import Any

import pytest

from model.metrics import CLASS_COLUMNS
from tasks.console.panel_tables import show_panel_forecast

CLASSES = dict(zip(CLASS_COLUMNS, (0.3456, 0.4321, 0.2223), strict=True))


def row(symbol: str, probability: float, day: int = 2, **further: float) -> dict[str, Any]:
    times = {"decided_at": f"2026-01-0{day}T00:00:00+00:00", "resolves_at": f"2026-01-0{day + 1}T00:00:00+00:00"}
    return {"symbol": symbol, "probability": probability, "trained_on": True, "late": False, **times, **further}


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
