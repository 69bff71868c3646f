import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from training.metrics.probe import folds, probe, standardised


def scans(strength: float, seed: int = 0, num_patients: int = 40, num_scanners: int = 3):
    """Each patient on every scanner; scanners differ by a shift of the embeddings."""
    generator = np.random.default_rng(seed)
    patient = np.repeat(np.arange(num_patients), num_scanners)
    scanner = np.tile(np.arange(num_scanners), num_patients)
    embeddings = generator.normal(size=(num_patients, 10))[patient]
    embeddings = embeddings + 0.3 * generator.normal(size=(len(patient), 10))
    return embeddings + strength * generator.normal(size=(3, 10))[scanner], scanner, patient


def test_folds_keep_patients_together_and_deal_classes_out():
    target, patient = np.repeat([0, 0, 0, 0, 1, 1, 1, 1], 3), np.repeat(np.arange(8), 3)
    seen = []
    for train, test in folds(target, patient, generator=np.random.default_rng(0), num_folds=4):
        assert not set(patient[train]) & set(patient[test])
        assert len(train) + len(test) == 24 and set(target[test]) == {0, 1}
        seen += test.tolist()
    assert sorted(seen) == list(range(24))


def test_fewer_patients_than_folds_make_fewer_folds():
    generator = np.random.default_rng(0)
    patient = np.array([3, 3, 9, 9])
    assert len(list(folds(patient * 0, patient, generator=generator, num_folds=5))) == 2
    assert not list(folds(np.zeros(2, int), np.ones(2, int), generator=generator, num_folds=5))


def test_components_have_unit_variance_on_the_training_part_alone():
    embeddings = np.random.default_rng(0).normal(size=(30, 4)) * [1, 5, 9, 0] + 7
    train, test = np.arange(20), np.arange(20, 30)
    seen, held_out = standardised(embeddings, train, test, num_components=None)
    assert seen.shape == (20, 3) and held_out.shape == (10, 3)
    np.testing.assert_allclose(np.cov(seen.T, bias=True), np.eye(3), atol=1e-9)
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-9)
    fewer, _ = standardised(embeddings, train, test, num_components=2)
    np.testing.assert_allclose(fewer, seen[:, :2])
    flat, other = standardised(np.ones((4, 3)), np.arange(3), np.array([3]), num_components=None)
    assert flat.shape == (3, 1) and not flat.any() and not other.any()


def test_a_probe_agrees_with_scikit_learn_fold_by_fold():
    embeddings, scanner, patient = scans(0.3)
    found = probe(embeddings, scanner, patient, generator=np.random.default_rng(5))
    chance = np.empty((len(scanner), 3))
    for train, test in folds(scanner, patient, generator=np.random.default_rng(5), num_folds=5):
        seen, held_out = standardised(embeddings, train, test, num_components=None)
        model = LogisticRegression(max_iter=5000).fit(seen, scanner[train])
        chance[test] = model.predict_proba(held_out)
    expected = roc_auc_score(scanner, chance, multi_class="ovr", average="macro")
    assert found.auroc == pytest.approx(expected, abs=1e-9)
    assert found.balanced_accuracy == balanced_accuracy_score(scanner, chance.argmax(1))
    assert found.num_classes == 3


def test_a_scanner_that_shows_is_found_and_one_that_does_not_is_not():
    clear = probe(*scans(2.0), generator=np.random.default_rng(0))
    assert clear.auroc > 0.99 and clear.balanced_accuracy > 0.95
    none = probe(*scans(0.0), generator=np.random.default_rng(0))
    assert abs(none.auroc - 0.5) < 0.12 and abs(none.balanced_accuracy - 1 / 3) < 0.12


def test_patients_are_no_shortcut():
    """Labels by patient, embeddings by patient: cases of a known patient would give it away."""
    generator = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), 4)
    embeddings = generator.normal(size=(60, 20))[patient]
    label = generator.integers(0, 2, 60)[patient]
    assert abs(probe(embeddings, label, patient, generator=generator).auroc - 0.5) < 0.2


def test_a_class_that_training_may_miss_makes_it_undefined():
    embeddings, scanner, patient = scans(1.0)
    scanner = np.where((scanner == 2) & (patient > 0), 1, scanner)
    assert np.isnan(probe(embeddings, scanner, patient, generator=np.random.default_rng(0)).auroc)
    one = probe(embeddings, scanner * 0, patient, generator=np.random.default_rng(0))
    assert np.isnan(one.auroc) and np.isnan(one.balanced_accuracy)
