"""Templates compiled once give the pages that Great Expectations builds by itself."""

import re
from pathlib import Path

import pandas as pd
import pytest
from jinja2 import Environment

from data_checks import great_expectations_run
from data_checks.check_spec import CheckSpec
from data_checks.validate import check_bars
from model.bars import Series

CHANGING = re.compile(
    r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}|\d{8}T\d{6}\.\d+Z|\d{4}-\d\d-\d\d[T ][\d:.]+(?:Z|\+00:00)?"
)


def built_pages(folder: Path, bars: pd.DataFrame, series: Series) -> dict[str, str]:
    """Return the pages of one check by their paths, without identifiers and times of the run."""
    check_bars(bars, series, CheckSpec(), docs_dir=folder)
    pages = sorted(folder.rglob("*.html"))
    return {
        CHANGING.sub("#", str(page.relative_to(folder))): CHANGING.sub("#", page.read_text(encoding="utf-8"))
        for page in pages
    }


@pytest.mark.e2e
def test_pages_are_those_of_great_expectations_and_templates_are_compiled_once(
    bars: pd.DataFrame, series: Series, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars.loc[50, "low"] = 0.06  # a page with a failure, its value and its line
    compiled, compile_template = [], Environment._generate

    def count(environment: Environment, *values: object, **named: object) -> object:
        compiled.append(environment)
        return compile_template(environment, *values, **named)

    monkeypatch.setattr(Environment, "_generate", count)
    built_pages(tmp_path / "first", bars, series)
    compiled.clear()
    cached = built_pages(tmp_path / "second", bars, series)
    assert compiled == []
    monkeypatch.setattr(great_expectations_run, "SITE", {})
    own = built_pages(tmp_path / "third", bars, series)
    assert len(compiled) > 20
    assert cached == own
    assert len(cached) == 4  # index, redirection, suite, run
    assert any("0.06" in text for text in cached.values())
