"""One picture per registered pair, for looking: a checkerboard of both scans."""

from pathlib import Path

from training.extraction.registration import Registration, Thumbnail


def write(
    fixed: Thumbnail, moving: Thumbnail, registration: Registration, out: Path, *, fields: int = 12
) -> None:
    """Write a PNG of the fixed scan whose every other field shows the moving scan, moved."""
    raise NotImplementedError
