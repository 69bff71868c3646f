"""The configuration is refused with every problem and its key, or read."""

import pytest

from training.errors import DataError
from training.extraction import config_file


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "e.yaml").write_text("# nothing\n")
    assert config_file.read(tmp_path / "e.yaml").batch_size == 64


def test_every_problem_is_told_with_its_key(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text(
        "tiling: {tile_pxx: 3, mpp: -1}\nviews: [{name: a b, steps: []}]\nbatch_size: 0\n"
    )
    with pytest.raises(DataError) as error:
        config_file.read(path)
    for words in ("tiling.tile_pxx: unknown key; did you mean tile_px?", "tiling.mpp",
                  "views.0.name", "views.0.steps", "batch_size"):  # fmt: skip
        assert words in error.value.message
    assert "registration" in error.value.hint


@pytest.mark.parametrize("text", ["a: [", "- 1", "3", "views: [{name: a, steps: [{kind: x}]}]",
                                  "\0", "tiling: {tile_px: 8, overlap_px: 9}"])  # fmt: skip
def test_rubbish_is_refused_by_name(tmp_path, text):
    (tmp_path / "e.yaml").write_text(text)
    with pytest.raises(DataError, match=r"e\.yaml"):
        config_file.read(tmp_path / "e.yaml")
    with pytest.raises(DataError):
        config_file.read(tmp_path / "missing.yaml")


def test_two_views_of_one_name_are_refused(tmp_path):
    view = "{name: a, steps: [{kind: hed}]}"
    (tmp_path / "e.yaml").write_text(f"views: [{view}, {view}]")
    with pytest.raises(DataError, match="a: more than once"):
        config_file.read(tmp_path / "e.yaml")
