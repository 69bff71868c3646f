import json
from pathlib import Path

import numpy as np
from PIL import Image

from training.extraction import grid, overview
from training.extraction.config import Tiling
from training.extraction.masks import Mask
from training.extraction.slides import Slide, open_slide


def example(folder: Path) -> tuple[Slide, Mask]:
    Image.new("RGB", (640, 320), (120, 60, 140)).save(folder / "a scan.png")
    mask = Mask(inside=np.array([[True, False]]), step=(320.0, 320.0))
    return open_slide(folder / "a scan.png", mpp=0.5), mask


def test_kept_tiles_are_framed_and_the_rest_fades(tmp_path: Path) -> None:
    slide, mask = example(tmp_path)
    tiles = grid.tiles(slide, mask, Tiling(tile_px=160))
    overview.write(slide, mask, tiles, tmp_path / "out.png", max_px=320)
    picture = np.asarray(Image.open(tmp_path / "out.png")).astype(int)
    assert picture.shape == (160, 320, 3)
    framed = (picture == overview.EDGE).all(axis=2)
    assert framed[0, :160].all()
    assert framed[159, :160].all()
    assert framed[:, [0, 79, 80, 159]].all()
    assert framed.sum() == 4 * (4 * 79)
    assert picture[40, 40].tolist() == [120, 60, 140]
    assert (picture[:, 161:] > [180, 150, 190]).all()


def test_the_numbers_stand_beside_the_picture(tmp_path: Path) -> None:
    slide, mask = example(tmp_path)
    tiles = grid.tiles(slide, mask, Tiling(tile_px=160, max_tiles=3))
    overview.write(slide, mask, tiles, tmp_path / "out.png", max_px=320)
    facts = json.loads((tmp_path / "out.json").read_text())
    assert facts == {
        "scan": "a scan.png",
        "vendor": "png",
        "size": [640, 320],
        "mpp": [0.5, 0.5],
        "levels": [[640, 320]],
        "has_profile": False,
        "picture_step": [2.0, 2.0],
        "tile_span": [160.0, 160.0],
        "grid": [2, 4],
        "tissue_share": 0.5,
        "num_found": 4,
        "num_tiles": 3,
    }


def test_the_same_scan_gives_the_same_bytes(tmp_path: Path) -> None:
    slide, mask = example(tmp_path)
    tiles = grid.tiles(slide, mask, Tiling(tile_px=160))
    for name in ("a.png", "b.png"):
        overview.write(slide, mask, tiles, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
