"""GX's suite, definition and checkpoint, without the comparison of each with its stored copy before it is used.

GX refuses to run an object that was changed after it was stored. Here each is made, stored in memory and run once, and
the comparisons, which read every object back several times, took about a fifth of the time of a check. Caution: an
object that is changed after it was added would run as it was added.
"""

from great_expectations import Checkpoint, ExpectationSuite, ValidationDefinition
from great_expectations.core.freshness_diagnostics import (
    CheckpointFreshnessDiagnostics,
    ExpectationSuiteFreshnessDiagnostics,
    ValidationDefinitionFreshnessDiagnostics,
)


class AddedSuite(ExpectationSuite):  # type: ignore[misc]  # GX has no types here
    """A suite that equals its stored copy."""

    def is_fresh(self) -> ExpectationSuiteFreshnessDiagnostics:
        """Return no difference."""
        return ExpectationSuiteFreshnessDiagnostics(errors=[])


class AddedDefinition(ValidationDefinition):  # type: ignore[misc]  # GX has no types here
    """A validation definition that equals its stored copy."""

    def is_fresh(self) -> ValidationDefinitionFreshnessDiagnostics:
        """Return no difference."""
        return ValidationDefinitionFreshnessDiagnostics(errors=[])


class AddedCheckpoint(Checkpoint):  # type: ignore[misc]  # GX has no types here
    """A checkpoint that equals its stored copy."""

    def is_fresh(self) -> CheckpointFreshnessDiagnostics:
        """Return no difference."""
        return CheckpointFreshnessDiagnostics(errors=[])
