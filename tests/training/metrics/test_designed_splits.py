import itertools
import math

import numpy as np
import pytest

from training.metrics.designed_splits import SHARES, designed, performance_drop

CLASSES = {0: 20, 1: 13, 2: 1}


def cases(scanners=3):
    """Patients of three classes, the last of one patient, each on all scanners, rows mixed."""
    rows = [
        (number, label, scanner)
        for number, label in enumerate(c for c, count in CLASSES.items() for _ in range(count))
        for scanner in range(scanners)
    ]
    mixed = np.random.default_rng(0).permutation(np.array(rows))
    return tuple(mixed[:, column] for column in (1, 2, 0))


def repetitions(num=6):
    generator = np.random.default_rng(1)
    return list(designed(*cases(), generator=generator, num_trials=num))


def test_classes_go_with_their_scanners_as_designed():
    label, scanner, patient = cases()
    for one in repetitions():
        low, high = np.unique(scanner[one.test])
        for share, train in zip(SHARES, one.train, strict=True):
            assert len(set(patient[train])) == len(train) == 12
            for own, each in ((low, 0), (high, 1)):
                mine = scanner[train][label[train] == each]
                assert len(mine) == 6 and (mine == own).sum() == math.ceil(share * 6)


def test_only_the_scanner_changes_between_training_sets_and_no_patient_is_in_train_and_test():
    label, scanner, patient = cases()
    for one in repetitions():
        for train in one.train:
            assert set(patient[train]) == set(patient[one.train[0]])
            assert not set(patient[train]) & set(patient[one.test])
        seen = list(zip(label[one.test].tolist(), scanner[one.test].tolist(), strict=True))
        assert sorted(set(seen)) == sorted({(c, s) for c in (0, 1) for s in scanner[one.test]})
        assert {seen.count(each) for each in seen} == {7}


def test_who_is_on_the_own_scanner_stays_there_at_a_larger_share():
    label, scanner, patient = cases()
    for one in repetitions():
        low, _ = np.unique(scanner[one.test])
        own = [
            set(patient[train][(scanner[train] == low) == (label[train] == 0)])
            for train in one.train
        ]
        assert all(a <= b for a, b in itertools.pairwise(own))


def test_all_pairs_of_scanners_take_turns():
    _, scanner, _ = cases()
    pairs = [tuple(np.unique(scanner[one.test])) for one in repetitions()]
    assert pairs[:3] == pairs[3:] and len(set(pairs)) == 3


def drop(strength: float, signal: float) -> float:
    label, scanner, patient = cases(scanners=2)
    noise = np.random.default_rng(2).normal(size=(len(label), 6))
    noise[:, 0] += signal * label
    noise[:, 1] += strength * scanner
    return performance_drop(noise, label, scanner, patient, generator=np.random.default_rng(3))


def test_a_scanner_that_shows_costs_accuracy_and_one_that_does_not_costs_none():
    assert drop(0.0, 30.0) == pytest.approx(0, abs=0.01)
    assert drop(30.0, 2.0) < -0.15
    assert abs(drop(0.0, 2.0)) < 0.1


def test_too_few_patients_on_two_scanners_have_no_drop():
    label, scanner, patient = cases()
    one = performance_drop(
        np.eye(len(label)), label, patient, patient, generator=np.random.default_rng(0)
    )
    assert math.isnan(one)
    few = np.isin(patient, [0, 1, 2, 30, 31, 32])
    given = (np.eye(few.sum()), label[few], scanner[few], patient[few])
    assert math.isnan(performance_drop(*given, generator=np.random.default_rng(0)))
