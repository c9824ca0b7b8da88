"""The anchor against creep: the daily rule compares a challenger with the best of what has been champion.

`model/best_past_champion.py` decides on probabilities; here they are gathered. At most seven references are kept,
however many promotions there were. Each decision stores which references it compared with; the candidates of the next
decision are the references of the newest promotion and the champions since. So the decision log is the only state, and
a replay finds the same references. A past champion whose files are damaged, or not those of the decision log, is left
out: the decision says so, and it stays a candidate.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from model.bars import Bars
from model.best_past_champion import (
    AnchorComparison,
    AnchorRule,
    calibration_slope_bound,
    compare_with_past_champions,
    references_to_keep,
)
from model.errors import NoChampion, UnsoundModel, UntrustedModel
from model.live_score import outcomes
from model.promotion_rule import Clause
from model.record import Record, common_places
from model.times import column_times
from tasks.champion.live_comparison import live_predictions
from tasks.champion.out_of_sample_record import out_of_sample_record
from tasks.store.decision_log import (
    LEFT_OUT,
    REFERENCE,
    LoggedDecision,
    former_champions,
    reference_versions,
    standing_champions,
)
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

NAME = "past_champions"
MOST_CANDIDATES = (
    30  # own choice: champions that are read where no promotion names its references, as in a home of version 0.1
)


def compare_with_references(
    workspace: Workspace, record: Record, base_rate: Float64[np.ndarray, " window"], horizon_bars: int, bars: Bars
) -> Clause:
    """Return the condition that a challenger is within the budget of excess loss over every past champion.

    Args:
        workspace: decision log, registry and stored predictions.
        record: of the challenger.
        base_rate: shape (window,), float64: the base rate's P(rise) on the same windows.
        horizon_bars: of the challenger; champions of another horizon are no references.
        bars: shape (bar,), oldest first.
    """
    rows, rule = workspace.decision_log.rows(workspace.name), AnchorRule()
    versions, probabilities, unusable = _read_references(workspace, candidates(rows), record, horizon_bars, bars)
    if not versions:
        reason = "there is no past champion of this horizon to compare with"
        return _without(unusable, Clause(NAME, passed=True, reason=reason, numbers={}))
    share = float(np.mean(base_rate))
    kept = references_to_keep(record.labels, share, probabilities, min_common=rule.min_common)
    versions, overlap = [versions[index] for index in kept], record.overlap_bars()
    found = compare_with_past_champions(
        record.labels,
        share,
        record.probabilities,
        probabilities[list(kept)],
        rule,
        overlap,
        considered=len(former_champions(rows)),
        slope=_slope(workspace, record, share, bars, rule),
    )
    return _without(unusable, _clause(found, versions, rule))


def _without(unusable: Sequence[str], clause: Clause) -> Clause:
    """Name the past champions that were left out because their files cannot be used."""
    if not unusable:
        return clause
    numbers = {f"{LEFT_OUT}{version}": 1.0 for version in unusable}
    which = f"version{'s' if unusable[1:] else ''} {', '.join(unusable)}"
    reason = (
        f"{clause.reason}; left out: {which}, whose files are damaged or not the recorded ones (`riseorfall doctor`)"
    )
    return replace(clause, reason=reason, numbers={**clause.numbers, **numbers})


def candidates(rows: Sequence[LoggedDecision]) -> list[str]:
    """Return the versions that may be references, in the order of their promotion; none that was rolled back."""
    standing = standing_champions(rows)
    champions, kept = [each for each in former_champions(rows) if each in standing], reference_versions(rows)
    if not kept:
        return champions[-MOST_CANDIDATES:]
    last = max(number for number, row in enumerate(rows) if reference_versions([row]))
    since = {row.champion_after for row in rows[last:]}
    return [version for version in champions if version in kept or version in since]


def _read_references(
    workspace: Workspace, numbers: Sequence[str], record: Record, horizon_bars: int, bars: Bars
) -> tuple[list[str], Float64[np.ndarray, "reference window"], list[str]]:
    """Return the references, their probabilities on the record's windows (NaN where none), and the unusable ones.

    A version that is gone from the registry is neither: nobody can restore its files there.
    """
    versions, rows, unusable = [], [], []
    for number in numbers:
        try:
            version = workspace.registry.version(number)
            loaded = workspace.registry.read_version(number)
            if loaded.recipe().window.horizon_bars != horizon_bars:
                continue
            theirs = out_of_sample_record(workspace, version, loaded, bars, record)
        except (NoChampion, UnsoundModel, UntrustedModel) as error:
            log.warning("%s: past champion version %s is no reference: %s", workspace.name, number, error)
            if not isinstance(error, NoChampion):
                unusable.append(number)
            continue
        ours, other = common_places(record.decided_at, theirs.decided_at)
        on_record = np.full(len(record), np.nan)
        on_record[ours] = theirs.probabilities[other]
        versions.append(number)
        rows.append(on_record)
    return versions, np.stack(rows) if rows else np.empty((0, len(record))), unusable


def _slope(workspace: Workspace, record: Record, base_rate: float, bars: Bars, rule: AnchorRule) -> float:
    """Return the bound of the calibration slope from what was served before the record began, and the record."""
    served = live_predictions([workspace.prediction_log.read(workspace.name)])
    decided_at, resolves_at = column_times(served["decided_at"]), column_times(served["resolves_at"])
    labels = outcomes(decided_at, resolves_at, bars)
    before = (labels >= 0) & (decided_at < record.decided_at[0])
    return float(
        calibration_slope_bound(
            np.concatenate([labels[before], record.labels]).astype(np.int8),
            base_rate,
            np.concatenate([served["probability"].to_numpy(dtype=np.float64)[before], record.probabilities]),
            rule,
            record.overlap_bars(),
        )
    )


def _clause(found: AnchorComparison, versions: Sequence[str], rule: AnchorRule) -> Clause:
    """Return the clause with the numbers of each reference; the worst comparison is the reason."""
    counted = found.common >= rule.min_common
    failed = found.worse | found.over_budget
    passed = bool(found.may_be_promoted)
    numbers = {"budget": rule.budget, "tolerance": rule.tolerance, "calibration_slope": float(found.calibration_slope)}
    numbers |= {
        f"{REFERENCE}{version}": float(each) for version, each in zip(versions, found.conservative_excess, strict=True)
    }
    if not counted.any():
        reason = f"no past champion shares {rule.min_common} decisions with the challenger"
        return Clause(NAME, passed=True, reason=reason, numbers=numbers)
    eligible = failed if failed.any() else counted
    worst = int(np.where(eligible, found.conservative_excess, -np.inf).argmax())
    where = f"past champion version {versions[worst]} on {found.common[worst]:.0f} decisions"
    difference = f"log loss difference {found.excess[worst]:+.4f} vs. {where}"
    estimate = f"upper estimate {found.conservative_excess[worst]:+.4f}"
    if passed:
        reason = f"{difference}: {estimate}, below the limit of {rule.budget:g} vs. any past champion"
    elif found.worse[worst]:
        reason = f"{difference}: significantly worse by more than {rule.tolerance:g}"
    else:
        reason = (
            f"{difference}: {estimate}, above the limit of {rule.budget:g} vs. any past champion. Its probabilities "
            f"are farther from the base rate (by {found.boldness[worst]:.4f} nats per decision), and the outcomes do "
            "not show that this lowers the log loss"
        )
    worst_numbers = {
        "difference": float(found.excess[worst]),
        "standard_error": float(found.standard_error[worst]),
        "boldness": float(found.boldness[worst]),
        "excess": float(found.conservative_excess[worst]),
        "n": float(found.common[worst]),
    }
    return Clause(NAME, passed, reason, worst_numbers | numbers)
