import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from sklearn.linear_model import LogisticRegression

from training.data.input_erasure import leace, paired_erasure
from training.data.input_map import Erasure
from training.errors import DataError


def scans(
    seed: int = 0, *, num: int = 12, tiles: int = 40, dim: int = 6, groups: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Correlated tiles, [scan, tile, feature], moved by the scan's group; and the groups."""
    rng = np.random.default_rng(seed)
    which = np.concatenate([np.arange(groups), rng.integers(groups, size=num - groups)])
    x = rng.normal(size=(num, tiles, dim)) + 0.3 * rng.normal(size=(num, 1, dim))
    return x @ rng.normal(size=(dim, dim)) + rng.normal(size=(groups, dim))[which][:, None], which


def fitted(x: np.ndarray, which: np.ndarray) -> Erasure:
    mean = x.mean(1)
    within = np.mean([np.cov(each.T, ddof=0) for each in x], axis=0)
    return leace(torch.from_numpy(within), mean, which)


def applied(found: Erasure, x: np.ndarray) -> np.ndarray:
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    return found.apply(torch.from_numpy(x.copy()), mask, np.arange(len(x))).numpy()


def test_leace_is_the_closed_form():
    x, which = scans()
    flat, z = x.reshape(-1, x.shape[-1]), np.eye(3)[np.repeat(which, x.shape[1])]
    centred = flat - flat.mean(0)
    root = linalg.sqrtm(centred.T @ centred / len(flat))
    W = linalg.pinv(root)
    span = linalg.orth(W @ (centred.T @ (z - z.mean(0)) / len(flat)), rcond=1e-8)
    expected = flat - centred @ (linalg.pinv(W) @ span @ span.T @ W).T
    np.testing.assert_allclose(applied(fitted(x, which), x), expected.reshape(x.shape), atol=1e-10)


def test_leace_agrees_with_the_authors_package():
    with warnings.catch_warnings():  # it compiles with torch.jit.script when it is imported
        for kind in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)
        from concept_erasure import LeaceFitter
    x, which = scans(1)
    flat = torch.from_numpy(x.reshape(-1, x.shape[-1]))
    z = torch.from_numpy(np.eye(3)[np.repeat(which, x.shape[1])])
    theirs = LeaceFitter.fit(flat, z, shrinkage=False, svd_tol=1e-6).eraser(flat)
    np.testing.assert_allclose(
        applied(fitted(x, which), x), theirs.view(x.shape).numpy(), atol=1e-10
    )


def test_a_linear_probe_cannot_tell_the_groups_of_erased_tiles():
    x, which = scans(2, num=20, groups=2)
    z = np.repeat(which, x.shape[1])
    constant = max(np.mean(z), 1 - np.mean(z))

    def share_found(x: np.ndarray) -> float:
        flat = x.reshape(len(z), -1)
        flat = (flat - flat.mean(0)) / flat.std(0)
        probe = LogisticRegression(C=np.inf, max_iter=1000).fit(flat, z)
        return float(probe.score(flat, z))

    assert share_found(x) > constant + 0.2
    assert share_found(applied(fitted(x, which), x)) == constant


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(2, 40))
def test_erased_groups_have_one_mean_even_with_fewer_tiles_than_features(seed, groups, dim):
    x, which = scans(seed, num=7, tiles=3, dim=dim, groups=groups)
    erased = applied(fitted(x, which), x)
    means = np.array([erased[which == each].mean((0, 1)) for each in range(groups)])
    np.testing.assert_allclose(means, np.broadcast_to(x.mean((0, 1)), means.shape), atol=1e-6)
    np.testing.assert_allclose(applied(fitted(x, which), erased), erased, atol=1e-6)


def test_leace_moves_tiles_less_than_an_orthogonal_projection():
    x, which = scans(3)
    means = np.array([x[which == each].mean((0, 1)) for each in range(3)])
    span = linalg.orth((means - x.mean((0, 1))).T)
    orthogonal = x - (x - x.mean((0, 1))) @ span @ span.T
    moved = np.square(applied(fitted(x, which), x) - x).sum()
    assert 0 < moved < np.square(orthogonal - x).sum()


def test_features_of_very_different_size_are_erased_in_float32():
    x, which = scans(6, num=20)
    x = (x + 1) * 10.0 ** np.arange(-6, 6, 2)
    constant = np.full((*x.shape[:2], 1), 0.1)
    x = np.concatenate([x, constant, x[..., :1] + x[..., 1:2]], axis=2).astype(np.float32)
    found = fitted(x.astype(np.float64), which).to(torch.float32, torch.device("cpu"))
    erased = applied(found, x).astype(np.float64)

    def apart(x: np.ndarray) -> np.ndarray:
        means = np.array([x[which == each].mean((0, 1)) for each in range(3)])
        return np.ptp(means, axis=0)[[1, 2, 3, 4, 5, 7]] / x.std((0, 1))[[1, 2, 3, 4, 5, 7]]

    assert apart(x.astype(np.float64)).min() > 0.1
    assert apart(erased).max() < 1e-3
    np.testing.assert_allclose(erased[..., 6], 0.1, rtol=1e-6)


def test_groups_that_do_not_differ_leave_tiles_as_they_are():
    x, _ = scans(4)
    found = fitted(np.concatenate([x, x]), np.repeat([0, 1], len(x)))
    assert found.left.shape == (6, 0)
    assert (applied(found, x) == x).all()


def test_paired_erasure_finds_a_planted_subspace():
    rng = np.random.default_rng(5)
    planted = np.linalg.qr(rng.normal(size=(20, 3)))[0]
    apart = rng.normal(size=(500, 3)) @ np.diag([5, 4, 3]) @ planted.T
    apart += 0.1 * rng.normal(size=apart.shape)
    found = paired_erasure(torch.from_numpy(apart.T @ apart / 500), np.full(20, 2.0), 3)
    assert linalg.subspace_angles(found.left.numpy(), planted).max() < 0.01
    x = rng.normal(size=(2, 5, 20)) + 2
    erased = applied(found, x)
    np.testing.assert_allclose((erased - 2) @ found.left.numpy(), 0, atol=1e-12)
    rest = np.eye(20) - found.left.numpy() @ found.left.numpy().T
    np.testing.assert_allclose((erased - 2) @ rest, (x - 2) @ rest, atol=1e-12)


def test_a_move_that_all_tiles_share_is_erased():
    """It has no variance, so that the second moment is taken about zero."""
    move = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    found = paired_erasure(move.T @ move, np.zeros(2), 1)
    np.testing.assert_allclose(applied(found, np.array([[[3.0, 4.0], [4.0, -3.0]]])), [
        [[0, 0], [4, -3]]
    ], atol=1e-12)  # fmt: skip


def test_directions_in_which_nothing_differs_stay():
    square = torch.diag(torch.tensor([2.0, 1.0, 0.0, 0.0], dtype=torch.float64))
    assert paired_erasure(square, np.zeros(4), 3).left.shape == (4, 2)
    assert paired_erasure(0 * square, np.zeros(4), 3).left.shape == (4, 0)


def test_pairs_without_shared_tiles_are_refused():
    with pytest.raises(DataError, match="no two scans of a training slide share a tile number"):
        paired_erasure(None, np.zeros(4), 3)
