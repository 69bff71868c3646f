import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from tests.training.extraction import warps
from training.extraction import registration
from training.extraction.config_registration import RegistrationConfig
from training.extraction.registration import Registration, Thumbnail
from training.extraction.slides import open_slide
from training.extraction.transform import IDENTITY, Spline, Transform

CONFIG = RegistrationConfig(thumbnail_px=512)
TILE_UM = 112.0
"""224 px at 0.5 um/px."""


def picture(seed: int = 0) -> Thumbnail:
    """Make a piece of tissue with texture, on glass."""
    noise = np.random.default_rng(seed).normal(size=(120, 160))
    inside = np.zeros((120, 160), bool)
    inside[20:100, 25:90] = inside[50:100, 60:130] = True
    texture = np.clip(0.5 + 0.8 * ndimage.gaussian_filter(noise, 2) / 0.14 * 0.2, 0.05, 1)
    rgb = 245 * 10.0 ** -(texture * inside)
    return Thumbnail(
        rgb=np.repeat(rgb[..., None], 3, axis=2).astype(np.uint8),
        inside=inside,
        um_per_px=(10.0, 10.0),
    )


def shifted(x: float, y: float) -> Transform:
    return Transform(start=IDENTITY + np.array([[0, 0, x], [0, 0, y]]), affine=IDENTITY)


def test_a_picture_registered_on_itself_is_perfect() -> None:
    judged = registration.judge(picture(), picture(), shifted(0, 0), config=CONFIG)
    assert judged.quality > 0.98
    assert judged.overlap == pytest.approx(1.0)
    assert (judged.folded, judged.manual, judged.refused) == (0.0, True, "")


def test_quality_falls_with_the_error() -> None:
    found = [
        registration.judge(picture(), picture(), shifted(each, each), config=CONFIG).quality
        for each in (0.0, 10.0, 20.0, 100.0)
    ]
    assert found == sorted(found, reverse=True)
    assert found[3] < 0.3


def test_the_same_outline_around_other_tissue_is_not_alike() -> None:
    judged = registration.judge(picture(0), picture(1), shifted(0, 0), config=CONFIG)
    assert judged.overlap == pytest.approx(1.0)
    assert judged.quality < 0.3


def test_a_manual_transform_that_misses_the_tissue_is_refused() -> None:
    judged = registration.judge(picture(), picture(), shifted(5000, 0), config=CONFIG)
    assert judged.refused == "0% of the tissue meets tissue, expected at least 50%"
    with pytest.raises(ValueError, match="the registration was refused: 0% of the tissue"):
        judged.map(np.zeros((1, 2)))


def test_a_fold_is_seen() -> None:
    coefficients = np.zeros((2, 6, 8))
    coefficients[0, 3, 3] = 3000
    folding = Spline(origin=(-200.0, -200.0), spacing=(250.0, 250.0), coefficients=coefficients)
    given = Transform(start=IDENTITY, affine=IDENTITY, spline=folding)
    judged = registration.judge(picture(), picture(), given, config=CONFIG)
    assert judged.folded > 0
    assert "the transform folds over in" in judged.refused


def test_a_mirrored_manual_transform_does_not_count_as_folded() -> None:
    first = picture()
    mirrored = replace(first, rgb=first.rgb[:, ::-1], inside=first.inside[:, ::-1])
    mirror = Transform(start=np.array([[-1.0, 0, 1600.0], [0, 1, 0]]), affine=IDENTITY)
    judged = registration.judge(first, mirrored, mirror, config=CONFIG)
    assert (judged.folded, judged.refused) == (0.0, "")
    assert judged.quality > 0.98


def test_density_is_zero_on_glass_whatever_its_white() -> None:
    first = picture()
    dim = replace(first, rgb=(first.rgb * 0.9).astype(np.uint8))
    ours, theirs = registration.density(first), registration.density(dim)
    assert np.abs(ours.grey - theirs.grey).max() < 0.02
    assert theirs.grey[~first.inside].max() < 0.01


def test_json_keeps_a_registration() -> None:
    before = registration.judge(picture(), picture(), shifted(5000, 0.1), config=CONFIG)
    after = Registration.from_json(json.loads(json.dumps(before.to_json())))
    assert after.to_json() == before.to_json()
    assert after.refused == before.refused
    with pytest.raises(ValueError, match="quality"):
        Registration.from_json({"transform": {}})


