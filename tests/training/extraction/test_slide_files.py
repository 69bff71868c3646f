"""Files that are no scans, or damaged ones, are named; what the file says of its scale is read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.data.examples import AWKWARD
from tests.training.extraction import tiffs
from training.errors import DataError
from training.extraction.config import Tiling
from training.extraction.slide_files import open_file
from training.extraction.slides import open_slide

PICTURE = np.random.default_rng(1).integers(0, 256, (200, 300, 3), dtype=np.uint8)


def message(path: Path) -> str:
    with pytest.raises(DataError) as error:
        open_slide(path, mpp=0.5)
    assert str(path) in error.value.message
    return error.value.message


def save(path: Path, picture: np.ndarray = PICTURE, **options: object) -> Path:
    Image.fromarray(picture).save(path, **options)
    return path


def test_what_is_no_file_with_content_is_named(tmp_path: Path) -> None:
    assert "No such file" in message(tmp_path / "missing.svs")
    assert "is a folder" in message(tmp_path)
    (tmp_path / "empty.svs").touch()
    assert "is empty (0 bytes)" in message(tmp_path / "empty.svs")
    for suffix in (".svs", ".png"):
        path = (tmp_path / "text").with_suffix(suffix)
        path.write_text("not a slide")
        assert "is neither a slide that OpenSlide knows nor a plain picture" in message(path)


def test_a_truncated_slide_is_named(cmu: Path, tmp_path: Path) -> None:
    content = cmu.read_bytes()
    for share in (0.001, 0.2, 0.9, 0.999):
        path = tmp_path / f"cut at {share}.svs"
        path.write_bytes(content[: int(share * len(content))])
        assert "or it is truncated" in message(path)
        path = path.rename(path.with_suffix(".tif"))
        assert message(path)


def test_a_thumbnail_that_lies_beside_a_missing_slide_is_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    save(path)
    assert "or it is truncated" in message(path.rename(tmp_path / "a.mrxs"))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_truncated_pictures_are_named(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}")
    content = path.read_bytes()
    for size in (3, len(content) // 2):
        path.write_bytes(content[:size])
        assert message(path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_plain_pictures_are_read_as_they_are(tmp_path: Path, suffix: str) -> None:
    slide = open_slide(save(tmp_path / f"a{suffix}"), mpp=0.5)
    assert slide.levels == ((300, 200),)
    np.testing.assert_array_equal(slide.read(40, 50, Tiling(tile_px=100)), PICTURE[50:150, 40:140])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK"])
def test_pictures_of_other_kinds_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image = Image.fromarray(PICTURE).convert(mode)
    image.save(path)
    tile = open_slide(path, mpp=0.5).read(0, 0, Tiling(tile_px=64))
    np.testing.assert_array_equal(tile, np.asarray(image.convert("RGB"))[:64, :64])


def test_pixels_of_more_than_8_bits_are_refused(tmp_path: Path) -> None:
    assert "expected 8 bits a channel" in message(
        save(tmp_path / "a.png", PICTURE[..., 0].astype(np.uint16) * 200)
    )
    assert "expected 8 bits a channel" in message(
        save(tmp_path / "a.tif", PICTURE[..., 0].astype(np.float32))
    )


def test_a_plain_picture_beyond_pillows_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    assert open_slide(path, mpp=0.5).size == (300, 200)  # Pillow only warns up to twice the limit
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    assert "is too large for a plain picture" in message(path)


def test_the_scale_must_be_known(tmp_path: Path) -> None:
    for path in (
        save(tmp_path / "a.png"),
        save(tmp_path / "a.jpg", dpi=(50_800, 50_800)),
        save(tmp_path / "screen.tif", dpi=(72, 72)),
        tiffs.write(tmp_path / "none.tif", [PICTURE]),
        tiffs.write(tmp_path / "no unit.tif", [PICTURE], mpp=0.5, unit=1),
        tiffs.write(tmp_path / "printed.tif", [PICTURE], mpp=84.7, unit=2),
    ):
        with pytest.raises(DataError) as error:
            open_slide(path)
        assert f"{path}: its scale is not known" in error.value.message
        assert "column 'mpp'" in error.value.hint


@pytest.mark.parametrize("unit", [2, 3])
def test_resolution_tags_with_a_unit_are_a_scale(tmp_path: Path, unit: int) -> None:
    tiled = tiffs.write(tmp_path / "tiled.tif", [PICTURE], mpp=0.2527, unit=unit)
    assert open_slide(tiled).mpp == pytest.approx((0.2527, 0.2527), rel=1e-4)
    assert open_slide(tiled).vendor == "generic-tiff"
    dots = {2: 25_400, 3: 10_000}[unit] / 0.2527
    plain = tmp_path / "plain.tif"
    Image.fromarray(PICTURE).save(
        plain, resolution_unit={2: "inch", 3: "cm"}[unit], x_resolution=dots, y_resolution=dots / 2
    )
    assert open_slide(plain).mpp == pytest.approx((0.2527, 0.5054), rel=1e-4)
    assert open_slide(plain).vendor == "tiff"


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names_are_opened(tmp_path: Path, name: str) -> None:
    for suffix in (".png", ".tif"):
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".tif":
            tiffs.write(path, [PICTURE], mpp=0.5)
        else:
            save(path)
        slide = open_slide(path, mpp=0.5)
        np.testing.assert_array_equal(slide.read(0, 0, Tiling(tile_px=64)), PICTURE[:64, :64])


def test_a_damaged_profile_of_a_picture_is_named(tmp_path: Path) -> None:
    slide = open_slide(save(tmp_path / "a.png", icc_profile=b"no profile"), mpp=0.5)
    assert slide.has_profile
    with pytest.raises(DataError, match="ICC profile"):
        slide.read(0, 0, Tiling(tile_px=64, icc=True))


def test_a_closed_file_frees_its_pixels(tmp_path: Path) -> None:
    file = open_file(save(tmp_path / "a.png"))
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(0, 0, 0, 10, 10)


@pytest.mark.parametrize("name", ["tiled.tif", "plain.tif", "a.jpg", "a.bmp"])
def test_damaged_headers_are_errors_or_pictures_and_nothing_else(tmp_path: Path, name: str) -> None:
    path, generator = tmp_path / name, np.random.default_rng(5)
    if name == "tiled.tif":
        tiffs.write(path, [PICTURE, PICTURE[::2, ::2]], mpp=0.5)
    else:
        save(path)
    content = path.read_bytes()
    outcomes = []
    for _ in range(30):
        damaged = bytearray(content)
        for place in generator.integers(-200, 200, 4):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            slide = open_slide(path, mpp=0.5)
            assert slide.read(0, 0, Tiling(tile_px=64)).shape == (64, 64, 3)
            outcomes.append("read")
        except DataError as error:
            assert str(path) in error.message
            outcomes.append("refused")
    assert {*outcomes} == {"read", "refused"}
