"""The words for a label: the names of its two classes, of the probability of class 1, and of the share of class 1.

A chart, table or text about labels takes its words from here, so that a rank is nowhere called a rise.
"""

from dataclasses import dataclass
from typing import Literal

LabelKind = Literal["rise", "rank"]

UNKNOWN = "not known yet"  # an outcome; "open" would read as the price


@dataclass(frozen=True, slots=True)
class LabelNames:
    """How a label is named.

    Attributes:
        classes: names of class 0 and class 1.
        probability: name of the probability of class 1.
        share: name of the share of class 1 among windows.
    """

    classes: tuple[str, str]
    probability: str
    share: str


RISE_NAMES = LabelNames(("fall", "rise"), "P(rise)", "share of rises")
LABEL_NAMES: dict[LabelKind, LabelNames] = {
    "rise": RISE_NAMES,
    "rank": LabelNames(("below the median", "above the median"), "P(above the median)", "share above the median"),
}


def opinion_text(has_opinion: bool | None, label: LabelKind, predicted: bool | int) -> str | None:
    """Return the predicted class, or none without an opinion; None where no share of opinions was stated.

    >>> opinion_text(True, "rank", 1), opinion_text(False, "rise", 1), opinion_text(None, "rise", 0)
    ('above the median', 'none', None)
    """
    if has_opinion is None:
        return None
    return LABEL_NAMES[label].classes[int(predicted)] if has_opinion else "none"
