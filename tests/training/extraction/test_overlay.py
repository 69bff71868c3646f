from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from training.extraction import overlay
from training.extraction.registration import Registration, Thumbnail
from training.extraction.transform import IDENTITY, Transform


def drawn(folder: Path, affine: np.ndarray, *, refused: str = "") -> np.ndarray:
    fixed = Thumbnail(
        rgb=np.full((40, 60, 3), 10, np.uint8),
        inside=np.ones((40, 60), bool),
        um_per_px=(4.0, 4.0),
    )
    moving = replace(fixed, rgb=np.full((40, 60, 3), 200, np.uint8))
    found = Registration(
        transform=Transform(start=affine, affine=IDENTITY),
        quality=1.0, overlap=1.0, folded=0.0, refused=refused,
    )  # fmt: skip
    out = folder / "ein 'Bild'"
    overlay.write(fixed, moving, found, out, fields=6)
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


def test_fields_show_both_scans_in_turn(tmp_path: Path) -> None:
    picture = drawn(tmp_path, IDENTITY)
    assert picture.shape == (40, 60, 3)
    assert picture[5, ::10, 0].tolist() == [10, 200, 10, 200, 10, 200]
    assert picture[15, ::10, 0].tolist() == [200, 10, 200, 10, 200, 10]


def test_what_lies_beyond_the_scan_is_marked_and_refused_pairs_are_drawn(tmp_path: Path) -> None:
    away = IDENTITY + np.array([[0, 0, 1e4], [0, 0, 0]])
    picture = drawn(tmp_path, away, refused="other tissue")
    assert picture[5, 15].tolist() == list(overlay.BEYOND)
    assert picture[5, 5].tolist() == [10, 10, 10]
