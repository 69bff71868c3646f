"""A slide's scans get the same tiles where they can be registered, and are told apart if not."""

import numpy as np
import pytest
from PIL import Image

from tests.training.extraction.made_up_slides import draw, table
from training.extraction import pair_files, pairing, slide_plan, slide_table
from training.extraction.config_embed import EmbedConfig
from training.extraction.slides import open_slide

SHIFT = (30, -40)


@pytest.mark.slow
def test_scans_of_a_real_slide_are_paired_and_one_of_another_slide_is_not(cmu, he_tiles, tmp_path):
    with open_slide(cmu) as slide:
        whole, _ = slide.thumbnail(max(slide.size))
    x, y = SHIFT
    Image.fromarray(whole[100:2600, 100:2000]).save(tmp_path / "a.png")
    Image.fromarray(whole[100 - y : 2600 - y, 100 - x : 2000 - x]).save(tmp_path / "b.png")
    Image.open(he_tiles / "breast_source.png").convert("RGB").save(tmp_path / "c.png")
    rows = [
        {"slide": "s", "scan": name, "patient": "p", "label": "x", "file": f"{name}.png",
         "mpp": "0.499"}
        for name in "abc"
    ]  # fmt: skip
    scans = slide_table.read(table(tmp_path, rows), []).slides["s"]
    config = EmbedConfig.model_validate({"registration": {"thumbnail_px": 384, "iterations": 100}})
    (tmp_path / "pictures").mkdir()
    found = slide_plan.plan(
        "s", scans, config, wanted={name: [name] for name in "abc"},
        pictures=tmp_path / "pictures", scratch=tmp_path / "scratch",
    )  # fmt: skip
    assert found.failed == {} and ["'c': not paired with 'a'" in n for n in found.notes] == [True]
    first, second, apart = found.parts
    common = np.intersect1d(first.tile, second.tile)
    assert len(common) >= 0.9 * len(first.tile)
    moved = second.coords[np.isin(second.tile, common)] - first.coords[np.isin(first.tile, common)]
    assert np.abs(np.median(moved, axis=0) - SHIFT).max() < 224 / 8
    assert apart.tile.min() >= 2 * pairing.STRIDE
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3
    near, refused = pair_files.read(tmp_path / "pictures", {"s": scans}, without=())
    assert (near.scan, near.refused) == ("b", "") and near.quality > 0.9 > 0.4 > refused.quality
    assert near.overlap > 0.9 and abs(near.turn_degrees) < 0.5
    assert refused.scan == "c" and refused.refused in found.notes[0]
    for name in "bc":
        with Image.open(pair_files.picture(tmp_path / "pictures", name)) as drawn:
            assert max(drawn.size) == 384
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_scan_that_is_done_is_opened_only_where_others_need_it(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "b.png").touch()
    rows = [
        {"slide": "s", "scan": name, "patient": "p", "label": "x", "file": f"{name}.png"}
        for name in "ab"
    ]
    scans = slide_table.read(table(tmp_path, rows), []).slides["s"]
    config = EmbedConfig.model_validate({"tiling": {"tile_px": 64, "mpp": 1.0}})
    found = slide_plan.plan(
        "s", scans, config, wanted={"a": ["a"], "b": []},
        pictures=tmp_path, scratch=tmp_path / "scratch",
    )  # fmt: skip
    assert found.failed == {} and [part.scan.name for part in found.parts] == ["a"]
