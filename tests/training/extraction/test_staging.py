"""Staged bags appear whole, know their recipe, and leave nothing behind."""

import numpy as np
import pandas as pd
import pytest

from training.data import shards
from training.data.bags import Bag
from training.data.shards import View
from training.errors import DataError
from training.extraction import staging

COORDS = np.arange(6, dtype=np.int32).reshape(3, 2)
TILE = np.array([4, 7, 9], np.int32)


def write(file, values, recipe="r"):
    staging.write(
        file, values, tile=TILE, coords=COORDS, recipe=recipe, mpp_read=0.5, tile_um=112.0
    )


def test_a_bag_comes_back_as_it_was_and_is_known_without_reading_it(tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    file = staging.path(tmp_path, "uni", "a/view with 'é' and a slash")
    assert staging.look(file) is None
    write(file, values)
    facts = staging.look(file)
    assert (facts.recipe, facts.num_tiles, facts.dim, facts.dtype) == ("r", 3, 5, "float16")
    assert (facts.mpp_read, facts.tile_um) == (0.5, 112)
    bag = staging.bag(file)
    assert np.array_equal(bag.embeddings, values.astype(np.float16))
    assert np.array_equal(bag.tile, TILE) and np.array_equal(bag.coords, COORDS)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_numbers_that_float16_cannot_hold_stay_float32(tmp_path):
    write(tmp_path / "a.h5", np.full((3, 2), 1e6, np.float32))
    assert staging.look(tmp_path / "a.h5").dtype == "float32"


def test_a_bag_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "a.h5").mkdir()
    with pytest.raises(OSError):
        write(tmp_path / "a.h5", np.zeros((3, 2), np.float32))
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_a_damaged_bag_counts_as_none(tmp_path):
    file = tmp_path / "a.h5"
    write(file, np.zeros((3, 2), np.float32))
    file.write_bytes(file.read_bytes()[:100])
    assert staging.look(file) is None
    with pytest.raises(DataError, match=r"a\.h5: cannot be read"):
        staging.bag(file)


def put(data, *views):
    """Make a data set of bags of uni."""
    shards.write(
        data, encoder="uni", cases=pd.DataFrame({"patient": ["p"]}),
        views=[
            View(patient="p", slide=name, scan=name, view=name, routine=True, num_tiles=3, dim=2)
            for name in views
        ],
        load=lambda view: Bag(
            embeddings=np.full((3, 2), len(view.view), np.float16), tile=TILE, coords=COORDS
        ),
    )  # fmt: skip


def test_recipes_in_the_data_set_are_known_until_they_or_its_bags_are_others(tmp_path):
    assert staging.kept(tmp_path, "uni") == {}
    put(tmp_path, "a", "b")
    staging.keep(tmp_path, "uni", {"b": "2", "a": "1", "gone": "3"})
    assert staging.kept(tmp_path, "uni") == {"a": "1", "b": "2"}
    assert staging.kept(tmp_path, "other") == {}
    put(tmp_path, "a", "longer")
    assert staging.kept(tmp_path, "uni") == {"a": "1"}
    for damage in ("{", "[]", '{"a": "1", "longer": {}}'):
        (tmp_path / "shards" / "uni.recipes.json").write_text(damage)
        assert staging.kept(tmp_path, "uni") == {}


def test_what_another_encoder_has_at_work_stays(tmp_path):
    staging.begin(tmp_path, "uni")
    staging.begin(tmp_path, "other")
    staging.scratch(tmp_path).mkdir(parents=True)
    staging.tidy(tmp_path, "uni")
    assert not staging.path(tmp_path, "uni", "").parent.exists()
    assert staging.scratch(tmp_path).is_dir()
    staging.tidy(tmp_path, "other")
    assert list(tmp_path.iterdir()) == []


def test_clearing_keeps_what_other_views_and_encoders_staged(tmp_path):
    values = np.zeros((3, 2), np.float32)
    for encoder, view in (("uni", "a"), ("uni", "b"), ("other", "a")):
        write(staging.path(tmp_path, encoder, view), values)
    staging.clear(tmp_path, "uni", ["a"])
    assert not staging.path(tmp_path, "uni", "a").exists()
    assert staging.path(tmp_path, "uni", "b").exists()
    staging.clear(tmp_path, "uni", ["b"])
    assert staging.path(tmp_path, "other", "a").exists()
    staging.clear(tmp_path, "other", ["a"])
    assert list(tmp_path.iterdir()) == []
