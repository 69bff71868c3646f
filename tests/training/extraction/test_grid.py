from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from training.errors import DataError
from training.extraction import grid, tissue
from training.extraction.config import Tiling, Tissue
from training.extraction.grid import Tiles
from training.extraction.masks import Mask
from training.extraction.slides import Scale, Slide, open_slide


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    """A scan of 100 × 60 px at 0.5 µm/px."""
    path = tmp_path_factory.mktemp("grid") / "plain.png"
    Image.new("RGB", (100, 60)).save(path)
    return open_slide(path, mpp=0.5)


def everywhere(slide: Slide) -> Mask:
    return Mask(inside=np.ones((1, 1), bool), step=(float(slide.size[0]), float(slide.size[1])))


@dataclass
class Case:
    size: tuple[int, int]
    tiling: Tiling
    step: tuple[float, float]
    mask: Mask


@st.composite
def cases(draw: st.DrawFn) -> Case:
    size = (draw(st.integers(8, 400)), draw(st.integers(8, 400)))
    tile_px = draw(st.integers(8, 40))
    tiling = Tiling(
        tile_px=tile_px,
        overlap_px=draw(st.integers(0, tile_px - 1)),
        min_tissue=draw(st.floats(0, 1)),
    )
    step = (draw(st.floats(1, 5)), draw(st.floats(1, 5)))
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 12)))
    inside = draw(hnp.arrays(bool, shape))
    return Case(
        size, tiling, step, Mask(inside=inside, step=(size[0] / shape[1], size[1] / shape[0]))
    )


def placed(case: Case) -> tuple[np.ndarray, np.ndarray]:
    xs, ys = (grid.corners(case.size[axis], case.step[axis], case.tiling) for axis in (0, 1))
    return xs, ys


@given(cases())
def test_every_tile_lies_inside_and_no_further_one_would(case: Case) -> None:
    stride = case.tiling.tile_px - case.tiling.overlap_px
    for axis, places in enumerate(placed(case)):
        span, size = case.tiling.tile_px * case.step[axis], case.size[axis]
        if len(places):
            assert places[0] == 0
            assert places[-1] + span <= size + 1e-6
            assert (len(places) * stride + case.tiling.tile_px) * case.step[axis] > size - 1e-6
        else:
            assert span > size


@given(cases())
def test_tiles_stand_one_stride_apart_to_a_pixel(case: Case) -> None:
    for axis, places in enumerate(placed(case)):
        stride = (case.tiling.tile_px - case.tiling.overlap_px) * case.step[axis]
        exact = np.arange(len(places)) * stride
        assert (exact - places < 1 + 1e-6).all()
        assert (places - exact < 1e-6).all()


@given(cases())
def test_the_share_of_tissue_is_the_area_of_the_mask_in_the_tile(case: Case) -> None:
    xs, ys = placed(case)
    if not len(xs) or not len(ys):
        return
    span = (case.tiling.tile_px * case.step[0], case.tiling.tile_px * case.step[1])
    found = grid.shares(case.mask, xs, ys, span)
    assert found.shape == (len(ys), len(xs))
    rows = overlaps(ys, span[1], case.mask.step[1], case.mask.inside.shape[0])
    columns = overlaps(xs, span[0], case.mask.step[0], case.mask.inside.shape[1])
    np.testing.assert_allclose(found, rows @ case.mask.inside @ columns.T, atol=1e-6)


def overlaps(begin: np.ndarray, span: float, step: float, count: int) -> np.ndarray:
    """Share of every tile's side that lies in every pixel of the mask, [tiles, pixels]."""
    edges = np.arange(count) * step
    low = np.maximum(begin[:, None], edges)
    high = np.minimum(begin[:, None] + span, edges + step)
    return np.maximum(high - low, 0) / span


