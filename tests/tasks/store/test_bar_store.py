"""The bar store held against a dictionary of bars, across versions, crashes between its tables, and processes."""

import hashlib
import json
import math
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.bars import COLUMNS, Bars, Series
from model.errors import GapError, SpecError
from tasks.store.bar_store import FILES_OF_A_YEAR, FILES_OF_A_YEAR_OF_MINUTES, BarStore
from tasks.store.bars_hash import hash_bars
from tasks.store.bars_ref import BarsChanged, BarsRef
from tasks.store.revisions import Revisions

SERIES = Series("BTC/USD", "1d")
AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
START = datetime(2019, 12, 20, tzinfo=UTC)
Values = tuple[float, float, float, float, float]


def bars_frame(days: dict[int, Values]) -> pd.DataFrame:
    times = pd.DatetimeIndex([START + timedelta(days=day) for day in days]).as_unit("us")
    values = pd.DataFrame(list(days.values()), columns=list(COLUMNS[1:]), dtype=np.float64)
    return values.assign(timestamp=times)[list(COLUMNS)]


def steady(count: int, *, first: int = 0, price: float = 100.0) -> dict[int, Values]:
    return {
        day: (price + day, price + day + 2, price + day - 2, price + day + 1, 10.0)
        for day in range(first, first + count)
    }


def stored(store: BarStore, series: Series = SERIES, version: int | None = None) -> dict[int, Values]:
    frame = store.read_frame(series, version)
    days = [(time - START).days for time in frame["timestamp"]]
    assert days == sorted(set(days))
    return dict(zip(days, frame[list(COLUMNS[1:])].itertuples(index=False, name=None), strict=True))


def same(left: dict[int, Values], right: dict[int, Values]) -> bool:
    def equal(one: float, other: float) -> bool:
        return one == other or (math.isnan(one) and math.isnan(other))

    return left.keys() == right.keys() and all(
        equal(one, other) for day in left for one, other in zip(left[day], right[day], strict=True)
    )


@pytest.fixture
def store(tmp_path: Path) -> BarStore:
    return BarStore(str(tmp_path / "tables"))


@pytest.fixture
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], BarStore]:
    return lambda: BarStore(str(tmp_path_factory.mktemp("tables")))


number = st.sampled_from([1.0, 2.5, -0.0, 0.0, math.nan, math.inf, 0.1 + 0.2, 1e-300])
days = st.dictionaries(st.integers(0, 800), st.tuples(number, number, number, number, number), max_size=12)
few = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(frames=st.lists(days, min_size=1, max_size=4))
def test_merging_is_a_dictionary_update(fresh_store: Callable[[], BarStore], frames: list[dict[int, Values]]) -> None:
    store, expected = fresh_store(), {}
    for frame in frames:
        before = dict(expected)
        expected |= frame
        result = store.merge(SERIES, bars_frame(frame).sample(frac=1, random_state=1), {}, merged_at=AT)
        assert result.added == len(frame.keys() - before.keys())
        assert result.added + result.revised + result.unchanged == len(frame)
        again = store.merge(SERIES, bars_frame(frame), {}, merged_at=AT)
        assert (again.added, again.revised, again.unchanged) == (0, 0, len(frame))
        assert again.version == result.version
    assert same(stored(store), expected)


@few
@given(bars=days.filter(bool), cuts=st.lists(st.integers(0, 800), max_size=3), backwards=st.booleans())
def test_the_hash_knows_neither_order_nor_portions(
    fresh_store: Callable[[], BarStore], bars: dict[int, Values], cuts: list[int], backwards: bool
) -> None:
    edges = [0, *sorted(cuts), 801]
    portions = [{day: bars[day] for day in bars if low <= day < high} for low, high in pairwise(edges)]
    whole, pieces = fresh_store(), fresh_store()
    whole.merge(SERIES, bars_frame(bars), {}, merged_at=AT)
    for portion in portions[::-1] if backwards else portions:
        pieces.merge(SERIES, bars_frame(portion), {}, merged_at=AT)
    one, other = whole.ref(SERIES), pieces.ref(SERIES)
    assert (one.sha256, one.rows, one.first, one.last) == (other.sha256, other.rows, other.first, other.last)
    changed = bars | {min(bars): (7.0, 7.0, 7.0, 7.0, 7.0)}
    whole.merge(SERIES, bars_frame(changed), {}, merged_at=AT)
    assert whole.ref(SERIES).sha256 != one.sha256


