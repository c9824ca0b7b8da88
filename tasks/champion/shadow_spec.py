"""Which registered versions make shadow predictions."""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from model.bars import Series

# Own choice: until it is no shadow any more, a version of daily retrains makes 30 decisions on daily bars (an interval
# needs 20), 240 on hourly ones. A shadow of the hourly preset, five networks, costs 10 ms at each of 24 bars a day.
OF_DAYS, OF_SHORTER_BARS = 30, 10


class ShadowSpec(BaseModel):
    """How many versions predict each closed bar without serving."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Shadow predictions")

    versions: int | None = Field(
        default=None,
        ge=0,
        le=1_000,
        description="Newest registered versions, rejected ones left out, that store a shadow prediction of each closed "
        f"bar; 0: none; empty: {OF_DAYS}, or {OF_SHORTER_BARS} of bars shorter than a day",
    )

    def count(self, series: Series) -> int:
        """Return the number of versions for a series or a panel."""
        if self.versions is not None:
            return self.versions
        return OF_DAYS if series.delta >= np.timedelta64(1, "D") else OF_SHORTER_BARS
