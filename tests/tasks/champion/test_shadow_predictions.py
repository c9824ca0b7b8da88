"""Shadow predictions: stored for every version that is not rejected, never in the way of what is served."""

import hashlib
import logging
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_bars import random_walk
from tiny_home import SERIES, tiny_home, tiny_version

from model.bars import Bars, Series
from model.errors import StoreUnavailable
from model.predictor import Predictor
from model.times import to_datetime
from tasks.champion import live_comparison
from tasks.champion.live_comparison import compare_live
from tasks.champion.series_status import series_status
from tasks.champion.shadow_predictions import predict_with_shadows
from tasks.champion.shadow_spec import ShadowSpec
from tasks.champion.shadow_versions import shadow_versions
from tasks.registry.model_files import LoadedVersion
from tasks.registry.model_registry import ModelRegistry
from tasks.serving.forecast import Forecast, forecast
from tasks.settings import Settings
from tasks.store.decision_log import REFERENCE, LoggedDecision
from tasks.store.prediction_log import PredictionLog
from tasks.workspace import Workspace

BARS = random_walk(160, seed=4)
DECIDED = BARS.closed_at[119]
GAINS = {"1": 1.0, "2": 4.0, "3": 9.0, "4": 2.0, "5": 6.0}
TRAINED = {"1": 100, "2": 110, "3": 112, "4": 114, "5": 121}  # version 5 knows a bar after the decision
REJECTED, BROKEN = "3", "4"


def first(count: int) -> Bars:
    return Bars(BARS.interval, BARS.opened_at[:count], BARS.ohlcv[:count])


