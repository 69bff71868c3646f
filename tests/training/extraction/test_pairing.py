import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.errors import DataError
from training.extraction import grid, pairing
from training.extraction.config import Tiling
from training.extraction.masks import Mask
from training.extraction.registration import Registration
from training.extraction.slides import Slide, open_slide
from training.extraction.transform import IDENTITY, Transform

TILING = Tiling(tile_px=20, mpp=1.0, min_tissue=0.5)


def slide(folder: Path, name: str, size: tuple[int, int], *, mpp: float) -> Slide:
    path = folder / name
    Image.new("RGB", size, (200, 100, 150)).save(path)
    return open_slide(path, mpp=mpp)


def everywhere(of: Slide) -> Mask:
    return Mask(inside=np.ones((of.size[1], of.size[0]), bool), step=(1.0, 1.0))


def registered(affine: list[list[float]], *, refused: str = "") -> Registration:
    whole = Transform(start=np.array(affine, float), affine=IDENTITY)
    return Registration(transform=whole, quality=1.0, overlap=1.0, folded=0.0, refused=refused)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    return slide(tmp_path_factory.mktemp("fixed"), "réf 'A'.png", (120, 80), mpp=1.0)


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    """The same area at twice the resolution."""
    return slide(tmp_path_factory.mktemp("moving"), "B.png", (240, 160), mpp=0.5)


def mapped(fixed: Slide, moving: Slide, affine: list[list[float]], mask: Mask) -> grid.Tiles:
    return pairing.map_grid(
        grid.tiles(fixed, everywhere(fixed), TILING),
        registered(affine),
        fixed=fixed,
        moving=moving,
        mask=mask,
        tiling=TILING,
    )


def test_the_same_place_has_the_same_number_at_another_resolution(
    fixed: Slide, moving: Slide
) -> None:
    reference = grid.tiles(fixed, everywhere(fixed), TILING)
    tiles = mapped(fixed, moving, IDENTITY.tolist(), everywhere(moving))
    np.testing.assert_array_equal(tiles.tile, reference.tile)
    np.testing.assert_array_equal(tiles.coords, reference.coords * 2)
    assert (tiles.span, tiles.num_found) == ((40.0, 40.0), 24)
    assert (tiles.coords.dtype, tiles.tile.dtype) == (np.int32, np.int32)
    np.testing.assert_allclose(tiles.share, 1)


def test_tiles_that_leave_the_scan_are_dropped(fixed: Slide, moving: Slide) -> None:
    tiles = mapped(fixed, moving, [[1, 0, 30], [0, 1, 0]], everywhere(moving))
    assert tiles.tile.tolist() == [row * 6 + column for row in range(4) for column in range(4)]
    np.testing.assert_array_equal(tiles.coords[0], [60, 0])


def test_tiles_off_the_tissue_are_dropped(fixed: Slide, moving: Slide) -> None:
    inside = np.zeros((160, 240), bool)
    inside[:, :60] = True  # half of the second column of tiles
    tiles = mapped(fixed, moving, IDENTITY.tolist(), replace(everywhere(moving), inside=inside))
    assert tiles.tile.tolist() == [0, 1, 6, 7, 12, 13, 18, 19]
    np.testing.assert_allclose(tiles.share, [1, 0.5] * 4)


def test_a_turned_slide_keeps_the_places_of_its_tiles(fixed: Slide, tmp_path: Path) -> None:
    turned = slide(tmp_path, "turned.png", (80, 120), mpp=1.0)
    tiles = mapped(fixed, turned, [[0, -1, 80], [1, 0, 0]], everywhere(turned))
    assert len(tiles.tile) == 24
    np.testing.assert_array_equal(tiles.coords[1], [60, 20])  # from (20, 0)


