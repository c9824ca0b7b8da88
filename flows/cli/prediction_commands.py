"""Commands about predictions and their quality: status, predict, predictions, monitor, explain, audit."""

from datetime import datetime
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.cli.series_options import DEFAULT_SERIES, JsonFlag, LastFlag, SeriesOptions
from flows.cli.terminal_session import in_prefect, load_settings, print_json, quiet_libraries
from model.freshness import ForecastSpec
from model.monitor_alarms import MonitorSpec
from model.plurals import counted
from tasks.champion.shadow_spec import ShadowSpec
from tasks.workspace import open_workspace

Sample = Annotated[int, Parameter(validator=Number(gte=1, lte=10_000))]  # as in the form


def status(*, options: SeriesOptions = DEFAULT_SERIES, json: JsonFlag = False, check: bool = False) -> None:
    """Show champion, challenger, bars, live score, alarms, next runs and the last decisions of a series.

    A home with several series is shown as one line a series, unless --symbol and --interval choose one.

    Parameters
    ----------
    check
        Exit with 4 if there is an alarm, for cron.
    """
    from tasks.champion.live_comparison import NEWEST_VERSIONS
    from tasks.champion.series_alarms import Pauses, require_healthy, series_health
    from tasks.champion.series_status import series_status
    from tasks.console.status_tables import LIVE_VERSIONS, show_all_status, show_status
    from tasks.services.scheduled_runs import scheduled_pauses, service_status

    settings = load_settings()
    with quiet_libraries():
        chosen = options.listed
        services, pauses = service_status(settings), scheduled_pauses(settings)
        live = NEWEST_VERSIONS if json else LIVE_VERSIONS if len(chosen) == 1 else 0  # what is printed
        found = [
            series_status(each, settings, live)
            | {"health": series_health(each, settings, pauses=pauses.get(each.name, Pauses())) | services}
            for each in chosen
        ]
    if json:
        print_json(found if len(found) > 1 else found[0])
    elif len(found) > 1:
        show_all_status(found)
    else:
        show_status(found[0])
    if check:
        for each in found:
            require_healthy(each["health"])


def predict(
    *,
    options: SeriesOptions = DEFAULT_SERIES,
    staleness: ForecastSpec = ForecastSpec(),
    shadows: ShadowSpec = ShadowSpec(),
    as_of: datetime | None = None,
    panel: bool = False,
    json: JsonFlag = False,
) -> None:
    """Predict the bar after the last closed one with the champion; the probability is stored before it is printed.

    Parameters
    ----------
    staleness
        Maximum age of the champion and of the newest bar.
    shadows
        Versions that predict the bar too, without serving; what they predict is stored, not printed.
    as_of
        Time of the run, UTC; default: now if the champion's bars came from an exchange, else the last close. With
        --panel: now if bars of any series that the panel predicts came from an exchange, else their newest close.
    panel
        Predict every stored series of the interval, or --symbol alone, with the champion of the panel.
    """
    from tasks.console.prediction_tables import show_forecast
    from tasks.serving.forecast import forecast

    if panel:
        _predict_panel(options, staleness, shadows, as_of, json=json)
        return
    with quiet_libraries(writes=True):
        found = forecast(options.series, load_settings(), staleness, as_of, shadows=shadows).to_dict()
    if json:
        print_json(found)
    else:
        show_forecast(found)


def _predict_panel(
    options: SeriesOptions, staleness: ForecastSpec, shadows: ShadowSpec, as_of: datetime | None, *, json: bool
) -> None:
    """Print what the champion of a panel predicts."""
    from tasks.console.panel_tables import show_panel_forecast
    from tasks.serving.panel_forecast import forecast_panel

    with quiet_libraries(writes=True):
        settings, symbol = load_settings(), "" if options.is_panel else options.symbol or ""
        found = forecast_panel(options.panel, settings, symbol, staleness, as_of, shadows=shadows).to_dict()
    if json:
        print_json(found)
    else:
        show_panel_forecast(found)


def predictions(*, options: SeriesOptions = DEFAULT_SERIES, last: LastFlag = 20, json: JsonFlag = False) -> None:
    """List the served predictions of a series with their outcomes, oldest first.

    Parameters
    ----------
    last
        Number of predictions to list, the newest; 0 for all. With --symbol PANEL each series of a close is one.
    """
    from tasks.champion.served_predictions import served_predictions
    from tasks.console.command_output import show_lines
    from tasks.console.prediction_tables import show_predictions

    series = options.panel if options.is_panel else options.series
    rows = served_predictions(open_workspace(series)).rows(last)
    if json:
        print_json(rows)
    else:
        show_lines([f"{series.symbol} {series.interval}", *options.others])
        show_predictions(rows)


def monitor(
    *,
    options: SeriesOptions = DEFAULT_SERIES,
    spec: MonitorSpec = MonitorSpec(),
    as_of: datetime | None = None,
    json: JsonFlag = False,
) -> None:
    """Score the stored predictions against their outcomes, test for drift, and list the alarms.

    Parameters
    ----------
    spec
        Limits at which an alarm is raised.
    as_of
        Time of the run, UTC; default: now if the champion's bars came from an exchange, else the last close.
    """
    from tasks.champion.panel_monitor import monitor_series
    from tasks.console.command_output import show_lines, show_watched

    series = options.panel if options.is_panel else options.series
    with quiet_libraries(writes=True):
        watched = monitor_series(series, load_settings(), spec, as_of)

        def emit() -> None:
            from tasks.monitoring import emit_alarms

            emit_alarms(watched)

        problem = in_prefect(emit) if watched.raised else ""  # a scheduled run does not raise them again
    if json:
        print_json(watched.entry.to_dict())
    else:
        show_watched(watched)
        show_lines([f"warning: the alarms were not sent to Prefect: {problem}"] if problem else [])
        show_lines(options.others)


def explain(*, options: SeriesOptions = DEFAULT_SERIES, at: datetime | None = None, json: JsonFlag = False) -> None:
    """Explain one prediction of the champion on a page: contribution of each bar, filters, activations, gates.

    Parameters
    ----------
    at
        Decision time of the window, UTC: the close of its last bar; default: the newest.
    """
    from tasks.console.command_output import show_explanation, show_lines

    settings = load_settings()
    with quiet_libraries():
        from tasks.pages.champion_explanation import explain_champion

        found = explain_champion(options.series, settings, at).to_dict()
    if json:
        print_json(found)
    else:
        show_explanation(found)
        show_lines(options.others)


def audit(
    *, options: SeriesOptions = DEFAULT_SERIES, version: str = "", sample: Sample = 64, json: JsonFlag = False
) -> None:
    """Test a version's windows, labels, folds and predictions for look-ahead; fail if there is any.

    Parameters
    ----------
    version
        Version to audit; default: the champion.
    sample
        Number of windows and predictions computed again, without later bars and with scrambled ones.
    """
    from tasks.champion.version_audit import audit_version
    from tasks.console.command_output import show_lines

    with quiet_libraries():
        found = audit_version(options.series, load_settings(), version, sample)
    title = f"{found.series_name} version {found.version}"
    if json:
        print_json(found.to_dict())
    else:
        same = "its training bars" if found.same_bars else "not exactly its training bars"
        show_lines([f"{title}, audited on {counted(found.bars.rows, 'bar')} ({same})"])
        show_lines(
            [f"  {'ok  ' if each.passed else 'LEAK'} {each.name}: {each.detail}" for each in found.audit.findings]
        )
        show_lines(options.others)
    found.audit.require(title)
