"""Text of the pages has a contrast of at least 4.5 (WCAG 2.2, 1.4.3, level AA) on every background, light and dark."""

import re

import pytest

from tasks.pages.html_page import TEMPLATES

CSS = TEMPLATES.get_template("page.css").render()
LEAST = 4.5


def colours(scheme: str) -> dict[str, str]:
    """Return the colour variables of a scheme; the dark one replaces some of the light one."""
    light, dark = (
        dict(re.findall(r"--(\w+): #([0-9a-f]+)", block)) for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    )
    return light if scheme == "light" else light | dark


def luminance(colour: str) -> float:
    """Return the relative luminance of `rgb` or `rrggbb` in hexadecimal digits (WCAG 2.2, definitions)."""
    digits = colour if len(colour) == 6 else "".join(2 * digit for digit in colour)
    shares = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_contrast_of_known_pairs() -> None:
    assert contrast("000", "fff") == pytest.approx(21)
    assert contrast("767676", "ffffff") == pytest.approx(4.54, abs=0.005)  # the lightest grey that passes on white
    assert contrast("fff", "777777") < LEAST


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_of_text_is_readable_on_every_background(scheme: str) -> None:
    values = colours(scheme)
    texts = set(re.findall(r"(?<![-\w])(?:color|fill): var\(--(\w+)\)", CSS))
    papers = set(re.findall(r"background: var\(--(\w+)\)", CSS))
    assert {"ink", "quiet", "warn", "rise"} <= texts
    assert papers == {"paper", "wash"}
    found = {(text, paper): contrast(values[text], values[paper]) for text in texts for paper in papers}
    assert {pair: ratio for pair, ratio in found.items() if ratio < LEAST} == {}
