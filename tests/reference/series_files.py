"""Three daily series of different lengths in files, cut out of the sample."""

from pathlib import Path

from tasks.sources.source_spec import SourceSpec, open_source

CUTS = (("AAA-USD", 0, 500), ("BBB-USD", 400, 860), ("CCC-USD", 1000, 1480))


def write_series(folder: Path) -> list[SourceSpec]:
    """Write the files, and return their specs."""
    sample = open_source(SourceSpec()).fetch().frame
    found = []
    for symbol, first, last in CUTS:
        path = folder / f"{symbol}.csv"
        sample.iloc[first:last].to_csv(path, index=False)
        found.append(SourceSpec(kind="csv", path=str(path), symbol=symbol))
    return found
