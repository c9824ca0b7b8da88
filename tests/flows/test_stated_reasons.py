"""A reason is one line of text: what acts on a terminal is refused before anything is stored."""

import pytest
from synthetic_bars import random_walk
from tiny_home import SERIES, tiny_home

from flows.cli.app import run
from model.errors import SpecError
from tasks.settings import Settings
from tasks.store.stated_reason import require_one_line
from tasks.workspace import Workspace

BARS = random_walk(120, seed=3)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return tiny_home(tmp_path_factory.mktemp("home"), BARS, len(BARS))


@pytest.mark.parametrize(
    "words",
    [
        *(
            ["promote", "--version", "1", "--force"],
            ["promote", "--version", "1"],
            ["rollback"],
            ["rollback", "--lift"],
        ),
        *(["release", "--at", "2018-01-05"], ["remove", "--at", "2018-01-05"]),
    ],
    ids=" ".join,
)
def test_every_command_refuses_a_reason_that_acts_on_a_terminal(
    words: list[str], settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(settings.root))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert run([*words, "--reason", "\x1b[2Jnothing"]) == 2
    assert r"expected one line of text without control characters, found '\x1b[2Jnothing'" in capsys.readouterr().err
    workspace = Workspace(settings, SERIES)
    assert len(workspace.decision_log.rows()) == 0
    assert len(workspace.bar_store.bars(SERIES)) == 120


@pytest.mark.parametrize("reason", ["a\nb", "a\tb", "\x00", "\x7f", "\x9b2J", "\u202eabc", "a\u2028b", "\udcff"])
def test_characters_that_act_are_refused(reason: str) -> None:
    with pytest.raises(SpecError, match="one line of text"):
        require_one_line(reason)


@pytest.mark.parametrize("reason", ["", "größer", "取引所　停止", "a\u00a0b", "👩\u200d💻", "[bold]", "100 %"])
def test_any_other_text_is_a_reason(reason: str) -> None:
    require_one_line(reason)
