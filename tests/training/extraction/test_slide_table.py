"""The table of slides is read whole; what is wrong is told by scan."""

from tests.training.extraction.made_up_slides import table
from training.extraction import slide_table


def rows(tmp_path, *changes):
    (tmp_path / "a.png").touch()
    plain = {"slide": "s", "patient": "p", "label": "x", "file": "a.png"}
    return table(tmp_path, [{**plain, **change} for change in changes])


def test_scale_mask_and_transform_describe_a_scan_and_are_no_labels(tmp_path):
    (tmp_path / "m.png").touch()
    (tmp_path / "t.json").touch()
    path = rows(tmp_path, {"scan": "a", "mpp": "0.25", "mask": "m.png"},
                {"scan": "b", "mpp": "", "transform": "t.json"})  # fmt: skip
    problems = []
    found = slide_table.read(path, problems)
    assert problems == [] and list(found.cases.columns) == ["patient", "label"]
    first, second = found.slides["s"]
    assert (first.mpp, first.mask, first.routine) == (0.25, tmp_path / "m.png", True)
    assert (second.mpp, second.transform, second.routine) == (None, tmp_path / "t.json", False)


def test_the_routine_scan_comes_first_and_augmented_copies_last(tmp_path):
    path = rows(tmp_path, {"scan": "c", "source_scan": "b"}, {"scan": "a"},
                {"scan": "b", "routine": "1"})  # fmt: skip
    found = slide_table.read(path, [])
    assert [scan.name for scan in found.slides["s"]] == ["b", "a", "c"]


def test_a_limit_counts_slides_and_takes_all_their_scans(tmp_path):
    path = rows(tmp_path, {"scan": "a"}, {"scan": "b", "slide": "t", "patient": "q"}, {"scan": "c"})
    found = slide_table.read(path, [], limit=1)
    assert list(found.rows["scan"]) == ["a", "c"] and list(found.cases["patient"]) == ["p"]


def test_missing_files_and_impossible_scales_are_told_all_at_once(tmp_path):
    path = rows(tmp_path, {"scan": "a", "file": "no.svs", "mpp": "0"}, {"scan": "b", "file": ""},
                {"scan": "c", "mask": "no.png", "mpp": "nan"},
                {"scan": "d", "mpp": "x"})  # fmt: skip
    problems = []
    slide_table.read(path, problems)
    text = "\n".join(problems)
    for words in ("no.svs: missing", "scan 'b': no file", "no.png: missing", "mpp is '0'",
                  "mpp is 'nan'", "mpp is 'x'"):  # fmt: skip
        assert words in text
    assert len(problems) == 6


def test_what_nothing_would_read_is_told(tmp_path):
    (tmp_path / "t.json").touch()
    path = rows(tmp_path, {"scan": "a", "transform": "t.json"}, {"scan": "b"},
                {"scan": "c", "source_scan": "b", "mask": "a.png"})  # fmt: skip
    problems = []
    slide_table.read(path, problems)
    assert ["scan 'a': has a transform" in line for line in problems] == [True, False]
    assert "view 'c': has a mask or a transform, but its tiles are those of 'b'" in problems[1]


def test_a_name_that_no_disk_can_have_is_told(tmp_path):
    problems = []
    slide_table.read(rows(tmp_path, {"scan": "a", "file": "x" * 300}), problems)
    assert len(problems) == 1 and "File name too long" in problems[0]
