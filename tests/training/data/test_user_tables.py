from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.training.data import examples
from training.data import user_tables
from training.errors import DataError

ROWS = [
    {"slide": "s1", "scan": "s1a", "scanner": "AT2", "patient": "p1", "label": "1", "age": "60"},
    {"slide": "s1", "scan": "s1b", "scanner": "GT", "patient": "p1", "label": "", "age": "60"},
    {"slide": "s2", "scan": "s2a", "scanner": "AT2", "patient": "p2", "label": "0", "age": ""},
]


def problems_of(path: Path) -> list[str]:
    problems: list[str] = []
    user_tables.read_slides(path, problems)
    return [problem.removeprefix(str(path)) for problem in problems]


def refused(path: Path) -> str:
    with pytest.raises(DataError) as error:
        user_tables.read_slides(path, [])
    return error.value.message.removeprefix(str(path))


def test_scans_and_cases_are_told_apart(tmp_path: Path) -> None:
    problems: list[str] = []
    found = user_tables.read_slides(examples.csv(tmp_path / "slides.csv", ROWS), problems)
    assert problems == []
    assert found.scans["scan"].tolist() == ["s1a", "s1b", "s2a"]
    assert found.scans["routine"].tolist() == [True, False, True]
    assert found.scans["site"].tolist() == ["", "", ""]
    assert found.cases.to_dict("records") == [
        {"patient": "p1", "label": "1", "age": "60"},
        {"patient": "p2", "label": "0", "age": ""},
    ]


def test_a_marked_routine_scan_wins_over_the_first(tmp_path: Path) -> None:
    rows = [{**row, "routine": mark} for row, mark in zip(ROWS, ("no", "TRUE", ""), strict=True)]
    found = user_tables.read_slides(examples.csv(tmp_path / "slides.csv", rows), [])
    assert found.scans["routine"].tolist() == [False, True, True]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_awkward_names_and_a_byte_order_mark_are_kept_apart(tmp_path: Path, encoding: str) -> None:
    rows = [{"slide": name, "patient": f"p {name}", "label": "NA"} for name in examples.AWKWARD]
    path = examples.csv(tmp_path / "slides.csv", rows, encoding=encoding)
    found = user_tables.read_slides(path, [])
    assert found.scans["scan"].tolist() == list(examples.AWKWARD)
    assert found.cases["label"].tolist() == ["NA"] * len(rows)


def test_lines_are_those_of_an_editor_even_after_a_quoted_newline(tmp_path: Path) -> None:
    path = tmp_path / "slides.csv"
    path.write_text('slide,patient\n"a\nb",p1\n\nc,\n')
    assert problems_of(path) == [":5: no patient"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Slide,Patient", "no column 'slide'; is it 'Slide'?"),
        ("slide_id,patient", "no column 'slide'; is it 'slide_id'?"),
        ("slide,case", "no column 'patient'; there are 'slide', 'case'"),
        ("slide;patient", "no column 'slide'"),
    ],
)
def test_missing_columns_come_with_a_suggestion(tmp_path: Path, header: str, expected: str) -> None:
    (tmp_path / "slides.csv").write_text(f"{header}\n" + ",".join("x" * (header.count(",") + 1)))
    assert expected in refused(tmp_path / "slides.csv")


def test_a_mistyped_optional_column_is_not_taken_for_a_covariate(tmp_path: Path) -> None:
    rows = [{"slide": "s", "patient": "p", "scaner": "AT2", "label": "1"}]
    path = examples.csv(tmp_path / "slides.csv", rows)
    assert problems_of(path) == [": column 'scaner': did you mean 'scanner'?"]


def test_every_wrong_line_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "slides.csv"
    path.write_text(
        "slide,scan,patient,label,routine\n"
        "s1,a,p1,x,1\n"
        "s2,a,p2,y,1\n"
        "s3,c,,x,1\n"
        "s4,d,p1,y,perhaps\n"
        "s5,e\n"
    )
    assert problems_of(path) == [
        ":6: 2 cells, the header has 5",
        ":3: scan 'a' again, first in line 2; give each scan its own name in a column 'scan'",
        ":4: no patient",
        ":5: routine is 'perhaps', expected 1 or 0",
        ":5: label of patient 'p1' is 'y', and 'x' in an earlier line",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "has no rows"),
        (b"slide,patient\n", "has no rows"),
        (b"slide,slide,patient\na,b,c\n", "a column name occurs twice"),
        ("slide,patient\nGröße,p\n".encode("latin-1"), "is not UTF-8 text"),
        (b'slide,patient\n"a,p\n', "cannot be read"),
    ],
)
def test_files_that_are_no_table_are_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "slides.csv").write_bytes(content)
    assert expected in refused(tmp_path / "slides.csv")


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "slides.csv")


