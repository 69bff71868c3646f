import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from PIL import Image

from tests.training.data.examples import AWKWARD
from tests.training.extraction import tiffs
from training.errors import DataError
from training.extraction import masks
from training.extraction.masks import Mask

SIZE = (120, 80)
SQUARE = [[10, 10], [50, 10], [50, 40], [10, 40], [10, 10]]
HOLE = [[20, 20], [30, 20], [30, 30], [20, 30], [20, 20]]
ISLAND = [[70, 50], [110, 50], [110, 70], [70, 70], [70, 50]]


def polygon(*rings: object) -> dict[str, object]:
    return {"type": "Polygon", "coordinates": list(rings)}


def feature(geometry: object) -> dict[str, object]:
    """A feature as QuPath exports it."""
    names = {"objectType": "annotation", "classification": {"name": "Tumor", "color": [200, 0, 0]}}
    return {"type": "Feature", "id": "9ca1", "geometry": geometry, "properties": names}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def message(path: Path, size: tuple[int, int] = SIZE) -> str:
    with pytest.raises(DataError) as error:
        masks.read(path, size)
    assert str(path) in error.value.message
    return error.value.message


def area(mask: Mask) -> float:
    return float(mask.inside.sum() * mask.step[0] * mask.step[1])


MULTI = {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE], [ISLAND]]}


@pytest.mark.parametrize(
    "content",
    [
        MULTI,
        feature(MULTI),
        {"type": "FeatureCollection", "features": [feature(MULTI)]},
        [feature(polygon(SQUARE, HOLE)), feature(polygon(ISLAND))],
        {"type": "GeometryCollection", "geometries": [polygon(ISLAND), polygon(SQUARE, HOLE)]},
        [feature(MULTI), feature({"type": "Point", "coordinates": [1, 1]})],
        [feature(polygon(SQUARE, HOLE)), feature(polygon(ISLAND)), feature(polygon(ISLAND))],
        {"type": "MultiPolygon", "coordinates": [[SQUARE[:-1], HOLE[::-1]], [ISLAND[1:]]]},
    ],
)
def test_polygons_of_every_style_are_filled_but_for_their_holes(
    tmp_path: Path, content: object
) -> None:
    mask = masks.read(write(tmp_path / "a.geojson", content), SIZE)
    expected = np.zeros((80, 120), bool)
    expected[10:40, 10:50] = True
    expected[20:30, 20:30] = False
    expected[50:70, 70:110] = True
    np.testing.assert_array_equal(mask.inside, expected)
    assert mask.step == (1.0, 1.0)


def test_an_island_in_a_hole_is_inside(tmp_path: Path) -> None:
    core = [[23, 23], [27, 23], [27, 27], [23, 27]]
    path = write(tmp_path / "a.json", [polygon(SQUARE, HOLE), polygon(core)])
    inside = masks.read(path, SIZE).inside
    assert inside[25, 25]
    assert not inside[21, 21]
    assert inside.sum() == 30 * 40 - 100 + 16


@given(st.lists(st.tuples(st.floats(-20, 140), st.floats(-20, 100)), min_size=3, max_size=3))
def test_what_is_drawn_is_what_a_second_implementation_finds_inside(
    points: list[tuple[float, float]],
) -> None:
    ring = np.array(points)
    drawn = np.zeros((80, 120), bool)
    masks._draw(drawn, [ring])
    rows, columns = np.mgrid[:80, :120] + 0.5
    centres = np.stack([columns.ravel(), rows.ravel()], axis=1)
    near = [
        Outline(ring, closed=False).contains_points(centres + shift)
        for shift in np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]) * 1e-6
    ]
    sure = np.all(near, axis=0) | ~np.any(near, axis=0)
    np.testing.assert_array_equal(drawn.ravel()[sure], near[0][sure])


def test_a_large_scan_is_rastered_coarsely_and_truly(tmp_path: Path) -> None:
    size = (200_000, 90_000)
    circle = [
        [100_000 + 30_000 * np.cos(angle), 45_000 + 30_000 * np.sin(angle)]
        for angle in np.linspace(0, 2 * np.pi, 500)
    ]
    mask = masks.read(write(tmp_path / "a.geojson", polygon(circle)), size)
    assert max(mask.inside.shape) == 4096
    assert area(mask) == pytest.approx(np.pi * 30_000**2, rel=1e-3)
    assert mask.step[0] * mask.inside.shape[1] == pytest.approx(200_000)


