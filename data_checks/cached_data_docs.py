"""Views of Great Expectations' pages whose templates are compiled once in a process, and a site without an index.

Great Expectations names these classes in the configuration of its site and imports this module itself. It compiles all
templates of a page in each run: a third of the CPU time of a check. Its index page is not used: see
offline_data_docs.py.
"""

from typing import Any

from great_expectations.render.view import DefaultJinjaPageView
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket


class _Memory(BytecodeCache):
    """The compiled templates of this process; Jinja compares the source of each before it uses one."""

    def __init__(self) -> None:
        self._compiled: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._compiled:
            bucket.bytecode_from_string(self._compiled[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._compiled[bucket.key] = bucket.bytecode_to_string()


_MEMORY = _Memory()


class CachedPageView(DefaultJinjaPageView):  # type: ignore[misc]
    """The view of a page, which differs from its base in speed only."""

    def __init__(self, custom_styles_directory: str | None = None, custom_views_directory: str | None = None) -> None:
        """Open the templates as the base does."""
        super().__init__(custom_styles_directory, custom_views_directory)
        self.env.bytecode_cache = _MEMORY


class NoIndex:
    """Builds no index."""

    def __init__(self, **_: Any) -> None:
        """Accept what Great Expectations passes to a builder."""

    def build(self, **_: Any) -> tuple[None, dict[str, Any]]:
        """Return the address of no page, and no links."""
        return None, {}
