# mypy: disable-error-code="misc,untyped-decorator"
# Reason: Great Expectations publishes no types that mypy can follow, so its classes are Any and its decorators untyped.
"""The rules as Great Expectations expectations, with readable texts, and the metrics behind them.

Importing this file imports Great Expectations (about 5 s): import it inside functions only. Each class has one rule;
its logic is in `apply_rules.py` and `window_rules.py`, its text in `rule_definitions.py`. There are two kinds: row by
row (a map over columns) and for the whole batch (a finding). Caution: a page keeps only the first few rows that
violate a rule, so the quarantine is written from our masks, never from these results.
"""

from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation, MulticolumnMapExpectation
from great_expectations.expectations.metrics.map_metric_provider import MulticolumnMapMetricProvider
from great_expectations.expectations.metrics.map_metric_provider.multicolumn_condition_partial import (
    multicolumn_condition_partial,
)
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider
from great_expectations.render import (
    LegacyDiagnosticRendererType,
    LegacyRendererType,
    RenderedStringTemplateContent,
    RenderedTableContent,
)
from great_expectations.render.renderer.renderer import renderer

from data_checks import apply_rules, window_rules
from data_checks.rule_definitions import BAR_RULES, WINDOW_RULES, Rule

RULES = {rule.name: rule for rule in (*BAR_RULES, *WINDOW_RULES)}
UNSHOWN = ("verdict", "released", "removed")  # columns that a rule reads and a page does not show
BADGES = {"critical": "badge-danger", "warning": "badge-warning", "info": "badge-info"}
MASKS = {rule.name: apply_rules.row_mask for rule in BAR_RULES} | {
    rule.name: window_rules.window_mask for rule in WINDOW_RULES
}
FINDINGS = {rule.name: apply_rules.series_finding for rule in BAR_RULES} | {
    rule.name: window_rules.windows_finding for rule in WINDOW_RULES
}


class _RowMetric(MulticolumnMapMetricProvider):
    """Whether each row passes the rule `rule`, which subclasses set."""

    rule: ClassVar[str]
    condition_value_keys = ("limits",)

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls: Any, column_list: pd.DataFrame, **kwargs: Any) -> pd.Series:  # noqa: N805 - GX passes the class
        mask = MASKS[cls.rule](cls.rule, column_list, kwargs["limits"])
        return pd.Series(~mask, index=column_list.index)


class _BatchMetric(TableMetricProvider):
    """The finding of the rule `rule` in the whole batch; subclasses set the rule."""

    rule: ClassVar[str]
    value_keys = ("limits",)

    @metric_value(engine=PandasExecutionEngine)
    def _pandas(
        cls: Any,  # noqa: N805 - GX passes the class
        execution_engine: PandasExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],  # noqa: ARG002
        runtime_configuration: dict[str, Any],  # noqa: ARG002
    ) -> apply_rules.RuleFinding:
        batch, _, _ = execution_engine.get_compute_domain(metric_domain_kwargs, MetricDomainTypes.TABLE)
        return FINDINGS[cls.rule](cls.rule, batch, metric_value_kwargs["limits"])


