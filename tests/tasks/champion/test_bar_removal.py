"""Removing stored bars names the versions that were trained on them."""

from datetime import UTC, datetime, timedelta

import pytest
from synthetic_bars import random_walk
from tiny_home import SERIES, tiny_home, tiny_version

from model.errors import SpecError
from model.times import to_datetime
from tasks.champion.bar_removal import remove_bars, versions_trained_on
from tasks.champion.series_status import series_status
from tasks.settings import Settings
from tasks.workspace import Workspace

BARS = random_walk(400, seed=3)
AT = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with two versions: one learned from 350 bars, one from 390."""
    settings = tiny_home(tmp_path_factory.mktemp("home"), BARS, trained_bars=350)
    workspace = Workspace(settings, SERIES)
    version = tiny_version(workspace, BARS, trained_bars=390)
    workspace.registry.client.set_model_version_tag(workspace.name, version, "bars_version", "1")
    return settings


def opened(bar: int) -> datetime:
    return to_datetime(BARS.opened_at[bar])


def test_versions_trained_on_a_removed_bar_are_named(home: Settings) -> None:
    found = remove_bars(SERIES, home, "nobody traded", removed_at=AT, at=[opened(395)])
    assert (found.trained, found.champion) == ((), "1")
    found = remove_bars(SERIES, home, "wrong", removed_at=AT, first=opened(389), last=opened(392))
    assert found.trained == ("2",)
    assert found.opened_at == tuple(opened(bar).isoformat() for bar in (389, 390, 391, 392))
    # Version 1 has no tag with the version of its bars: its training end alone decides.
    found = remove_bars(SERIES, home, "wrong", removed_at=AT, at=[opened(349), opened(349)])
    assert found.trained == ("2", "1")
    assert found.opened_at == (opened(349).isoformat(),)
    left = set(Workspace(home, SERIES).bar_store.read_frame(SERIES)["timestamp"])
    assert not left & {opened(bar) for bar in (349, 389, 390, 391, 392, 395)}
    assert {opened(348), opened(388), opened(393)} <= left


def test_a_version_whose_bars_are_gone_is_named_by_its_training_end(home: Settings) -> None:
    workspace = Workspace(home, SERIES)
    workspace.registry.client.set_model_version_tag(workspace.name, "2", "bars_version", "999")
    assert versions_trained_on(workspace, [opened(389)]) == ("2",)
    assert versions_trained_on(workspace, [opened(390)]) == ()
    workspace.registry.client.set_model_version_tag(workspace.name, "2", "bars_version", "1")


def test_status_works_without_the_removed_bars(home: Settings) -> None:
    last = Workspace(home, SERIES).bar_store.newest(SERIES)
    assert last is not None
    remove_bars(SERIES, home, "wrong", removed_at=AT, at=[last])
    found = series_status(SERIES, home)
    assert found["bars"]["last"] < last.isoformat()
    assert found["bars"]["quarantined"] >= 1
    assert found["champion"]["version"] == "1"


def test_a_bar_that_a_version_never_had_does_not_name_it(home: Settings) -> None:
    store = Workspace(home, SERIES).bar_store
    late = opened(0) - timedelta(days=1)  # stored after version 2 was trained
    frame = BARS.frame().iloc[:1].assign(timestamp=[late])
    store.merge(SERIES, frame, {"source": "test"}, merged_at=AT)
    assert remove_bars(SERIES, home, "late", removed_at=AT, at=[late]).trained == ("1",)


@pytest.mark.parametrize("given", [{}, {"first": AT}, {"last": AT}, {"at": [AT], "first": AT, "last": AT}])
def test_times_or_a_range(given: dict[str, datetime], home: Settings) -> None:
    with pytest.raises(SpecError, match="expected --at TIME, or --from TIME and --to TIME"):
        remove_bars(SERIES, home, "wrong", removed_at=AT, **given)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="expected stored bars from 2026-11-26"):
        remove_bars(SERIES, home, "wrong", removed_at=AT, first=AT, last=AT)
