"""One picture per scan with the kept tiles drawn, for looking, and its numbers beside it."""

from pathlib import Path

from training.extraction.grid import Tiles
from training.extraction.masks import Mask
from training.extraction.slides import Slide


def write(slide: Slide, mask: Mask, tiles: Tiles, out: Path, *, max_px: int = 1024) -> None:
    """Write `out` (a PNG) and the numbers as JSON under the same name."""
    raise NotImplementedError