@pytest.fixture(scope="session")
def slide(cmu: Path) -> np.ndarray:
    with open_slide(cmu) as opened:
        return opened.thumbnail(max(opened.size))[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("degrees", "scale", "shift_um", "bend_um", "restained"),
    [
        (0.0, 1.0, (0.0, 0.0), 0.0, False),
        (7.0, 1.02, (60.0, -40.0), 6.0, False),
        (93.0, 0.97, (80.0, 30.0), 8.0, True),
        (181.0, 1.03, (-50.0, 70.0), 10.0, True),
        (-37.0, 0.98, (10.0, 20.0), 5.0, True),
    ],
)
def test_known_warps_of_a_real_slide_are_recovered(
    slide: np.ndarray,
    degrees: float,
    scale: float,
    shift_um: tuple[float, float],
    bend_um: float,
    restained: bool,
) -> None:
    second, true = warps.warp(
        slide, 0.499, degrees=degrees, scale=scale, shift_um=shift_um, bend_um=bend_um,
        restained=restained, seed=int(degrees) % 7,
    )  # fmt: skip
    for max_px in (150, 512):  # 10 um/px, as thumbnails of whole slides have; 3 um/px
        fixed, moving = (warps.thumbnail(each, 0.499, max_px=max_px) for each in (slide, second))
        found = registration.register(fixed, moving, config=CONFIG)
        assert found.refused == ""
        assert found.quality > 0.7
        assert warps.median_error(found.map, true, fixed) < TILE_UM / 8 / 2


def mosaic(folder: Path, seed: int) -> np.ndarray:
    """Lay tiles of real tumour and mucosa at random."""
    generator = np.random.default_rng(seed)
    tiles = []
    for path in sorted([*folder.glob("nctcrc_*.png"), *folder.glob("crcval7k_*.tif")]):
        with Image.open(path) as opened:
            tiles.append(np.asarray(opened.convert("RGB")))
    drawn = generator.integers(len(tiles), size=(13, 10)), generator.integers(4, size=(13, 10))
    rows = [
        np.concatenate([np.rot90(tiles[each], turn) for each, turn in zip(*row, strict=True)], 1)
        for row in zip(*drawn, strict=True)
    ]
    return np.concatenate(rows)[:2900, :2220]


@pytest.mark.slow
def test_other_tissue_is_refused(slide: np.ndarray, he_tiles: Path) -> None:
    outline = warps.thumbnail(slide, 0.499, max_px=2967).inside[:2900, :2220, None]
    first, second = (mosaic(he_tiles, seed) for seed in (0, 1))
    others = {
        "the mirrored slide": (slide, slide[:, ::-1]),
        "the other half of the slide": (slide[:1480], slide[1480:]),
        "other tissue, cut to the same outline": (slide[:2900], np.where(outline, first, 244)),
        "the same kinds of tissue": (first, second),
    }
    for name, scans in others.items():
        thumbnails = (warps.thumbnail(each.astype(np.uint8), 0.499, max_px=512) for each in scans)
        found = registration.register(*thumbnails, config=CONFIG)
        assert "quality is" in found.refused, name
        assert found.quality < 0.3, name


def test_glass_alone_is_refused() -> None:
    blank = Thumbnail(
        rgb=np.full((80, 100, 3), 240, np.uint8),
        inside=np.zeros((80, 100), bool),
        um_per_px=(10.0, 10.0),
    )
    for scans in ((blank, picture()), (picture(), blank), (blank, blank)):
        found = registration.register(*scans, config=CONFIG)
        assert found.refused.startswith("a scan shows no tissue; 0% of the tissue meets tissue")


@pytest.mark.parametrize(("shape", "um"), [((20, 20), 0.5), ((1, 1), 0.5), ((120, 2), 10.0)])
def test_a_scan_of_another_size_by_far_is_refused(shape: tuple[int, int], um: float) -> None:
    crumb = Thumbnail(
        rgb=np.random.default_rng(0).integers(60, 255, (*shape, 3), np.uint8),
        inside=np.ones(shape, bool), um_per_px=(um, um),
    )  # fmt: skip
    quick = RegistrationConfig(iterations=5)
    assert registration.register(picture(), crumb, config=quick).refused
    assert registration.register(crumb, picture(), config=quick).refused


def test_a_scan_as_thin_as_a_line_is_judged() -> None:
    line = Thumbnail(
        rgb=np.random.default_rng(0).integers(60, 255, (3, 2048, 3), np.uint8),
        inside=np.ones((3, 2048), bool), um_per_px=(10.0, 10.0),
    )  # fmt: skip
    judged = registration.judge(line, line, shifted(0, 0), config=CONFIG)
    assert judged.folded == 0.0 and judged.quality > 0.9


def test_tissue_of_one_colour_is_refused() -> None:
    flat = replace(picture(), rgb=np.full((120, 160, 3), (200, 90, 170), np.uint8))
    for scans in ((flat, picture()), (picture(), flat)):
        found = registration.register(*scans, config=CONFIG)
        assert found.refused.startswith("a scan's tissue shows no structure")
