from pathlib import Path

import pandas as pd
import pytest

from tests.training.data import examples
from training.data import tables
from training.errors import DataError


def test_all_missing_and_malformed_tables_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "index.parquet").write_bytes(b"not parquet")
    pd.DataFrame({"repetition": ["x"], "fold": [0]}).to_parquet(tmp_path / "folds.parquet")
    with pytest.raises(DataError) as error:
        tables.read(tmp_path)
    lines = error.value.message.splitlines()
    assert "index.parquet: not a readable Parquet file" in lines[0]
    assert lines[1] == f"{tmp_path / 'cases.parquet'}: missing"
    assert lines[2].endswith("folds.parquet: missing columns: patient")
    assert lines[3].endswith("column 'repetition' is str, expected int64")


def test_nulls_in_an_index_are_reported_with_their_row(tmp_path: Path) -> None:
    dataset = examples.write(tmp_path)
    frame = dataset.index.astype({"site": "object"})
    frame.loc[3, "site"] = None
    frame.to_parquet(tmp_path / "index.parquet")
    with pytest.raises(DataError, match=r"column 'site' is null in row 3; write ''"):
        tables.read(tmp_path)


def test_integers_of_another_width_are_accepted(tmp_path: Path) -> None:
    dataset = examples.write(tmp_path)
    dataset.index.astype({"dim": "int64", "row_start": "int32"}).to_parquet(
        tmp_path / "index.parquet"
    )
    found = tables.read(tmp_path)[0]
    assert {name: str(kind) for name, kind in found.dtypes.items()} == tables.INDEX_TYPES


def test_a_table_is_written_by_rename_with_equal_bytes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"patient": ["a", "Größe"], "label": ["", "x"]})
    tables.write(frame, tmp_path / "a.parquet")
    tables.write(frame, tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), frame)


@pytest.mark.parametrize(
    ("position", "changed", "expected"),
    [
        (0, {"patient": "nobody", "slide": "new", "routine": True}, "patient 'nobody': no row"),
        (1, {"patient": "patient 3"}, "slide 'slide 0': belongs to several patients"),
        (1, {"routine": True}, "slide 'slide 0': 2 routine scans for encoder 'one', expected 1"),
        (0, {"routine": False}, "slide 'slide 0': 0 routine scans for encoder 'one', expected 1"),
        (1, {"view": "other"}, "view 'other': is a scan, so its view and scan names must be equal"),
        (1, {"source_scan": "gone"}, "view 'slide 0/GT450': source_scan 'gone' does not exist"),
        (0, {"source_scan": "slide 0/GT450"}, "is augmented, so it cannot be the routine scan"),
        (1, {"num_tiles": 0}, "view 'slide 0/GT450': has no tiles"),
        (1, {"dim": 7}, "encoder 'one': embeddings of several widths: 4, 7"),
        (1, {"slide": ""}, "1 views have no slide"),
    ],
)
def test_each_contradiction_is_named(
    position: int, changed: dict[str, object], expected: str
) -> None:
    views = examples.renamed(examples.scans(), position, **changed)
    frame = pd.DataFrame([{name: getattr(view, name) for name in COLUMNS} for view in views])
    cases = examples.cases(examples.scans())
    found = tables.contradictions(frame.assign(encoder="one"), cases)
    assert any(expected in line for line in found), found


def test_augmented_views_of_a_scan_are_no_contradiction() -> None:
    views = examples.scans()
    copy = examples.renamed(
        views[1:2], 0, view="slide 0/GT450 stain 1", source_scan="slide 0/GT450", scan="augmented"
    )
    frame = pd.DataFrame(
        [{name: getattr(view, name) for name in COLUMNS} for view in [*views, *copy]]
    )
    assert tables.contradictions(frame.assign(encoder="one"), examples.cases(views)) == []


COLUMNS = (*tables.VIEW_STRINGS, "routine", "num_tiles", "dim")
