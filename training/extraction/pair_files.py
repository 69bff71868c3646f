"""What is kept of each pair of scans: a checkerboard picture for looking, and its numbers.

They lie in a folder of their own below the thumbnails, by name of the moving scan, whether its
registration was accepted or refused, and appear whole.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import ValidationError

from training.config_base import Config
from training.extraction import overlay, overview, transform
from training.extraction.registration import Registration, Thumbnail
from training.extraction.slide_table import Scan

FOLDER = "pairs"
"""Below the thumbnails."""

SIDE_MAX = 1024
"""Longer side of a picture, pixels."""


class Pair(Config):
    """How well a scan was registered to the routine scan of its slide.

    Args:
        slide: of both.
        scan: the one that was registered.
        reference: the routine scan.
        quality: mean local correlation over tissue, -1 to 1.
        overlap: share of the smaller tissue that meets tissue.
        turn_degrees: by which the scan is turned; null where the transform mirrors it.
        manual: whether the user gave the transform.
        refused: why its tiles are not paired; empty if they are.
    """

    slide: str
    scan: str
    reference: str
    quality: float
    overlap: float
    turn_degrees: float | None
    manual: bool
    refused: str


def picture(pictures: Path, scan: str) -> Path:
    """Where the picture of a pair lies, by its moving scan; the numbers lie beside it as JSON."""
    return pictures / FOLDER / overview.file_name(scan)


def write(
    pictures: Path,
    pair: Pair,
    registration: Registration,
    shown: tuple[Thumbnail, Thumbnail],
    *,
    scratch: Path,
) -> None:
    """Write the picture and the numbers of a pair.

    Args:
        pictures: folder of thumbnails.
        pair: the numbers.
        registration: from the routine scan to the other.
        shown: these two.
        scratch: folder on the same disk, where files are made.
    """
    file = picture(pictures, pair.scan)
    for folder in (file.parent, scratch):
        folder.mkdir(parents=True, exist_ok=True)
    drawn = scratch / f"+{file.name}"  # no name of a scan has a plus: quoting takes it
    made = {drawn: file, drawn.with_suffix(".json"): file.with_suffix(".json")}
    try:
        fixed, moving = (_small(each) for each in shown)
        overlay.write(fixed, moving, registration, drawn)
        text = json.dumps(pair.model_dump(), indent=2, ensure_ascii=False) + "\n"
        drawn.with_suffix(".json").write_text(text, encoding="utf-8")
        for path, place in made.items():
            path.replace(place)
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def describe(slide: str, scan: str, reference: str, registration: Registration) -> Pair:
    """Give the numbers of a registration."""
    linear = registration.transform.linear()
    mirrored = linear[0, 0] * linear[1, 1] < linear[0, 1] * linear[1, 0]
    return Pair(
        slide=slide,
        scan=scan,
        reference=reference,
        quality=registration.quality,
        overlap=registration.overlap,
        turn_degrees=None if mirrored else transform.rotation_degrees(linear),
        manual=registration.manual,
        refused=registration.refused,
    )


def read(
    pictures: Path, slides: Mapping[str, Sequence[Scan]], *, without: Collection[str]
) -> Iterator[Pair]:
    """Read the numbers of the pairs of slides, in order; those of files that are gone are missing.

    Args:
        pictures: folder of thumbnails.
        slides: the scans of each, the routine one first.
        without: scans that could not be read; what lies there of them is older.
    """
    for slide, scans in slides.items():
        for scan in scans[1:]:
            if scan.source_scan or scan.name in without:
                continue
            file = picture(pictures, scan.name).with_suffix(".json")
            try:
                found = Pair.model_validate_json(file.read_bytes())
            except (OSError, ValidationError):
                continue
            if (found.slide, found.reference) == (slide, scans[0].name):
                yield found


def _small(shown: Thumbnail) -> Thumbnail:
    """Make a thumbnail no larger than a picture for looking."""
    height, width, _ = shown.rgb.shape
    by = max(height, width) / SIDE_MAX
    if by <= 1:
        return shown
    size = (max(1, round(width / by)), max(1, round(height / by)))
    rgb = Image.fromarray(shown.rgb).resize(size, Image.Resampling.BOX)
    inside = Image.fromarray(shown.inside).resize(size, Image.Resampling.NEAREST)
    um_per_px = (shown.um_per_px[0] * width / size[0], shown.um_per_px[1] * height / size[1])
    return Thumbnail(rgb=np.asarray(rgb), inside=np.asarray(inside), um_per_px=um_per_px)
