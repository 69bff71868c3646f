import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training import small
from training import evaluation
from training.data import scans
from training.evaluation import Validation, predictions
from training.metrics.accuracy import auroc, best_threshold

INTS = np.int64


def two_scanners() -> Validation:
    """Patients 0 to 3 on scanner 0 (patient 3 by two scans of a slide), 0 and 1 on scanner 1."""
    return Validation(
        rows=np.arange(7),
        label=np.array([0, 1, 0, 1, 1, 0, 1], INTS),
        weight=np.array([0.5, 0.5, 1, 0.5, 0.5, 0.5, 0.5]),
        case=np.array([0, 1, 2, 3, 3, 4, 5], INTS),
        case_label=np.array([0, 1, 0, 1, 0, 1], INTS),
        case_scanner=np.array([0, 0, 0, 0, 1, 1], INTS),
    )


SCORES = np.array([[-1.0], [2.0], [0.5], [-3.0], [3.6], [0.9], [0.2]])


def test_the_auroc_is_the_mean_over_scanners_of_patients_means():
    first = auroc(np.array([0, 1, 0, 1]), np.array([-1.0, 2.0, 0.5, 0.3]))
    assert first == 0.75
    assert two_scanners().auroc(SCORES) == (0.75 + 0.0) / 2


def test_a_scanner_with_one_class_is_left_out_and_none_is_undefined():
    judge = two_scanners()
    label = np.array([0, 1, 0, 1, 1, 1], INTS)
    one_class = Validation(
        rows=judge.rows,
        label=judge.label,
        weight=judge.weight,
        case=judge.case,
        case_label=label,
        case_scanner=judge.case_scanner,
    )
    assert one_class.auroc(SCORES) == 0.75
    label[:] = 1
    assert math.isnan(one_class.auroc(SCORES))


def test_the_loss_counts_each_slide_once():
    judge = two_scanners()
    signs = 2 * judge.label - 1
    each = np.log1p(np.exp(-signs * SCORES[:, 0]))
    expected = (judge.weight * each).sum() / judge.weight.sum()
    assert judge.loss(SCORES) == pytest.approx(expected)


def test_the_threshold_is_that_of_patients_on_scanners():
    judge = two_scanners()
    cases = np.array([-1.0, 2.0, 0.5, 0.3, 0.9, 0.2])
    assert judge.threshold(SCORES, "validation") == best_threshold(judge.case_label, cases)
    assert judge.threshold(SCORES, "half") == 0
    assert judge.threshold(np.zeros((7, 3)), "validation") == 0


def test_validation_is_on_seen_scanners_of_validation_patients(tmp_path):
    data = small.cohort(tmp_path)
    found = scans.read(data, small.trial(unseen_scanners=("B",)))
    judge = evaluation.validation(found)
    assert judge is not None
    table = found.table.iloc[judge.rows]
    assert set(table["part"]) == {"validation"} and "B" not in set(table["scanner"])
    weights = table.assign(weight=judge.weight).groupby("slide")["weight"].sum()
    np.testing.assert_allclose(weights, 1)
    assert len(judge.case_label) == len(table.groupby(["patient", "scanner"]))


def test_scores_of_several_classes_are_lists(tmp_path):
    found = scans.read(small.cohort(tmp_path), small.trial())
    rows = np.array([1, 4])
    scores = np.arange(6, dtype=np.float64).reshape(2, 3)
    frame = predictions(found, rows, scores)
    assert [list(score) for score in frame["score"]] == scores.tolist()
    assert list(frame["view"]) == list(found.table["view"].iloc[rows])


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_scores_are_stored_as_they_are(tmp_path, precision: str):
    found = scans.read(small.cohort(tmp_path), small.trial())
    for num_columns in (1, 3):
        scores = np.full((2, num_columns), 1 / 3, precision)
        frame = predictions(found, np.array([1, 4]), scores)
        stored = frame["score"].to_numpy() if num_columns == 1 else np.stack(frame["score"])
        assert stored.dtype == precision
        assert np.array_equal(stored.reshape(2, -1), scores)


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=30))
def test_chunks_cover_all_bags_within_the_bound(sizes: list[int]):
    found = list(evaluation.chunks(np.array(sizes)))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(sizes)))
    for chunk in found:
        padded = len(chunk) * max(sizes[place] for place in chunk)
        assert padded <= 8192 or len(chunk) == 1


def test_a_scan_of_an_unknown_scanner_is_no_scanner_of_its_own_where_others_are_named(tmp_path):
    def blank(names):
        views = [
            dataclasses.replace(view, scanner="" if view.scanner in names else view.scanner)
            for view in small.views()
        ]
        dataset = small.cohort(
            tmp_path / str(len(names)),
            views,
            load=lambda view: small.bag(dataclasses.replace(view, scanner=view.scan[-1])),
        )
        found = scans.read(dataset, small.routine())
        return evaluation.validation(found)

    known, one_unknown, all_unknown = blank(()), blank(("C",)), blank(("A", "B", "C"))
    assert set(known.case_scanner) == {0, 1, 2}
    assert set(one_unknown.case_scanner) == {-1, 0, 1}
    assert set(all_unknown.case_scanner) == {0}
    scores = np.random.default_rng(0).normal(size=(len(known.rows), 1))
    named = one_unknown.case_scanner >= 0
    each = [
        evaluation.grouped_auroc(
            one_unknown.case_label[one_unknown.case_scanner == number],
            one_unknown._cases(scores)[one_unknown.case_scanner == number][:, 0],
            np.zeros((one_unknown.case_scanner == number).sum(), int),
            1,
        )[0]
        for number in (0, 1)
    ]
    assert named.any() and one_unknown.auroc(scores) == pytest.approx(np.nanmean(each))