def test_the_hash_is_the_written_formula() -> None:
    opened_at = np.array(["2020-01-01", "2020-01-02"], "datetime64[us]")
    payload_nan = np.frombuffer(np.array([0x7FF8000000000001], "<u8").tobytes(), "<f8")[0]
    bars = Bars("1d", opened_at, np.array([[1, 2, 0.5, -0.0, payload_nan], [1, 2, 0.5, 1.5, 3]]))
    text = struct.pack("<q5d", 1577836800000000, 1, 2, 0.5, 0.0, math.nan) + struct.pack(
        "<q5d", 1577923200000000, 1, 2, 0.5, 1.5, 3
    )
    assert hash_bars(bars) == hashlib.sha256(text).hexdigest()


def test_a_merge_that_changes_nothing_commits_nothing(store: BarStore, tmp_path: Path) -> None:
    first = store.merge(SERIES, bars_frame(steady(30)), {"source": "a"}, merged_at=AT)
    second = store.merge(SERIES, bars_frame(steady(10, first=5)), {"source": "b"}, merged_at=AT)
    assert second.version == first.version == DeltaTable(str(tmp_path / "tables" / "bars")).version()
    assert (second.added, second.revised, second.unchanged, second.revised_first) == (0, 0, 10, None)


def test_a_merge_leaves_what_others_did_since_its_bars_were_read(store: BarStore) -> None:
    """A revision fetched later, a bar that both add, and a removal by hand stay; a read of before would undo them."""
    bars, revised, added = steady(10), steady(1, first=3, price=200.0), steady(1, first=10, price=200.0)
    store.merge(SERIES, bars_frame(bars), {}, merged_at=AT)
    read_at = store.version()
    store.merge(SERIES, bars_frame(revised | added), {}, merged_at=AT)
    store.remove(SERIES, times(5), "wrong", removed_at=AT)
    store.merge(Series("ETH/USD", "1d"), bars_frame(steady(3)), {}, merged_at=AT)
    own = steady(1, first=4, price=300.0) | steady(1, first=11)
    merge = {"metadata": {}, "merged_at": AT, "read_at": read_at}
    result = store.merge(SERIES, bars_frame(bars | steady(1, first=10) | own), **merge)  # type: ignore[arg-type]
    assert (result.added, result.revised, result.unchanged, result.overtaken) == (1, 1, 7, 3)
    assert "3 bars of BTC/USD were changed or removed by another run" in result.warn_of_overtaking("BTC/USD")
    kept = {day: bar for day, bar in bars.items() if day != 5}
    assert same(stored(store), kept | revised | added | own)
    again = store.merge(SERIES, bars_frame(bars), {}, merged_at=AT, read_at=store.version())
    assert (again.added, again.revised, again.overtaken) == (1, 2, 0)
    assert again.warn_of_overtaking("BTC/USD") == ""


def test_a_first_merge_leaves_what_another_first_merge_stored(store: BarStore) -> None:
    assert store.version() == -1
    store.merge(SERIES, bars_frame(steady(3, price=200.0)), {}, merged_at=AT)
    result = store.merge(SERIES, bars_frame(steady(5)), {}, merged_at=AT, read_at=-1)
    assert (result.added, result.revised, result.overtaken) == (2, 0, 3)


def test_revised_bars_keep_their_old_values(store: BarStore) -> None:
    store.merge(SERIES, bars_frame(steady(30)), {"source": "first"}, merged_at=AT)
    old = steady(30)
    new = {3: (1.0, 2.0, 0.5, 1.5, math.nan), 20: (4.0, 5.0, 3.0, 4.5, 1.0)}  # 2019 and 2020
    result = store.merge(SERIES, bars_frame(new | steady(2, first=29)), {"source": "second"}, merged_at=AT)
    assert (result.added, result.revised, result.unchanged) == (1, 2, 1)
    assert result.revised_first == START + timedelta(days=3)
    assert same(stored(store), old | new | steady(1, first=30))
    assert same(stored(store, version=result.version - 1), old)
    revisions = store.read_revisions(SERIES)
    assert [(time - START).days for time in revisions["timestamp"]] == [3, 20]
    assert revisions["old_close"].tolist() == [old[3][3], old[20][3]]
    assert revisions["new_close"].tolist() == [1.5, 4.5]
    assert np.isnan(revisions["new_volume"][0])
    assert revisions["source"].tolist() == ["second", "second"]
    assert (revisions["revised_at"] == AT).all()
    back = store.merge(SERIES, bars_frame({3: old[3]}), {"source": "third"}, merged_at=AT)
    assert back.revised == 1
    assert store.read_revisions(SERIES)["new_close"].tolist() == [1.5, 4.5, old[3][3]]


