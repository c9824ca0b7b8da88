"""Calibrate probabilities: fit a calibrator on some windows, apply it to others.

Knows labels (1 rise, 0 fall) and P(rise), not the models. A calibrator is a value fitted on one set of windows and
applied to another; it is stored as JSON. Caution: evaluated in-sample, any calibrator looks perfect; fit it on the
validation windows of a fold and apply it to the test windows of that fold.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int8

from model.errors import SpecError
from model.metrics import CLIP, log_losses, tally

CalibrationName = Literal["none", "temperature", "isotonic"]
TEMPERATURES = (0.05, 50.0)  # bounds; beyond, the network is broken, not miscalibrated


@runtime_checkable  # tests check signatures as they run
class Calibrator(Protocol):
    """Maps P(rise) to a calibrated P(rise), keeping the order."""

    def apply(self, probabilities: Float64[np.ndarray, " window"]) -> Float64[np.ndarray, " window"]:
        """Return the calibrated probabilities, shape (window,); entry t depends on probability t alone."""
        ...

    def plain(self) -> dict[str, Any]:
        """Return all parameters, ready for JSON."""
        ...

    def __str__(self) -> str:
        """Describe it in a few words."""
        ...


@dataclass(frozen=True, slots=True)
class Uncalibrated:
    """Returns the probabilities unchanged, bit for bit."""

    def apply(self, probabilities: Float64[np.ndarray, " window"]) -> Float64[np.ndarray, " window"]:
        """Return the probabilities unchanged."""
        return probabilities

    def plain(self) -> dict[str, Any]:
        """Return its name."""
        return {"name": "none"}

    def __str__(self) -> str:
        """Return `none`."""
        return "none"


UNCALIBRATED = Uncalibrated()


@dataclass(frozen=True, slots=True)
class Temperature:
    """Divides log odds by a temperature: above 1 lowers confidence, below 1 raises it.

    Source: Guo, Pleiss, Sun and Weinberger 2017.

    Examples:
        >>> Temperature(2.0).apply(np.array([0.2, 0.5, 0.9])).round(4).tolist()
        [0.3333, 0.5, 0.75]
    """

    temperature: float = 1.0

    def apply(self, probabilities: Float64[np.ndarray, " window"]) -> Float64[np.ndarray, " window"]:
        """Return the calibrated probabilities, shape (window,); entry t depends on probability t alone."""
        stretched = _log_odds(probabilities) / self.temperature
        calibrated: Float64[np.ndarray, " window"] = np.exp(-np.logaddexp(0.0, -stretched))  # 1 / (1 + exp(-x))
        return calibrated

    def plain(self) -> dict[str, Any]:
        """Return name and temperature."""
        return {"name": "temperature", "temperature": self.temperature}

    def __str__(self) -> str:
        """Return the name and the temperature."""
        return f"temperature {self.temperature:.3g}"


@dataclass(frozen=True, slots=True)
class Isotonic:
    """An increasing function, linear between its knots and constant outside.

    Attributes:
        knots: shape (knot,), float64: P(rise) before calibration, ascending.
        values: shape (knot,), float64: calibrated P(rise), non-decreasing, never 0 or 1.
    """

    knots: Float64[np.ndarray, " knot"]
    values: Float64[np.ndarray, " knot"]

    def apply(self, probabilities: Float64[np.ndarray, " window"]) -> Float64[np.ndarray, " window"]:
        """Return the calibrated probabilities, shape (window,); entry t depends on probability t alone."""
        calibrated: Float64[np.ndarray, " window"] = np.interp(probabilities, self.knots, self.values)
        return calibrated

    def plain(self) -> dict[str, Any]:
        """Return name, knots and values."""
        return {"name": "isotonic", "knots": self.knots.tolist(), "values": self.values.tolist()}

    def __str__(self) -> str:
        """Return the name, the number of knots and the range."""
        return f"isotonic, {len(self.knots)} knots, {self.values[0]:.1%} to {self.values[-1]:.1%}"


def fit_calibrator(
    name: CalibrationName, labels: Int8[np.ndarray, " window"], probabilities: Float64[np.ndarray, " window"]
) -> Calibrator:
    """Fit a calibrator of a name; `none` changes nothing.

    Args:
        name: name of the calibrator.
        labels: shape (window,), int8: 1 rise, 0 fall; of windows outside its evaluation.
        probabilities: shape (window,), float64: P(rise) of those windows.

    Raises:
        SpecError: there is no window to fit on.
        UnsoundModel: a probability is not finite or not within 0 to 1.
    """
    if name == "none":
        return UNCALIBRATED
    if not len(labels):
        raise SpecError(f"calibration {name}: expected windows to fit on, found none. Raise the validation share.")
    fit = fit_temperature if name == "temperature" else fit_isotonic
    return fit(labels, probabilities)


def fit_temperature(labels: Int8[np.ndarray, " window"], probabilities: Float64[np.ndarray, " window"]) -> Temperature:
    """Return the temperature of the lowest log loss, within the bounds of `TEMPERATURES`."""
    from scipy.optimize import minimize_scalar  # imported here: 1 s

    def loss(log_temperature: float) -> float:
        return float(log_losses(labels, Temperature(float(np.exp(log_temperature))).apply(probabilities)).mean())

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=(float(low), float(high)), method="bounded", options={"xatol": 1e-6})
    return Temperature(float(np.exp(found.x)))


def fit_isotonic(labels: Int8[np.ndarray, " window"], probabilities: Float64[np.ndarray, " window"]) -> Isotonic:
    """Return the isotonic regression of labels on probabilities (pool adjacent violators).

    Values are clipped to at least 1 / (windows + 2) from 0 and 1, because an outcome without an example is possible.

    Source: Zadrozny and Elkan 2002; SciPy's `isotonic_regression`.
    """
    from scipy.optimize import isotonic_regression  # imported here: 1 s

    counted = tally(labels, probabilities)
    windows = (counted.falls + counted.rises).astype(np.float64)
    fitted = isotonic_regression(counted.rises / windows, weights=windows).x
    edge = 1 / (len(labels) + 2)
    values = np.clip(np.asarray(fitted, dtype=np.float64), edge, 1 - edge)
    bends = np.diff(values, prepend=np.nan, append=np.nan) != 0  # always for the first and the last knot
    needed = bends[:-1] | bends[1:]  # a knot inside a step is redundant
    return Isotonic(counted.probabilities[needed], values[needed])


def calibrator_to_json(calibrator: Calibrator) -> str:
    """Write a calibrator as JSON, bit for bit."""
    return json.dumps(calibrator.plain())


def calibrator_from_json(text: str) -> Calibrator:
    """Read a calibrator back from what `calibrator_to_json` wrote.

    Raises:
        SpecError: the text does not describe a calibrator.
    """
    try:
        found = json.loads(text)
        if found["name"] == "none":
            return UNCALIBRATED
        if found["name"] == "temperature":
            low, high = TEMPERATURES
            if low <= found["temperature"] <= high:
                return Temperature(float(found["temperature"]))
        elif found["name"] == "isotonic":
            knots, values = (np.array(found[name], dtype=np.float64) for name in ("knots", "values"))
            climbs = knots.ndim == 1 and len(knots) > 0 and (np.diff(knots) > 0).all() and (np.diff(values) >= 0).all()
            if knots.shape == values.shape and climbs and values[0] > 0 and values[-1] < 1:
                return Isotonic(knots, values)
    except (ValueError, KeyError, TypeError) as error:
        raise SpecError(f"calibrator: expected the JSON of one, found {text[:80]!r} ({error})") from error
    raise SpecError(f"calibrator: expected a name of CalibrationName with values in their bounds, found {text[:80]!r}")


def _log_odds(probabilities: Float64[np.ndarray, " window"]) -> Float64[np.ndarray, " window"]:
    """Return log odds, finite also at 0 and 1."""
    clipped = np.clip(probabilities, CLIP, 1 - CLIP)
    odds: Float64[np.ndarray, " window"] = np.log(clipped) - np.log1p(-clipped)
    return odds