def test_a_scan_that_keeps_no_tile_is_an_error(fixed: Slide, moving: Slide) -> None:
    with pytest.raises(DataError) as error:
        mapped(fixed, moving, [[1, 0, 1000], [0, 1, 0]], everywhere(moving))
    assert error.value.message == (
        f"{moving.path}: none of the 24 tiles of {fixed.path} lies on it with 50% tissue: 24 lie "
        "outside"
    )


def test_a_refused_registration_maps_nothing(fixed: Slide, moving: Slide) -> None:
    with pytest.raises(ValueError, match="was refused: no"):
        pairing.map_grid(
            grid.tiles(fixed, everywhere(fixed), TILING),
            registered(IDENTITY.tolist(), refused="no"),
            fixed=fixed,
            moving=moving,
            mask=everywhere(moving),
            tiling=TILING,
        )


def test_unpaired_tiles_share_no_number(fixed: Slide) -> None:
    tiles = grid.tiles(fixed, everywhere(fixed), TILING)
    own = pairing.unpaired(tiles, tiles, order=2, num_scans=3)
    assert own.tile.tolist() == list(range(2**27, 2**27 + 24))
    assert own.tile.dtype == np.int32
    np.testing.assert_array_equal(own.coords, tiles.coords)


@pytest.mark.parametrize("num_scans", [2, 32, 33, 64, 65, 1000])
def test_any_number_of_unpaired_scans_share_no_number_on_the_largest_grid(num_scans: int) -> None:
    room = min(2**26, 2**31 // 2 ** math.ceil(math.log2(num_scans)))
    grids = grid.Tiles(
        coords=np.zeros((2, 2), np.int32),
        tile=np.array([0, room - 1], np.int32),
        share=np.ones(2, np.float32),
        span=(20.0, 20.0),
        shape=(1, room),
        num_found=2,
    )
    spans = [(0, room - 1)]
    for order in range(1, num_scans):
        own = pairing.unpaired(grids, grids, order=order, num_scans=num_scans).tile
        assert own.dtype == np.int32
        spans.append((int(own[0]), int(own[1])))
    spans.sort()
    assert all(stop < start for (_, stop), (start, _) in itertools.pairwise(spans))
    assert spans[0][0] == 0 and all(stop - start == room - 1 for start, stop in spans)
    wide = replace(grids, shape=(room + 1, 1))
    for own, first in ((wide, grids), (grids, wide)):
        with pytest.raises(DataError, match=rf"{num_scans} scans .* found {room + 1:,}"):
            pairing.unpaired(own, first, order=1, num_scans=num_scans)


@given(order=st.integers(1, 500), fewer=st.integers(1, 500), more=st.integers(0, 500))
def test_scans_that_are_added_renumber_no_other(fewer: int, more: int, order: int) -> None:
    tiles = grid.Tiles(
        coords=np.zeros((1, 2), np.int32),
        tile=np.zeros(1, np.int32),
        share=np.ones(1, np.float32),
        span=(20.0, 20.0),
        shape=(1, 1),
        num_found=1,
    )
    found = [
        pairing.unpaired(tiles, tiles, order=order, num_scans=order + count).tile.tolist()
        for count in (fewer, fewer + more)
    ]
    assert found[0] == found[1] and (order >= 32 or found[0] == [order * 2**26])


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    step=st.sampled_from([0.7, 1.0, 3.3]),
    span=st.floats(2.0, 20.0),
)
def test_shares_anywhere_are_those_on_a_grid(seed: int, step: float, span: float) -> None:
    generator = np.random.default_rng(seed)
    mask = Mask(inside=generator.random((17, 23)) < 0.5, step=(step, 1.5))
    xs, ys = generator.integers(0, 12, 5), generator.integers(0, 12, 4)
    corners = np.stack([np.tile(xs, 4), np.repeat(ys, 5)], axis=1)
    ours = pairing._shares(mask, corners, np.array([span, span / 2]))
    theirs = grid.shares(mask, xs, ys, (span, span / 2))
    np.testing.assert_allclose(ours.reshape(4, 5), theirs, atol=1e-9)