class _RuleText:
    """The text of an expectation in the Data Docs: a badge with the severity, then what is expected."""

    rule: ClassVar[str] = ""

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)
    def _prescriptive_renderer(
        cls, configuration: Any = None, result: Any = None, **_: Any
    ) -> list[RenderedStringTemplateContent]:
        configuration = configuration or result.expectation_config
        severity = str(getattr(configuration.severity, "value", configuration.severity))
        params = {"severity": severity, "statement": RULES[cls.rule].statement(configuration.kwargs["limits"])}
        styling = {"params": {"severity": {"classes": ["badge", BADGES[severity]]}}}
        template = {"template": "$severity $statement.", "params": params, "styling": styling}
        return [RenderedStringTemplateContent(content_block_type="string_template", string_template=template)]

    @classmethod
    @renderer(renderer_type=LegacyDiagnosticRendererType.OBSERVED_VALUE)
    def _diagnostic_observed_value_renderer(cls, result: Any = None, **_: Any) -> str:
        found = result.result if result else {}
        if found.get("observed_value") is not None:
            return str(found["observed_value"])
        count = found.get("unexpected_count")
        return "--" if count is None else f"{count or 'none'} of {found['element_count']}"

    @classmethod
    @renderer(renderer_type=LegacyDiagnosticRendererType.UNEXPECTED_STATEMENT)
    def _diagnostic_unexpected_statement_renderer(cls, result: Any = None, **_: Any) -> list[Any]:
        if result.success:
            return []
        if not result.result:  # the check raised: GX shows the exception
            return list(super()._diagnostic_unexpected_statement_renderer(result=result))
        template = {"template": "\n\nWhat to do: $advice.", "params": {"advice": RULES[cls.rule].advice()}}
        return [RenderedStringTemplateContent(content_block_type="string_template", string_template=template)]

    @classmethod
    @renderer(renderer_type=LegacyDiagnosticRendererType.UNEXPECTED_TABLE)
    def _diagnostic_unexpected_table_renderer(cls, result: Any = None, **_: Any) -> list[RenderedTableContent] | None:
        rows = (result.result if result else {}).get("partial_unexpected_list")
        if not rows:
            return None
        header = [name for name in RULES[cls.rule].columns if name not in UNSHOWN]
        table = [[_cell(row[name]) for name in header] for row in rows]
        styling = {"body": {"classes": ["table-bordered", "table-sm", "mt-3"]}}
        return [RenderedTableContent(content_block_type="table", table=table, header_row=header, styling=styling)]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value).removesuffix("T00:00:00").replace("T", " ")


class _PlainOptions:
    """Reads options from the fields; GX builds the whole configuration for each option, a quarter of its time."""

    domain_keys: ClassVar[tuple[str, ...]]
    success_keys: ClassVar[tuple[str, ...]]

    def _get_success_kwarg(self, key: str, default: Any = None) -> Any:
        return getattr(self, key, default)

    def _get_domain_kwargs(self) -> dict[str, Any]:
        return {key: getattr(self, key, None) for key in self.domain_keys}

    def _get_success_kwargs(self) -> dict[str, Any]:
        return {key: getattr(self, key, None) for key in (*self.success_keys, *self.domain_keys)}


class _RowExpectation(_RuleText, _PlainOptions, MulticolumnMapExpectation):
    """Every row passes the rule `rule`."""

    rule: ClassVar[str] = ""
    limits: dict[str, Any]
    ignore_row_if: Literal["never"] = "never"
    args_keys = ("column_list", "limits")
    success_keys = ("mostly", "limits")


class _BatchExpectation(_RuleText, _PlainOptions, BatchExpectation):
    """The batch as a whole passes the rule `rule`."""

    rule: ClassVar[str] = ""
    limits: dict[str, Any]
    args_keys = ("limits",)
    success_keys = ("limits",)

    @classmethod
    def is_abstract(cls) -> bool:
        """Whether the class has no rule."""
        return not cls.rule

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: Any = None,  # noqa: ARG002 - the signature is Great Expectations'
        execution_engine: Any = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        finding: apply_rules.RuleFinding = metrics[self.metric_dependencies[0]]
        first_at = "" if np.isnat(finding.first_at) else str(finding.first_at)
        details = {"unexpected": finding.unexpected, "first_at": first_at}
        return {"success": finding.passed, "result": {"observed_value": finding.observed, "details": details}}


def _expectation_of(rule: Rule) -> type[Any]:
    """Create the metric and the expectation class of a rule; defining them registers them with GX."""
    metric_name = f"riseorfall.{rule.name}"
    kind = "".join(word.capitalize() for word in rule.expectation.split("_"))
    shared = {"rule": rule.name, "__module__": __name__, "__doc__": f"{rule.expected}."}
    if rule.columns:
        type(f"{kind}Condition", (_RowMetric,), shared | {"condition_metric_name": metric_name})
        return type(kind, (_RowExpectation,), shared | {"map_metric": metric_name})
    type(f"{kind}RuleFinding", (_BatchMetric,), shared | {"metric_name": metric_name})
    return type(kind, (_BatchExpectation,), shared | {"metric_dependencies": (metric_name,)})


EXPECTATIONS: dict[str, type[Any]] = {rule.name: _expectation_of(rule) for rule in RULES.values()}


def build_expectation(rule: Rule, limits: dict[str, Any], severity: str) -> Any:
    """Return the expectation that checks a batch against `rule` within `limits`."""
    columns = {"column_list": list(rule.columns)} if rule.columns else {}
    return EXPECTATIONS[rule.name](limits=limits, severity=severity, **columns)
