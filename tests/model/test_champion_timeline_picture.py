"""The picture of the champion's history shows each decision and the champion after it."""

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from model.champion_timeline_picture import LAST_STEPS, MARKS, Action, Step, champion_history_picture

FIRST = Step(np.datetime64("2026-11-01", "us"), "promote", "1", "1", difference=-0.001, low=-0.004, high=0.002)


def steps() -> list[Step]:
    """Promote 1, 2 and 10; hold 3; reject 4 unmeasured; force 5; roll back to 2."""
    decisions: list[tuple[Action, str, str]] = [
        ("promote", "1", "1"),
        ("promote", "2", "2"),
        ("hold", "3", "2"),
        ("reject", "4", "2"),
        ("promote", "5", "5"),
        ("rollback", "2", "2"),
        ("promote", "10", "10"),
    ]
    made = [
        replace(FIRST, action=action, version=version, champion=champion) for action, version, champion in decisions
    ]
    made[3] = replace(made[3], difference=np.nan, low=np.nan, high=np.nan)
    made[4] = replace(made[4], forced=True)
    return made


def test_the_line_follows_the_champion_and_versions_are_ordered_as_numbers() -> None:
    figure = champion_history_picture(steps())
    champions, losses = figure.axes
    labels = [label.get_text() for label in champions.get_yticklabels()]
    assert labels == [f"version {number}" for number in (1, 2, 3, 4, 5, 10)]
    (line,) = champions.get_lines()
    assert np.asarray(line.get_ydata()).tolist() == [0, 1, 1, 1, 4, 1, 5, 5]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["champion", "promote (4)", "hold (1)", "reject (1)", "rollback (1)", "forced (1)"]
    intervals, dots = losses.collections
    measured = [0, 1, 2, 4, 5, 6]  # the other one is not drawn
    assert dots.get_offsets().tolist() == [[place, -0.001] for place in measured]
    assert [each.tolist() for each in intervals.get_segments()] == [[[k, -0.004], [k, 0.002]] for k in measured]
    shades = [MARKS[steps()[place].action][1] for place in measured]
    assert (
        [to_hex(each) for each in dots.get_facecolors()] == [to_hex(each) for each in intervals.get_colors()] == shades
    )


@pytest.mark.parametrize("count", [0, 1, pytest.param(500, marks=pytest.mark.e2e)])
def test_any_number_of_decisions_can_be_drawn(count: int) -> None:
    many = [replace(FIRST, version=str(k + 1), champion=str(k + 1)) for k in range(count)]
    figure = champion_history_picture(many)
    assert len(figure.axes[0].get_xticks()) <= 12 or count == 0
    (*_, shown) = [int(text) for text in figure.axes[0].get_title().split() if text.isdigit()]
    assert shown == min(count, LAST_STEPS)
    figure.savefig(io.BytesIO())


def test_without_a_champion_the_line_has_a_gap() -> None:
    figure = champion_history_picture([replace(FIRST, action="reject", champion=""), FIRST])
    (line,) = figure.axes[0].get_lines()
    assert np.isnan(np.asarray(line.get_ydata(), dtype=np.float64)[0])


def test_each_action_has_its_own_marker() -> None:
    assert len({marker for marker, _ in MARKS.values()}) == len(MARKS)
