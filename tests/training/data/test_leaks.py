from dataclasses import replace

import pandas as pd
import pytest

from tests.training.data import examples
from training.data import folds, leaks
from training.data.index import Dataset
from training.errors import DataError


def with_copies(patients: dict[int, str]) -> Dataset:
    """A data set in which every scan has an augmented view; some of them of another patient."""
    made = examples.made("ab" * 6)
    copies = made.index.assign(
        view="copy of " + made.index["view"],
        source_scan=made.index["scan"],
        checksum="",
        routine=False,
    )
    for row, patient in patients.items():
        copies.loc[row, ["patient", "slide"]] = patient
    return replace(made, index=pd.concat([made.index, copies], ignore_index=True))


def test_an_augmented_view_of_another_patient_s_scan_is_refused() -> None:
    assert folds.split(with_copies({}), examples.config())
    with pytest.raises(DataError) as error:
        folds.split(with_copies({3: "p008"}), examples.config())
    assert error.value.message == (
        "fold 0: view 'copy of p003' of patient 'p008': is made from scan 'p003' of patient 'p003'"
    )


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (("p0", "p1"), ("p2", "p0"), "fold 0: patient 'p0': in the train and the test part"),
        (("p0",), ("p2",), "fold 0: the training part has one class only"),
        (("p0", "p1"), (), "fold 0: the test part has no patients"),
    ],
)
def test_a_split_that_leaks_is_refused_whoever_made_it(
    train: tuple[str, ...], test: tuple[str, ...], expected: str
) -> None:
    dataset = examples.made("aba")
    parts = {"train": train, "validation": (), "test": test, "external": ()}
    with pytest.raises(DataError) as error:
        leaks.refuse(
            parts,
            dataset,
            examples.config(validation_share=0),
            views=dataset.index,
            label={"p0": 0, "p1": 1, "p2": 0},
        )
    assert error.value.message == expected


def test_of_many_identical_bags_the_first_are_named() -> None:
    dataset = examples.made("ab" * 100)
    pairs = {row: str(row % 100) for row in range(200)} | {row: "0" for row in range(100, 120)}
    dataset = examples.changed(dataset, "checksum", pairs)  # type: ignore[arg-type]  # str is an object
    with pytest.raises(DataError) as error:
        folds.split(dataset, examples.config())
    lines = error.value.message.splitlines()
    assert len(lines) == 21 and lines[-1].endswith("more identical bags like these")
    assert "'p106', …: share an identical bag, in parts" in lines[0]
