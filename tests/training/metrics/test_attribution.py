import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import TruncatedSVD

from training.metrics.attribution import energy_share, scanner_subspace


def test_the_subspace_is_that_of_scikit_learns_truncated_svd():
    differences = np.random.default_rng(0).normal(size=(40, 9)) * np.arange(1, 10) + 2.0
    found = scanner_subspace(differences, rank=3)
    model = TruncatedSVD(3, algorithm="arpack").fit(differences)
    np.testing.assert_allclose(
        found.axes @ found.axes.T, model.components_.T @ model.components_, atol=1e-9
    )
    held = np.square(model.singular_values_).sum() / np.square(differences).sum()
    assert found.share == pytest.approx(held)


def test_an_offset_is_one_direction_that_holds_all():
    offset = np.array([3.0, 4.0, 0.0])
    found = scanner_subspace(np.stack([offset, -offset, offset]), rank=4)
    assert found.axes.shape == (3, 1) and found.share == pytest.approx(1)
    np.testing.assert_allclose(np.abs(found.axes[:, 0]), [0.6, 0.8, 0])


def test_without_differences_there_are_no_directions():
    for differences in (np.zeros((2, 5)), np.empty((0, 5))):
        found = scanner_subspace(differences, rank=4)
        assert found.axes.shape == (5, 0) and np.isnan(found.share)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_the_share_does_not_change_with_scale_or_rotation_and_lies_between_zero_and_one(seed: int):
    draw = np.random.default_rng(seed)
    gradients, differences = draw.normal(size=(5, 2, 6)), draw.normal(size=(8, 6))
    found = energy_share(gradients, scanner_subspace(differences, rank=2).axes)
    assert ((found >= 0) & (found <= 1)).all()
    turn, _ = np.linalg.qr(draw.normal(size=(6, 6)))
    turned = scanner_subspace(differences @ turn, rank=2).axes
    np.testing.assert_allclose(energy_share(7 * gradients @ turn, turned), found, atol=1e-9)


def test_energy_by_hand_and_of_random_gradients_is_the_rank_over_the_dimension():
    axes = np.eye(4)[:, :2]
    gradients = np.array([[[3.0, 0, 4, 0]], [[1, 1, 0, 0]], [[0, 0, 0, 1]], [[0, 0, 0, 0]]])
    np.testing.assert_allclose(energy_share(gradients, axes), [9 / 25, 1, 0, np.nan])
    two = np.array([[[1.0, 0, 0, 0], [0, 0, 0, 3]]])
    assert energy_share(two, axes)[0] == pytest.approx(1 / 10)
    many = np.random.default_rng(2).normal(size=(20000, 1, 4))
    assert energy_share(many, axes).mean() == pytest.approx(0.5, abs=0.01)
