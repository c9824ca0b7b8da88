"""The errors that riseorfall raises on purpose.

One root, children by reason. A message says what was expected, what was found (with numbers), where
(symbol, interval, first offending time or file line), and what to do next. The command line turns `exit_code`
into the process's own; anything that is not one of these is unexpected and ends with 1 and a traceback in the log.
"""


class RiseOrFallError(Exception):
    """Root of every error raised on purpose."""

    exit_code = 1


class SpecError(RiseOrFallError):
    """A spec or an argument contradicts another, or cannot be met by these bars."""

    exit_code = 2


class UnreadableFile(RiseOrFallError):
    """A file is missing, empty, or not bars at all."""

    exit_code = 2


class AmbiguousFile(UnreadableFile):
    """A file can be read in more than one way; the message names the option that settles it."""


class SourceUnavailable(RiseOrFallError):
    """A source did not answer, or answered with something that is not bars."""


class StoreUnavailable(RiseOrFallError):
    """Files could not be put where they belong: the place is full, away, or not ours to write."""


class BarsTooShort(RiseOrFallError):
    """There are fewer usable bars than the lookback, the horizon and the folds need."""

    exit_code = 2


class GapError(RiseOrFallError):
    """The clock of a series has a hole, or a step that is no multiple of its interval."""

    exit_code = 2


class ChecksFailed(RiseOrFallError):
    """A data check of a stopping severity failed; nothing was trained."""

    exit_code = 3


class UnsoundModel(RiseOrFallError):
    """A model is not fit to be served: not finite, constant, or not the same after loading."""


class AuditFailed(RiseOrFallError):
    """The leak self-test found that something depends on bars that came later; its numbers are worth nothing."""


class NoChampion(RiseOrFallError):
    """Nothing was promoted yet, so nothing can predict or be rolled back."""


class StaleChampion(RiseOrFallError):
    """The champion, or the newest bar, is older than the prediction allows."""


class DeviceUnavailable(RiseOrFallError):
    """A GPU was required and TensorFlow sees none."""

    exit_code = 2
