"""The e-process stays positive and uses the past only; its false-alarm rate is simulated in test_live_score.py."""

import numpy as np

from model.e_process import e_process


def test_e_values_stay_positive_and_depend_on_the_past_only() -> None:
    rng = np.random.default_rng(4)
    probabilities = rng.uniform(0.001, 0.999, 300)
    labels = (rng.random(300) < 0.5).astype(np.int8)
    whole = e_process(labels, probabilities, 0.52, 0.0)
    assert (whole > 0).all()
    np.testing.assert_allclose(e_process(labels[:100], probabilities[:100], 0.52, 0.0), whole[:100])


def test_a_forecast_equal_to_the_base_rate_gives_no_evidence() -> None:
    labels = np.array([1, 0, 1, 1], dtype=np.int8)
    np.testing.assert_allclose(e_process(labels, np.full(4, 0.5), 0.5, 0.0), 1.0)
