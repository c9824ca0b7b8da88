"""Messages in the words of a form: names of fields in place of flags, for runs of a deployment."""

import re
from collections.abc import Mapping

from prefect import runtime

FLAG = re.compile(r"(`[^`]*`)|--([a-z][a-z_.-]*[a-z])")  # commands in backticks keep their flags
FIELDS: Mapping[str, Mapping[str, str]] = {  # deployment -> flag -> field, where the field has another name
    "replay": {"from": "first", "to": "last"},
    "lift_hold": {"to": "version"},
    "quick": {
        "source.kind": "source_kind", "source.symbol": "symbol", "source.interval": "interval",
        "source.path": "path_or_exchange", "source.exchange": "path_or_exchange",
        "training.epochs": "epochs", "training.seed": "seed",
    },
}  # fmt: skip


def in_words_of_the_form(message: str, deployment: str | None = None) -> str:
    """Return a message with form fields in place of flags, in a run of a deployment.

    Where the message names a field that the short form `retrain/quick` lacks, a last line names the form that has it.

    Args:
        message: names flags.
        deployment: name of the deployment; default: that of the current run, if it has one.

    >>> in_words_of_the_form("expected --from before --to", "replay")
    'expected `first` before `last`'
    >>> print(in_words_of_the_form("choose with --check.stop-on", "quick"))
    choose with `check.stop_on`
    `check.stop_on` is a field of the form `retrain/retrain`, not of this one; in a shell it is `--check.stop-on`
    """
    name = deployment or runtime.deployment.name
    if not name:
        return message
    fields = FIELDS.get(name, {})
    lacking: dict[str, str] = {}  # field -> flag

    def field_of(found: re.Match[str]) -> str:
        if found[1]:
            return found[1]
        field = fields.get(found[2], found[2].replace("-", "_"))
        if name == "quick" and found[2] not in fields:
            lacking[f"`{field}`"] = f"`--{found[2]}`"
        return f"`{field}`"

    text = FLAG.sub(field_of, message)
    for field, flag in lacking.items():
        text += f"\n{field} is a field of the form `retrain/retrain`, not of this one; in a shell it is {flag}"
    return text
