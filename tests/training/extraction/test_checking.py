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
