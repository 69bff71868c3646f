"""Scales, pixels and geometry of what is read."""

import multiprocessing
import pickle
import struct
from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image, ImageCms

from tests.training.extraction import tiffs
from training.errors import DataError
from training.extraction import tissue
from training.extraction.config import Tiling, Tissue
from training.extraction.slide_files import OpenSlideFile
from training.extraction.slides import BrokenTileError, Slide, open_slide

NOISE = np.random.default_rng(0).integers(0, 256, (603, 811, 3), dtype=np.uint8)


def halved(picture: np.ndarray) -> np.ndarray:
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    even = picture[:height, :width].astype(np.uint16)
    pairs = even.reshape(height // 2, 2, width // 2, 2, -1)
    return ((pairs.sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)


def lanczos(picture: np.ndarray, begin: float, factor: float, count: int) -> np.ndarray:
    """Resample along the first axis to 8 bits, written down from the definition of the filter."""
    places = np.arange(len(picture)) + 0.5
    centres = begin + (np.arange(count)[:, None] + 0.5) * factor
    away = (places - centres) / max(factor, 1.0)
    weights = np.where(np.abs(away) < 3, np.sinc(away) * np.sinc(away / 3), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(np.rint(np.tensordot(weights, picture.astype(np.float64), 1)), 0, 255)


@pytest.fixture
def noise(tmp_path: Path) -> Slide:
    return open_slide(tiffs.write(tmp_path / "noise.tif", [NOISE], mpp=0.25))


@pytest.fixture
def pyramid(tmp_path: Path) -> Slide:
    levels = [NOISE, halved(NOISE), halved(halved(NOISE))]
    return open_slide(tiffs.write(tmp_path / "pyramid.tif", levels, mpp=0.25))


def test_tiles_of_a_real_slide_are_openslides_own_regions(cmu: Path) -> None:
    slide, reference = open_slide(cmu), openslide.OpenSlide(cmu)
    assert (slide.size, slide.mpp, slide.vendor) == ((2220, 2967), (0.499, 0.499), "aperio")
    assert slide.true_mpp(Tiling(mpp=0.5)) == 0.499
    for x, y in [(0, 0), (1000, 1500), (1996, 2743), (37, 2111)]:
        region = reference.read_region((x, y), 0, (224, 224)).convert("RGB")
        np.testing.assert_array_equal(slide.read(x, y, Tiling(mpp=0.5)), np.asarray(region))


def test_a_real_slide_is_resampled_as_pillow_resamples_the_whole_of_it(cmu: Path) -> None:
    whole = openslide.OpenSlide(cmu).read_region((0, 0), 0, (2220, 2967)).convert("RGB")
    slide, tiling = open_slide(cmu), Tiling(mpp=1.0)
    assert slide.true_mpp(tiling) == 1.0
    side = 224 * 1.0 / 0.499
    for x, y in [(0, 0), (700, 1200), (1771, 2518)]:
        box = (x, y, min(x + side, 2220), min(y + side, 2967))
        expected = whole.resize((224, 224), Image.Resampling.LANCZOS, box)
        assert np.abs(slide.read(x, y, tiling) - np.asarray(expected, np.int16)).max() <= 1


def test_upsampling_a_real_slide_is_refused_unless_asked_for(cmu: Path) -> None:
    slide = open_slide(cmu)
    with pytest.raises(DataError) as error:
        slide.read(0, 0, Tiling(mpp=0.25))
    assert "was scanned at 0.499 µm/px; 0.25 µm/px would be upsampling" in error.value.message
    assert str(cmu) in error.value.message
    tile = slide.read(1000, 1500, Tiling(mpp=0.25, allow_upsampling=True))
    native = slide.read(1000, 1500, Tiling(mpp=0.5))
    assert tile.shape == (224, 224, 3)
    assert abs(tile.mean() - native[:112, :112].mean()) < 1


@pytest.mark.parametrize(
    ("mpp", "level", "factor", "true"),
    [
        (0.25, 0, 1.0, 0.25),
        (0.2549, 0, 1.0, 0.25),
        (0.2456, 0, 1.0, 0.25),
        (0.256, 0, 1.024, 0.256),
        (0.49, 0, 1.96, 0.49),
        (0.505, 1, 1.0, 0.5007),
        (0.6, 1, 1.1983, 0.6),
        (1.0, 2, 1.0, 1.0053),
        (4.0, 2, 3.983, 4.0),
    ],
)
def test_a_level_near_the_scale_is_taken_else_the_next_finer_one(
    pyramid: Slide, mpp: float, level: int, factor: float, true: float
) -> None:
    scale = pyramid.scale(Tiling(mpp=mpp))
    assert scale.level == level
    assert scale.factor == pytest.approx((factor, factor), abs=2e-3)
    assert scale.mpp == pytest.approx(true, abs=5e-3)
    assert scale.step == pytest.approx((true / 0.25, true / 0.25), rel=5e-3)


def test_the_tolerance_can_be_set(pyramid: Slide) -> None:
    assert pyramid.true_mpp(Tiling(mpp=0.2549, mpp_tolerance=0.0)) == 0.2549
    assert pyramid.true_mpp(Tiling(mpp=0.3, mpp_tolerance=0.2)) == 0.25
    assert pyramid.true_mpp(Tiling(mpp=0.25, mpp_tolerance=0.0)) == 0.25


def test_a_scale_that_differs_along_x_and_y_is_made_square(tmp_path: Path) -> None:
    picture = np.zeros((400, 400, 3), np.uint8)
    picture[::2] = 200
    slide = Slide(tiffs.write(tmp_path / "a.tif", [picture]), (0.25, 0.125))
    scale = slide.scale(Tiling(mpp=0.25))
    assert scale.factor == (1.0, 2.0)
    assert scale.step == (1.0, 2.0)
    tile = slide.read(32, 32, Tiling(tile_px=64))
    assert tile.shape == (64, 64, 3)
    assert np.abs(tile.astype(int) - 100).max() <= 2


def test_resampling_agrees_with_a_second_implementation(noise: Slide) -> None:
    for mpp, x, y in [(0.41, 100, 77), (0.5, 33, 250), (0.77, 0, 0)]:
        factor = mpp / 0.25
        # Pillow goes along x first and rounds to 8 bits before it goes along y
        along_x = np.moveaxis(lanczos(np.moveaxis(NOISE, 1, 0), x, factor, 64), 0, 1)
        expected = lanczos(along_x, y, factor, 64)
        found = noise.read(x, y, Tiling(mpp=mpp, tile_px=64))
        assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("mpp", [0.5, 0.61, 0.997])
def test_a_wave_comes_back_in_place_and_at_full_height(tmp_path: Path, mpp: float) -> None:
    """cos(k x) sampled at pixel centres stays cos(k x) at the centres of larger pixels."""
    period = 32.0  # level-0 pixels
    place = np.arange(1024) + 0.5
    wave = 127.5 + 100 * np.cos(2 * np.pi * place / period)
    picture = np.rint(np.broadcast_to(wave[None, :, None], (512, 1024, 3))).astype(np.uint8)
    slide = open_slide(tiffs.write(tmp_path / "wave.tif", [picture], mpp=0.25))
    tile = slide.read(101, 50, Tiling(mpp=mpp, tile_px=96))
    centres = 101 + (np.arange(96) + 0.5) * mpp / 0.25
    expected = 127.5 + 100 * np.cos(2 * np.pi * centres / period)
    assert np.abs(tile[:, :, 0] - expected).max() < 2.5


def test_what_is_finer_than_the_pixels_does_not_alias(tmp_path: Path) -> None:
    stripes = np.where(np.arange(1024) % 3 == 0, 250, 10)
    picture = np.broadcast_to(stripes[None, :, None], (512, 1024, 3)).astype(np.uint8)
    slide = open_slide(tiffs.write(tmp_path / "stripes.tif", [picture], mpp=0.25))
    tile = slide.read(30, 30, Tiling(mpp=1.1, tile_px=64))
    assert np.abs(tile.astype(float) - stripes[:1023].mean()).max() < 3


def test_neighbouring_tiles_meet_without_a_seam(noise: Slide) -> None:
    wide = noise.read(64, 64, Tiling(mpp=0.5, tile_px=128))
    for x, y in [(0, 0), (64, 0), (0, 64), (64, 64)]:
        tile = noise.read(64 + 2 * x, 64 + 2 * y, Tiling(mpp=0.5, tile_px=64))
        np.testing.assert_array_equal(tile, wide[y : y + 64, x : x + 64])


def test_a_stored_level_is_read_pixel_for_pixel(tmp_path: Path) -> None:
    levels = [NOISE[:600, :800], halved(NOISE[:600, :800])]
    slide = open_slide(tiffs.write(tmp_path / "exact.tif", levels, mpp=0.25))
    tile = slide.read(202, 98, Tiling(mpp=0.5, tile_px=96))
    np.testing.assert_array_equal(tile, levels[1][49:145, 101:197])
    shifted = slide.read(203, 99, Tiling(mpp=0.5, tile_px=96))
    assert (shifted == levels[1][50:146, 102:198]).all()  # a half pixel is rounded, not blurred


def test_a_pyramid_askew_to_level_0_is_met_to_a_half_level_0_pixel(tmp_path: Path) -> None:
    place = np.arange(811) + 0.5
    ramp = np.broadcast_to((place / 4)[None, :, None], (603, 811, 3))
    small = np.broadcast_to(((np.arange(202) + 0.5) * 811 / 202 / 4)[None, :, None], (150, 202, 3))
    levels = [np.rint(ramp).astype(np.uint8), np.rint(small).astype(np.uint8)]
    slide = open_slide(tiffs.write(tmp_path / "askew.tif", levels, mpp=0.25))
    for mpp in (1.0, 1.5):
        tile = slide.read(300, 200, Tiling(mpp=mpp, tile_px=48, mpp_tolerance=0.02))
        step = slide.scale(Tiling(mpp=mpp)).step[0]
        expected = (300 + (np.arange(48) + 0.5) * step) / 4
        assert np.abs(tile[:, :, 0] - expected).max() < 1.5


def test_outside_and_transparent_are_white(tmp_path: Path) -> None:
    picture = np.dstack([NOISE, np.full(NOISE.shape[:2], 255, np.uint8)])
    picture[:128, :128, 3] = 0
    picture[300:, 300:, 3] = 128
    slides = [
        open_slide(tiffs.write(tmp_path / "alpha.tif", [picture], mpp=0.25)),
        open_slide(_png(tmp_path / "alpha.png", picture), mpp=0.25),
    ]
    tiling = Tiling(mpp=0.25, tile_px=64)
    for slide in slides:
        assert (slide.read(10, 10, tiling) == 255).all()
        np.testing.assert_array_equal(slide.read(200, 100, tiling), NOISE[100:164, 200:264])
        half = (NOISE[400:464, 400:464].astype(float) * 128 + 255 * 127) / 255
        assert np.abs(slide.read(400, 400, tiling) - half).max() <= 2
        for x, y in [(780, 200), (-30, 200), (200, 580), (200, -30)]:
            tile = slide.read(x, y, tiling)
            outside = [max(0, x + 64 - 811), max(0, -x), max(0, y + 64 - 603), max(0, -y)]
            edges = [tile[:, 64 - outside[0] :], tile[:, : outside[1]]]
            edges += [tile[64 - outside[2] :], tile[: outside[3]]]
            assert all((edge == 255).all() for edge in edges)
        assert (slide.read(5000, 5000, tiling) == 255).all()
        assert slide.read(790, 580, Tiling(mpp=0.5, tile_px=64)).shape == (64, 64, 3)
        assert (slide.read(-900, 0, Tiling(mpp=0.5, tile_px=64)) == 255).all()


def test_the_edge_of_the_scan_is_not_whitened_by_resampling(tmp_path: Path) -> None:
    dark = np.full((400, 400, 3), 40, np.uint8)
    slide = open_slide(tiffs.write(tmp_path / "dark.tif", [dark], mpp=0.25))
    for x, y in [(0, 0), (272, 272)]:
        assert (slide.read(x, y, Tiling(mpp=0.5, tile_px=64)) == 40).all()
    assert (slide.thumbnail(50)[0] == 40).all()


def test_a_thumbnail_is_the_scan_made_small(pyramid: Slide) -> None:
    for max_px in (1, 50, 200, 405, 700):
        rgb, step = pyramid.thumbnail(max_px)
        assert max(rgb.shape[:2]) == max_px
        assert step == (811 / rgb.shape[1], 603 / rgb.shape[0])
    rgb, step = pyramid.thumbnail(5000)
    np.testing.assert_array_equal(rgb, NOISE)
    assert step == (1.0, 1.0)


def test_a_thumbnail_read_in_blocks_has_no_seams(
    noise: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = noise.thumbnail(150)
    monkeypatch.setattr("training.extraction.slides.BLOCK_PX", 100)
    blocks, _ = noise.thumbnail(150)
    assert np.abs(whole.astype(int) - blocks).max() <= 1


SRGB_TO_XYZ = np.array(  # adapted to D50, as in profiles
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169],
     [0.0139322, 0.0971045, 0.7141733]]
)  # fmt: skip


def profile(to_xyz: np.ndarray, gamma: float) -> bytes:
    """Write an ICC profile (version 2) of a scanner with primaries, as columns, and one gamma."""

    def fixed(numbers: np.ndarray) -> bytes:
        return b"XYZ " + bytes(4) + struct.pack(">3i", *np.rint(numbers * 65_536).astype(int))

    curve = b"curv" + bytes(4) + struct.pack(">IHxx", 1, round(gamma * 256))
    text = b"desc" + bytes(4) + struct.pack(">I", 2) + b"a\0" + bytes(80)
    tags = {b"desc": text, b"wtpt": fixed(to_xyz.sum(axis=1)), b"cprt": b"text" + bytes(8)}
    for name, column in zip((b"r", b"g", b"b"), to_xyz.T, strict=True):
        tags |= {name + b"XYZ": fixed(column), name + b"TRC": curve}
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">2I", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = start + len(body)
    head = struct.pack(">I4xI4s4s4s12x4s28x3i", size, 0x02100000, b"scnr", b"RGB ", b"XYZ ",
                       b"acsp", 63_190, 65_536, 54_061)  # fmt: skip
    return head.ljust(128, b"\0") + table + body


def test_colours_of_a_scanner_become_srgb_as_worked_out_by_hand(tmp_path: Path) -> None:
    to_xyz = SRGB_TO_XYZ @ np.array([[0.9, 0.1, 0.0], [0.05, 0.9, 0.05], [0.0, 0.1, 0.9]])
    values = np.random.default_rng(4).integers(60, 220, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / "scanner.tif"
    slide = open_slide(tiffs.write(path, [values], mpp=0.25, profile=profile(to_xyz, 1.8)))
    linear = np.linalg.inv(SRGB_TO_XYZ) @ to_xyz @ ((values.reshape(-1, 3) / 255) ** 1.8).T
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    expected = 255 * encoded.T.reshape(64, 64, 3)
    found = slide.read(0, 0, Tiling(mpp=0.25, tile_px=64, icc=True))
    assert np.abs(found - expected).max() < 2.5
    assert np.abs(values - expected).mean() > 5
    resampled = slide.read(0, 0, Tiling(mpp=0.5, tile_px=32, icc=True))
    assert np.abs(resampled.mean(axis=(0, 1)) - expected.mean(axis=(0, 1))).max() < 2


def test_profiles_are_applied_on_request_only_and_where_there_are_any(tmp_path: Path) -> None:

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = np.full((128, 128, 3), (200, 120, 160), np.uint8)
    same = open_slide(tiffs.write(tmp_path / "same.tif", [picture], mpp=0.25, profile=srgb))
    assert same.has_profile
    tiling = Tiling(mpp=0.25, tile_px=64, icc=True)
    assert np.abs(same.read(0, 0, tiling).astype(int) - picture[:64, :64]).max() <= 1
    path = tiffs.write(tmp_path / "damaged.tif", [picture], mpp=0.25, profile=srgb[:90])
    damaged = open_slide(path)
    np.testing.assert_array_equal(
        damaged.read(0, 0, Tiling(mpp=0.25, tile_px=64)), picture[:64, :64]
    )
    with pytest.raises(DataError, match="ICC profile"):
        damaged.read(0, 0, tiling)
    none = open_slide(tiffs.write(tmp_path / "none.tif", [picture], mpp=0.25))
    assert not none.has_profile
    np.testing.assert_array_equal(none.read(0, 0, tiling), picture[:64, :64])


def test_a_broken_tile_is_an_error_and_the_others_are_read(tmp_path: Path) -> None:
    path = tiffs.write(tmp_path / "broken.tif", [NOISE, halved(NOISE)], mpp=0.25, break_tile=14)
    slide, tiling = open_slide(path), Tiling(mpp=0.25, tile_px=64)
    with pytest.raises(BrokenTileError) as error:
        slide.read(64, 64, tiling)
    assert f"{path}: the region of 64 × 64 px at (64, 64) of level 0" in error.value.message
    np.testing.assert_array_equal(slide.read(128, 64, tiling), NOISE[64:128, 128:192])
    with pytest.raises(BrokenTileError):
        slide.read(100, 100, tiling)


def damaged(cmu: Path, folder: Path) -> Path:
    """Overwrite part of the picture's JPEG data in a copy of the real slide."""
    content = bytearray(cmu.read_bytes())
    noise = np.random.default_rng(3).integers(0, 256, 3000, dtype=np.uint8)
    content[900_000:903_000] = noise.tobytes()
    path = folder / "damaged.svs"
    path.write_bytes(content)
    return path


def test_damage_to_a_real_slide_is_noticed_wherever_it_shows(cmu: Path, tmp_path: Path) -> None:
    whole, slide, tiling = open_slide(cmu), open_slide(damaged(cmu, tmp_path)), Tiling()
    num_broken = 0
    for x, y in [(x, y) for x in range(0, 1996, 224) for y in range(0, 2743, 224)]:
        try:
            np.testing.assert_array_equal(slide.read(x, y, tiling), whole.read(x, y, tiling))
        except BrokenTileError:
            num_broken += 1
    assert 1 <= num_broken <= 8


def test_what_of_a_thumbnail_is_broken_is_white_and_taken_for_tissue(tmp_path: Path) -> None:
    grey = np.full((512, 512, 3), 90, np.uint8)
    tiffs.write(tmp_path / "broken.tif", [grey, grey[:128, :128]], mpp=4.0, break_tile=27)
    found = open_slide(tmp_path / "broken.tif").survey(256)
    assert found.mpp == 8.0
    assert found.broken[98:126, 98:126].all()  # the stored tile at (192, 192)
    assert found.broken.sum() <= 56**2  # and blocks that see it through the filter
    assert (found.rgb[found.broken] == 255).all()
    assert (found.rgb[~found.broken] == 90).all()
    mask = tissue.find(open_slide(tmp_path / "broken.tif"), Tissue())
    np.testing.assert_array_equal(mask.inside, found.broken)


def test_a_scan_of_which_nothing_can_be_decoded_is_an_error(
    noise: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise BrokenTileError("damaged")

    monkeypatch.setattr(OpenSlideFile, "read", read)
    with pytest.raises(BrokenTileError, match="nothing of it can be decoded"):
        noise.thumbnail(16)


def test_the_users_scale_goes_before_the_files(tmp_path: Path) -> None:
    path = tiffs.write(tmp_path / "a.tif", [NOISE], mpp=0.25)
    assert open_slide(path).mpp == pytest.approx((0.25, 0.25))
    assert open_slide(path, mpp=0.5).mpp == (0.5, 0.5)


def test_a_slide_goes_to_other_processes(cmu: Path, tmp_path: Path) -> None:
    for slide in (open_slide(cmu), open_slide(_png(tmp_path / "a.png", NOISE), mpp=0.5)):
        here = slide.read(100, 100, Tiling())
        copy = pickle.loads(pickle.dumps(slide))
        np.testing.assert_array_equal(copy.read(100, 100, Tiling()), here)
        assert (copy.size, copy.mpp, copy.levels) == (slide.size, slide.mpp, slide.levels)
        slide.close()
        np.testing.assert_array_equal(slide.read(100, 100, Tiling()), here)


def test_a_forked_process_opens_the_file_anew(noise: Slide) -> None:
    tiling = Tiling(mpp=0.25, tile_px=64)
    noise.read(0, 0, tiling)
    opened = noise._file
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def child() -> None:
        tile = noise.read(0, 0, tiling)
        send.send((noise._file is opened, tile.tobytes()))

    process = context.Process(target=child)
    process.start()
    same, content = receive.recv()
    process.join()
    assert not same
    assert content == NOISE[:64, :64].tobytes()


def test_the_fingerprint_tells_replaced_files(tmp_path: Path) -> None:
    first = open_slide(tiffs.write(tmp_path / "a.tif", [NOISE], mpp=0.25))
    again = open_slide(tiffs.write(tmp_path / "b.tif", [NOISE], mpp=0.25))
    other = open_slide(tiffs.write(tmp_path / "c.tif", [NOISE[::-1]], mpp=0.25))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert len({first.fingerprint, _with_changed_byte(tmp_path / "a.tif").fingerprint}) == 2


def test_a_slide_is_a_context(noise: Slide) -> None:
    with noise as same:
        assert same is noise
        assert same._file is not None
    assert noise._file is None


def _png(path: Path, picture: np.ndarray) -> Path:
    Image.fromarray(picture).save(path)
    return path


def _with_changed_byte(path: Path) -> Slide:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return open_slide(path)
