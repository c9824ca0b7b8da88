"""What a person sees of an experiment in MLflow: its description, its columns and charts, and the links that open them.

MLflow keeps a shared view (columns, sort, charts) in a tag of the experiment, and a link with `viewStateShareKey` opens
it in any browser; `workflowType` opens the runs instead of the traces of language models. Names of runs say what
happened, because MLflow's table shows no other column by default. Tried with MLflow 3.17.
"""

import json
from typing import Any, Literal

from model.bars import Series
from tasks.registry.metric_names import CURVES, LOG_LOSS, P_VALUE, SECTIONS, VS_BASE_RATE
from tasks.store.decision_log import LoggedDecision

Purpose = Literal["retrain", "replay", "tune"]

VIEW = "riseorfall"  # key of the shared view
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
NOTE_TAG = "mlflow.note.content"
PURPOSE_TAG = "purpose"
CHALLENGER_NOTE = (
    "`challenger` is the newest version that waits for its decision, or that was held and may still be promoted; a "
    "version that was promoted, rejected or rolled back is none."
)
CHAMPIONS = {"tags.`champion_after`": 107, "tags.`champion_before`": 118}
NAME_COLUMN = {"attributes.`Run Name`": 330, "runDateAndNestInfo": 130}  # always shown; MLflow's own ids
# Columns with their widths in pixels, in order.
COLUMNS: dict[Purpose, dict[str, int]] = {
    "retrain": {
        f"metrics.`{LOG_LOSS}`": 120,
        f"metrics.`{VS_BASE_RATE}`": 150,
        f"metrics.`{P_VALUE}`": 115,
        **CHAMPIONS,
        "tags.`decision`": 80,
        "attributes.`Models`": 180,
    },
    "replay": {
        "tags.`decision`": 80,
        **CHAMPIONS,
        "metrics.`test/log_loss`": 130,
    },
    "tune": {
        "metrics.`test/log_loss`": 130,
        "metrics.`baseline/base_rate_log_loss`": 230,
        "metrics.`train/epochs`": 110,
    },
}
PANEL_COLUMNS = {"params.`panel.label`": 100, "params.`panel.inputs`": 120}  # first, in a panel's table of retrains
OVERLAYS = (("loss", "validation_loss"), ("accuracy", "validation_accuracy"))  # in one chart, training and validation


def experiment_tags(purpose: Purpose, series: Series) -> dict[str, str]:
    """Return the tags that make the page of an experiment."""
    return {
        NOTE_TAG: experiment_note(purpose, series),
        "mlflow.experimentKind": "custom_model_development",
        PURPOSE_TAG: purpose,
        VIEW_TAG: json.dumps(_view(purpose, series)),
    }


def experiment_note(purpose: Purpose, series: Series) -> str:
    """Return the description of an experiment."""
    name = f"a panel of {series.interval} series" if series.is_panel else f"{series.symbol} {series.interval}"
    if purpose == "replay":
        return (
            f"Replay of the daily retrain of {name} on past days: one run a day, named by the day and its decision, "
            "then a run with the summary. It never touches the champion of the series."
        )
    if purpose == "tune":
        return (
            f"Search for a recipe of {name} on the bars before the test bars: a parent run is one search, its child "
            "runs are the trials. The best of many trials looks better than it is; only a retrain measures it."
        )
    labels = (
        " The label is in the name and the column panel.label: `rise` (the close at the horizon is higher) or `rank` "
        "(the return is above the median of the other series at the same close); scores of the two are not comparable."
        if series.is_panel
        else ""
    )
    return (
        f"Retrains of {name}. A parent run is one retrain, named by the close of its newest bar, its version and the "
        "decision, then by what a person decided about the version later; its child runs are the folds. "
        "`champion_before` is the champion that the version was compared with, `champion_after` the one after the "
        f"decision.{labels} `headline` and `test` are out of sample; `vs_base_rate` and "
        "`vs_champion` are differences in log loss, negative where the network is better. `train` are curves: a table "
        "shows the last epoch. `train_kept_epoch` of a fold are the values of the epoch that early stopping kept."
    )


def model_note(purpose: Purpose, series: Series) -> str:
    """Return the description of a registered model."""
    note = (
        f"{_inputs_and_outputs(series)} that ends a whole window. `champion` predicts. {CHALLENGER_NOTE} Each version "
        "has the end of its training data, its out-of-sample scores, and why it was promoted or not."
    )
    return f"Model of a replay of past days; it is not served. {note}" if purpose == "replay" else note


def corrected_model_note(present: str, purpose: Purpose, series: Series) -> str:
    """Return the description of a registered model with what an earlier release wrote corrected; a person's stays."""
    if "`challenger` was registered last" in present:  # version 0.1
        return model_note(purpose, series)
    former = f"P(rise) of the next close of {series.symbol} {series.interval}: bars in, one probability for each bar"
    return present.replace(former, _inputs_and_outputs(series))


def _inputs_and_outputs(series: Series) -> str:
    """Return the first words of a model's description; its versions may have different horizons."""
    if series.is_panel:
        return (
            f"A panel: one network for many series of {series.interval} bars. Bars with a column symbol in, one "
            "probability for each bar of a series"
        )
    return (
        f"P(rise) of {series.symbol} {series.interval}: the probability that the close at the horizon is higher "
        "(`window.horizon_bars` of the version's run; by default 1, the next close). Bars in, one probability for "
        "each bar"
    )


def experiment_path(experiment_id: str) -> str:
    """Return the path that opens the runs of an experiment, with our columns."""
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def run_path(experiment_id: str, run_id: str) -> str:
    """Return the path that opens a run."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def decision_tags(row: LoggedDecision) -> dict[str, str]:
    """Return the tags of a run with its decision, the version, and the champion before and after it."""
    champions = {"champion_before": row.champion_before, "champion_after": row.champion_after}
    named = {name: f"version {number}" if number else "none" for name, number in champions.items()}
    return {"decision": row.action, "version": row.version, **named}


def _view(purpose: Purpose, series: Series) -> dict[str, Any]:
    """Return a shared view in MLflow's own form."""
    columns = (PANEL_COLUMNS if series.is_panel else {}) | COLUMNS[purpose]
    name = {"attributes.`Run Name`": 410} if purpose == "replay" else {}  # with days and outcome
    widths = NAME_COLUMN | name | columns
    view: dict[str, Any] = {
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "selectedColumns": list(columns),
        "columnOrder": list(widths),
        "columnWidths": widths,
    }
    if purpose == "retrain":
        view["isAccordionReordered"] = True  # else MLflow sorts the sections by name
        view["compareRunSections"] = [_section(name) for name in SECTIONS]
        view["compareRunCharts"] = [_overlay(*fields) for fields in OVERLAYS]
    return view


def _section(name: str) -> dict[str, Any]:
    return {"uuid": name, "name": name, "display": True, "isReordered": True, "deleted": False, "isGenerated": True}


def _overlay(*fields: str) -> dict[str, Any]:
    """Return a line chart of several curves by epoch."""
    names = [CURVES[field] for field in fields]
    return {
        "uuid": f"overlay-{fields[0]}",
        "type": "LINE",
        "metricSectionId": "train",
        "metricKey": names[0],
        "selectedMetricKeys": names,
        "deleted": False,
        "isGenerated": False,
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "selectedXAxisMetricKey": "",
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
        "lineSmoothness": 0,
        "scaleType": "linear",
        "runsCountToCompare": 10,
    }
