"""What a person reads in Prefect: titles of form fields, the state that a run ends in, and its log.

A run that is refused ends as Failed with one sentence, not a traceback; a retrain ends in a state that is named after
its decision. Messages name form fields in a run that was started from a deployment, and flags in one from a shell.
Tracebacks are for what nobody foresaw, and are logged once.
"""

import inspect
import logging
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar, cast

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import BaseModel, Field

from model.errors import RiseOrFallError
from tasks.champion.promotion_summary import deciding_reason
from tasks.pages.prefect_artifacts import OUTCOMES
from tasks.registry.mlflow_run_names import DONE
from tasks.results import PanelRetrain, PanelUnchanged, Promotion, Retrain, Unchanged
from tasks.services.flow_run_names import add_outcome_to_name
from tasks.services.form_wording import in_words_of_the_form
from tasks.services.heartbeats import end_without_waiting
from tasks.store.decision_log import LoggedDecision

P = ParamSpec("P")
R = TypeVar("R")

TASK_LOGGER, RUN_LOGGERS = "prefect.task_runs", ("prefect.flow_runs", "prefect.task_runs")
ENDED, FAILED = "Finished in state ", "Finished in state Failed"


def readable(fn: Callable[P, R]) -> Callable[P, R]:
    """Decorate the function of a flow so that its form, state and log are plain; apply it below `@flow`."""
    _filter_run_logs()
    end_without_waiting()

    @wraps(fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return cast("R", state_of(fn(*args, **kwargs)))  # Prefect takes the result out of the state
        except RiseOrFallError as error:
            return cast("R", Failed(message=in_words_of_the_form(str(error)), data=error))

    run.__signature__ = _with_titles(inspect.signature(fn))  # type: ignore[attr-defined]
    return run


def state_of(result: Any) -> Any:
    """Return the state named after a decision, with its first reason as message; other results as they are."""
    decision: LoggedDecision | Promotion
    if isinstance(result, LoggedDecision):
        decision, of = result, f" version {result.version}"
    elif isinstance(result, Retrain | PanelRetrain | Unchanged | PanelUnchanged):
        number = "" if isinstance(result, Unchanged | PanelUnchanged) else result.version.version
        decision, of = result.promotion, f" version {number}" if number else ""
        version = f"v{number} " if number else ""
        add_outcome_to_name(f"{version}{DONE[decision.action]}")
    else:
        return result
    message = f"{decision.action}{of}: {deciding_reason(decision.reasons, decision.marks)}"
    state: State[Any] = Completed(name=OUTCOMES[decision.action], message=message, data=result)
    return state


def completed(result: R, message: str) -> R:
    """Return the result of a flow with the message of its state: one line that says what the run found."""
    return cast("R", Completed(message=message, data=result))  # Prefect takes the result out of the state


class PlainRecords(logging.Filter):
    """Log what riseorfall raises on purpose without a traceback, and any other traceback once."""

    def __init__(self) -> None:
        """Start with no exception logged."""
        super().__init__()
        self.logged: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the record; drop how a task or a failed run ended: its page shows it, and its error is logged."""
        error, message = record.exc_info[1] if record.exc_info else None, record.getMessage()
        if error is None:
            return not message.startswith(ENDED if record.name == TASK_LOGGER else FAILED)
        again, self.logged = error is self.logged, error
        if isinstance(error, RiseOrFallError):
            _, retry, rest = message.rpartition(" - Retry ")
            text = in_words_of_the_form(str(error))
            record.msg, record.args = (f"{text}{retry}{rest}" if retry else text), ()
        if again or isinstance(error, RiseOrFallError):
            record.exc_info, record.exc_text = None, None
        return True


def _filter_run_logs() -> None:
    """Add the filter to the loggers of runs, once."""
    for logger in map(logging.getLogger, RUN_LOGGERS):
        if not any(isinstance(each, PlainRecords) for each in logger.filters):
            logger.addFilter(_RECORDS)


_RECORDS = PlainRecords()  # one for both loggers: the flow logs again what its task raised


def _with_titles(signature: inspect.Signature) -> inspect.Signature:
    """Return a signature whose parameters have titles for the form; Prefect's are the bare names.

    The title of a spec is that of its model; others are made of the name: `source_kind` becomes `Source kind`.
    """
    return signature.replace(
        parameters=[
            each.replace(annotation=Annotated[each.annotation, Field(json_schema_extra={"title": _title(each)})])
            for each in signature.parameters.values()
        ]
    )


def _title(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel) and annotation.model_config.get("title"):
        # A title equal to that of the model is left out by pydantic, and the V1 UI then shows the parameter's name.
        return f"{annotation.model_config['title']} "
    return parameter.name.replace("_", " ").capitalize()
