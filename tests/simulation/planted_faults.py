"""Faults to plant into the project's code, to show that the simulation finds them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from model.bars import Bars
from tasks.champion import commit_decision
from tasks.store import bar_store

overlaid = bar_store.overlaid


def alias_first(workspace: Any, row: Any, **_: Any) -> None:
    """Set the alias before the row of the decision is written."""
    if row.champion_after is not None:
        workspace.registry.set_alias("champion", row.champion_after)
    workspace.decision_log.append_if_current(replace(row, files=commit_decision._new_digests(workspace, row)))


def never_late(_: Bars) -> datetime:
    """Return a time of writing before every outcome."""
    return datetime(2000, 1, 1, tzinfo=UTC)


def forget_a_bar(whole: Bars, fresh: Bars) -> Bars:
    """Rewrite a year, but lose its oldest bar."""
    both = overlaid(whole, fresh)
    return Bars(both.interval, both.opened_at[1:], both.ohlcv[1:])


PLANTED = {
    "alias before the decision": ("tasks.champion.challenger_decision.commit_decision", alias_first),
    "late predictions are evidence": ("tasks.serving.forecast.time_of_writing", never_late),
    "a merge that drops a bar": ("tasks.store.bar_store.overlaid", forget_a_bar),
}
FOUND_BY = {
    "alias before the decision": "no decision promoted it|by the alias",
    "late predictions are evidence": "as evidence",
    "a merge that drops a bar": "bars are lost|bars differ",
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant one of them; none if the name is empty."""
    if not name:
        yield
        return
    place, fault = PLANTED[name]
    with patch(place, fault):
        yield
