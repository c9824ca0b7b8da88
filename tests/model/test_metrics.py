"""The six numbers against scikit-learn, by hand, and by the law that tallies merge."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float64, Int8
from synthetic_records import skilled_sample

from model.errors import SpecError, UnsoundModel
from model.label_names import LABEL_NAMES, LabelNames
from model.metrics import (
    METRICS,
    classification_report,
    confusion_matrix,
    log_losses,
    normalise_rows,
    score,
    score_resamples,
    tally,
)

Labels = Int8[np.ndarray, " window"]
Probabilities = Float64[np.ndarray, " window"]
PAIRS = st.lists(
    st.tuples(st.integers(0, 1), st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))), max_size=60
)


def arrays(pairs: list[tuple[int, float]]) -> tuple[Labels, Probabilities]:
    labels = np.array([label for label, _ in pairs], dtype=np.int8)
    return labels, np.array([probability for _, probability in pairs], dtype=np.float64)


def same(left: dict[str, float], right: dict[str, float]) -> bool:
    return all(left[name] == right[name] or (np.isnan(left[name]) and np.isnan(right[name])) for name in METRICS)


def test_scores_by_hand() -> None:
    labels = np.array([1, 0, 1, 0], dtype=np.int8)
    probabilities = np.array([0.8, 0.6, 0.4, 0.2])
    found = score(labels, probabilities)
    assert found["log_loss"] == pytest.approx(-np.log(0.8 * 0.4 * 0.4 * 0.8) / 4)
    assert found["brier_score"] == pytest.approx((0.04 + 0.36 + 0.36 + 0.04) / 4)
    assert found["accuracy"] == 0.5
    assert found["balanced_accuracy"] == 0.5
    assert found["mcc"] == 0
    assert found["roc_auc"] == 0.75  # of the four pairs of a rise and a fall one is out of order


def test_scores_agree_with_scikit_learn() -> None:
    from sklearn import metrics as reference

    labels, probabilities = skilled_sample()
    says_rise = probabilities > 0.5
    found = score(labels, probabilities)
    assert tuple(found) == METRICS
    assert found["log_loss"] == pytest.approx(reference.log_loss(labels, probabilities), rel=1e-12)
    assert found["brier_score"] == pytest.approx(reference.brier_score_loss(labels, probabilities), rel=1e-12)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, says_rise), rel=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(labels, says_rise), rel=1e-12)
    assert found["mcc"] == pytest.approx(reference.matthews_corrcoef(labels, says_rise), rel=1e-12)
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(labels, probabilities), rel=1e-12)
    assert confusion_matrix(labels, probabilities).tolist() == reference.confusion_matrix(labels, says_rise).tolist()


@pytest.mark.parametrize("constant", [None, 0.3, 0.9])
@pytest.mark.parametrize("names", list(LABEL_NAMES.values()), ids=list(LABEL_NAMES))
def test_report_is_scikit_learns(names: LabelNames, constant: float | None) -> None:
    from sklearn.metrics import classification_report as reference

    labels, probabilities = skilled_sample()
    if constant is not None:
        probabilities = np.full(len(labels), constant)
    expected = reference(labels, probabilities > 0.5, target_names=names.classes, zero_division=0)
    assert classification_report(labels, probabilities, names.classes) == expected


@given(PAIRS, PAIRS)
def test_metrics_of_merged_folds_equal_those_of_the_pooled_sample(
    first: list[tuple[int, float]], second: list[tuple[int, float]]
) -> None:
    merged = tally(*arrays(first)) + tally(*arrays(second))
    pooled = tally(*arrays(first + second))
    assert merged.probabilities.tolist() == pooled.probabilities.tolist()
    assert merged.falls.tolist() == pooled.falls.tolist()
    assert merged.rises.tolist() == pooled.rises.tolist()
    assert len(merged) == len(first) + len(second)
    assert same(merged.score(), score(*arrays(second + first)))


@given(PAIRS.filter(bool))
def test_a_resample_scores_as_the_windows_it_drew(pairs: list[tuple[int, float]]) -> None:
    labels, probabilities = arrays(pairs)
    drawn = np.random.default_rng(0).integers(len(labels), size=(3, len(labels)))
    counts = np.stack([np.bincount(index, minlength=len(labels)) for index in drawn]).astype(np.float64)
    found = score_resamples(labels, probabilities, counts)
    for k, index in enumerate(drawn):
        expected = score(labels[index], probabilities[index])
        for name in METRICS:
            assert found[name][k] == pytest.approx(expected[name], rel=1e-9, abs=1e-9, nan_ok=True)


def test_one_class_leaves_three_numbers_undefined() -> None:
    found = score(np.ones(5, dtype=np.int8), np.linspace(0.1, 0.9, 5))
    undefined = {name for name in METRICS if np.isnan(found[name])}
    assert undefined == {"balanced_accuracy", "mcc", "roc_auc"}


def test_a_constant_forecast_is_no_skill() -> None:
    found = score(np.array([0, 1, 1, 0, 1], dtype=np.int8), np.full(5, 0.7))
    assert (found["balanced_accuracy"], found["mcc"], found["roc_auc"]) == (0.5, 0.0, 0.5)


def test_half_reads_as_a_fall() -> None:
    assert confusion_matrix(np.array([0, 1], dtype=np.int8), np.array([0.5, 0.5])).tolist() == [[1, 0], [1, 0]]


def test_no_window_scores_nan() -> None:
    assert all(np.isnan(value) for value in score(*arrays([])).values())


def test_certain_and_wrong_is_finite() -> None:
    labels = np.array([0, 1], dtype=np.int8)
    assert log_losses(labels, np.array([1.0, 0.0])) == pytest.approx(-np.log(np.finfo(float).eps), rel=1e-9)
    assert log_losses(labels, np.array([0.0, 1.0])) == pytest.approx(0, abs=1e-15)


def test_rows_of_the_matrix_become_shares() -> None:
    assert normalise_rows(np.array([[3, 1], [0, 0]])).tolist() == [[0.75, 0.25], [0, 0]]


@pytest.mark.parametrize(
    ("labels", "probabilities", "error", "message"),
    [
        ([0, -1], [0.5, 0.5], SpecError, "found -1 at window 1"),
        ([0, 1], [0.5, np.nan], UnsoundModel, "the first nan at window 1"),
        ([0, 1], [1.5, 0.5], UnsoundModel, "1 of 2"),
    ],
)
def test_what_cannot_be_scored_is_named(
    labels: list[int], probabilities: list[float], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        score(np.array(labels, dtype=np.int8), np.array(probabilities))
