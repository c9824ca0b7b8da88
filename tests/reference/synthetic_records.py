"""Synthetic out-of-sample records for tests: labels by a coin, forecasts of a stated accuracy."""

import numpy as np
from jaxtyping import Float64, Int8

from model.record import Record

DAY = np.timedelta64(1, "D")


def coin_labels(count: int, *, seed: int, rises: float = 0.5) -> Int8[np.ndarray, " window"]:
    """Return labels that rise with a probability, shape (count,)."""
    return (np.random.default_rng(seed).random(count) < rises).astype(np.int8)


def forecast(labels: Int8[np.ndarray, " window"], accuracy: float, *, seed: int) -> Float64[np.ndarray, " window"]:
    """Return honest probabilities that are right with a chance of `accuracy`: that chance, or its complement."""
    right = np.random.default_rng(seed).random(len(labels)) < accuracy
    return np.where(right == (labels == 1), accuracy, 1 - accuracy)


def loud_forecast(labels: Int8[np.ndarray, " window"], *, seed: int, spread: float) -> Float64[np.ndarray, " window"]:
    """Return probabilities that know nothing of the labels and stray from 0.5 by a normal spread."""
    return np.clip(0.5 + spread * np.random.default_rng(seed).normal(size=len(labels)), 0.01, 0.99)


def daily_record(
    labels: Int8[np.ndarray, " window"], probabilities: Float64[np.ndarray, " window"], *, folds: int = 5
) -> Record:
    """Return a record of daily decisions from 2017-06-01, in folds of equal size."""
    count = len(labels)
    decided_at = np.datetime64("2017-06-01", "us") + np.arange(count) * DAY
    return Record(
        decided_at, decided_at + DAY, labels, probabilities, np.arange(count, dtype=np.int64) * folds // count
    )


def skilled_sample() -> tuple[Int8[np.ndarray, " window"], Float64[np.ndarray, " window"]]:
    """Return 400 labels, and probabilities that know a little about them."""
    n, generator = 400, np.random.default_rng(3)
    labels = (generator.random(n) < 0.55).astype(np.int8)
    probabilities = np.clip(0.5 + 0.2 * generator.normal(size=n) + 0.1 * (labels - 0.5), 0, 1).round(2)
    return labels, probabilities
