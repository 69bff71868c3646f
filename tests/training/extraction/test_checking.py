"""What is wrong with a request is told at once, before a slide is opened."""

import pytest

from tests.training.extraction.made_up_slides import CONFIG, NAME, request, table
from training.errors import DataError
from training.extraction import checking
from training.extraction.requests import Request


def test_everything_wrong_is_told_at_once_before_a_slide_is_opened(tmp_path):
    rows = [
        {"slide": "a", "scan": "a", "patient": "p", "label": "x", "file": "missing.svs"},
        {"slide": "b", "scan": "b", "patient": "p", "label": "y", "file": "", "mpp": "-1"},
    ]
    asked = request(table(tmp_path, rows), tmp_path / "data")
    asked = Request(
        slides=asked.slides, out=asked.out, encoders=(NAME, "virchow3"),
        checkpoints={NAME: tmp_path / "nowhere.pth", "uni": tmp_path / "u.pth"}, config=CONFIG,
    )  # fmt: skip
    with pytest.raises(DataError) as error:
        checking.check(asked)
    for words in ("missing.svs: missing", "no file", "mpp is '-1'", "label of patient 'p'",
                  "did you mean virchow2", "nowhere.pth: no such", "not asked for"):  # fmt: skip
        assert words in error.value.message, words
    assert not (tmp_path / "data").exists()


def test_views_that_would_have_the_name_of_a_scan_and_missing_references_are_told(tmp_path):
    (tmp_path / "a.png").touch()
    rows = [
        {"slide": name, "scan": name, "patient": name, "label": "x", "file": "a.png"}
        for name in ("a", "a-j")
    ]
    looks = [{"name": "j", "steps": [{"kind": "jpeg"}]},
             {"name": "r", "steps": [{"kind": "reinhard", "reference": "no.png"}]}]  # fmt: skip
    config = CONFIG.model_validate({**CONFIG.model_dump(exclude_unset=True), "views": looks})
    asked = request(table(tmp_path, rows), tmp_path / "data", config=config)
    with pytest.raises(DataError) as error:
        checking.check(asked)
    assert "view 'a-j': more than once" in error.value.message
    assert "no.png: no such file, the reference of view 'r'" in error.value.message
    (tmp_path / "no.png").touch()
    looks[1]["steps"][0]["reference"] = str(tmp_path / "no.png")
    config = CONFIG.model_validate({**CONFIG.model_dump(exclude_unset=True), "views": looks[1:]})
    checking.check(request(table(tmp_path, rows), tmp_path / "data", config=config))
