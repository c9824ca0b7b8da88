"""The tasks of a replay: what a person reads of each day."""

import logging
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.replay import replay_day

DAYS = tuple(date(2019, 9, day) for day in (1, 2, 3))


def test_a_decided_day_says_how_many_days_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.replay.get_run_logger", logging.getLogger)
    decided = SimpleNamespace(action="hold", version="7", champion_after="6")
    replay: Any = SimpleNamespace(days=DAYS, run_day=lambda _: decided)
    assert replay_day.fn(replay, DAYS[1]) == "2019-09-02 (2 of 3): hold version 7; champion: 6"
