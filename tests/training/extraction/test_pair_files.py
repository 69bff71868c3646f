"""Each pair has a picture and numbers, whole or not at all, apart from the thumbnails of scans."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.extraction import overlay, pair_files, slide_plan
from training.extraction.registration import Registration, Thumbnail
from training.extraction.slide_table import Scan
from training.extraction.transform import IDENTITY, Transform

NAME = "b 'ü'/+pair"


def scan(name: str, *, source: str = "") -> Scan:
    return Scan(
        name=name, source_scan=source, routine=name == "a", path=Path(), mpp=None, mask=None,
        transform=None,
    )  # fmt: skip


def thumbnail(width: int, height: int, grey: int = 10) -> Thumbnail:
    return Thumbnail(
        rgb=np.full((height, width, 3), grey, np.uint8),
        inside=np.ones((height, width), bool),
        um_per_px=(4.0, 4.0),
    )


def registration(affine: list[list[float]] | np.ndarray = IDENTITY, **told: object) -> Registration:
    whole = Transform(start=np.array(affine, float), affine=IDENTITY)
    plain = Registration(transform=whole, quality=0.25, overlap=0.5, folded=0.0)
    return replace(plain, **told)


def write(folder: Path, shown: Thumbnail, found: Registration) -> None:
    pair_files.write(
        folder / "thumbnails",
        pair_files.describe("s", NAME, "a", found),
        found,
        (shown, replace(shown, rgb=shown.rgb + 190)),
        scratch=folder / "scratch",
    )


def test_a_refused_pair_is_drawn_told_and_is_no_thumbnail_of_a_scan(tmp_path: Path) -> None:
    found = registration([[0, -1, 0], [1, 0, 0]], refused="other tissue")
    write(tmp_path, thumbnail(40, 40), found)
    slides = {"s": [scan("a"), scan(NAME), scan("gone"), scan("copy", source="a")]}
    pictures = tmp_path / "thumbnails"
    told = list(pair_files.read(pictures, slides, without=()))
    assert [each.model_dump() for each in told] == [
        {"slide": "s", "scan": NAME, "reference": "a", "quality": 0.25, "overlap": 0.5,
         "turn_degrees": pytest.approx(90.0), "manual": False, "refused": "other tissue"}
    ]  # fmt: skip
    assert pair_files.picture(pictures, NAME).is_file()
    assert not any(slide_plan.picture(pictures, scan(n)).exists() for n in ("a", NAME, "pairs"))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_numbers_of_scans_that_failed_or_of_another_reference_are_not_told(tmp_path: Path) -> None:
    write(tmp_path, thumbnail(40, 40), registration())
    pictures = tmp_path / "thumbnails"
    slides = {"s": [scan("a"), scan(NAME)]}
    assert len(list(pair_files.read(pictures, slides, without=()))) == 1
    assert list(pair_files.read(pictures, slides, without=[NAME])) == []
    assert list(pair_files.read(pictures, {"s": [scan("c"), scan(NAME)]}, without=())) == []
    assert list(pair_files.read(pictures, {"t": [scan("a"), scan(NAME)]}, without=())) == []
    pair_files.picture(pictures, NAME).with_suffix(".json").write_text("{")
    assert list(pair_files.read(pictures, slides, without=())) == []


def test_a_mirrored_pair_has_no_turn() -> None:
    found = registration([[-1, 0, 9], [0, 1, 0]], manual=True)
    pair = pair_files.describe("s", "b", "a", found)
    assert pair.turn_degrees is None and pair.manual


def test_a_large_pair_is_drawn_small_with_the_same_fields(tmp_path: Path) -> None:
    write(tmp_path, thumbnail(2048, 1024), registration())
    with Image.open(pair_files.picture(tmp_path / "thumbnails", NAME)) as picture:
        assert picture.size == (1024, 512)
        row = np.asarray(picture)[5, :, 0]
    side = 1024 // 12
    assert row[side // 2 :: side][:4].tolist() == [10, 200, 10, 200]


def test_a_picture_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **told: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(overlay, "write", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, thumbnail(40, 40), registration())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
