from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from tests.training.data import examples
from training.config import Task
from training.data import index
from training.errors import DataError


def check(dataset: index.Dataset, **changed: object) -> list[str]:
    given = {"encoders": ["one"], "task": Task(), **changed}
    return index.check(dataset, **given)  # type: ignore[arg-type]  # a test's own mistake shows


def damaged(dataset: index.Dataset, **columns: object) -> index.Dataset:
    return index.Dataset(
        root=dataset.root,
        index=dataset.index.assign(**columns),
        cases=dataset.cases,
        folds=dataset.folds,
    )


def test_a_sound_data_set_has_no_problems(tmp_path: Path) -> None:
    assert check(examples.write(tmp_path)) == []


def test_absent_encoders_are_listed_apart(tmp_path: Path) -> None:
    dataset = examples.write(tmp_path)
    assert index.missing_encoders(dataset, ["two", "one", "three"]) == ["two", "three"]
    assert check(dataset, encoders=["one", "two"]) == []


def test_problems_of_another_encoder_do_not_count(tmp_path: Path) -> None:
    examples.write(tmp_path)
    dataset = examples.write(tmp_path, encoder="two")
    (tmp_path / "shards" / "two-000.h5").unlink()
    assert check(dataset) == []
    assert check(dataset, encoders=["one", "two"]) == [
        f"{tmp_path / 'shards' / 'two-000.h5'}: missing"
    ]


def test_views_labels_and_shards_are_reported_together(tmp_path: Path) -> None:
    dataset = examples.write(tmp_path)
    dataset = damaged(dataset, routine=False, dim=5)
    found = "\n".join(check(dataset, task=Task(classes=("a", "c"))))
    assert "slide 'slide 0': 0 routine scans" in found
    assert "patient 'patient 1': label is 'b', expected one of 'a', 'c'" in found
    assert "view 'slide 0/AT2' expects float16 of width 5" in found


def test_a_truncated_or_foreign_shard_is_reported(tmp_path: Path) -> None:
    dataset = examples.write(tmp_path)
    path = tmp_path / dataset.index["shard"][0]
    path.write_bytes(path.read_bytes()[:2000])
    assert "not a readable HDF5 file" in check(dataset)[0]
    path.unlink()
    examples.h5(path, embeddings=np.zeros((2, 4), np.float16))
    assert check(dataset) == [f"{path}: no dataset 'coords', 'tile'"]


def test_wrong_shapes_types_and_ranges_in_a_shard_are_reported(tmp_path: Path) -> None:
    dataset = examples.write(tmp_path)
    path = tmp_path / dataset.index["shard"][0]
    path.unlink()
    examples.h5(
        path,
        embeddings=np.zeros((4, 4), np.float32),
        tile=np.zeros(4, np.int64),
        coords=np.zeros((3, 2), np.int32),
    )
    found = "\n".join(check(dataset))
    assert "tile is ((4,), 'int64'), expected ((4,), 'int32')" in found
    assert "coords is ((3, 2), 'int32'), expected ((4, 2), 'int32')" in found
    assert "embeddings are float32 (4, 4), view 'slide 0/AT2' expects float16" in found
    assert "has 4 rows, view 'slide 5/GT450' lies outside" in found


def test_sampled_bags_are_compared_with_their_checksums(tmp_path: Path) -> None:
    dataset = examples.write(tmp_path)
    with h5py.File(tmp_path / dataset.index["shard"][0], "r+") as file:
        file["embeddings"][0, 0] = np.nan
        file["tile"][-1] = 99
    found = check(dataset)
    assert len(found) == 3
    assert found[0].endswith("view 'slide 0/AT2': embeddings are not all finite")
    assert "view 'slide 5/GT450': the bag differs from its checksum" in found[2]
    assert check(dataset, num_checksums=0) == []


def test_classes_are_sorted_or_as_configured(tmp_path: Path) -> None:
    dataset = examples.write(tmp_path)
    assert index.classes(dataset, Task()) == ("a", "b")
    assert index.classes(dataset, Task(classes=("b", "a"))) == ("b", "a")
    numbers = index.class_numbers(dataset, Task(classes=("b", "a")))
    assert numbers == {f"patient {number}": 1 - number % 2 for number in range(6)}


def test_patients_without_views_add_no_class(tmp_path: Path) -> None:
    cases = examples.cases(examples.scans())
    more = pd.DataFrame({"patient": ["elsewhere"], "label": ["c"]})
    dataset = examples.write(tmp_path, cases=pd.concat([cases, more]))
    assert index.classes(dataset, Task()) == ("a", "b")


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (Task(label="lable"), "no column 'lable'; did you mean 'label'?"),
        (Task(label="three"), "has 3 classes ('x', 'y', 'z'), expected 2 classes"),
        (Task(label="one"), "has 1 classes ('x'), expected 2 classes"),
        (Task(kind="multiclass", label="one"), "expected at least 2 classes"),
    ],
)
def test_labels_that_do_not_fit_the_task_are_refused(
    tmp_path: Path, task: Task, expected: str
) -> None:
    cases = examples.cases(examples.scans()).assign(three=list("xyzxyz"), one="x")
    dataset = examples.write(tmp_path, cases=cases)
    with pytest.raises(DataError) as error:
        index.classes(dataset, task)
    assert expected in error.value.message
    assert check(dataset, task=task) == [error.value.message]


def test_a_patient_without_a_label_has_no_number(tmp_path: Path) -> None:
    """Whether that patient takes part is known to the folds, which then refuse."""
    dataset = examples.write(tmp_path)
    dataset.cases.loc[2, "label"] = ""
    numbers = index.class_numbers(dataset, Task())
    assert sorted(numbers) == [f"patient {number}" for number in (0, 1, 3, 4, 5)]
    assert check(dataset) == []


def test_a_label_that_is_no_class_is_refused_by_patient(tmp_path: Path) -> None:
    dataset = examples.write(tmp_path)
    task = Task(classes=("a", "c"))
    with pytest.raises(DataError) as error:
        index.class_numbers(dataset, task)
    assert error.value.message.splitlines()[0] == (
        "patient 'patient 1': label is 'b', expected one of 'a', 'c'"
    )
    assert "class 'c' of label: no patient has it" in check(dataset, task=task)