def test_a_thousand_cells_are_drawn(tmp_path: Path) -> None:
    corners = [(x, y) for x in range(0, 640, 20) for y in range(0, 640, 20)]
    cells = [polygon([[x, y], [x + 10, y], [x + 10, y + 10], [x, y + 10]]) for x, y in corners]
    mask = masks.read(write(tmp_path / "a.json", cells), (640, 640))
    assert mask.inside.mean() == 0.25


def test_polygons_that_are_none_are_all_named(tmp_path: Path) -> None:
    wrong = [
        polygon([[1, 1], [2, 2]]),
        polygon([[1, 1], [2, 2], [3, None]]),
        polygon("ring"),
        {"type": "Polygon"},
        polygon([[1, 1], [2, 2], [3, float("nan")]]),
        polygon(SQUARE),
    ]
    text = message(write(tmp_path / "a.geojson", wrong))
    for number in range(1, 6):
        assert f"polygon {number}: a ring" in text
    assert "polygon 6" not in text
    assert "and 40 more like these" in message(write(tmp_path / "b.geojson", wrong[:1] * 50))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "holds no Polygon and no MultiPolygon"),
        ("3", "holds no Polygon and no MultiPolygon"),
        (json.dumps(feature({"type": "LineString", "coordinates": SQUARE})), "holds no Polygon"),
        (json.dumps(feature(None)), "holds no Polygon"),
        (json.dumps(polygon([[500, 500], [600, 500], [600, 600]])), "no polygon covers a part"),
    ],
)
def test_files_without_polygons_say_so(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(content)
    assert expected in message(path)


def test_files_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    assert "No such file" in message(tmp_path / "missing.geojson")
    assert "No such file" in message(tmp_path / "missing.png")
    assert "cannot be read" in message(tmp_path.rename(tmp_path.with_suffix(".json")))
    path = tmp_path.with_suffix(".json") / "latin.json"
    path.write_bytes('{"name": "Größe"}'.encode("latin-1"))
    assert "is not JSON" in message(path)


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names_are_read(tmp_path: Path, name: str) -> None:
    assert masks.read(write(tmp_path / f"{name}.GeoJSON", MULTI), SIZE).inside.any()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_a_picture_is_stretched_over_the_scan(tmp_path: Path, mode: str) -> None:
    values = np.zeros((40, 60), np.uint8)
    values[10:20, 30:] = 1 if mode == "L" else 255
    path = tmp_path / "a.png"
    Image.fromarray(values).convert(mode).save(path)
    mask = masks.read(path, (120_003, 80_001))
    np.testing.assert_array_equal(mask.inside, values > 0)
    assert mask.step == (120_003 / 60, 80_001 / 40)


def test_what_is_transparent_is_outside(tmp_path: Path) -> None:
    picture = np.full((8, 12, 4), 255, np.uint8)
    picture[:, :6, 3] = 0
    Image.fromarray(picture).save(tmp_path / "a.png")
    inside = masks.read(tmp_path / "a.png", SIZE).inside
    assert not inside[:, :6].any()
    assert inside[:, 6:].all()


def test_a_tiled_mask_is_read_at_a_level_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = np.zeros((160, 240, 3), np.uint8)
    full[40:80, 60:120] = 1
    path = tiffs.write(tmp_path / "a.tif", [full, full[::2, ::2]])
    assert masks.read(path, SIZE).inside.shape == (160, 240)
    monkeypatch.setattr(masks, "MAX_PICTURE_PX", 120)
    mask = masks.read(path, SIZE)
    np.testing.assert_array_equal(mask.inside, full[::2, ::2, 0] > 0)
    monkeypatch.setattr(masks, "MAX_PICTURE_PX", 100)
    assert "is 120 × 80 px, more than 100" in message(path)


def test_pictures_that_are_no_masks_are_refused(tmp_path: Path) -> None:
    Image.new("L", (60, 40)).save(tmp_path / "black.png")
    assert "nothing of the scan is inside" in message(tmp_path / "black.png")
    Image.new("L", (60, 60), 255).save(tmp_path / "square.png")
    assert "of another shape than the scan, 120 × 80 px" in message(tmp_path / "square.png")
    Image.new("L", (60, 40), 255).save(tmp_path / "a.jpg")
    assert "is a JPEG" in message(tmp_path / "a.jpg")


def test_two_masks_meet_on_the_finer_raster() -> None:
    coarse = Mask(inside=np.array([[True, False], [True, True]]), step=(60.0, 40.0))
    fine = Mask(inside=np.arange(24)[None].repeat(16, 0) % 2 == 0, step=(5.0, 5.0))
    for mask in (masks.both(coarse, fine), masks.both(fine, coarse)):
        assert mask.step == (5.0, 5.0)
        expected = fine.inside.copy()
        expected[:8, 12:] = False
        np.testing.assert_array_equal(mask.inside, expected)
