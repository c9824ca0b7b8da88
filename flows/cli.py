"""The command `riseorfall`: the flows from a shell, and a look at what they left.

Flags are drawn from the specs, so a flag, a form field in the Prefect UI and a parameter in MLflow are one thing.
Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 unexpected, 2 wrong use or
unreadable input, 3 data checks failed. `--help` imports nothing heavy: each command imports what it runs.
"""

import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from json import dumps as json_text
from typing import Any

from cyclopts import App, CycloptsError
from pydantic import ValidationError

from data_checks.suites import CheckSpec
from model.bars import IntervalName, Series
from model.errors import RiseOrFallError
from model.networks import NetworkSpec
from model.promotion import PromotionRule
from model.splits import FoldSpec
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.settings import Settings
from tasks.sources.source import SourceSpec

WRONG_USE, UNEXPECTED = 2, 1

app = App(
    name="riseorfall",
    help="Retrain a CNN + LSTM on price bars, prove on unseen bars what it is worth, and promote it when it earns it.",
    version_flags=["--version"],
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    sys.exit(run(sys.argv[1:] if words is None else words))


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
    from tasks.terminal import TerminalProgress, quiet_streams, show_retrain

    settings = _settings()
    with quiet_streams(settings.log_folder) as (console, log_file), TerminalProgress(console) as progress:
        from tasks.reporting import reporting

        with reporting(progress) as told:
            with told.step("import"):
                from tasks.prefect_server import local_server

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
def status(*, symbol: str = "BTC-USD", interval: IntervalName = "1d", json: bool = False) -> None:
    """Show champion, challenger, bars and the last decisions of a series.

    Parameters
    ----------
    symbol
        Symbol of the series.
    interval
        Length of its bars.
    json
        Print JSON.
    """
    from tasks.status import series_status
    from tasks.terminal import show_status

    with _quietly():
        found = series_status(Series(symbol, interval), _settings())
    if json:
        _print_json(found)
    else:
        show_status(found)


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
    from tasks.barstore import BarStore
    from tasks.terminal import show_bars

    settings = _settings()
    found = [each.to_dict() for each in BarStore(settings.store_root, settings.storage_options()).series(as_of)]
    if json:
        _print_json(found)
    else:
        show_bars(found)


@app.command
def predict(*, symbol: str = "BTC-USD", interval: IntervalName = "1d", json: bool = False) -> None:
    """Predict the bar after the last closed one with the champion; the probability is stored before it is printed.

    Parameters
    ----------
    symbol
        Symbol of the series.
    interval
        Length of its bars.
    json
        Print JSON.
    """
    from tasks.forecasting import forecast
    from tasks.terminal import show_forecast

    with _quietly():
        found = forecast(Series(symbol, interval), _settings()).to_dict()
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
    from tasks.rollback import promote_by_hand
    from tasks.terminal import show_lines

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
    from tasks.ledger import Ledger
    from tasks.ledger_table import show_ledger
    from tasks.terminal import show_lines

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
    from tasks.rollback import roll_back
    from tasks.terminal import show_lines

    with _quietly():
        row = roll_back(Series(symbol, interval), _settings(), to, reason)
    show_lines([f"{row.series_name}: version {row.version} is champion again, in place of {row.champion_before}"])


def _settings() -> Settings:
    settings = Settings()
    settings.announce()
    return settings


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what libraries say off the terminal."""
    from tasks.terminal import quiet_streams

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
