"""Accept the commands and flags of version 0.1 with a warning; remove this module in version 0.3.

Works on the words of the command line before they are parsed, so that `--help` shows the new spellings only.
"""

from collections.abc import Sequence

COMMANDS = {"ledger": "decisions"}
FLAGS = {  # command -> old flag -> new flag; each also as a prefix of nested flags, as in --when.retrain-cron
    "bars": {"--as-of": "--table-version"},
    "predict": {"--limits": "--staleness", "--no-limits": "--no-staleness"},
    "up": {"--when": "--schedule", "--no-when": "--no-schedule"},
}
SEPARATORS = (".", "=")


def replace_old_spellings(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words with old spellings replaced, and one warning for each spelling replaced.

    >>> replace_old_spellings(["bars", "--as-of", "3"])
    (['bars', '--table-version', '3'], ['--as-of is deprecated, use --table-version'])
    """
    if not words:
        return [], []
    command = COMMANDS.get(words[0], words[0])
    warnings = [] if command == words[0] else [f"the command {words[0]} is deprecated, use {command}"]
    replaced = [command]
    for word in words[1:]:
        new = _replace_flag(word, FLAGS.get(command, {}))
        if new != word:
            old_flag, new_flag = word.partition("=")[0], new.partition("=")[0]
            warnings.append(f"{old_flag} is deprecated, use {new_flag}")
        replaced.append(new)
    return replaced, list(dict.fromkeys(warnings))


def _replace_flag(word: str, flags: dict[str, str]) -> str:
    for old, new in flags.items():
        rest = word.removeprefix(old)
        if word == old or (rest != word and rest.startswith(SEPARATORS)):
            return new + rest
    return word