def p_rise(version: str, bar: int) -> float:
    close = BARS.column("close")[bar - 4 : bar + 1]
    return float(1 / (1 + np.exp(-GAINS[version] * (close[-1] / close[0] - 1))))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five versions: the champion, a shadow, a rejected one, one that cannot be opened, one trained on later bars."""
    home = tmp_path_factory.mktemp("template") / "home"
    workspace = Workspace(tiny_home(home, first(120), TRAINED["1"]), SERIES)
    for version in ("2", "3", "4", "5"):
        assert tiny_version(workspace, BARS, TRAINED[version], gain=GAINS[version]) == version
    rows = {"1": ("promote", None, "1"), "2": ("hold", "1", "1"), REJECTED: ("reject", "1", "1")}
    for version, (action, before, after) in rows.items():
        row = LoggedDecision(
            decision_id=version, decided_at=to_datetime(BARS.closed_at[TRAINED[version]]), series_name=SERIES.name,
            symbol=SERIES.symbol, interval=SERIES.interval, action=action, version=version, champion_before=before,
            champion_after=after, reasons=("test",), numbers={}, bars_version=0, bars_sha256="",
            rule="daily",
        )  # fmt: skip
        workspace.decision_log.append_if_current(row)
    (workspace.registry.read_version(BROKEN).folder / "network.onnx").write_bytes(b"junk")
    return home


def predict(settings: Settings, count: int = 120, **named: Any) -> Forecast:
    """Predict at the close of a bar, one minute later."""
    moment = to_datetime(BARS.closed_at[count - 1])
    if count > 120:
        store = Workspace(settings).bar_store
        store.merge(SERIES, first(count).frame(), {"source": "test"}, merged_at=datetime.now(UTC))
    return forecast(SERIES, settings, as_of=moment, now=moment + timedelta(minutes=1), **named)


def test_every_version_that_may_predict_does_so_before_the_outcome(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = predict(settings)
    assert (found.prediction.version, found.prediction.probability) == ("1", pytest.approx(p_rise("1", 119), abs=1e-6))
    workspace = Workspace(settings)
    assert workspace.prediction_log.read()["version"].tolist() == ["1"]  # what was served is only the champion's
    (row,) = workspace.shadow_log.read().to_dict("records")
    assert (row["version"], row["late"]) == ("2", False)  # 3 is rejected, 4 is broken, 5 knows what came later
    assert row["probability"] == pytest.approx(p_rise("2", 119), abs=1e-6)
    assert row["decided_at"].to_pydatetime() == to_datetime(DECIDED) == found.prediction.decided_at
    network = (Workspace(settings, SERIES).registry.read_version("2").folder / "network.onnx").read_bytes()
    assert row["network"] == hashlib.sha256(network).hexdigest()
    assert [each.version for each in found.shadows] == ["2"]
    assert "no shadow predictions of version 4" in caplog.text
    assert predict(settings) == found
    assert len(workspace.shadow_log.read()) == 1


def test_a_prediction_as_of_later_includes_versions_trained_by_then(settings: Settings) -> None:
    found = predict(settings, 122)
    assert {each.version: each.probability for each in found.shadows} == pytest.approx(
        {version: p_rise(version, 121) for version in ("2", "5")}, abs=1e-6
    )


def test_the_time_of_writing_is_taken_after_the_table_was_created(settings: Settings) -> None:
    workspace, existed = Workspace(settings, SERIES), []

    def look() -> datetime:
        existed.append(workspace.shadow_log.tables[0].open() is not None)
        return to_datetime(DECIDED) + timedelta(minutes=1)

    assert workspace.shadow_log.tables[0].open() is None
    (made,) = predict_with_shadows(workspace, "1", first(120), ShadowSpec(), look)
    assert (made.version, existed) == ("2", [True])
    workspace.shadow_log.store_all([replace(made, version=version) for version in ("10", "9")])
    again = predict_with_shadows(workspace, "1", first(120), ShadowSpec(), look)
    assert [each.version for each in again] == ["2", "9", "10"]  # by number


def test_each_shadow_reads_each_file_and_opens_its_network_once_and_only_if_it_has_not_predicted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, read, opened = Workspace(settings, SERIES), list[tuple[str, str]](), list[bool]()
    true_read, true_open = LoadedVersion._read, Predictor.__init__

    def count_files(self: LoadedVersion, name: str, *more: Any) -> bytes:
        read.append((self.place.rpartition("/")[2], name))
        return true_read(self, name, *more)

    def count_networks(*given: Any, optimized: bool = True) -> None:
        opened.append(optimized)
        true_open(*given, optimized=optimized)

    monkeypatch.setattr(LoadedVersion, "_read", count_files)
    monkeypatch.setattr(Predictor, "__init__", count_networks)
    monkeypatch.setattr(LoadedVersion, "digests", lambda self: pytest.fail(f"all files of {self.place} were read"))
    asked = [workspace, "1", first(120), ShadowSpec(), lambda: to_datetime(DECIDED) + timedelta(minutes=1)]
    (made,) = predict_with_shadows(*asked)
    files = ["recipe.json", "network.onnx"]
    assert read == [(version, name) for version in ("5", BROKEN, "2") for name in files]  # 5 knows a later bar
    assert opened == [False] * 3  # the optimiser of onnxruntime takes longer than one window
    read.clear()
    assert predict_with_shadows(*asked) == (made,)
    assert read == [(version, name) for version in ("5", BROKEN) for name in files]


@pytest.mark.parametrize(
    ("owner", "name"), [(PredictionLog, "decided_at"), (ModelRegistry, "newest_versions")], ids=["log", "registry"]
)
def test_shadows_that_fail_as_a_whole_do_not_fail_the_champion(
    owner: type, name: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("expected the store to answer")

    monkeypatch.setattr(owner, name, away)
    found = predict(settings)
    assert (found.prediction.version, found.shadows) == ("1", ())
    assert "no shadow predictions: expected the store to answer" in caplog.text


def test_a_store_that_is_down_is_waited_for_once_not_for_every_version(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = ModelRegistry.read_version, []

    def away(self: ModelRegistry, number: str, **named: Any) -> Any:
        if number == "1":
            return read(self, number, **named)
        asked.append(number)
        raise StoreUnavailable("expected the store to answer")

    monkeypatch.setattr(ModelRegistry, "read_version", away)
    found = predict(settings)
    assert (found.prediction.version, found.shadows, len(asked)) == ("1", (), 1)


def test_the_newest_versions_that_are_not_rejected_are_shadows(settings: Settings) -> None:
    workspace = Workspace(settings, SERIES)
    rows = workspace.decision_log.rows(SERIES.name)
    assert shadow_versions(workspace.registry, rows, ShadowSpec()) == ["5", "4", "2", "1"]
    assert shadow_versions(workspace.registry, rows, ShadowSpec(versions=3)) == ["5", "4", "2"]
    assert shadow_versions(workspace.registry, rows, ShadowSpec(versions=0)) == []
    unchanged, promoted, back = (replace(rows[-1], action=action) for action in ("unchanged", "promote", "rollback"))
    assert rows[-1].version == REJECTED
    assert REJECTED not in shadow_versions(workspace.registry, (*rows, unchanged), ShadowSpec())
    assert REJECTED in shadow_versions(workspace.registry, (*rows, promoted), ShadowSpec())
    assert REJECTED in shadow_versions(workspace.registry, (*rows, back), ShadowSpec())
    assert predict(settings, shadows=ShadowSpec(versions=0)).shadows == ()


def test_references_of_the_gate_predict_unless_they_were_rejected(settings: Settings) -> None:
    workspace = Workspace(settings, SERIES)
    rows = workspace.decision_log.rows(SERIES.name)
    compared = {f"past_champions.{REFERENCE}{version}": 0.0 for version in ("1", "2", REJECTED)}
    newest = replace(rows[-1], action="promote", version="5", champion_after="5", numbers=compared)
    assert shadow_versions(workspace.registry, (*rows, newest), ShadowSpec(versions=1)) == ["5", "2", "1"]


def test_the_client_lists_the_same_versions_as_the_database(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Workspace(settings, SERIES).registry
    assert registry.newest_versions(2) == ("5", "4")
    registry.client.delete_model_version(SERIES.name, "5")
    assert registry.newest_versions(2) == ("4", "3")
    monkeypatch.setattr(registry.runs.database, "_path", None)
    assert registry.newest_versions(2) == ("4", "3")


def test_no_shadow_loads_tensorflow(settings: Settings) -> None:
    code = (
        "import sys; from datetime import datetime; from pathlib import Path; from tasks.settings import Settings\n"
        "from tasks.serving.forecast import forecast; from model.bars import Series\n"
        "found = forecast(Series('BTC-USD', '1d'), Settings(home=Path(sys.argv[1])))\n"
        "assert len(found.shadows) == 1, found\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(settings.home)], check=True, cwd=Path(__file__).parents[3])


@pytest.mark.e2e
def test_champion_and_shadows_are_compared_on_the_same_live_decisions(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in range(120, 151):
        predict(settings, count)
    workspace = Workspace(settings, SERIES)
    bars = workspace.bar_store.read_bars(workspace.bar_store.ref(SERIES))
    found = {each.version: each for each in compare_live(workspace, bars, "1")}
    assert list(found) == ["1", "5", "2"]
    decided = {"1": range(119, 149), "2": range(119, 149), "5": range(120, 149)}  # 149 has no outcome yet
    close = BARS.column("close")
    for version, bar_numbers in decided.items():
        rises = np.array([close[bar + 1] > close[bar] for bar in bar_numbers])
        p, served = (np.array([p_rise(each, bar) for bar in bar_numbers]) for each in (version, "1"))
        losses = [-np.log(np.where(rises, q, 1 - q)).mean() for q in (p, served)]
        assert found[version].decisions == len(bar_numbers)
        assert found[version].log_loss == pytest.approx(losses[0], abs=1e-6)
        assert found[version].difference == pytest.approx(losses[0] - losses[1], abs=1e-6)
    shadow = found["2"]
    assert shadow.low is not None
    assert shadow.high is not None
    assert shadow.low <= shadow.difference <= shadow.high
    assert (found["1"].champion, found["1"].difference, shadow.champion) == (True, 0.0, False)
    status = series_status(SERIES, settings)["live_comparison"]
    assert [each["version"] for each in status] == ["1", "5", "2"]
    assert status[2]["text"].startswith("version 2 (shadow): log loss 0.")
    assert status[2]["text"].endswith("vs. served, on 30 live decisions")
    resampled: list[int] = []
    true_difference = live_comparison.mean_difference
    monkeypatch.setattr(
        live_comparison, "mean_difference", lambda *given: resampled.append(len(given[0])) or true_difference(*given)
    )
    assert series_status(SERIES, settings, live_versions=1)["live_comparison"] == status[:1]  # as a terminal shows them
    assert resampled == [30]  # not those of versions that are not shown
    assert series_status(SERIES, settings, live_versions=0)["live_comparison"] == []
    whole = next(each for each in compare_live(workspace, bars, "5") if each.version == "5")
    monkeypatch.setattr(live_comparison, "NEWEST_VERSIONS", 1)
    read: list[Any] = []
    true = PredictionLog.read
    monkeypatch.setattr(PredictionLog, "read", lambda *given, **named: read.append(named) or true(*given, **named))
    assert compare_live(workspace, bars, "5") == (whole,)  # in a home with more versions than are compared
    assert {each["since"] for each in read} == {workspace.registry.version("4").trained_until}  # not the whole log
    assert [set(each.get("versions", ())) for each in read] == [set(), {"5", "4"}]  # each log once


def test_a_comparison_of_one_version_reads_the_predictions_of_few_unless_these_have_none(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in range(120, 124):
        predict(settings, count)
    workspace = Workspace(settings, SERIES)
    bars = workspace.bar_store.bars(SERIES)
    every = compare_live(workspace, bars, "1")
    assert [each.version for each in every] == ["1", "5", "2"]
    assert compare_live(workspace, None, "1") == every
    read: list[set[str]] = []
    true = PredictionLog.read

    def recorded(*given: Any, **named: Any) -> Any:
        read.append(set(named.get("versions", ())))
        return true(*given, **named)

    monkeypatch.setattr(PredictionLog, "read", recorded)
    assert compare_live(workspace, bars, "1", versions=1) == every[:1]
    assert read == [set(), {"1", "5", "4"}]  # what was served, and shadows
    read.clear()
    monkeypatch.setattr(ModelRegistry, "newest_versions", lambda _, count: ("4", "3", "5", "2", "1")[:count])
    (found,) = compare_live(workspace, bars, "4", versions=1)  # neither 4 nor 3 has predicted
    assert (found.version, found.champion, found.log_loss) == ("5", False, every[1].log_loss)
    assert read == [set(), {"4", "3"}, set(), set()]


@pytest.mark.parametrize(("interval", "count"), [("1d", 30), ("4h", 10), ("1h", 10)])
def test_bars_shorter_than_a_day_have_fewer_shadows_by_default(interval: str, count: int) -> None:
    assert ShadowSpec().count(Series("BTC-USD", interval)) == count
    assert ShadowSpec(versions=3).count(Series("BTC-USD", interval)) == 3
    assert ShadowSpec(versions=0).count(Series("BTC-USD", interval)) == 0


def test_few_decisions_have_no_interval_and_late_ones_do_not_count(settings: Settings) -> None:
    assert series_status(SERIES, settings)["live_comparison"] == []
    predict(settings, 120)
    forecast(SERIES, settings, as_of=to_datetime(BARS.closed_at[119]))  # again, today: stored already
    predict(settings, 122)  # bar 120 is backfilled late, and has no shadow
    workspace = Workspace(settings, SERIES)
    bars = workspace.bar_store.read_bars(workspace.bar_store.ref(SERIES))
    found = {each.version: each for each in compare_live(workspace, bars, "1")}
    assert {version: each.decisions for version, each in found.items()} == {"1": 1, "2": 1}
    assert (found["2"].low, found["2"].high) == (None, None)
