"""A record survives its frame, and counts the decisions until a label is resolved."""

import numpy as np
import pytest
from synthetic_records import DAY, daily_record, skilled_sample

from model.errors import SpecError
from model.record import Record, record_from_frame


def test_a_record_survives_its_frame_in_any_order() -> None:
    before = daily_record(*skilled_sample())
    frame = before.frame()
    assert str(frame["decided_at"].dt.tz) == "UTC"
    after = record_from_frame(frame.sample(frac=1, random_state=1))
    for name in ("decided_at", "resolved_at", "labels", "probabilities", "fold"):
        left, right = getattr(before, name), getattr(after, name)
        assert left.dtype == right.dtype
        assert (left == right).all()


def test_a_frame_without_a_column_is_refused() -> None:
    with pytest.raises(SpecError, match="missing probability"):
        record_from_frame(daily_record(*skilled_sample()).frame().drop(columns="probability"))


def test_a_frame_with_an_unresolved_label_is_refused() -> None:
    frame = daily_record(*skilled_sample()).frame().assign(label=-1)
    with pytest.raises(SpecError, match="unresolved"):
        record_from_frame(frame)


@pytest.mark.parametrize(("horizon_bars", "stride_bars", "overlap"), [(1, 1, 1), (5, 1, 5), (5, 2, 3), (5, 5, 1)])
def test_overlap_counts_the_decisions_until_a_label_is_resolved(
    horizon_bars: int, stride_bars: int, overlap: int
) -> None:
    base = daily_record(*skilled_sample()).take(np.arange(100))
    decided_at = base.decided_at[0] + np.arange(100) * stride_bars * DAY
    long = Record(decided_at, decided_at + horizon_bars * DAY, base.labels, base.probabilities, base.fold)
    assert long.overlap_bars() == overlap
    assert long.take(np.arange(0, 100, overlap)).overlap_bars() == 1
