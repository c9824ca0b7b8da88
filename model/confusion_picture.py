"""Draw a confusion matrix as SVG: counts, and shares of each row.

Knows the matrix and the names of its classes. Its shades are those of the shares, so two rows of different length can
be compared.
"""

import numpy as np
from jaxtyping import Int64
from markupsafe import escape

from model.chart_style import RISE
from model.metrics import CLASSES, normalise_rows

CELL, LEFT, TOP = 130, 130, 64
DARK_SHARE = 0.55  # where the shade turns dark, so that the text must be white


def confusion_svg(matrix: Int64[np.ndarray, "2 2"], classes: tuple[str, str] = CLASSES) -> str:
    """Return a confusion matrix as an `svg` element.

    Args:
        matrix: shape (2, 2), int64: rows are actual classes 0 and 1, columns predicted ones.
        classes: their names.
    """
    shares = normalise_rows(matrix)
    total, correct = int(matrix.sum()), int(np.trace(matrix))
    width, height = LEFT + 2 * CELL + 12, TOP + 2 * CELL + 40
    title = f"accuracy {correct / max(total, 1):.1%} on {total:,} windows"
    parts = [_text(width / 2, 20, "Actual (rows) and predicted class", 13), _text(width / 2, 40, title, 13)]
    for row, name in enumerate(classes):
        first, _, rest = name.partition(" ")  # two long names do not fit side by side
        lines = (first, rest) if rest else (first,)
        parts += _label(LEFT / 2, TOP + (row + 0.5) * CELL, *lines, f"({int(matrix[row].sum()):,})")
        parts += _label(LEFT + (row + 0.5) * CELL, TOP + 2 * CELL + 16, f"predicted {first}", *lines[1:])
        for column in range(2):
            x, y, share = LEFT + column * CELL, TOP + row * CELL, float(np.nan_to_num(shares[row, column]))
            ink = "#ffffff" if share > DARK_SHARE else "var(--ink)"
            parts += [
                f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{RISE}" fill-opacity="{share:.3f}"/>',
                _text(x + CELL / 2, y + CELL / 2, f"{shares[row, column]:.1%}", 20, ink),
                _text(x + CELL / 2, y + CELL / 2 + 24, f"{matrix[row, column]:,}", 12, ink),
            ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Confusion matrix">{"".join(parts)}</svg>'
    )


def _label(x: float, y: float, *lines: str) -> list[str]:
    return [_text(x, y + 15 * place, line, 11) for place, line in enumerate(lines)]


def _text(x: float, y: float, text: str, size: int, ink: str = "var(--ink)") -> str:
    style = f"font-size:{size}px;fill:{ink}"  # above the style sheet
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle" style="{style}">{escape(text)}</text>'