def test_a_crash_between_bars_and_revisions_is_mended_by_the_next_merge(
    store: BarStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.merge(SERIES, bars_frame(steady(30)), {}, merged_at=AT)
    with monkeypatch.context() as crash:
        crash.setattr(Revisions, "record", lambda *_: None)
        store.merge(SERIES, bars_frame({3: (1.0, 2.0, 0.5, 1.5, 1.0)}), {"source": "cut off"}, merged_at=AT)
    assert store.read_revisions(SERIES).empty
    another = Series("ETH/USD", "1d")
    store.merge(another, bars_frame({1: (9.0, 9.0, 9.0, 9.0, 9.0)}), {}, merged_at=AT)
    assert store.read_revisions(SERIES)[["old_close", "new_close", "source"]].to_numpy().tolist() == [
        [104.0, 1.5, "cut off"]
    ]
    store.merge(SERIES, bars_frame({3: (1.0, 2.0, 0.5, 1.7, 1.0)}), {"source": "next"}, merged_at=AT)
    assert store.read_revisions(SERIES)["new_close"].tolist() == [1.5, 1.7]


def test_a_revision_waits_for_the_one_before_to_be_recorded(store: BarStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.merge(SERIES, bars_frame(steady(30)), {}, merged_at=AT)
    real = Revisions.record
    skipped: list[int] = []

    def crash_after_the_commit(self: Revisions, bars: DeltaTable) -> None:
        mark = bars.transaction_version("revising")
        if mark and mark not in skipped:
            skipped.append(mark)
        else:
            real(self, bars)

    monkeypatch.setattr(Revisions, "record", crash_after_the_commit)
    for close in (1.5, 1.6, 1.7):
        store.merge(SERIES, bars_frame({3: (1.0, 2.0, 0.5, close, 1.0)}), {}, merged_at=AT)
    monkeypatch.setattr(Revisions, "record", real)
    store.merge(SERIES, bars_frame({}), {}, merged_at=AT)
    assert store.read_revisions(SERIES)["old_close"].tolist() == [104.0, 1.5, 1.6]


def test_series_do_not_touch_each_other(store: BarStore) -> None:
    names = ["BTC/USD", 'it\'s; a "test" %2F x=1', "BTC-EUR", "Ünï/コード"]
    for position, symbol in enumerate(names):
        store.merge(Series(symbol, "1d"), bars_frame(steady(5, price=position)), {}, merged_at=AT)
    store.merge(Series(names[1], "1d"), bars_frame({2: (1.0, 1.0, 1.0, 1.0, 1.0)}), {}, merged_at=AT)
    hourly = bars_frame(steady(3))
    store.merge(Series("BTC/USD", "1h"), hourly, {}, merged_at=AT)
    assert {(one.symbol, one.interval, one.rows) for one in store.series()} == {
        *((symbol, "1d", 5) for symbol in names),
        ("BTC/USD", "1h", 3),
    }
    assert same(stored(store, Series(names[3], "1d")), steady(5, price=3))
    assert stored(store, Series(names[1], "1d"))[2] == (1.0, 1.0, 1.0, 1.0, 1.0)
    assert store.summary(Series(names[1], "1d")).revised == 1  # type: ignore[union-attr]


def test_an_old_version_reads_as_it_was(store: BarStore) -> None:
    versions = {}
    for count in (5, 10, 20):
        versions[count] = store.merge(SERIES, bars_frame(steady(count)), {}, merged_at=AT).version
    refs = {count: store.ref(SERIES, version) for count, version in versions.items()}
    store.merge(SERIES, bars_frame({0: (1.0, 1.0, 1.0, 1.0, 1.0)}), {}, merged_at=AT)
    for count, version in versions.items():
        assert same(stored(store, version=version), steady(count))
        assert len(store.read_bars(refs[count])) == refs[count].rows == count
        assert store.summary(SERIES, version).rows == count  # type: ignore[union-attr]
    with pytest.raises(SpecError, match="version from 0 to 4, found 9"):
        store.read_frame(SERIES, 9)


def test_a_reference_as_of_a_time_holds_only_bars_closed_by_then(store: BarStore) -> None:
    store.merge(SERIES, bars_frame(steady(10)), {}, merged_at=AT)
    noon = store.ref(SERIES, as_of=START + timedelta(days=4, hours=12))
    midnight = store.ref(SERIES, as_of=START + timedelta(days=4))
    assert noon == midnight
    assert (noon.rows, noon.last) == (4, START + timedelta(days=3))
    assert store.read_bars(noon).column("close").tolist() == [101.0, 102.0, 103.0, 104.0]
    alone = BarStore(store.root + "-alone")
    alone.merge(SERIES, bars_frame(steady(4)), {}, merged_at=AT)
    assert alone.ref(SERIES).sha256 == noon.sha256
    with pytest.raises(SpecError, match="closed by"):
        store.ref(SERIES, as_of=START)


def test_a_reference_survives_json(store: BarStore) -> None:
    store.merge(SERIES, bars_frame(steady(10)), {}, merged_at=AT)
    ref = store.ref(SERIES)
    assert BarsRef.from_dict(json.loads(json.dumps(ref.to_dict()))) == ref
    assert ref.series == SERIES
    assert hash(ref) == hash(BarsRef.from_dict(ref.to_dict()))


def test_other_bars_under_a_reference_are_noticed(store: BarStore) -> None:
    store.merge(SERIES, bars_frame(steady(10)), {}, merged_at=AT)
    ref = store.ref(SERIES)
    other = BarStore(store.root + "-other")
    other.merge(SERIES, bars_frame(steady(10, price=99)), {}, merged_at=AT)
    with pytest.raises(BarsChanged, match="expected 10 bars with sha256"):
        other.read_bars(ref)
    with pytest.raises(SpecError, match="version from 0 to 1"):
        other.read_bars(replace(ref, version=8))


def test_an_empty_store_says_so(store: BarStore) -> None:
    assert store.series() == ()
    assert store.summary(SERIES) is None
    assert list(store.read_frame(SERIES).columns) == list(COLUMNS)
    assert store.ingests(SERIES) == []
    assert store.read_quarantine(SERIES).empty
    with pytest.raises(SpecError, match="Ingest bars first"):
        store.ref(SERIES)
    result = store.merge(SERIES, bars_frame({}), {}, merged_at=AT)
    assert (result.added, result.unchanged) == (0, 0)
    with pytest.raises(SpecError, match="expected bars in version"):
        store.ref(SERIES)


def test_bars_that_cannot_be_merged_are_refused(store: BarStore) -> None:
    frame = bars_frame(steady(5))
    with pytest.raises(SpecError, match=r"duplicates \(1\), the first at 2019-12-22"):
        store.merge(SERIES, pd.concat([frame, frame.iloc[[2]]]), {}, merged_at=AT)
    with pytest.raises(SpecError, match=r"missing .*close"):
        store.merge(SERIES, frame.drop(columns="close"), {}, merged_at=AT)
    with pytest.raises(SpecError, match="row 1 has none"):
        store.merge(SERIES, frame.assign(timestamp=frame["timestamp"].where(frame.index != 1)), {}, merged_at=AT)
    shifted = frame.assign(timestamp=frame["timestamp"] + pd.Timedelta(hours=9))
    with pytest.raises(GapError, match="whole intervals apart"):
        store.merge(SERIES, pd.concat([frame.iloc[:2], shifted.iloc[3:]]), {}, merged_at=AT)
    store.merge(SERIES, frame, {}, merged_at=AT)
    with pytest.raises(GapError, match="off by 32400 seconds"):
        store.merge(SERIES, shifted, {}, merged_at=AT)
    assert same(stored(store), steady(5))


def test_naive_times_are_utc_and_a_missing_volume_is_nan(store: BarStore) -> None:
    frame = bars_frame(steady(3)).drop(columns="volume")
    store.merge(SERIES, frame, {}, merged_at=AT)
    naive = frame.assign(timestamp=frame["timestamp"].dt.tz_localize(None))
    tokyo = frame.assign(timestamp=frame["timestamp"].dt.tz_convert("Asia/Tokyo"))
    for other in (naive, tokyo):
        assert store.merge(SERIES, other, {}, merged_at=AT).unchanged == 3
    assert store.read_frame(SERIES)["volume"].isna().all()


def test_a_commit_keeps_what_its_ingest_was(store: BarStore) -> None:
    metadata = {"source": "file.csv", "delimiter": ";", "operation": "no word of Delta's"}
    store.merge(SERIES, bars_frame(steady(3)), metadata, merged_at=AT)
    store.merge(Series("ETH/USD", "1d"), bars_frame(steady(3)), {}, merged_at=AT)
    store.merge(SERIES, bars_frame(steady(5)), {"source": "more"}, merged_at=AT)
    newest, oldest = store.ingests(SERIES)
    assert metadata.items() <= oldest.items()
    assert (newest["source"], newest["added"], newest["unchanged"]) == ("more", "2", "3")
    assert (oldest["version"], newest["version"]) == ("1", "3")
    assert newest["merged_at"] == AT.isoformat()
    assert store.ingests(SERIES, last=1) == [newest]


def test_series_of_an_exchange_are_known_by_their_commits(store: BarStore) -> None:
    """`source` is the name of the exchange there: `kind` alone says that it was one."""
    other = Series("ETH/USD", "1d")
    assert not store.has_exchange_bars([SERIES, other])
    store.merge(SERIES, bars_frame(steady(3)), {"source": "binance", "kind": "exchange"}, merged_at=AT)
    store.merge(other, bars_frame(steady(3)), {"source": "exchange", "kind": "csv"}, merged_at=AT)
    store.merge(SERIES, bars_frame(steady(5)), {"source": "quarantine"}, merged_at=AT)
    assert store.has_exchange_bars([other, SERIES])
    assert not store.has_exchange_bars([other, Series(SERIES.symbol, "1h")])


def test_commits_are_read_newest_first_until_one_of_an_exchange_is_found(
    store: BarStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home of fifty coins has 18,000 commits after a year: reading all takes seconds."""
    monkeypatch.setattr("tasks.store.bar_store.FIRST_COMMITS", 2)
    other = Series("ETH/USD", "1d")
    store.merge(other, bars_frame(steady(3)), {"kind": "exchange"}, merged_at=AT)
    for count in range(4, 30):
        store.merge(SERIES, bars_frame(steady(count)), {"kind": "exchange"}, merged_at=AT)
    read: list[int] = []
    true = DeltaTable.history
    monkeypatch.setattr(DeltaTable, "history", lambda table, limit: read.append(limit) or true(table, limit))
    assert store.has_exchange_bars([SERIES])
    assert store.has_exchange_bars([SERIES])
    assert read == [2]
    assert store.has_exchange_bars([other])
    assert read == [2, 2, 16, 128]


def test_a_series_whose_name_is_that_of_a_stored_one_is_refused(store: BarStore) -> None:
    """Versions, decisions and predictions are kept by name: the two would share them."""
    for known, other in (("BTC/USD", "BTC-USD"), ("\u6bd4\u7279", "\u4ee5\u592a")):
        store.merge(Series(known, "1d"), bars_frame(steady(3)), {}, merged_at=AT)
        with pytest.raises(SpecError, match=f"also the name of {known}"):
            store.merge(Series(other, "1d"), bars_frame(steady(3)), {}, merged_at=AT)
        store.merge(Series(known, "1d"), bars_frame(steady(4)), {}, merged_at=AT)
    assert {each.symbol for each in store.stored_series()} == {"BTC/USD", "\u6bd4\u7279"}


def test_gaps_are_counted(store: BarStore) -> None:
    bars = {day: values for day, values in steady(30).items() if day not in {4, 5, 17}}
    store.merge(SERIES, bars_frame(bars), {}, merged_at=AT)
    summary = store.summary(SERIES)
    assert summary is not None
    assert (summary.rows, summary.gaps, summary.missing_bars) == (27, 2, 3)
    assert json.loads(json.dumps(summary.to_dict()))["first"] == START.isoformat()


@pytest.mark.e2e  # hundreds of commits
@pytest.mark.parametrize(
    ("interval", "most"), [("1m", FILES_OF_A_YEAR_OF_MINUTES), ("1h", FILES_OF_A_YEAR), ("1d", FILES_OF_A_YEAR)]
)
def test_a_year_of_single_bars_is_gathered_into_few_files(
    interval: str, most: int, store: BarStore, tmp_path: Path
) -> None:
    later = Series("BTC/USD", interval)
    frame = bars_frame(steady(most + 3, first=20))
    for row in range(len(frame)):
        store.merge(later, frame.iloc[[row]], {}, merged_at=AT)
    assert len(DeltaTable(str(tmp_path / "tables" / "bars")).file_uris()) == 3
    assert same(stored(store, later), steady(most + 3, first=20))


def test_the_first_bar_of_a_year_gathers_the_year_before_into_one_file(store: BarStore, tmp_path: Path) -> None:
    bars = steady(13, first=8)  # 2019-12-28 to 2020-01-09
    for day in range(8, 12):
        store.merge(SERIES, bars_frame({day: bars[day]}), {}, merged_at=AT)
    before, table = store.ref(SERIES), str(tmp_path / "tables" / "bars")
    assert len(DeltaTable(table).file_uris()) == 4
    for day in range(12, 21):
        result = store.merge(SERIES, bars_frame({day: bars[day]}), {}, merged_at=AT)
        assert (result.added, result.revised) == (1, 0)
    years = [name.split("year=")[1][:4] for name in DeltaTable(table).file_uris()]
    assert sorted(years) == ["2019", *["2020"] * 9]
    assert same(stored(store), bars)
    assert store.read_revisions(SERIES).empty
    assert len(store.read_bars(before)) == 4  # an earlier version stays readable
    late = {11: (7.0, 8.0, 6.0, 7.5, 1.0)}
    assert store.merge(SERIES, bars_frame(late), {}, merged_at=AT).revised == 1
    assert same(stored(store), bars | late)


@pytest.mark.parametrize("since", [0, 11, 12, 13, 40])
def test_bars_are_read_from_a_close_on(store: BarStore, since: int) -> None:
    store.merge(SERIES, bars_frame(steady(30)), {}, merged_at=AT)
    found = store.bars(SERIES, closed_since=START + timedelta(days=since))  # the close of the bar before that day
    assert found.column("open").tolist() == [100.0 + day for day in range(max(0, since - 1), 30)]
    both = store.bars(SERIES, as_of=START + timedelta(days=20), closed_since=START + timedelta(days=since))
    assert both.column("open").tolist() == [100.0 + day for day in range(max(0, since - 1), 20)]


@pytest.mark.parametrize(
    ("count", "as_of", "first"),
    [
        *[(1, "", 2022), (20, "", 2022), (21, "", 2021), (385, "", 2021), (386, "", 2020), (9999, "", 2019)],
        *[(1, "2021-07-01", 2020), (1, "2022-01-01", 2020), (1, "2022-01-02", 2021)],
        *[(366, "2021-07-01", 2020), (367, "2021-07-01", 2019)],
    ],
)
def test_recent_bars_are_those_of_the_newest_years_that_hold_as_many(
    store: BarStore, tmp_path: Path, count: int, as_of: str, first: int
) -> None:
    store.merge(SERIES, bars_frame(steady(763)), {}, merged_at=AT)  # 12 in 2019, 366, 365, 20 in 2022
    store.merge(Series("ETH/USD", "1d"), bars_frame(steady(763)), {}, merged_at=AT)
    for unread in range(2019, first):
        shutil.rmtree(next((tmp_path / "tables" / "bars").glob(f"symbol=BTC*/interval=1d/year={unread}")))
    found = store.recent_bars(SERIES, count, datetime.fromisoformat(f"{as_of}T00:00Z") if as_of else None)
    begin = max(START, datetime(first, 1, 1, tzinfo=UTC))
    assert found.opened_at[0] == np.datetime64(begin.replace(tzinfo=None))
    assert found.column("open").tolist() == [100.0 + day for day in range((begin - START).days, 763)]


def test_recent_bars_of_a_series_without_any_are_an_error(store: BarStore) -> None:
    store.merge(SERIES, bars_frame(steady(3)), {}, merged_at=AT)
    with pytest.raises(SpecError, match=r"ETH/USD 1d: expected bars in version \d+ .*found none; it holds BTC/USD 1d"):
        store.recent_bars(Series("ETH/USD", "1d"), 5)


def refused(days: list[int], rule: str, close: float = -1.0) -> pd.DataFrame:
    frame = bars_frame(dict.fromkeys(days, (1.0, 2.0, 0.5, close, math.nan)))
    return frame.assign(rule=rule, severity="critical", value=close)


def test_a_refusal_is_kept_once(store: BarStore) -> None:
    frame = pd.concat([refused([3, 4], "positive"), refused([3], "tick"), refused([3], "positive")])
    assert store.quarantine(SERIES, frame, at=AT, source="a") == 3
    (table,) = (each for each in store.tables if each.uri.endswith("quarantine"))
    version = table.open().version()  # type: ignore[union-attr]
    assert store.quarantine(SERIES, frame, at=AT + timedelta(days=1), source="b") == 0
    assert table.open().version() == version, "nothing new, and yet a commit"  # type: ignore[union-attr]
    assert store.quarantine(SERIES, refused([3], "positive", close=-2.0), at=AT, source="c") == 1
    assert store.quarantine(Series("ETH/USD", "1d"), refused([3], "positive"), at=AT, source="d") == 1
    assert store.quarantine(SERIES, refused([], "positive"), at=AT, source="e") == 0
    rows = store.read_quarantine(SERIES)
    assert list(zip(rows["rule"], rows["value"], rows["source"], strict=True)) == [
        ("positive", "-1.0", "a"),
        ("positive", "-2.0", "c"),
        ("tick", "-1.0", "a"),
        ("positive", "-1.0", "a"),
    ]
    assert (rows["quarantined_at"] == AT).all()
    assert rows["released_at"].isna().all()


def test_refused_bars_may_lack_what_made_them_refused(store: BarStore) -> None:
    frame = pd.DataFrame({"timestamp": [pd.NaT, START], "close": [1.0, np.inf], "rule": ["time", "finite"]})
    assert store.quarantine(SERIES, frame, at=AT, source="a") == 2
    assert store.quarantine(SERIES, frame, at=AT, source="a") == 0
    assert store.read_quarantine(SERIES)["timestamp"].isna().tolist() == [False, True]


def test_a_refused_bar_is_released_by_command(store: BarStore) -> None:
    store.merge(
        SERIES, bars_frame({day: bar for day, bar in steady(10).items() if day not in {3, 4}}), {}, merged_at=AT
    )
    store.quarantine(SERIES, pd.concat([refused([3, 4], "tick"), refused([3], "jump")]), at=AT, source="a")
    summary = store.summary(SERIES)
    assert summary is not None
    assert (summary.quarantined, summary.missing_bars) == (2, 2)
    day = START + timedelta(days=3)
    result = store.release(SERIES, [day], "checked by hand", released_at=AT)
    assert result.added == 1
    assert stored(store)[3][3] == -1.0
    rows = store.read_quarantine(SERIES)
    assert rows["release_reason"].fillna("").tolist() == ["checked by hand", "checked by hand", ""]
    assert (rows["released_at"].dropna() == AT).all()
    assert store.summary(SERIES).quarantined == 1  # type: ignore[union-attr]
    assert store.quarantine(SERIES, refused([3], "tick"), at=AT, source="a") == 0
    with pytest.raises(SpecError, match="found none at 2019-12-23"):
        store.release(SERIES, [day], "again", released_at=AT)


def test_a_release_needs_a_reason_and_one_value(store: BarStore) -> None:
    store.quarantine(
        SERIES, pd.concat([refused([3], "doubled"), refused([3], "doubled", close=5.0)]), at=AT, source="a"
    )
    day = START + timedelta(days=3)
    with pytest.raises(SpecError, match="expected a reason"):
        store.release(SERIES, [day], "  ", released_at=AT)
    with pytest.raises(SpecError, match="several with different values"):
        store.release(SERIES, [day], "why not", released_at=AT)
    assert store.read_frame(SERIES).empty


def times(*days: int) -> list[datetime]:
    return [START + timedelta(days=day) for day in days]


def test_removed_bars_leave_the_table_and_stay_in_quarantine(store: BarStore) -> None:
    bars = steady(30)
    store.merge(SERIES, bars_frame(bars), {}, merged_at=AT)
    before = store.ref(SERIES)
    version = store.remove(SERIES, times(3, 20), "the exchange corrected them", removed_at=AT)  # 2019 and 2020
    assert same(stored(store), {day: bar for day, bar in bars.items() if day not in {3, 20}})
    assert len(store.read_bars(before)) == 30  # a model's bars stay readable at their version
    entries = store.read_quarantine(SERIES)
    assert entries["close"].tolist() == [bars[3][3], bars[20][3]]
    assert set(entries["value"]) == {"removed: the exchange corrected them"}
    assert store.ingests(SERIES)[0]["removed"] == "2"
    assert store.ref(SERIES).version == version
    _, removed = store.decided_by_hand(SERIES)
    assert removed["timestamp"].tolist() == times(3, 20)


def test_a_removed_bar_can_be_released_and_removed_again(store: BarStore) -> None:
    store.merge(SERIES, bars_frame(steady(10)), {}, merged_at=AT)
    for reason in ("first", "second"):
        store.remove(SERIES, times(3), reason, removed_at=AT)
        released, removed = store.decided_by_hand(SERIES)
        assert (len(released), removed["value"].tolist()) == (0, [f"removed: {reason}"])
        assert store.release(SERIES, times(3), "it was right", released_at=AT).added == 1
        released, removed = store.decided_by_hand(SERIES)
        assert (set(released["timestamp"]), len(removed)) == (set(times(3)), 0)
    assert same(stored(store), steady(10))


def test_a_removed_bar_is_released_where_another_bar_of_its_time_was_refused(store: BarStore) -> None:
    bars = steady(10)
    store.merge(SERIES, bars_frame(bars), {}, merged_at=AT)
    store.quarantine(SERIES, refused([3], "lesser_double"), at=AT, source="a")
    store.remove(SERIES, times(3), "wrong", removed_at=AT)
    corrected = {3: (103.0, 106.0, 101.0, 105.0, 20.0)}
    store.merge(SERIES, bars_frame(corrected), {}, merged_at=AT)
    store.remove(SERIES, times(3), "wrong too", removed_at=AT + timedelta(hours=1))
    assert store.release(SERIES, times(3), "it was right", released_at=AT).added == 1
    assert same(stored(store), bars | corrected)  # the bar removed last
    released, removed = store.decided_by_hand(SERIES)
    assert (released["close"].tolist(), removed["close"].tolist()) == ([105.0], [bars[3][3]])
    still_open = store.read_quarantine(SERIES)["released_at"].isna()
    assert store.read_quarantine(SERIES)["rule"][still_open].tolist() == ["lesser_double", "removed_bar"]


def test_a_removal_names_stored_bars_and_a_reason(store: BarStore) -> None:
    store.merge(SERIES, bars_frame(steady(10)), {}, merged_at=AT)
    with pytest.raises(SpecError, match="expected a reason"):
        store.remove(SERIES, times(3), " ", removed_at=AT)
    with pytest.raises(SpecError, match="found none at 2020-01-09"):
        store.remove(SERIES, times(3, 20), "wrong", removed_at=AT)
    with pytest.raises(SpecError, match="found no time"):
        store.remove(SERIES, [], "wrong", removed_at=AT)
    assert same(stored(store), steady(10))
    store.remove(SERIES, times(*range(10)), "all of them", removed_at=AT)
    assert store.read_frame(SERIES).empty


def test_a_removal_that_crashed_between_its_tables_is_completed_by_running_it_again(
    store: BarStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.merge(SERIES, bars_frame(steady(10)), {}, merged_at=AT)

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tasks.store.bar_store.rows", crash)
        with pytest.raises(KeyboardInterrupt):
            store.remove(SERIES, times(3), "wrong", removed_at=AT)
    assert len(stored(store)) == 10
    store.remove(SERIES, times(3), "wrong", removed_at=AT)
    assert len(stored(store)) == 9
    assert len(store.read_quarantine(SERIES)) == 1


WRITER = """
import sys, json
from datetime import datetime, timedelta, UTC
import pandas as pd
from model.bars import Series
from tasks.store.bar_store import BarStore

root, symbol, low, high, step, price = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
store, start = BarStore(root), datetime(2019, 12, 20, tzinfo=UTC)
print("ready", flush=True)
sys.stdin.readline()
total = [0, 0]
for day in range(low, high, step):
    rows = [(start + timedelta(days=d), price, price, price, price, d) for d in range(day, day + step)]
    frame = pd.DataFrame(rows, columns=["timestamp", "open", "high", "low", "close", "volume"])
    result = store.merge(Series(symbol, "1d"), frame, {"source": str(price)}, merged_at=start)
    total[0] += result.added
    total[1] += result.revised
print(json.dumps(total))
"""


def write_at_once(root: str, *writers: tuple[str, int, int, int, int]) -> list[list[int]]:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, root, *map(str, writer)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for writer in writers
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(writers)
    return [json.loads(answer) for answer in answers]


@pytest.mark.e2e  # two processes
def test_two_processes_lose_and_double_no_bar(store: BarStore) -> None:
    counts = write_at_once(store.root, ("BTC/USD", 0, 60, 10, 7), ("BTC/USD", 30, 90, 10, 7), ("ETH/USD", 0, 60, 10, 8))
    assert sum(added for added, _ in counts[:2]) == 90
    assert [revised for _, revised in counts] == [0, 0, 0]
    assert list(stored(store)) == list(range(90))
    assert len(stored(store, Series("ETH/USD", "1d"))) == 60


@pytest.mark.e2e  # two processes
def test_two_processes_that_revise_each_other_record_every_step(store: BarStore) -> None:
    store.merge(SERIES, bars_frame(steady(20)), {}, merged_at=AT)
    counts = write_at_once(store.root, ("BTC/USD", 0, 20, 4, 7), ("BTC/USD", 0, 20, 4, 8))
    revisions = store.read_revisions(SERIES)
    assert len(revisions) == sum(revised for _, revised in counts)
    closes = {day: values[3] for day, values in stored(store).items()}
    for opened_at, chain in revisions.groupby("timestamp"):
        day = (opened_at - START).days
        assert chain["old_close"].tolist() == [101.0 + day, *chain["new_close"].tolist()[:-1]]
        assert chain["new_close"].tolist()[-1] == closes[day]


def test_the_newest_bar_is_found_in_its_year_alone(store: BarStore) -> None:
    assert store.newest(SERIES) is None
    store.merge(SERIES, bars_frame(steady(40)), {}, merged_at=AT)
    assert store.newest(SERIES) == START + timedelta(days=39)
    assert store.newest(Series("ETH/USD", "1d")) is None
