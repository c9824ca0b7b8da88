"""Pictures of docs/pictures, redrawn by the browser tests where RISEORFALL_KEEP_PICTURES is set."""

import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Page

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
KEEP_PICTURES = bool(os.environ.get("RISEORFALL_KEEP_PICTURES"))
COLOURS = 128  # a palette takes a third of the space, and the difference cannot be seen


def picture(page: "Page", name: str, *, wait_seconds: float = 3.0, full_page: bool = False) -> None:
    """Keep what a page shows, if pictures are kept.

    Args:
        page: the page, as wide and high as it should be seen.
        name: of the file in docs/pictures, without `.png`.
        wait_seconds: until all is drawn; charts on a canvas take long without a graphics card.
        full_page: also what lies below the window.
    """
    if KEEP_PICTURES:
        page.wait_for_timeout(1000 * wait_seconds)
        drawn = Image.open(BytesIO(page.screenshot(full_page=full_page))).convert("RGB")
        drawn.quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURES / f"{name}.png", optimize=True)
