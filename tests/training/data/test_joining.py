from pathlib import Path

import pandas as pd
import pytest

from tests.training.data import examples
from training.errors import DataError


def message(root: Path, *args: object, **changed: object) -> str:
    with pytest.raises(DataError) as error:
        examples.write(root, *args, **changed)  # type: ignore[arg-type]  # a test's own mistake shows
    return error.value.message


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("")
    assert "holds 'thesis.docx' and no index.parquet" in message(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_folder_that_the_system_refuses_is_a_data_error(tmp_path: Path) -> None:
    assert "cannot be read" in message(tmp_path / ("x" * 300))


def test_an_index_of_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "index.parquet")
    before = examples.files(tmp_path)
    assert "index.parquet: missing columns: patient, slide" in message(tmp_path)
    assert examples.files(tmp_path) == before


def test_all_contradictions_are_reported_at_once(tmp_path: Path) -> None:
    views = examples.scans()
    views = examples.renamed(views, 1, patient="patient 5")
    views = examples.renamed(views, 2, num_tiles=0)
    views = examples.renamed(views, 4, routine=False)
    views = examples.renamed(views, 6, dtype="int8")
    views = [*views, views[8]]
    found = message(tmp_path, views, encoder="a/b")
    for expected in (
        "encoder 'a/b': only letters",
        "slide 'slide 0': belongs to several patients: 'patient 0', 'patient 5'",
        "view 'slide 1/AT2': has no tiles",
        "slide 'slide 2': 0 routine scans",
        "view 'slide 3/AT2': type 'int8'",
        "view 'slide 4/AT2': more than once",
    ):
        assert expected in found
    assert list(tmp_path.iterdir()) == []


def test_views_of_a_second_encoder_must_agree_with_the_first(tmp_path: Path) -> None:
    examples.write(tmp_path)
    before = examples.files(tmp_path)
    views = examples.renamed(examples.scans(), 3, scanner="P1000")
    found = message(tmp_path, views, encoder="two")
    assert found == "view 'slide 1/GT450': scanner differs between rows: 'GT450', 'P1000'"
    assert examples.files(tmp_path) == before


def test_labels_of_a_second_encoder_must_agree_with_the_first(tmp_path: Path) -> None:
    examples.write(tmp_path)
    cases = examples.cases(examples.scans()).replace({"label": {"a": "c"}})
    found = message(tmp_path, encoder="two", cases=cases).splitlines()
    assert found[0].startswith("patient 'patient 0': label is 'c', but 'a' in the data set")
    assert len(found) == 3


def test_a_lone_encoder_may_be_replaced_with_other_labels_and_patients(tmp_path: Path) -> None:
    examples.write(tmp_path, examples.scans(8))
    cases = examples.cases(examples.scans(4)).replace({"label": {"a": "c"}})
    found = examples.write(tmp_path, examples.scans(4), cases=cases)
    assert found.cases["label"].tolist() == ["c", "b", "c", "b"]
    assert found.index["patient"].nunique() == 4


def test_a_second_encoder_brings_its_own_patients_and_columns(tmp_path: Path) -> None:
    views = examples.scans(6)
    cases = examples.cases(views)
    few = [view for view in views if view.patient < "patient 4"]
    examples.write(tmp_path, few, cases=cases.head(4))
    late = [view for view in views if view.patient > "patient 1"]
    found = examples.write(tmp_path, late, encoder="two", cases=cases.tail(4).assign(age="60"))
    assert found.cases["patient"].tolist() == cases["patient"].tolist()
    assert found.cases["label"].tolist() == list("ababab")
    assert found.cases["age"].tolist() == ["", "", "60", "60", "60", "60"]


def test_folds_are_kept_unless_given_anew(tmp_path: Path) -> None:
    folds = pd.DataFrame({"repetition": 0, "fold": [1, 0], "patient": ["patient 0", "patient 1"]})
    examples.write(tmp_path, folds=folds)
    kept = examples.write(tmp_path, encoder="two")
    assert kept.folds is not None
    assert kept.folds["fold"].tolist() == [0, 1]
    changed = examples.write(tmp_path, encoder="two", folds=folds.head(1))
    assert changed.folds is not None
    assert len(changed.folds) == 1


def test_folds_of_strangers_are_refused(tmp_path: Path) -> None:
    folds = pd.DataFrame({"repetition": 0, "fold": [0], "patient": ["nobody"]})
    assert message(tmp_path, folds=folds) == "patient 'nobody': in the folds and not in the cases"


def test_no_views_and_repeated_patients_are_refused(tmp_path: Path) -> None:
    assert "no views to write" in message(tmp_path, [], cases=pd.DataFrame({"patient": ["p"]}))
    cases = examples.cases(examples.scans())
    assert "patient 'patient 0': more than one row of cases" in message(
        tmp_path, cases=pd.concat([cases, cases.head(1)])
    )
