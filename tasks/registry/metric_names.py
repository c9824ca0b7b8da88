"""Names of the metrics of MLflow runs that more than one module needs; it imports nothing, as `predict` loads it.

A name is `section/metric`, because MLflow groups charts by what stands before the slash, and it means the same for a
retrain, a fold, a replayed day and a trial: `test/log_loss` is out of sample, `train/log_loss` is the training loss by
epoch.
"""

SECTIONS = (
    "headline",
    "train",
    "train_kept_epoch",
    "test",
    "baseline",
    "promotion",
    "trading",
    "live",
)  # in the order of the charts
LOG_LOSS = "headline/log_loss"
BASE_RATE = "headline/base_rate_log_loss"
VS_BASE_RATE = "headline/vs_base_rate"  # log loss minus that of the base rate: negative where the network is better
P_VALUE = "headline/p_value"  # of direction skill, corrected for all tests and all recipes tried
VS_CHAMPION = "headline/vs_champion"  # log loss minus the champion's, on their common decisions
PROMOTED = "headline/promoted"  # 1 or 0

# Training curves: name in MLflow by attribute of `Epoch`. In one section, so that MLflow shows them side by side.
CURVES = {
    "loss": "train/log_loss",
    "accuracy": "train/accuracy",
    "validation_loss": "train/validation_log_loss",
    "validation_accuracy": "train/validation_accuracy",
    "learning_rate": "train/learning_rate",
}
BREAK_EVEN = ("break_even_bps", "break_even_bps_low", "break_even_bps_high")  # costs per side, with the interval
LIVE = ("log_loss", "served_log_loss")  # of the champion on live decisions; the file has the rest
