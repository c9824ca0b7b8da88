"""Commands about which version is champion: decisions (the decision log), promote, rollback."""

from datetime import datetime, time
from typing import TYPE_CHECKING

from flows.cli.series_options import DEFAULT_SERIES, JsonFlag, LastFlag, SeriesOptions
from flows.cli.terminal_session import in_prefect, load_settings, print_json, quiet_libraries
from model.bars import Series
from model.errors import SpecError
from model.promotion_rule import PromotionRule
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from tasks.settings import Settings
    from tasks.store.decision_log import DecisionLog, LoggedDecision

MOST_NAMES = 20  # own choice: names that an error lists


def decisions(
    *,
    options: SeriesOptions = DEFAULT_SERIES,
    name: str = "",
    last: LastFlag = 20,
    on: datetime | None = None,
    json: JsonFlag = False,
) -> None:
    """List the logged decisions about a series, or show which version was champion on a day.

    Parameters
    ----------
    name
        Name of another decision log, such as that of a replay; default: that of the series.
    last
        Number of decisions to list, the newest; 0 for all.
    on
        Show the champion at the end of this day (UTC), or at this time.
    """
    from tasks.console.command_output import show_decisions, show_lines

    settings = load_settings()
    workspace = Workspace(settings)
    workspace.require_decisions()
    log = workspace.decision_log
    series_name = name or (options.panel if options.is_panel else options.series).name
    if name:
        _require_decisions(log, name)
    if on is not None:
        moment = on.date() if on.tzinfo is None and on.time() == time() else on
        champion = log.champion_on(series_name, moment)
        if json:
            print_json({"series": series_name, "on": moment.isoformat(), "champion": champion})
        else:
            version = f"version {champion}" if champion else "no version"
            when = f"at {moment.isoformat()}" if moment is on else f"at the end of {moment.isoformat()} (UTC)"
            show_lines([f"{series_name}: {version} was champion {when}"])
        return
    numbered = enumerate(log.rows(series_name), 1)  # the log's own numbers count those of other series and replays too
    rows = [row.to_dict() | {"number": number} for number, row in numbered][-last:]
    if json:
        print_json(rows)
    else:
        show_lines([series_name, *([] if name else options.others)])
        show_decisions(rows)


def _require_decisions(log: "DecisionLog", name: str) -> None:
    """Raise SpecError if there are decisions, and none about a name."""
    names = log.series_names()
    if names and name not in names:
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        raise SpecError(
            f"decisions: expected --name of a series or replay with decisions, found {name}; there are decisions about "
            f"{', '.join(names[:MOST_NAMES])}{more}."
        )


def promote(
    *,
    version: str,
    options: SeriesOptions = DEFAULT_SERIES,
    promotion: PromotionRule = PromotionRule(),
    force: bool = False,
    reason: str = "",
) -> None:
    """Decide again about a registered version: by the promotion rule, or by force with a reason.

    Parameters
    ----------
    version
        Version to decide about.
    force
        Promote it whatever the rule decides; requires a reason, and the decision log marks it.
    reason
        Reason, for the decision log.
    """
    from tasks.champion.promotion_by_hand import promote_by_hand
    from tasks.console.command_output import show_lines

    with quiet_libraries(writes=True):
        row = promote_by_hand(options.chosen_or_panel, load_settings(), version, promotion, force=force, reason=reason)
        show_lines([f"{row.series_name}: {row.action} version {row.version}; champion: {row.champion_after or 'none'}"])
        show_lines([f"  {each}" for each in row.reasons])
        if force:
            _show_in_prefect(row)


def rollback(*, options: SeriesOptions = DEFAULT_SERIES, to: str = "", reason: str = "", lift: bool = False) -> None:
    """Make a former champion the champion again; the recipe that it replaces is held until the hold is lifted.

    Parameters
    ----------
    to
        Version to restore; default: the champion that the current one replaced, so that a second rollback goes back
        further. With --lift: the version that was rolled back.
    reason
        Reason, for the decision log.
    lift
        Lift the hold of a former rollback instead; the champion stays. Requires a reason; --to chooses among several.
    """
    from tasks.champion.recipe_hold import held_recipes
    from tasks.champion.rollback import lift_hold, roll_back, what_next
    from tasks.console.command_output import show_lines

    with quiet_libraries(writes=True):
        series, settings = options.chosen_or_panel, load_settings()
        row = lift_hold(series, settings, reason, to) if lift else roll_back(series, settings, to, reason)
        if lift:
            show_lines([f"{row.series_name}: {row.reasons[-1]}"])
        else:
            restored = f"version {row.version} is champion again, in place of {row.champion_before}: {row.reasons[-2]}"
            show_lines([f"{row.series_name}: {restored}", what_next(series, settings, row)])
        show_lines([str(hold) for hold in held_recipes(Workspace(settings, series)).values()])
        _show_in_prefect(row)
        if not lift and not series.is_panel:
            show_lines(_refusal(series, settings))


def _refusal(series: Series, settings: "Settings") -> list[str]:
    """Return a warning where `predict` will refuse the version that is champion again, or where that is unknown.

    The decision is committed by then, so that nothing that goes wrong here is an error.
    """
    from tasks.serving.forecast import why_refused

    try:
        reason = why_refused(series, settings)
    except Exception as error:  # noqa: BLE001 - bars, files and MLflow fail in ways of their own
        return [f"warning: whether `predict` refuses it is unknown: {error}"]
    return [f"warning: `predict` refuses it: {reason}"] if reason else []


def _show_in_prefect(row: "LoggedDecision") -> None:
    """Add the committed decision to Prefect as a run with a result and an event; what goes wrong is a warning."""
    from tasks.console.command_output import show_lines

    def show() -> None:
        from flows.decision import decision

        decision(row)

    if problem := in_prefect(show):
        show_lines([f"warning: the decision is committed, but Prefect does not show it: {problem}"])
