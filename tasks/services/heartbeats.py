"""Heartbeats of a flow run, which tell Prefect's server that its process is alive.

Prefect sends them from a thread that looks once a second whether the run has ended. The end of a run waits for that
thread, half a second on average, unless the flow is asynchronous.
"""

from functools import partial
from inspect import signature

from prefect import flow_engine


def end_without_waiting() -> None:
    """Let the flow runs of this process end at once; the thread of their heartbeats ends within a second.

    Prefect has no setting for it, so its function is replaced, if it exists and has the option of asynchronous flows.
    """
    send = getattr(flow_engine, "_send_heartbeats", None)
    if send is not None and not isinstance(send, partial) and "join_on_exit" in signature(send).parameters:
        flow_engine._send_heartbeats = partial(send, join_on_exit=False)  # noqa: SLF001 - see above
