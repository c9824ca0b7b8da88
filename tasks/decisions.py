"""A decision made real: the ledger and the alias `champion` change together, or not at all. Plain; no Prefect.

The ledger is the truth and its row the commit. A version is first loaded and asked as serving would, then the row is
written - refused if the champion is no longer the one the decision was made against -, then the alias follows. A
crash before the row leaves everything as it was; a crash after it leaves the alias behind, and whoever comes next
(`promote`, `rollback`, `status`, `predict`) lets it catch up first. No lock is held, so none can be left behind, and
it holds on a folder as on S3. The trap: the alias alone says nothing; ask `reconcile` who is champion.
"""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from model.errors import NoChampion, UnsoundModel
from tasks.ledger import Ledger, LedgerRow
from tasks.tracking import Tracking, Version

log = logging.getLogger(__name__)

TURNS = 10  # decisions of others that may come between reading the ledger and setting the alias


@dataclass(frozen=True, slots=True)
class Standing:
    """Who is champion, by the ledger.

    Attributes:
        number: version of the champion; None when nothing was promoted yet.
        version: that version as the registry knows it; None when the registry has lost it.
        trouble: what is wrong between ledger and registry; empty when nothing is.
    """

    number: str | None
    version: Version | None
    trouble: str = ""

    def require(self, name: str) -> Version:
        """Return the champion.

        Raises:
            NoChampion: nothing was promoted yet.
            UnsoundModel: the registry has lost it.
        """
        if self.version is not None:
            return self.version
        if self.number is None:
            raise NoChampion(
                f"{name}: expected a champion, found none. Run `riseorfall retrain` first; `riseorfall status` shows "
                "what is registered."
            )
        raise UnsoundModel(f"{name}: {self.trouble}. `riseorfall retrain` replaces it, `riseorfall rollback` too.")


def reconcile(tracking: Tracking, ledger: Ledger) -> Standing:
    """Let the alias `champion` follow the ledger, and return who is champion.

    Where the ledger knows nothing of the series yet, the alias stays as it is and counts.
    """
    for _ in range(TURNS):
        last = ledger.last(tracking.name)
        aliased = tracking.alias_number("champion")
        number = last.champion_after if last else aliased
        if aliased == number:
            break
        trouble = _follow(tracking, aliased, number)
        if trouble:
            return Standing(number, None, trouble)
    if number is None:
        return Standing(None, None)
    try:
        return Standing(number, tracking.version(number))
    except NoChampion as lost:
        return Standing(number, None, f"the registry has lost champion version {number} ({lost})")


def _follow(tracking: Tracking, aliased: str | None, number: str | None) -> str:
    """Move the alias to where the ledger has it; return what prevented that."""
    log.warning(
        "%s: by the ledger the champion is version %s, the registry's alias says %s; the alias follows",
        tracking.name, number or "none", aliased or "none",
    )  # fmt: skip
    if number is None:
        tracking.drop_alias("champion")
        return ""
    try:
        tracking.version(number)
    except NoChampion as lost:
        log.error("%s: champion version %s is not in the registry: %s", tracking.name, number, lost)  # noqa: TRY400 - no traceback
        return f"the registry has lost champion version {number} ({lost})"
    tracking.set_alias("champion", number)
    return ""


def enact(
    tracking: Tracking,
    ledger: Ledger,
    row: LedgerRow,
    smoke_test: Callable[[Tracking, str], None] | None = None,
) -> None:
    """Write a decision into the ledger and let the alias `champion` follow.

    Args:
        tracking: the registry.
        ledger: the ledger.
        row: the decision; its `champion_before` is the champion it was made against.
        smoke_test: raises UnsoundModel where a version cannot serve; `load_as_served` when None.

    Raises:
        UnsoundModel: the new champion does not pass the smoke test; nothing has changed.
        ChampionChanged: another decision came first; nothing has changed.
    """
    if row.champion_after is not None and row.champion_after != row.champion_before:
        (smoke_test or load_as_served)(tracking, row.champion_after)
    ledger.enter(row)
    if tracking.alias_number("champion") != row.champion_after:
        _follow_decision(tracking, ledger, row)


def _follow_decision(tracking: Tracking, ledger: Ledger, row: LedgerRow) -> None:
    """Set the alias to what was decided, then look whether somebody decided otherwise in the meantime."""
    if row.champion_after is None:
        tracking.drop_alias("champion")
    elif row.champion_after == row.champion_before:
        pass  # nothing was promoted: whatever is wrong with the alias is for `reconcile` to mend or to tell
    else:
        tracking.set_alias("champion", row.champion_after)
    reconcile(tracking, ledger)


def load_as_served(tracking: Tracking, version: str) -> None:
    """Load a version as a server does, ask it about its own input example, and look at the answer.

    Raises:
        UnsoundModel: it cannot be loaded, fails, or answers with something that is no probability.
    """
    import mlflow.pyfunc  # here: two seconds that --help must not pay

    place, path = f"models:/{tracking.name}/{version}", list(sys.path)
    try:
        loaded = mlflow.pyfunc.load_model(place)
        answer = loaded.predict(loaded.input_example)["probability"].to_numpy(dtype=np.float64)
    except Exception as error:  # whatever a broken file makes mlflow, onnxruntime or pandas raise
        raise UnsoundModel(f"{place}: it cannot be loaded as it would be served: {error}") from error
    finally:
        sys.path[:] = path  # mlflow puts the version's own copy of model/ first, for good
    if not len(answer) or not ((answer > 0) & (answer < 1)).all():
        raise UnsoundModel(f"{place}: expected probabilities between 0 and 1 on its input example, found {answer}")
