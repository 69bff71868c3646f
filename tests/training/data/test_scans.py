from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training import small
from training.config import Task
from training.data import scans
from training.data.index import Dataset
from training.errors import DataError


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


def test_every_scan_of_every_patient_is_there_with_its_label(cohort: Dataset):
    found = scans.read(cohort, small.trial())
    assert list(found.table["view"]) == sorted(cohort.index["view"])
    assert set(found.table["part"]) == {"train", "validation", "test"}
    numbers = found.table["patient"].map(lambda patient: int(patient.split()[1]) % 2)
    assert list(found.label) == list(numbers)
    assert (found.num_outputs, found.in_dim) == (1, small.DIM)


def test_parts_share_no_patient(cohort: Dataset):
    found = scans.read(cohort, small.trial())
    parts = found.table.groupby("patient")["part"].nunique()
    assert (parts == 1).all()


def test_the_order_of_the_index_does_not_matter(cohort: Dataset):
    shuffled = replace(cohort, index=cohort.index.sample(frac=1, random_state=0))
    one, other = (scans.read(data, small.trial()) for data in (cohort, shuffled))
    assert list(one.table["view"]) == list(other.table["view"])
    assert np.array_equal(one.label, other.label)


def test_augmented_views_never_come(tmp_path: Path):
    views = small.views()
    copy = replace(
        views[0], view="augmented", scan="augmented", source_scan=views[0].scan, routine=False
    )
    found = scans.read(small.cohort(tmp_path, [*views, copy]), small.trial())
    assert "augmented" not in set(found.table["view"])


def test_unseen_scanners_are_marked(cohort: Dataset):
    found = scans.read(cohort, small.trial(unseen_scanners=("B",)))
    assert set(found.table["scanner"][~found.seen]) == {"B"}
    assert not set(found.table["scanner"][found.seen]) & {"B"}
    test = found.of("test", seen_only=False)
    assert len(found.of("test", seen_only=True)) < len(test)


def test_shuffling_permutes_the_labels_of_training_and_validation_patients(cohort: Dataset):
    plain = scans.read(cohort, small.routine())
    shuffled = scans.read(cohort, small.routine(shuffle_labels=True))
    test = plain.table["part"] == "test"
    assert np.array_equal(plain.label[test], shuffled.label[test])
    assert not np.array_equal(plain.label[~test], shuffled.label[~test])
    for found in (plain, shuffled):
        assert (
            found.table.assign(label=found.label).groupby("patient")["label"].nunique() == 1
        ).all()
    counts = [
        found.table.assign(label=found.label)[~test].groupby("patient")["label"].first().sum()
        for found in (plain, shuffled)
    ]
    assert counts[0] == counts[1]
    again = scans.read(cohort, small.routine(seed=5, shuffle_labels=True))
    assert np.array_equal(shuffled.label, again.label)


def test_several_classes_have_an_output_each(tmp_path: Path):
    data = small.cohort(tmp_path, num_classes=3)
    assert scans.read(data, small.trial(task=Task(kind="multiclass"))).num_outputs == 3


def test_embeddings_of_several_widths_are_refused(cohort: Dataset):
    index = cohort.index.copy()
    index.loc[3, "dim"] = 9
    with pytest.raises(DataError, match=r"widths \[7, 9\]"):
        scans.read(replace(cohort, index=index), small.trial())
