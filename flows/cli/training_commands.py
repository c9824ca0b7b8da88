"""Commands that train: retrain, replay, tune."""

from datetime import datetime
from typing import Annotated, cast

from cyclopts import Parameter

from data_checks.check_spec import CheckSpec
from flows.cli.option_panels import (
    BASICS,
    AbstentionFlags,
    CheckFlags,
    FoldFlags,
    NetworkFlags,
    PanelFlags,
    PanelPromotionFlags,
    PromotionFlags,
    SourceFlags,
    TrainingFlags,
    WindowFlags,
)
from flows.cli.series_options import DEFAULT_SERIES, JsonFlag, SeriesOptions
from flows.cli.terminal_session import (
    OF_CHECKS,
    OF_MLFLOW,
    flow_progress,
    load_settings,
    print_json,
    tensorflow_imported,
)
from model.abstention import AbstentionSpec
from model.bars import IntervalName
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.panel import PanelSpec
from model.panel_promotion import PanelPromotion
from model.promotion_rule import PromotionRule
from model.search_space import TuneSpec
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.sources.source_spec import SourceSpec, require_readable


def retrain(
    *,
    source: SourceFlags = SourceSpec(),
    check: CheckFlags = CheckSpec(),
    window: WindowFlags = WindowSpec(),
    folds: FoldFlags = FoldSpec(),
    network: NetworkFlags = NetworkSpec(),
    training: TrainingFlags = TrainingSpec(),
    promotion: PromotionFlags = PromotionRule(),
    abstention: AbstentionFlags = AbstentionSpec(),
    as_of: Annotated[datetime | None, Parameter(group=BASICS)] = None,
    force: Annotated[bool, Parameter(group=BASICS)] = False,
) -> None:
    """Retrain one series, and promote the new version if the promotion rule allows it.

    Parameters
    ----------
    as_of
        Time of the run, UTC; default: now for an exchange, the last close for a file.
    force
        Retrain even if a decision on the same bars, recipe, rule and code exists.
    """
    from tasks.console.command_output import show_retrain

    settings = load_settings()
    require_readable(source)  # before the imports, which take seconds
    with flow_progress(settings) as (run, log_file):
        with run.step("import"), tensorflow_imported((*OF_MLFLOW, *OF_CHECKS)):
            from flows.retrain import retrain as flow
        result = flow(
            source=source,
            check=check,
            window=window,
            folds=folds,
            network=network,
            training=training,
            promotion=promotion,
            abstention=abstention,
            as_of=as_of,
            force=force,
        )
    now = load_settings()  # with the address of the pages, where `up` runs: the flow found it
    show_retrain(result, run.seconds, now, log_file, promotion.trading)


def retrain_panel(
    *,
    interval: Annotated[IntervalName, Parameter(group=BASICS)] = "1d",
    panel: PanelFlags = PanelSpec(),
    window: WindowFlags = WindowSpec(),
    folds: FoldFlags = FoldSpec(),
    network: NetworkFlags = NetworkSpec(),
    training: TrainingFlags = TrainingSpec(),
    promotion: PanelPromotionFlags = PanelPromotion(),
    abstention: AbstentionFlags = AbstentionSpec(),
    as_of: Annotated[datetime | None, Parameter(group=BASICS)] = None,
    force: Annotated[bool, Parameter(group=BASICS)] = False,
) -> None:
    """Retrain one network on the stored bars of many series, and promote it if the daily rule allows it.

    Parameters
    ----------
    interval
        Bar length. All stored series with it form the panel, unless you name some below; nothing is fetched.
    as_of
        Use only bars that had closed by this time (UTC); default: all stored bars.
    force
        Retrain even if a decision on the same bars, series, recipe, rule and code exists.
    """
    from tasks.console.panel_tables import show_panel_retrain

    settings = load_settings()
    with flow_progress(settings) as (run, log_file):
        with run.step("import"), tensorflow_imported((*OF_MLFLOW, *OF_CHECKS)):
            from flows.retrain_panel import retrain_panel as flow
        result = flow(
            interval=interval,
            panel=panel,
            window=window,
            folds=folds,
            network=network,
            training=training,
            promotion=promotion,
            abstention=abstention,
            as_of=as_of,
            force=force,
        )
    show_panel_retrain(result, run.seconds, load_settings(), log_file)  # with the address of the pages, as above


def replay(
    *,
    first: Annotated[datetime, Parameter(name="--from")],
    last: Annotated[datetime, Parameter(name="--to")],
    options: SeriesOptions = DEFAULT_SERIES,
    window: WindowFlags = WindowSpec(),
    folds: FoldFlags = FoldSpec(),
    network: NetworkFlags = NetworkSpec(),
    training: TrainingFlags = TrainingSpec(),
    promotion: PromotionFlags = PromotionRule(),
    name: str = "",
    json: JsonFlag = False,
) -> None:
    """Replay the daily retrain and its decision for each day of a period, from stored bars; resumable.

    Parameters
    ----------
    first
        First day; its decision is made at 00:00 UTC with the bars closed by then.
    last
        Last day. Each day that is replayed counts as one look at its test bars.
    name
        Name of the replay's model registry and decision log; default: the name of the series with -replay.
    """
    from tasks.console.command_output import show_decisions, show_lines

    series = options.chosen  # before the imports, which take seconds
    with flow_progress(load_settings()):
        with tensorflow_imported():
            from flows.replay import replay as flow
        found = flow(
            first=first.date(),
            last=last.date(),
            symbol=series.symbol,
            interval=cast("IntervalName", series.interval),
            window=window,
            folds=folds,
            network=network,
            training=training,
            promotion=promotion,
            name=name,
        )
    if json:
        print_json(found.to_dict())
        return
    show_decisions([row.to_dict() for row in found.decisions], whole=False)
    show_lines(found.lines())


def tune(
    *,
    options: SeriesOptions = DEFAULT_SERIES,
    window: WindowFlags = WindowSpec(),
    folds: FoldFlags = FoldSpec(),
    network: NetworkFlags = NetworkSpec(),
    training: TrainingFlags = TrainingSpec(),
    spec: Annotated[TuneSpec, Parameter(name="tune")] = TuneSpec(),
) -> None:
    """Search for a better recipe on the bars before the test bars, which stay out-of-sample; resumable."""
    from tasks.console.command_output import show_lines

    series = options.chosen  # before the imports, which take seconds
    with flow_progress(load_settings()):
        with tensorflow_imported():
            from flows.tune import tune as flow
        found = flow(
            symbol=series.symbol,
            interval=cast("IntervalName", series.interval),
            window=window,
            folds=folds,
            network=network,
            training=training,
            spec=spec,
        )
    show_lines(found.lines())
