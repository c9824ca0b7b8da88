"""The world of a simulation: true time, the clock of the machine, and an exchange that knows the true bars.

An exchange answers late, twice, out of order, with bars that it corrects later, or not at all. Nothing here is random
on its own: every draw comes from the generator that is passed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from model.bars import Series
from model.errors import SourceUnavailable

SERIES = Series("BTC-USD", "1d")
DAY = timedelta(days=1)
FIRST_BAR = datetime(2019, 4, 15, tzinfo=UTC)  # the days begin on 31 December: a store begins a new file each year
BARS_BEFORE = 260  # closed before the simulation begins: the data checks want 200
LATE_DAYS = 8  # a bar appears, and is corrected, within this time: far below the 50 bars that an ingest reads again
WRONG_DAYS = 2  # an impossible bar stops every ingest, and so does an exchange that is out
EARLY_MOMENT = datetime(1970, 1, 2, tzinfo=UTC)  # of a machine that lost its clock
LATE_MOMENT = datetime(2100, 1, 1, tzinfo=UTC)  # of one that a wrong time server set

Values = tuple[float, float, float, float, float]


class Clock:
    """True time, and what the clock of the machine shows."""

    def __init__(self) -> None:
        self.true = FIRST_BAR + BARS_BEFORE * DAY
        self.error = timedelta()

    @property
    def shown(self) -> datetime:
        """What the machine takes for now."""
        return self.true + self.error

    def jump(self, rng: np.random.Generator) -> str:
        """Set the clock wrong, or right again; return what happened."""
        if self.error or rng.random() < 0.2:
            self.error = timedelta()
            return "clock is right again"
        kind = int(rng.integers(5))
        days = float(rng.uniform(0.5, 6))
        extreme = {0: EARLY_MOMENT, 1: LATE_MOMENT}
        self.error = extreme[kind] - self.true if kind in extreme else timedelta(days=days if kind == 2 else -days)
        return f"clock shows {self.shown:%Y-%m-%d %H:%M}, true time {self.true:%Y-%m-%d %H:%M}"


@dataclass
class Exchange:
    """The bars of one series, as an exchange serves them.

    Attributes:
        values: newest values by number of the bar: what the exchange takes for true.
        served: every value that it ever returned, by open time.
        appears: time from which a bar is served.
        out_until: no request is answered before.
    """

    clock: Clock
    rng: np.random.Generator
    values: dict[int, Values] = field(default_factory=dict)
    served: dict[datetime, set[Values]] = field(default_factory=dict)
    appears: dict[int, datetime] = field(default_factory=dict)
    corrected: dict[int, tuple[datetime, Values]] = field(default_factory=dict)
    out_until: datetime = FIRST_BAR
    failing: float = 0.0
    close: float = 20_000.0

    def __post_init__(self) -> None:
        for _ in range(BARS_BEFORE):
            self._add(troubled=False)

    def open_time(self, number: int) -> datetime:
        """Return when a bar opened."""
        return FIRST_BAR + number * DAY

    def pass_day(self, trouble: float) -> str:
        """Let the next bar close; return what is wrong with it, if anything.

        Args:
            trouble: share of days on which something is wrong.
        """
        return self._add(troubled=self.rng.random() < trouble)

    def _add(self, *, troubled: bool) -> str:
        number, opened = len(self.values), self.close
        self.close = opened * float(np.exp(self.rng.normal(0, 0.02)))
        high = max(opened, self.close) * float(1 + self.rng.uniform(0, 0.01))
        low = min(opened, self.close) * float(1 - self.rng.uniform(0, 0.01))
        true = (opened, high, low, self.close, float(self.rng.uniform(100, 200)))
        self.values[number] = true
        if not troubled:
            return ""
        kind = int(self.rng.choice(5))
        longest = WRONG_DAYS if kind in (1, 2) else LATE_DAYS
        later = self.open_time(number + 1) + float(self.rng.uniform(0.1, longest)) * DAY
        if kind == 0:
            self.appears[number] = later
            return f"bar {number} appears on {later:%Y-%m-%d %H:%M}"
        if kind == 1:
            self.out_until = later
            return f"the exchange is out until {later:%Y-%m-%d %H:%M}"
        self.corrected[number] = (later, true)
        wrong = (opened, high, high * 1.5, self.close, true[4]) if kind == 2 else (*true[:4], true[4] * 1.1)
        self.values[number] = wrong
        return f"bar {number} is {'impossible' if kind == 2 else 'provisional'} until {later:%Y-%m-%d %H:%M}"

    def settle(self) -> None:
        """Correct the bars whose time has come."""
        for number in [each for each, (at, _) in self.corrected.items() if at <= self.clock.true]:
            self.values[number] = self.corrected.pop(number)[1]

    def truth(self) -> dict[datetime, Values]:
        """Return the closed bars that the exchange serves now, by open time."""
        self.settle()
        now = self.clock.true
        return {
            self.open_time(number): values
            for number, values in self.values.items()
            if self.open_time(number) + DAY <= now and self.appears.get(number, now) <= now
        }

    def page(self, since: datetime, limit: int) -> list[list[float]]:
        """Return a page as a caller receives it: doubled, shuffled or cut short now and then."""
        now, found = self.clock.true, []
        if now < self.out_until or self.rng.random() < self.failing:
            raise SourceUnavailable("simulated: the exchange did not answer")
        known = [(at, values) for at, values in self.truth().items() if at >= since]
        unfinished = self.open_time(len(self.values))
        if unfinished >= since:  # an exchange serves the bar that is not closed, too
            known.append((unfinished, (self.close, self.close * 1.001, self.close * 0.999, self.close, 1.0)))
        for at, values in known[:limit]:
            if at != unfinished:
                self.served.setdefault(at, set()).add(values)
            found.append([at.timestamp() * 1000, *values])
        if self.failing and found:
            if self.rng.random() < 0.2:
                found += [found[int(self.rng.integers(len(found)))]]
            if self.rng.random() < 0.2:
                found = [found[place] for place in self.rng.permutation(len(found))]
        return found


class SimulatedClient:
    """Replaces `ExchangeClient`; `exchange` is set by the simulation."""

    exchange: Exchange
    retries = 0

    def __init__(self, name: str, *_: Any) -> None:
        self.name = name

    def close(self) -> None:
        """Nothing is open."""

    def market(self, symbol: str) -> str:
        """Trade every symbol."""
        return symbol

    def finest_interval(self, interval: str) -> str:
        """Offer every interval."""
        return interval

    def page_bars(self, _: str) -> int:
        """Return the largest number of bars of a page."""
        return 100

    def clock(self) -> datetime:
        """Return the time of the exchange, which is right."""
        return self.exchange.clock.true

    def bars(self, _market: str, _interval: str, since_ms: int, limit: int) -> list[list[float]]:
        """Return one page."""
        return self.exchange.page(datetime.fromtimestamp(since_ms / 1000, UTC), limit)


def simulated_datetime(clock: Clock) -> type[datetime]:
    """Return a class that passes for `datetime`, whose `now` is the machine's clock."""

    class Passing(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, datetime)

    class Simulated(datetime, metaclass=Passing):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return clock.shown if tz is not None else clock.shown.replace(tzinfo=None)

    return Simulated


def numbered(prefix: str) -> Iterator[str]:
    """Yield names with numbers from 1."""
    number = 0
    while True:
        number += 1
        yield f"{prefix}{number}"