def folds_of(path: Path) -> tuple[pd.DataFrame | None, list[str]]:
    problems: list[str] = []
    patient_of = {"patient": {"p1": "p1", "p2": "p2"}, "bag": {"a": "p1", "b": "p1", "c": "p2"}}
    found = user_tables.read_folds(path, patient_of, problems)
    return found, [problem.removeprefix(str(path)) for problem in problems]


def test_folds_name_patients_or_their_bags(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    path.write_text("repetition,fold,bag\n0,0,a\n0,0,b\n0,1,c\n1,1,a\n1,0,c\n")
    found, problems = folds_of(path)
    assert problems == []
    assert found is not None
    assert found.to_numpy().tolist() == [[0, 0, "p1"], [0, 1, "p2"], [1, 1, "p1"], [1, 0, "p2"]]
    path.write_text("fold,patient\n0,p1\n1,p2\n")
    assert folds_of(path)[1] == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("fold,bag\n0,a\n1,b\n", [":3: patient 'p1' is held out in fold 1 and in fold 0 of"]),
        ("fold,bag\n0,z\n", [":2: bag 'z' is not in the data"]),
        ("fold,bag\none,a\n0,c\n", [":2: repetition and fold must be numbers from 0"]),
        ("fold,bag\n1,a\n2,c\n", [": repetition 0 has folds [1, 2], expected 0 to n - 1"]),
        ("repetition,fold,bag\n1,0,a\n1,1,c\n", [": repetitions are [1], expected 0 to n - 1"]),
        ("fold,patients\n0,p1\n", [": no column 'patient'; is it 'patients'?"]),
        ("", [": has no rows"]),
    ],
)
def test_wrong_folds_are_reported(tmp_path: Path, content: str, expected: list[str]) -> None:
    (tmp_path / "folds.csv").write_text(content)
    _, problems = folds_of(tmp_path / "folds.csv")
    assert len(problems) == len(expected)
    assert all(part in problem for part, problem in zip(expected, problems, strict=True))


def test_instances_of_csv_and_parquet_are_equal(tmp_path: Path) -> None:
    frame = pd.DataFrame({"bag": ["7", "8"], "label": [1, 0], "f": [0.5, 1e-3]})
    frame.to_csv(tmp_path / "a.csv", index=False, encoding="utf-8-sig")
    frame.astype({"label": float, "bag": int}).to_parquet(tmp_path / "a.parquet")
    from_csv = user_tables.read_instances(tmp_path / "a.csv", ["bag", "label"])
    from_parquet = user_tables.read_instances(tmp_path / "a.parquet", ["bag", "label"])
    pd.testing.assert_frame_equal(from_csv, from_parquet)
    assert from_csv["label"].tolist() == ["1", "0"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("bag,target,f\na,1,2\n", "no column 'label'; there are 'bag', 'target', 'f'"),
        ("bag,lable,f\na,1,2\n", "no column 'label'; is it 'lable'?"),
        ("bag,label,f\n", "has no rows"),
        ("bag,label,f\na,1,2,3\n", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_wrong_instance_tables_are_refused(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(DataError) as error:
        user_tables.read_instances(tmp_path / "a.csv", ["bag", "label"])
    assert expected in error.value.message


def test_cells_that_are_no_finite_number_are_reported_by_column(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"a": [1, 2, 3], "b": ["1", "x", ""], "c": [1.0, np.nan, np.inf], "d": [1e300, 0, 0]}
    )
    problems: list[str] = []
    values = user_tables.numeric(Path("t.csv"), frame, problems)
    assert values.shape == (3, 4)
    assert values.dtype == np.float32
    assert problems == [
        "t.csv: column 'b': 2 cells are no finite number, the first is 'x' in row 2",
        "t.csv: column 'c': 2 cells are no finite number, the first is 'nan' in row 2",
        "t.csv: column 'd': 1 cells are no finite number, the first is '1e+300' in row 1",
    ]
