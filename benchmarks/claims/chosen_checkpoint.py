"""The article's checkpoint, chosen on the test windows, vs. our walk-forward over the same ones.

The runs are those of `benchmarks/article_protocol.py`; here they are scored as the other claims are.
"""

from benchmarks import article_protocol
from benchmarks.claims.claim_scores import (
    SEED,
    Row,
    accuracy,
    accuracy_text,
    load_bars,
    loss_text,
    net_text,
    percent,
    record_of,
)
from model.folds import FoldSpec, split_folds
from model.windows import cut_windows

EPOCHS = 100  # for speed; the article has 400, which give more checkpoints to choose from
TEST_SHARE = 0.1


def row(epochs: int = EPOCHS) -> Row:
    """Rerun the claim on CoinMarketCap's daily bars up to September 2017."""
    bars = load_bars(article_protocol.FILE.name)
    windows = cut_windows(bars, article_protocol.WINDOW).resolved()
    count = len(windows) - int(len(windows) * (1 - TEST_SHARE))
    chosen, _, last = article_protocol.train_as_article(windows, count, epochs, SEED)
    folds = split_folds(windows, FoldSpec(test_bars=count, count=article_protocol.FOLDS))
    on_test, at_end, record = (
        record_of(windows, folds, each.probabilities)
        for each in (chosen, last, article_protocol.walk_forward(windows, count, SEED))
    )
    return Row(
        "A CNN + LSTM predicts the direction of daily Bitcoin with 64 %",
        "the article that this project follows, author and title unknown",
        f"checkpoint of {epochs} epochs chosen on the test: accuracy {percent(accuracy(on_test))}; last epoch of the "
        f"same run: {percent(accuracy(at_end))}",
        f"{accuracy_text(record)}; {loss_text(record, windows, folds)}",
        net_text(record, bars),
        "choosing the checkpoint on the test; a test in which two days of three rise",
    )
