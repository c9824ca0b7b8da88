"""Five published claims about the direction of crypto prices, each rerun as published and walk-forward with costs.

Prints one row of a Markdown table for each; docs/claims.md holds the table with a text on each claim. The data is not
part of the repository. Run in the repository's root: python -m benchmarks.claims [--only NAME ...]
"""

import argparse
import os
import sys
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.claims import chosen_checkpoint, price_levels, ranked_coins, shuffled_windows, trading_rules
from benchmarks.claims.claim_scores import DATA, Row

CLAIMS: dict[str, Callable[[], Row]] = {
    "checkpoint": chosen_checkpoint.row,
    "shuffled": shuffled_windows.row,
    "levels": price_levels.row,
    "rules": trading_rules.row,
    "coins": ranked_coins.row,
}
HEADER = (
    "| claim | source | as published | walk-forward | net of 10 bps a side | what made the difference |\n"
    "|---|---|---|---|---|---|"
)


def main() -> None:
    """Print the rows of the chosen claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=CLAIMS, default=list(CLAIMS))
    chosen = parser.parse_args()
    if not DATA.exists():
        print(f"no folder {DATA}: the bars are not part of the repository")
        return
    print(HEADER, flush=True)
    for name in chosen.only:
        started = time.perf_counter()
        print(CLAIMS[name]().text(), flush=True)
        sys.stderr.write(f"{name}: {time.perf_counter() - started:.0f} s\n")


if __name__ == "__main__":
    main()
