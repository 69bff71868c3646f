import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.training import small
from training import judging
from training.config import Stopping
from training.data import scans
from training.data.index import Dataset
from training.errors import DataError
from training.judging import PairedSlides, paired_slides
from training.metrics import robustness

MARGIN = Stopping(validation_share=0.25, epoch="within_margin")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


def test_inconsistency_is_that_of_a_slides_mean_scores_on_its_scanners():
    # Slide 0 has two scans on its first scanner (1 and 3: mean 2) and one on its second (4), slide
    # 1 scores 8 and 6; position 1 of the validation scans is of a slide with one scanner.
    slides = PairedSlides(
        places=np.array([0, 2, 3, 4, 5]),
        image=np.array([0, 0, 1, 2, 3]),
        slide=np.array([0, 0, 1, 1]),
    )
    scores = np.array([[1.0], [99.0], [3.0], [4.0], [8.0], [6.0]])
    # Variances 2 and 2, means 3 and 7.
    assert slides.inconsistency(scores) == pytest.approx(np.sqrt(2) / np.sqrt(8))


def test_several_classes_are_centred_and_averaged():
    slides = PairedSlides(
        places=np.arange(4), image=np.arange(4), slide=np.array([0, 0, 1, 1], np.int64)
    )
    scores = np.random.default_rng(0).normal(size=(4, 3))
    centred = (scores - scores.mean(1, keepdims=True)).reshape(2, 2, 3)
    expected = np.mean([robustness.inconsistency(centred[:, :, c]) for c in range(3)])
    assert slides.inconsistency(scores) == pytest.approx(expected)
    moved = scores + np.array([[1.0], [-2.0], [3.0], [0.5]])
    assert slides.inconsistency(moved) == pytest.approx(expected)


def test_equal_scores_have_no_inconsistency_to_tell():
    slides = PairedSlides(
        places=np.arange(4), image=np.arange(4), slide=np.array([0, 0, 1, 1], np.int64)
    )
    assert np.isnan(slides.inconsistency(np.ones((4, 1))))


def test_slides_are_those_of_validation_patients_with_two_seen_scanners(cohort: Dataset):
    found = scans.read(cohort, small.trial(unseen_scanners=("B",)))
    slides = paired_slides(found)
    table = found.table.iloc[found.of("validation", seen_only=True)].iloc[slides.places]
    assert len(table) and set(table["part"]) == {"validation"}
    assert "B" not in set(table["scanner"])
    assert (table.groupby("slide")["scanner"].nunique() == 2).all()
    assert len(slides.slide) == len(table.groupby(["slide", "scanner"]))
    patients = {view.patient for view in small.views() if view.scanner == "C"}
    assert set(table["patient"]) == patients & set(table["patient"])


def test_an_unknown_scanner_makes_no_pair(tmp_path: Path):
    views = [
        dataclasses.replace(view, scanner="" if view.scanner == "C" else view.scanner)
        for view in small.views()
    ]
    data = small.cohort(
        tmp_path,
        views,
        load=lambda view: small.bag(dataclasses.replace(view, scanner=view.scan[-1])),
    )
    found = scans.read(data, small.routine(unseen_scanners=("B",)))
    assert len(paired_slides(found).slide) == 0


def test_values_have_an_inconsistency_only_where_a_rule_reads_it(cohort: Dataset):
    found = scans.read(cohort, small.trial())
    plain = judging.judge(found, Stopping(validation_share=0.25))
    judged = judging.judge(found, MARGIN)
    assert plain is not None and judged is not None
    scores = np.random.default_rng(1).normal(size=(len(plain.validation.rows), 1))
    assert list(plain.values(scores)) == ["validation_loss", "validation_auroc"]
    more = judged.values(scores)
    assert more.pop("validation_inconsistency") > 0
    assert more == plain.values(scores)


def test_without_validation_there_is_no_judge(cohort: Dataset):
    stopping = Stopping(validation_share=0, epoch="last", threshold="half")
    found = scans.read(cohort, small.trial(stopping=stopping))
    assert judging.judge(found, stopping) is None


@pytest.mark.parametrize("stopping", [MARGIN, Stopping(metric="inconsistency")])
def test_a_rule_on_inconsistency_without_paired_slides_is_refused(tmp_path: Path, stopping):
    data = small.cohort(tmp_path, small.views(scanners="A"))
    with pytest.raises(DataError, match=r"two validation slides with scans on two seen.*found 0"):
        scans.read(data, small.routine(stopping=stopping))
    scans.read(data, small.routine())
