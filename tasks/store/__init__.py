"""Delta tables: bars, quarantine, decisions, predictions, the monitor's log."""
