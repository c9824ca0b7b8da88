"""Terminal output: progress of a run, tables of results."""
