"""The command `riseorfall`: the flows from a shell, and a look at what they left.

Flags are drawn from the specs, so a flag, a form field in the Prefect UI and a parameter in MLflow are one thing.
Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 unexpected, 2 wrong use or
unreadable input, 3 data checks failed. `--help` imports nothing heavy: each command imports what it runs.
"""

import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from json import dumps as json_text
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from pydantic import ValidationError

from data_checks.suites import CheckSpec
from flows.deployments import UpSpec
from model.bars import IntervalName, Series
from model.errors import RiseOrFallError, SpecError
from model.folds import FoldSpec
from model.freshness import ForecastSpec
from model.monitor_alarms import MonitorSpec
from model.networks import NetworkSpec
from model.presets import with_preset
from model.promotion_rule import PromotionRule
from model.search_space import TuneSpec
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.settings import Settings
from tasks.sources.source_spec import SourceSpec, require_readable

WRONG_USE, UNEXPECTED = 2, 1

app = App(
    name="riseorfall",
    help="Retrain a CNN + LSTM on price bars, prove on unseen bars what it is worth, and promote it when it earns it.",
    version_flags=["--version"],
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    signal.signal(signal.SIGTERM, _leave)
    sys.exit(run(sys.argv[1:] if words is None else words))


def _leave(number: int, _: object) -> None:
    """End on a signal as on any other exit, so that a temporary server is stopped as well."""
    sys.exit(128 + number)


def run(words: Sequence[str]) -> int:
    """Run one command and return its exit code; errors are told on standard error, not raised."""
    try:
        app(list(words), exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _complain(_reworded(error), WRONG_USE)
    except ValidationError as error:
        return _complain(_in_words(error), WRONG_USE)
    except RiseOrFallError as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted; the champion is as it was", UNEXPECTED)
    except Exception as error:  # noqa: BLE001 - the last resort: told in a line, kept whole in a file
        folder = Settings().log_folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "unexpected.log").write_text(traceback.format_exc(), encoding="utf-8")
        return _complain(
            f"unexpected {type(error).__name__}: {error} (whole in {folder / 'unexpected.log'})", UNEXPECTED
        )
    return 0


@app.command
def retrain(
    *,
    source: SourceSpec = SourceSpec(),
    check: CheckSpec = CheckSpec(),
    window: WindowSpec = WindowSpec(),
    folds: FoldSpec = FoldSpec(),
    network: NetworkSpec = NetworkSpec(),
    training: TrainingSpec = TrainingSpec(),
    promotion: PromotionRule = PromotionRule(),
    as_of: datetime | None = None,
) -> None:
    """Retrain one series and promote the new model only if it earns it.

    Parameters
    ----------
    as_of
        What counts as now, UTC; without it the clock for an exchange, the last close for a file.
    """
    from tasks.console.terminal import TerminalProgress, quiet_streams, show_retrain

    settings = _settings()
    require_readable(source)  # before the seconds that imports take
    with quiet_streams(settings.log_folder) as (console, log_file), TerminalProgress(console) as progress:
        from tasks.console.progress import reporting

        with reporting(progress) as told:
            with told.step("import"):
                from tasks.services.prefect_server import local_server

                with local_server():
                    import tensorflow  # noqa: F401, ICN001 - its seconds belong to this step, and overlap the server's

                    from flows.retrain import retrain as flow
            result = flow(
                source=source,
                check=check,
                window=window,
                folds=folds,
                network=network,
                training=training,
                promotion=promotion,
                as_of=as_of,
            )
    show_retrain(result, told.seconds, settings, log_file)


@app.command
def status(*, symbol: str = "BTC-USD", interval: IntervalName = "1d", json: bool = False, check: bool = False) -> None:
    """Show champion, challenger, bars, live score, alarms, next runs and the last decisions of a series.

    Parameters
    ----------
    symbol
        Symbol of the series.
    interval
        Length of its bars.
    json
        Print JSON.
    check
        End with 4 when there is an alarm, for cron.
    """
    from tasks.champion.health import health, require_well
    from tasks.champion.series_status import series_status
    from tasks.console.terminal import show_health, show_status

    with _quietly():
        found = series_status(Series(symbol, interval), _settings())
        found["health"] = health(Series(symbol, interval), _settings())
    if json:
        _print_json(found)
    else:
        show_status(found)
        show_health(found["health"])
    if check:
        require_well(found["health"])


@app.command
def bars(*, as_of: int | None = None, json: bool = False) -> None:
    """List the stored series: rows, span, gaps, quarantine.

    Parameters
    ----------
    as_of
        Version of the table of bars to look at; the newest without it.
    json
        Print JSON.
    """
    from tasks.console.terminal import show_bars
    from tasks.store.bar_store import BarStore

    settings = _settings()
    found = [each.to_dict() for each in BarStore(settings.store_root, settings.storage_options()).series(as_of)]
    if json:
        _print_json(found)
    else:
        show_bars(found)


@app.command
def ingest(*, source: SourceSpec = SourceSpec(), check: CheckSpec = CheckSpec(), as_of: datetime | None = None) -> None:
    """Fetch, check and store the bars that closed since last time; nothing is trained.

    Parameters
    ----------
    as_of
        What counts as now, UTC; without it the clock for an exchange, the last close for a file.
    """
    from tasks.console.terminal import TerminalProgress, quiet_streams, show_lines

    settings = _settings()
    require_readable(source)  # before the seconds that imports take
    with quiet_streams(settings.log_folder) as (console, log_file), TerminalProgress(console) as progress:
        from tasks.console.progress import reporting

        with reporting(progress) as told:
            with told.step("import"):
                from tasks.services.prefect_server import local_server

                with local_server():
                    from flows.ingest import ingest as flow
            stored = flow(source=source, check=check, as_of=as_of)
    ref, merge = stored.ref, stored.merge
    show_lines(
        [
            f"{ref.symbol} {ref.interval}: {merge.added} added, {merge.revised} revised, {merge.unchanged} unchanged",
            f"{ref.rows} bars from {ref.first.isoformat()} to {ref.last.isoformat()}, version {ref.version}",
            f"log: {log_file}",
        ]
    )


@app.command
def quarantine(*, symbol: str = "BTC-USD", interval: IntervalName = "1d", json: bool = False) -> None:
    """List the bars that checks refused: when, by which rule, for which value, from where; released ones as well.

    Parameters
    ----------
    symbol
        Symbol of the series.
    interval
        Length of its bars.
    json
        Print JSON.
    """
    from tasks.console.terminal import show_quarantine
    from tasks.store.bar_store import BarStore

    settings = _settings()
    found = BarStore(settings.store_root, settings.storage_options()).refusals(Series(symbol, interval))
    if json:
        _print_json(found)
    else:
        show_quarantine(found)


@app.command
def release(
    *,
    symbol: str = "BTC-USD",
    interval: IntervalName = "1d",
    at: Annotated[list[datetime], Parameter(consume_multiple=True)],
    reason: str,
) -> None:
    """Put refused bars among the bars after all; later checks let them pass while the source says the same of them.

    Parameters
    ----------
    symbol
        Symbol of the series.
    interval
        Length of its bars.
    at
        Open times of the bars, UTC, one or more.
    reason
        Why these bars are good; kept with the release.
    """
    from tasks.console.terminal import show_lines
    from tasks.store.bar_store import BarStore

    settings, series = _settings(), Series(symbol, interval)
    store = BarStore(settings.store_root, settings.storage_options())
    merged = store.release(series, at, reason, released_at=datetime.now(UTC))
    show_lines(
        [f"{symbol} {interval}: {merged.added} bars released, {merged.revised} revised; version {merged.version}"]
    )


@app.command
def predict(
    *,
    symbol: str = "BTC-USD",
    interval: IntervalName = "1d",
    limits: ForecastSpec = ForecastSpec(),
    as_of: datetime | None = None,
    json: bool = False,
) -> None:
    """Predict the bar after the last closed one with the champion; the probability is stored before it is printed.

    Parameters
    ----------
    symbol
        Symbol of the series.
    interval
        Length of its bars.
    limits
        When the champion is not asked.
    as_of
        What counts as now, UTC; without it the clock where the champion learned from an exchange, else the last close.
    json
        Print JSON.
    """
    from tasks.console.terminal import show_forecast
    from tasks.serving.guarded_forecast import forecast_guarded

    with _quietly():
        found = forecast_guarded(Series(symbol, interval), _settings(), limits, as_of).forecast.to_dict()
    if json:
        _print_json(found)
    else:
        show_forecast(found)


@app.command
def promote(
    *,
    version: str,
    symbol: str = "BTC-USD",
    interval: IntervalName = "1d",
    promotion: PromotionRule = PromotionRule(),
    force: bool = False,
    reason: str = "",
) -> None:
    """Decide anew about a registered version: by the rule, or forced with a reason.

    Parameters
    ----------
    version
        Version to decide about.
    symbol
        Symbol of the series.
    interval
        Length of its bars.
    force
        Promote it whatever the rule says; needs a reason, and the ledger marks it.
    reason
        Why, for the ledger.
    """
    from tasks.champion.manual_decisions import promote_by_hand
    from tasks.console.terminal import show_lines

    with _quietly():
        row = promote_by_hand(Series(symbol, interval), _settings(), version, promotion, force=force, reason=reason)
    show_lines([f"{row.series_name}: {row.action} version {row.version}; champion: {row.champion_after or 'none'}"])
    show_lines([f"  {each}" for each in row.reasons])


@app.command
def ledger(
    *,
    symbol: str = "BTC-USD",
    interval: IntervalName = "1d",
    name: str = "",
    last: int = 20,
    on: datetime | None = None,
    json: bool = False,
) -> None:
    """List the decisions about a series, or say who was champion on a day.

    Parameters
    ----------
    symbol
        Symbol of the series.
    interval
        Length of its bars.
    name
        Name of another ledger, such as that of a replay; empty: the series' own.
    last
        How many decisions, newest ones; 0 for all.
    on
        Say who was champion at the end of this day (UTC), or at this time.
    json
        Print JSON.
    """
    from tasks.console.decision_table import show_ledger
    from tasks.console.terminal import show_lines
    from tasks.store.decision_log import Ledger

    settings = _settings()
    known, series_name = Ledger(settings.store_root, settings.storage_options()), name or Series(symbol, interval).name
    if on is not None:
        moment = on.date() if (on.hour, on.minute, on.second) == (0, 0, 0) else on
        champion = known.champion_on(series_name, moment)
        if json:
            _print_json({"series": series_name, "on": moment.isoformat(), "champion": champion})
        else:
            told = f"version {champion}" if champion else "no version"
            show_lines([f"{series_name}: {told} was champion on {moment.isoformat()}"])
        return
    rows = [row.to_dict() for row in known.rows(series_name, last=last or None)]
    if json:
        _print_json(rows)
    else:
        show_ledger(rows)


@app.command
def explain(
    *, symbol: str = "BTC-USD", interval: IntervalName = "1d", at: datetime | None = None, json: bool = False
) -> None:
    """Explain what the champion says of one window, as a page: each bar's share, filters, activations, gates.

    Parameters
    ----------
    symbol
        Symbol of the series.
    interval
        Length of its bars.
    at
        When the window was decided, UTC: the close of its last bar; the newest without it.
    json
        Print JSON.
    """
    from tasks.console.terminal import show_explanation

    settings = _settings()
    with _quietly():
        from tasks.champion.champion_explanation import explain_champion

        found = explain_champion(Series(symbol, interval), settings, at).to_dict()
    if json:
        _print_json(found)
    else:
        show_explanation(found)


@app.command
def replay(
    *,
    first: Annotated[datetime, Parameter(name="--from")],
    last: Annotated[datetime, Parameter(name="--to")],
    symbol: str = "BTC-USD",
    interval: IntervalName = "1d",
    window: WindowSpec = WindowSpec(),
    folds: FoldSpec = FoldSpec(),
    network: NetworkSpec = NetworkSpec(),
    training: TrainingSpec = TrainingSpec(),
    promotion: PromotionRule = PromotionRule(),
    name: str = "",
    json: bool = False,
) -> None:
    """Replay the daily retrain and its decision for each day of a span, from stored bars; resumable.

    Parameters
    ----------
    first
        First day; its decision is made at 00:00 UTC with the bars closed by then.
    last
        Last day.
    symbol
        Symbol of the stored series.
    interval
        Length of its bars.
    name
        Name of the replay's registry and ledger; empty: the series' name with -replay.
    json
        Print JSON.
    """
    from tasks.console.decision_table import show_ledger
    from tasks.console.terminal import TerminalProgress, quiet_streams, show_lines

    settings = _settings()
    with quiet_streams(settings.log_folder) as (console, _), TerminalProgress(console) as progress:
        from tasks.console.progress import reporting
        from tasks.services.prefect_server import local_server

        with reporting(progress):
            with local_server():
                import tensorflow  # noqa: F401, ICN001 - its seconds overlap the server's

                from flows.replay import replay as flow
            found = flow(
                first=first.date(),
                last=last.date(),
                symbol=symbol,
                interval=interval,
                window=window,
                folds=folds,
                network=network,
                training=training,
                promotion=promotion,
                name=name,
            )
    if json:
        _print_json(found.to_dict())
        return
    show_ledger([row.to_dict() for row in found.decisions])
    show_lines(found.lines())


@app.command
def tune(
    *,
    symbol: str = "BTC-USD",
    interval: IntervalName = "1d",
    window: WindowSpec = WindowSpec(),
    folds: FoldSpec = FoldSpec(),
    network: NetworkSpec = NetworkSpec(),
    training: TrainingSpec = TrainingSpec(),
    spec: Annotated[TuneSpec, Parameter(name="tune")] = TuneSpec(),
) -> None:
    """Search for a better recipe on the bars before the test bars, so that these stay unseen; resumable.

    Parameters
    ----------
    symbol
        Symbol of the stored series.
    interval
        Length of its bars.
    """
    from tasks.console.terminal import TerminalProgress, quiet_streams, show_lines

    settings = _settings()
    with quiet_streams(settings.log_folder) as (console, _), TerminalProgress(console) as progress:
        from tasks.console.progress import reporting
        from tasks.services.prefect_server import local_server

        with reporting(progress):
            with local_server():
                import tensorflow  # noqa: F401, ICN001 - its seconds overlap the server's

                from flows.tune import tune as flow
            found = flow(
                symbol=symbol,
                interval=interval,
                window=window,
                folds=folds,
                network=network,
                training=training,
                spec=spec,
            )
    show_lines(found.lines())


@app.command
def audit(
    *,
    symbol: str = "BTC-USD",
    interval: IntervalName = "1d",
    version: str = "",
    sample: int = 64,
    json: bool = False,
) -> None:
    """Look for leaks of the future into a version's windows, labels, folds and predictions; fail if there is one.

    Parameters
    ----------
    symbol
        Symbol of the series.
    interval
        Length of its bars.
    version
        Version to look at; the champion without it.
    sample
        How many windows and predictions are derived again, without later bars and with scrambled ones.
    json
        Print JSON.
    """
    from tasks.champion.version_audit import audit_version
    from tasks.console.terminal import show_lines

    with _quietly():
        found = audit_version(Series(symbol, interval), _settings(), version, sample)
    if json:
        _print_json(found.to_dict())
    else:
        same = "the bars it was trained on" if found.same_bars else "not exactly those it was trained on"
        show_lines([f"{found.series_name} version {found.version}, held against {found.bars.rows} bars ({same})"])
        show_lines(
            [f"  {'ok  ' if each.passed else 'LEAK'} {each.name}: {each.detail}" for each in found.audit.findings]
        )
    found.audit.require(f"{found.series_name} version {found.version}")


@app.command
def rollback(*, symbol: str = "BTC-USD", interval: IntervalName = "1d", to: str = "", reason: str = "") -> None:
    """Put a former champion back.

    Parameters
    ----------
    symbol
        Symbol of the series.
    interval
        Length of its bars.
    to
        Version to put back; without it the champion before this one.
    reason
        Why, for the ledger.
    """
    from tasks.champion.manual_decisions import roll_back
    from tasks.console.terminal import show_lines

    with _quietly():
        row = roll_back(Series(symbol, interval), _settings(), to, reason)
    show_lines([f"{row.series_name}: version {row.version} is champion again, in place of {row.champion_before}"])


@app.command
def monitor(
    *,
    symbol: str = "BTC-USD",
    interval: IntervalName = "1d",
    spec: MonitorSpec = MonitorSpec(),
    as_of: datetime | None = None,
    json: bool = False,
) -> None:
    """Score the stored predictions against what happened, look for drift, and say what is wrong.

    Parameters
    ----------
    symbol
        Symbol of the series.
    interval
        Length of its bars.
    spec
        When it is an alarm.
    as_of
        What counts as now, UTC; without it the clock where the champion learned from an exchange, else the last close.
    json
        Print JSON.
    """
    from tasks.champion.champion_monitor import watch_champion
    from tasks.console.terminal import show_watched

    with _quietly():
        watched = watch_champion(Series(symbol, interval), _settings(), spec, as_of)
    if json:
        _print_json(watched.look.to_dict())
    else:
        show_watched(watched)


@app.command
def serve(*, symbol: str = "BTC-USD", interval: IntervalName = "1d", host: str = "127.0.0.1", port: int = 8000) -> None:
    """Answer REST requests with the champion: POST /predict with bars, GET /health, GET /docs.

    Parameters
    ----------
    symbol
        Symbol of the series.
    interval
        Length of its bars.
    host
        Address to listen at; there is no log-in, so keep it to this machine or behind a proxy.
    port
        Port to listen at.
    """
    from tasks.console.terminal import show_lines
    from tasks.serving.rest_server import serve as serve_champion

    settings = _settings()
    show_lines([f"POST http://{host}:{port}/predict; Ctrl-C ends it"])
    serve_champion(Series(symbol, interval), settings, host, port)


@app.command
def up(
    *,
    source: SourceSpec = SourceSpec(),
    check: CheckSpec = CheckSpec(),
    window: WindowSpec = WindowSpec(),
    folds: FoldSpec = FoldSpec(),
    network: NetworkSpec = NetworkSpec(),
    training: TrainingSpec = TrainingSpec(),
    promotion: PromotionRule = PromotionRule(),
    when: UpSpec = UpSpec(),
    prefect_port: int = 0,
    mlflow_port: int = 0,
    files_port: int = 0,
) -> None:
    """Run unattended on this machine: a Prefect server, an MLflow server, pages, and every flow on its schedule.

    Specs become the parameters of the scheduled flows; without any, the sample is retrained.

    Parameters
    ----------
    prefect_port
        Port of the Prefect server; 0: 4200, or a free one.
    mlflow_port
        Port of the MLflow server; 0: 5000, or a free one.
    files_port
        Port of Data Docs, reports and pictures; 0: 8900, or a free one.
    """
    from flows.up import up as keep_up
    from tasks.console.terminal import show_lines

    chosen = with_preset(source.interval, window, folds, network, training)  # the forms show it, and send it whole
    specs = {
        "source": source, "check": check, "window": chosen.window, "folds": chosen.folds, "network": chosen.network,
        "training": chosen.training, "promotion": promotion,
    }  # fmt: skip
    parameters = {name: spec.model_dump(mode="json") for name, spec in specs.items() if spec != type(spec)()}
    require_readable(source)
    ports = (prefect_port, mlflow_port, files_port)
    keep_up(_settings(), parameters, when, ports, lambda line: show_lines([line]))


@app.command
def deployments(*, check: str = "", pool: str = "riseorfall", gpu_pool: str = "") -> None:
    """Print prefect.yaml for work pools, or hold one against the flows.

    Parameters
    ----------
    check
        A prefect.yaml: every entrypoint is loaded, every parameter validated, strange keys are refused.
    pool
        Work pool that runs the flows.
    gpu_pool
        Work pool for the flows that train, tagged gpu; without it they run in the other one.
    """
    from pathlib import Path

    from flows.deployments import check_yaml, plans, yaml_text

    with _quietly():
        text = "\n".join(check_yaml(Path(check))) + "\n" if check else yaml_text(plans(), pool, gpu_pool)
    sys.stdout.write(text)


@app.command
def automations() -> None:
    """Install the automations on the Prefect server that is configured or kept by `up`: retrain on alarm, dead man."""
    from tasks.champion.health import prefect_api
    from tasks.console.terminal import show_lines
    from tasks.services.prefect_server import use_server

    settings = _settings()
    if not prefect_api(settings):
        raise SpecError("automations: expected a Prefect server, found none. Set PREFECT_API_URL, or `riseorfall up`.")
    use_server(settings)
    from flows.deployments import plans
    from tasks.services.automations import install

    show_lines([f"installed: {name}" for name in install([plan.full_name for plan in plans()])])


def _settings() -> Settings:
    settings = Settings()
    settings.announce()
    return settings


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what libraries say off the terminal."""
    from tasks.console.terminal import quiet_streams

    with quiet_streams(_settings().log_folder):
        yield


def _print_json(found: Any) -> None:
    sys.stdout.write(json_text(found, indent=2) + "\n")


def _complain(text: str, code: int) -> int:
    """Say what went wrong on standard error, and return the exit code."""
    sys.stderr.write(f"riseorfall: {text}\n")
    return code


def _reworded(error: CycloptsError) -> str:
    """Word an error of the command line; one that a spec raised in the spec's own words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ValidationError):
            return _in_words(cause)
        cause = cause.__cause__
    return str(error)


def _in_words(error: ValidationError) -> str:
    """Word a validation error: which field, what was expected, what was found."""
    lines = []
    for found in error.errors(include_url=False):
        name = ".".join(str(part) for part in found["loc"])
        lines.append(f"{error.title} {name}: {found['msg']}; found {found['input']!r}")
    return "; ".join(lines)