@given(cases(), st.integers(1, 30), st.integers(0, 3))
def test_numbers_say_the_place_and_the_cap_keeps_a_part(case: Case, cap: int, seed: int) -> None:
    slide = Scan(case)
    try:
        everything = grid.tiles(slide, case.mask, case.tiling)
    except DataError:
        return
    xs, ys = placed(case)
    assert everything.shape == (len(ys), len(xs))
    assert (np.diff(everything.tile) > 0).all()
    np.testing.assert_array_equal(everything.coords[:, 0], xs[everything.tile % len(xs)])
    np.testing.assert_array_equal(everything.coords[:, 1], ys[everything.tile // len(xs)])
    assert (everything.share >= case.tiling.min_tissue - 1e-6).all()
    assert (everything.share > 0).all()
    few, same, more = (capped(case, slide, maximum, seed).tile for maximum in (cap, cap, cap + 3))
    assert len(few) == min(cap, len(everything.tile))
    np.testing.assert_array_equal(few, same)
    assert set(few) <= set(more) <= set(everything.tile)
    assert (np.diff(few) > 0).all()


def capped(case: Case, slide: "Scan", maximum: int, seed: int) -> Tiles:
    tiling = case.tiling.model_copy(update={"max_tiles": maximum, "seed": seed})
    return grid.tiles(slide, case.mask, tiling)


def test_the_grid_of_a_small_scan_by_hand(plain: Slide) -> None:
    found = grid.tiles(plain, everywhere(plain), Tiling(tile_px=32, overlap_px=8))
    assert found.shape == (2, 3)
    assert found.coords.tolist() == [[0, 0], [24, 0], [48, 0], [0, 24], [24, 24], [48, 24]]
    assert found.tile.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.span == (32.0, 32.0)
    assert (found.coords.dtype, found.tile.dtype) == (np.int32, np.int32)
    coarse = grid.tiles(plain, everywhere(plain), Tiling(tile_px=20, mpp=0.7))
    assert coarse.span == pytest.approx((28, 28))
    assert coarse.coords.tolist() == [[0, 0], [28, 0], [56, 0], [0, 28], [28, 28], [56, 28]]


def test_the_smallest_share_counts_from_its_value_on(plain: Slide) -> None:
    left = Mask(inside=np.arange(100)[None] < 48, step=(1.0, 60.0))
    for share, expected in [(0.5, [0, 1]), (0.51, [0]), (1.0, [0]), (0.0, [0, 1])]:
        found = grid.tiles(plain, left, Tiling(tile_px=32, min_tissue=share))
        assert found.tile.tolist() == expected
        assert found.share.tolist() == [1.0, 0.5][: len(expected)]


def test_other_seeds_draw_other_tiles_and_the_draw_is_even(plain: Slide) -> None:
    draws = [
        grid.tiles(plain, everywhere(plain), Tiling(tile_px=8, max_tiles=21, seed=seed)).tile
        for seed in range(200)
    ]
    assert len({tuple(draw) for draw in draws}) == 200
    counts = np.bincount(np.concatenate(draws), minlength=84)
    assert counts.min() > 20
    assert counts.max() < 85  # 50 expected, standard deviation 6


def test_scans_without_tiles_say_why(plain: Slide) -> None:
    def message(mask: Mask, tiling: Tiling) -> str:
        with pytest.raises(DataError) as error:
            grid.tiles(plain, mask, tiling)
        assert str(plain.path) in error.value.message
        return error.value.message

    empty = Mask(inside=np.zeros((6, 10), bool), step=(10.0, 10.0))
    assert "no tissue found" in message(empty, Tiling(tile_px=32))
    corner = Mask(inside=np.arange(100)[None] < 8, step=(1.0, 60.0))
    assert "no tile has 50% tissue; the most that one has is 25%" in message(
        corner, Tiling(tile_px=32)
    )
    assert "smaller than a tile of 64 × 64 px" in message(everywhere(plain), Tiling(tile_px=64))


def test_a_real_slide_gives_its_tissue(cmu: Path) -> None:
    slide = open_slide(cmu)
    mask = tissue.find(slide, Tissue())
    found = grid.tiles(slide, mask, Tiling())
    assert found.shape == (13, 9)
    assert found.span == (224.0, 224.0)
    assert 35 <= len(found.tile) <= 50
    darkness = {
        tile: 255 - slide.read(x, y, Tiling()).mean()
        for tile, (x, y) in zip(found.tile, found.coords.tolist(), strict=True)
    }
    assert min(darkness.values()) > 30  # glass has about 10


class Scan(Slide):
    """A scan of a size and a scale, without a file."""

    def __init__(self, case: Case) -> None:
        self.path = Path("scan")
        self.size = case.size
        self._step = case.step

    def scale(self, tiling: Tiling) -> Scale:
        return Scale(level=0, factor=self._step, step=self._step, mpp=tiling.mpp)
