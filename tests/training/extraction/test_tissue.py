"""Tissue is judged on real tiles, by file, at the fineness they have and as thumbnails of 8 µm."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.extraction import tiffs
from training.errors import DataError
from training.extraction import grid, tissue
from training.extraction.config import Tiling, Tissue
from training.extraction.slides import open_slide

PINK, GLASS = (205, 140, 185), (243, 243, 243)
TILES = {
    # file: micrometres per pixel (about, where nobody says), smallest and largest share of tissue
    "nctcrc_TUM-AEPINLNQ.png": (0.5, 0.99, 1.0),
    "nctcrc_TUM-DFGFFNEY.png": (0.5, 0.99, 1.0),
    "nctcrc_TUM-EWFNFSQL.png": (0.5, 0.99, 1.0),
    "nctcrc_TUM-TCGA-CVATFAAT.png": (0.5, 0.99, 1.0),
    "crcval7k_NORM-TCGA-YLVCMEHK.tif": (0.5, 0.99, 1.0),
    "breast_source.png": (0.5, 0.99, 1.0),
    "breast_target.png": (0.5, 0.99, 1.0),
    "qc_tissue-level0-4302-10273-4814-10785.png": (0.5, 0.85, 1.0),
    "qc_high-nuclei-score-level2.png": (4.0, 0.12, 0.17),  # edge: 15 % of it, counted by eye
    "qc_low-nuclei-score-level1.png": (1.0, 0.0, 0.1),  # fat with a few strands
    "qc_medium-nuclei-score-green-pen-level1.png": (1.0, 0.2, 0.35),  # the part without pen
    "qc_tcga-red-pen.png": (4.0, 0.45, 0.6),  # the right half
    "qc_wsi-blue-pen.png": (60.0, 0.2, 0.35),
    "qc_no-tissue-red-pen.png": (0.5, 0.0, 0.0),
    "qc_no-tissue2.png": (1.0, 0.0, 0.0),
}


def opened(path: Path) -> np.ndarray:
    image = Image.open(path).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image))[..., :3]


def reduced(rgb: np.ndarray, factor: float) -> np.ndarray:
    size = [max(1, round(side / factor)) for side in (rgb.shape[1], rgb.shape[0])]
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS))


def found(rgb: np.ndarray, mpp: float = 8.0, **settings: float | bool) -> np.ndarray:
    return tissue.tissue_mask(rgb, mpp, Tissue.model_validate(settings))


def painted(colour: tuple[int, int, int] = GLASS, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    return np.full((*size, 3), colour, np.uint8)


@pytest.mark.parametrize("name", TILES)
def test_real_tiles_are_kept_or_rejected(he_tiles: Path, name: str) -> None:
    mpp, least, most = TILES[name]
    rgb = opened(he_tiles / name)
    assert least <= found(rgb, mpp).mean() <= most
    if mpp < 8:
        assert least - 0.02 <= found(reduced(rgb, 8 / mpp), 8.0).mean() <= most + 0.02


KEPT = {
    # tiles of 112 µm with half of it tissue, at least and at most
    "qc_tissue-level0-4302-10273-4814-10785.png": (4, 4),
    "qc_high-nuclei-score-level2.png": (40, 50),
    "qc_low-nuclei-score-level1.png": (0, 0),
    "qc_medium-nuclei-score-green-pen-level1.png": (2, 4),
    "qc_tcga-red-pen.png": (125, 145),
    "qc_wsi-blue-pen.png": (85, 110),
    "qc_no-tissue-red-pen.png": (0, 0),
    "qc_no-tissue2.png": (0, 0),
}


@pytest.mark.parametrize("name", TILES)
def test_tiles_are_cut_from_real_tissue_only(he_tiles: Path, name: str) -> None:
    mpp = TILES[name][0]
    slide = open_slide(he_tiles / name, mpp=mpp)
    mask = tissue.find(slide, Tissue())
    tiling = Tiling(tile_px=max(8, round(112 / mpp)), mpp=mpp)
    least, most = KEPT.get(name, (1, 2))
    if most == 0:
        with pytest.raises(DataError, match=r"no tile has 50% tissue|no tissue found"):
            grid.tiles(slide, mask, tiling)
    else:
        found = grid.tiles(slide, mask, tiling)
        assert least <= len(found.tile) <= most
        assert name in KEPT or len(found.tile) == found.shape[0] * found.shape[1]


def test_every_real_tile_of_the_manifest_is_judged(he_tiles: Path) -> None:
    assert {path.name for path in he_tiles.iterdir()} == {*TILES, "manifest.csv"}


@pytest.mark.parametrize(
    ("name", "ink"),
    [
        # x and y, as shares of the picture, well inside the pen
        ("qc_medium-nuclei-score-green-pen-level1.png", [(0.75, 0.1), (0.1, 0.4), (0.5, 0.25)]),
        ("qc_tcga-red-pen.png", [(0.25, 0.5), (0.15, 0.75), (0.1, 0.05)]),
        ("qc_wsi-blue-pen.png", [(0.92, 0.5), (0.9, 0.9)]),
    ],
)
def test_pen_is_told_from_the_tissue_beside_it(
    he_tiles: Path, name: str, ink: list[tuple[float, float]]
) -> None:
    rgb = opened(he_tiles / name)
    inside = found(rgb, TILES[name][0])
    height, width = inside.shape
    for x, y in ink:
        assert not inside[int(y * height), int(x * width)]
    with_pen = found(rgb, TILES[name][0], pen=False)
    assert with_pen.sum() > inside.sum()
    assert not (inside & ~with_pen).any()


@pytest.mark.parametrize(
    "colour",
    [(20, 120, 60), (40, 90, 200), (200, 15, 20), (25, 25, 25), (0, 0, 0), (60, 60, 70)],
)
def test_ink_and_black_borders_are_left_out_with_their_rims(
    colour: tuple[int, int, int],
) -> None:
    rgb = painted()
    rgb[:, 80:] = PINK
    rgb[40:80, :] = colour
    inside = found(rgb)
    assert inside[5:25, 90:].all()
    assert inside[95:115, 90:].all()
    assert not inside[36:84].any()
    assert not inside[:, :70].any()


@pytest.mark.parametrize(
    "colour",
    [(170, 40, 60), (140, 20, 35), (225, 100, 120), (230, 180, 140), (110, 110, 170), (60, 20, 70)],
    ids=["blood", "old blood", "eosin", "saffron", "pale haematoxylin", "dark haematoxylin"],
)
def test_stains_that_come_near_to_ink_are_kept(colour: tuple[int, int, int]) -> None:
    rgb = painted()
    rgb[:, 60:] = colour
    assert found(rgb)[:, 66:].all()


def test_glass_dust_and_an_empty_picture_hold_no_tissue() -> None:
    rgb = painted()
    rgb[30:32, 30:32] = PINK
    assert not found(rgb).any()
    for colour in [(255, 255, 255), (220, 220, 226), (0, 0, 0), (235, 232, 224)]:
        assert not found(painted(colour)).any()
    assert not found(painted(size=(1, 1))).any()
    assert found(painted(PINK, size=(1, 1)), min_area_um2=0).all()
    assert found(painted(PINK)).all()


def test_pieces_below_the_smallest_area_are_left_out() -> None:
    rgb = painted()
    rgb[10:30, 10:30] = PINK  # 160 µm wide
    rgb[60:110, 60:110] = PINK  # 400 µm wide
    assert found(rgb)[20, 20]
    inside = found(rgb, min_area_um2=60_000)
    assert not inside[20, 20]
    assert inside[85, 85]


def test_the_finding_hardly_depends_on_the_scale_of_the_thumbnail(he_tiles: Path) -> None:
    rgb = opened(he_tiles / "qc_high-nuclei-score-level2.png")
    shares = [found(reduced(rgb, factor), 4.0 * factor).mean() for factor in (1, 2, 4)]
    assert max(shares) - min(shares) < 0.02


def test_otsus_threshold_divides_best_as_its_definition_says() -> None:
    values = np.concatenate([np.full(700, 3.2), np.linspace(35, 60, 300), np.full(5, 12.0)])

    def between(threshold: float) -> float:
        below, above = values[values < threshold], values[values >= threshold]
        if not len(below) or not len(above):
            return 0.0
        return len(below) * len(above) * (below.mean() - above.mean()) ** 2

    best = max(map(between, range(257)))
    assert between(tissue.otsu(values)) == pytest.approx(best, rel=1e-3)
    assert 12 < tissue.otsu(values) <= 36


def test_the_mask_of_a_scan_covers_it(tmp_path: Path) -> None:
    rgb = painted(size=(400, 601))
    rgb[:, 300:] = PINK
    slide = open_slide(tiffs.write(tmp_path / "a.tif", [rgb], mpp=2.0))
    mask = tissue.find(slide, Tissue())
    assert mask.inside.shape == (100, 150)
    assert mask.step == (601 / 150, 4.0)
    assert mask.inside[:, 78:].all()
    assert not mask.inside[:, :72].any()
    coarse = open_slide(tmp_path / "a.tif", mpp=20.0)
    assert tissue.find(coarse, Tissue()).inside.shape == (400, 601)
