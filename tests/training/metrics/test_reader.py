import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from training.metrics import reader


def cases(seed: int = 0):
    generator = np.random.default_rng(seed)
    patient = np.repeat(np.arange(20), 3)
    features = generator.normal(size=(60, 7))
    targets = generator.integers(0, 3, (4, 60))
    features[:, 0] += targets[0]
    return features, targets, patient, generator.normal(size=(9, 7))


def test_the_logistic_regression_is_scikit_learns_for_every_draw():
    features, targets, _, _ = cases()
    design = np.broadcast_to(np.concatenate([features, np.ones((60, 1))], axis=1), (4, 60, 8))
    wanted = (targets[..., None] == np.arange(3)).astype(float)
    weights = reader.fit_logistic(np.ascontiguousarray(design), wanted, penalty=2.0)
    for draw, target in enumerate(targets):
        model = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000).fit(features, target)
        logits = design[draw] @ weights[draw]
        chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(chance, model.predict_proba(features), atol=1e-3)


@pytest.mark.parametrize("ridge", [1e-4, 1.0])
def test_scores_come_from_ridge_regressions_without_the_cases_patient(monkeypatch, ridge):
    features, targets, patient, test = cases()
    monkeypatch.setattr(reader, "_RIDGES", (ridge,))
    wanted = (targets[..., None] == np.arange(3)).astype(float)
    left_out, read_off = reader._ridge(features, wanted, patient, test)
    centred = features - features.mean(0)
    penalty = ridge * np.linalg.eigvalsh(centred @ centred.T).clip(0).mean()
    for draw in range(4):
        whole = Ridge(alpha=penalty).fit(features, wanted[draw])
        np.testing.assert_allclose(read_off[draw], whole.predict(test), atol=1e-8)
        for each in (0, 7, 19):
            own = patient == each
            model = Ridge(alpha=penalty).fit(features[~own], wanted[draw][~own])
            np.testing.assert_allclose(left_out[draw][own], model.predict(features[own]), atol=1e-8)


def test_each_draw_is_read_as_if_alone():
    features, targets, patient, test = cases()
    together = reader.read(features, targets, patient, test, num_classes=3)
    for draw in range(4):
        alone = reader.read(features, targets[draw : draw + 1], patient, test, num_classes=3)
        np.testing.assert_allclose(together[draw], alone[0], atol=1e-3)


def test_embeddings_without_variance_tell_the_class_shares():
    targets = np.array([[0, 0, 0, 1]])
    logits = reader.read(np.ones((4, 2)), targets, np.arange(4), np.ones((1, 2)), num_classes=2)
    chance = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    assert abs(chance[0, 0, 0] - 0.75) < 0.15
