"""Fit and predict the baselines: base rate, persistence, logistic regression, gradient boosting.

Each is fitted on the windows that train and validate the network of a fold, and predicts P(rise) of its test windows,
as the network does. The two learners have the network's inputs: windows scaled one by one, flattened. None is tuned;
their parameters are constants with a reason. The learners use the newest `MAX_TRAINING_WINDOWS` windows unless
`max_windows` is None; `capped_windows_note` says where they left some out. Caution: a probability of exactly 0 or 1 can
cost an infinite log loss, so all are kept inside (0, 1).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64, Int64

from model.errors import SpecError
from model.labels import RISE
from model.networks import Scaling
from model.windows import Windows, anchor, standardise

Scale = Callable[[np.ndarray], np.ndarray]
BaselineName = Literal["base_rate", "persistence", "logistic_regression", "gradient_boosting"]
BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)
LEARNERS: tuple[BaselineName, ...] = ("gradient_boosting", "logistic_regression")  # with the network's inputs

PROBABILITY_MARGIN = 1e-6  # own choice: indistinguishable from 0 on any number of test bars, far above float32 rounding
BATCH_WINDOWS = 65_536  # own choice: 63 MB of float64 at 30 bars of 4 features
ONE_THREAD_WINDOWS = 20_000  # own choice: with fewer, a fit takes under a second on one thread
MAX_TRAINING_WINDOWS = 100_000  # own choice: the newest ones; 96 MB at 30 bars of 4 features


def predict_baseline(
    name: BaselineName,
    windows: Windows,
    train_index: Int64[np.ndarray, " train"],
    test_index: Int64[np.ndarray, " test"],
    seed: int,
    scaling: Scaling = "window",
    max_windows: int | None = MAX_TRAINING_WINDOWS,
) -> Float64[np.ndarray, " test"]:
    """Fit one baseline on the training windows and return its P(rise) for the test windows.

    Args:
        name: one of `BASELINES`.
        windows: the windows that both indices refer to.
        train_index: shape (train,), int64; resolved windows.
        test_index: shape (test,), int64; resolved or not; their labels are not used.
        seed: of gradient boosting; the others are deterministic.
        scaling: scaling of the network that is compared; the learners use the same.
        max_windows: newest training windows that the learners use, by the order of `train_index`; None: all, at 8 bytes
            for each value of a window and copies of them.

    Returns:
        Shape (test,), float64, strictly between 0 and 1, in the order of `test_index`. Where all training labels
        are equal, the learners predict the base rate.

    Raises:
        SpecError: unknown name, no training window, or an unresolved one.

    Time: entry i depends on test window i and on the training windows with their labels.
    Source: own; the learners are scikit-learn's.
    """
    if name not in BASELINES:
        raise SpecError(f"baseline: expected one of {', '.join(BASELINES)}, found {name!r}")
    train, test = windows.take(train_index), windows.take(test_index)
    if not len(train) or (train.labels < 0).any():
        raise SpecError(
            f"baseline {name}: expected resolved training windows, found {len(train)}, of them "
            f"{int((train.labels < 0).sum())} unresolved"
        )
    one_class = bool((train.labels == train.labels[0]).all())
    if name == "persistence":
        probabilities = _persistence(train, test)
    elif name == "base_rate" or one_class:
        probabilities = np.full(len(test), (train.labels == RISE).mean())
    else:
        learner = _logistic_regression() if name == "logistic_regression" else _gradient_boosting(seed)
        scale = anchor if scaling == "last_close" else standardise
        newest = train if max_windows is None else windows.take(train_index[max(0, len(train) - max_windows) :])
        probabilities = _fit_and_predict(learner, newest, test, scale)
    return np.asarray(np.clip(probabilities, PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN), dtype=np.float64)


def capped_windows_note(counts: Sequence[int]) -> str:
    """Return a sentence about the windows that the learners left out, "" where they used all.

    Args:
        counts: training windows of each fold, the validation windows included.

    >>> capped_windows_note([90_000, 120_000])
    'Logistic regression and gradient boosting learned from the newest 100,000 windows of a fold, of up to 120,000.'
    """
    if max(counts, default=0) <= MAX_TRAINING_WINDOWS:
        return ""
    return (
        f"Logistic regression and gradient boosting learned from the newest {MAX_TRAINING_WINDOWS:,} windows of a "
        f"fold, of up to {max(counts):,}."
    )


def _persistence(train: Windows, test: Windows) -> Float64[np.ndarray, " test"]:
    """Return the share of rises after a last move of the same sign, with one rise and one fall added.

    Source: add-one smoothing, Laplace's rule of succession.
    """
    moves = np.array([-1, 0, 1])
    same = train.last_moves[:, None] == moves
    rises = (same & (train.labels == RISE)[:, None]).sum(axis=0)
    shares = (rises + 1) / (same.sum(axis=0) + 2)
    return np.asarray(shares[test.last_moves.astype(np.int64) + 1], dtype=np.float64)


def _fit_and_predict(learner: Any, train: Windows, test: Windows, scale: Scale) -> Float64[np.ndarray, " test"]:
    """Fit a scikit-learn classifier on the training windows and predict the test windows in batches."""
    starts = range(0, len(test), BATCH_WINDOWS)
    indices = (np.arange(start, min(start + BATCH_WINDOWS, len(test)), dtype=np.int64) for start in starts)
    # Threads spin while they wait: on a busy machine a small fit took ten times as long with two threads. Their number
    # changes no result.
    with _thread_pools().limit(limits=1 if len(train) < ONE_THREAD_WINDOWS else None):
        learner.fit(_inputs(train, scale), train.labels)
        batches = [learner.predict_proba(_inputs(test.take(index), scale))[:, 1] for index in indices]
    return np.concatenate([np.empty(0), *batches])


@lru_cache(maxsize=1)
def _thread_pools() -> Any:
    """Return the controller of the thread pools of NumPy and scikit-learn; it looks at every library of the process."""
    import sklearn.ensemble  # noqa: F401 - loads the pools; imported here: scikit-learn takes seconds to import
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _inputs(windows: Windows, scale: Scale) -> Float64[np.ndarray, "window input"]:
    values, own_count = windows.values(), windows.features.shape[1] - windows.context_count
    scaled = scale(values[:, :, :own_count])
    if windows.context_count:
        scaled = np.concatenate([scaled, values[:, :, own_count:]], axis=2)
    return scaled.reshape(len(windows), -1)


def _logistic_regression() -> Any:
    from sklearn.linear_model import LogisticRegression  # imported here: scikit-learn takes seconds to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # C: neighbouring windows are nearly equal, so 120 inputs on some thousand windows need strong regularisation; with
    # scikit-learn's default 1.0 the fit follows noise (0.03 of log loss on daily Bitcoin).
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.001, max_iter=1_000))


def _gradient_boosting(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier  # imported here: scikit-learn takes seconds to import

    # Few leaves with many windows each, and a low learning rate, against overfitting. No early stopping: scikit-learn
    # would hold out random windows, which overlap the training windows.
    return HistGradientBoostingClassifier(
        max_iter=60,
        learning_rate=0.05,
        max_leaf_nodes=4,
        min_samples_leaf=30,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
