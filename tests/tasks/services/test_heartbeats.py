"""The end of a flow run does not wait for the thread of its heartbeats."""

import logging
import threading
from types import SimpleNamespace

import pytest
from prefect import flow, flow_engine

from tasks.services.heartbeats import end_without_waiting
from tasks.services.prefect_run_page import readable


def test_a_run_ends_while_the_thread_of_its_heartbeats_sleeps() -> None:
    @flow
    @readable
    def small() -> None:
        """Any flow."""

    threads: list[threading.Thread] = []
    sent = threading.Event()

    def emit(*_: object) -> None:
        threads.append(threading.current_thread())
        sent.set()

    engine = SimpleNamespace(
        heartbeat_seconds=30,
        flow_run=None,
        logger=logging.getLogger("heartbeats"),
        _build_heartbeat_event_template=lambda: ({}, []),
        _emit_flow_run_heartbeat=emit,
    )
    with flow_engine._send_heartbeats(engine):  # type: ignore[arg-type]
        assert sent.wait(10)
    (thread,) = threads
    assert thread.is_alive()  # it sleeps for a second; Prefect would have waited for its end
    thread.join(10)
    assert not thread.is_alive()
    assert len(threads) == 1


def test_a_prefect_without_the_option_or_the_function_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(engine: object) -> None:
        """Send heartbeats, without `join_on_exit`."""

    monkeypatch.setattr(flow_engine, "_send_heartbeats", send)
    end_without_waiting()
    assert flow_engine._send_heartbeats is send  # type: ignore[comparison-overlap]
    monkeypatch.delattr(flow_engine, "_send_heartbeats")
    end_without_waiting()
    assert not hasattr(flow_engine, "_send_heartbeats")
