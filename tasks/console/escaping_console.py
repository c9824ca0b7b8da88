"""The terminal that commands print on: it shows text from outside with escapes, and never obeys it.

A reason, a file name or a run's name in a store may hold escape sequences of another time or program.
"""

from typing import Any

from rich import console
from rich.text import Text

from tasks.sources.printable_text import printable


class Console(console.Console):
    """Rich's console with an escape for every character that does not print; its own colours stay."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a text to what is printed; Rich calls it for every text, also for those in tables."""
        return super().render_str(printable(text), **options)
