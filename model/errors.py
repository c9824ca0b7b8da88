"""Define the errors that riseorfall raises on purpose.

One root, children by reason. A message says what was expected, what was found (with numbers), where
(symbol, interval, first offending time or file line), and what to do next. The command line turns `exit_code`
into the exit code of the process; any other exception is unexpected and ends with 1 and a traceback in the log.
"""


class RiseOrFallError(Exception):
    """Root of every error raised on purpose."""

    exit_code = 1


class SpecError(RiseOrFallError):
    """A spec or an argument contradicts another, or does not fit these bars."""

    exit_code = 2


class UnreadableFile(RiseOrFallError):
    """A file is missing, empty, or does not contain bars."""

    exit_code = 2


class AmbiguousFile(UnreadableFile):
    """A file can be read in more than one way; the message names the option that decides."""


class SourceUnavailable(RiseOrFallError):
    """A source did not respond, or its response contains no bars."""


class StoreUnavailable(RiseOrFallError):
    """A store of files did not answer, is full, or refused access; it says nothing about the files themselves."""


class BarsTooShort(RiseOrFallError):
    """There are fewer usable bars than the lookback, the horizon and the folds need."""

    exit_code = 2


class GapError(RiseOrFallError):
    """The times of a series have a gap, or a step that is no multiple of its interval."""

    exit_code = 2


class ChecksFailed(RiseOrFallError):
    """A data check with severity stop failed; nothing was trained."""

    exit_code = 3


class UnsoundModel(RiseOrFallError):
    """A model fails the sanity check: not finite, constant, or not the same after loading."""


class UntrustedModel(RiseOrFallError):
    """The files of a version are not those that were decided about, or lie outside the artifact store."""


class AuditFailed(RiseOrFallError):
    """The leak audit found look-ahead: something depends on later bars, so the scores are invalid."""


class DamagedHome(RiseOrFallError):
    """A file of the home is damaged or gone; `riseorfall doctor` says what can be repaired."""


class HomeDamageFound(RiseOrFallError):
    """`riseorfall doctor` found damage."""

    exit_code = 4


class NoChampion(RiseOrFallError):
    """Nothing was promoted yet, so nothing can predict or be rolled back."""


class NoSuchVersion(NoChampion):
    """No registered version has the number that was given."""

    exit_code = 2


class StaleChampion(RiseOrFallError):
    """The champion, or the newest bar, is older than the prediction allows."""


class DeviceUnavailable(RiseOrFallError):
    """A GPU was required and TensorFlow sees none."""

    exit_code = 2
