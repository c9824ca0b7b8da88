"""Pure functions and frozen values: arrays in, arrays out."""
