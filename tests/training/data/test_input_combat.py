"""ComBat against the paper's equations, written feature by feature and scan by scan."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.input_combat import combat

GROUP = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 0, 0])
LABEL = np.array([0, 1, 2, 1, 1, 0, 2, 0, 0, 1, 2, 0, 1])


def scans(seed: int = 0, dim: int = 6, group: np.ndarray = GROUP, label: np.ndarray = LABEL):
    rng = np.random.default_rng(seed)
    location, scale = rng.normal(size=(3, dim)), rng.uniform(0.5, 2, size=(3, dim))
    noise = rng.normal(size=(len(group), dim)) * rng.uniform(1, 3, dim)
    return rng.normal(size=(3, dim))[label] + location[group] + scale[group] * noise


def by_the_paper(Y, group, label, *, mean_only):
    """Give the paper's adjusted values, with the class known, and gamma* and delta*² of groups."""
    num_scans, dim = Y.shape
    classes = sorted(set(label.tolist()))
    columns = [[float(g == each) for g in group] for each in sorted(set(group.tolist()))]
    columns += [[float(c == each) for c in label] for each in classes[1:]]
    design = np.array(columns).T
    Z, level, sigma = np.empty_like(Y), np.empty_like(Y), np.empty(dim)
    num_groups = len(set(group.tolist()))
    for f in range(dim):
        solution = np.linalg.solve(design.T @ design, design.T @ Y[:, f])
        # The constraint: the groups' effects, weighted by their scans, sum to zero.
        alpha = sum(np.sum(group == g) * solution[g] for g in range(num_groups)) / num_scans
        for j in range(num_scans):
            level[j, f] = alpha + design[j, num_groups:] @ solution[num_groups:]
        sigma[f] = math.sqrt(np.mean((Y[:, f] - design @ solution) ** 2))
        Z[:, f] = (Y[:, f] - level[:, f]) / sigma[f]
    adjusted, gammas, deltas = np.empty_like(Y), [], []
    for g in range(num_groups):
        members = [j for j in range(num_scans) if group[j] == g]
        n, mine = len(members), Z[members]
        gamma_hat = [sum(mine[:, f]) / n for f in range(dim)]
        delta2_hat = [
            sum((z - gamma_hat[f]) ** 2 for z in mine[:, f]) / (n - 1) for f in range(dim)
        ]
        gamma_bar = sum(gamma_hat) / dim
        tau2 = sum((each - gamma_bar) ** 2 for each in gamma_hat) / (dim - 1)
        V = sum(delta2_hat) / dim
        S2 = sum((each - V) ** 2 for each in delta2_hat) / (dim - 1)
        lam, theta = (V**2 + 2 * S2) / S2, (V**3 + V * S2) / S2
        for f in range(dim):
            gamma, delta2 = gamma_hat[f], 1.0 if mean_only else delta2_hat[f]
            for _ in range(200):
                gamma = (n * tau2 * gamma_hat[f] + delta2 * gamma_bar) / (n * tau2 + delta2)
                if not mean_only:
                    square = sum((z - gamma) ** 2 for z in mine[:, f])
                    delta2 = (theta + square / 2) / (n / 2 + lam - 1)
            gammas.append(gamma)
            deltas.append(delta2)
            for j in members:
                adjusted[j, f] = sigma[f] / math.sqrt(delta2) * (Z[j, f] - gamma) + level[j, f]
    shape = num_groups, dim
    return adjusted, level, np.reshape(gammas, shape), np.reshape(deltas, shape)


def test_with_the_location_alone_it_is_the_papers_adjustment():
    Y = scans()
    expected, *_ = by_the_paper(Y, GROUP, LABEL, mean_only=True)
    scale, shift = combat(Y, GROUP, LABEL, mean_only=True)
    assert (scale == 1).all()
    np.testing.assert_allclose(Y + shift[GROUP], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("label", [LABEL, None], ids=["label", "none"])
def test_with_the_scale_it_differs_from_the_paper_as_its_docstring_says(label):
    Y = scans()
    known = np.zeros_like(LABEL) if label is None else label
    expected, level, _, delta2 = by_the_paper(Y, GROUP, known, mean_only=False)
    scale, shift = combat(Y, GROUP, label, mean_only=False)
    inverse = 1 / np.sqrt(delta2[GROUP])
    np.testing.assert_allclose(scale[GROUP], inverse, rtol=1e-8)
    explained = level - level.mean(0)  # the class's part, of mean zero over the scans
    found = scale[GROUP] * Y + shift[GROUP]
    np.testing.assert_allclose(found, expected + explained * (inverse - 1), rtol=1e-8, atol=1e-8)
    if label is None:
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


def test_what_the_class_explains_stays_where_class_and_group_go_together():
    rng = np.random.default_rng(3)
    group = np.repeat([0, 1], 60)
    label = (rng.random(120) < np.where(group, 0.9, 0.1)).astype(np.int64)
    Y = 5.0 * label[:, None] + 0.1 * rng.normal(size=(120, 8))
    _, kept = combat(Y, group, label, mean_only=True)
    _, lost = combat(Y, group, None, mean_only=True)
    assert np.abs(kept).max() < 0.1
    assert np.abs(lost[0] - lost[1]).min() > 3


def test_locations_and_scales_of_groups_become_alike():
    rng = np.random.default_rng(4)
    group, label = np.arange(240) % 3, np.arange(240) // 120
    noise = np.array([0.5, 1, 2])[group][:, None] * rng.normal(size=(240, 8))
    Y = 2.0 * label[:, None] + 10.0 * group[:, None] + noise
    scale, shift = combat(Y, group, label, mean_only=False)
    found = scale[group] * Y + shift[group]
    means = np.array([found[group == each].mean(0) for each in range(3)])
    assert np.ptp(means, axis=0).max() < 0.5
    in_class = found[label == 1], group[label == 1]
    spreads = np.array([in_class[0][in_class[1] == each].std(0) for each in range(3)])
    assert (spreads.max(0) / spreads.min(0)).max() < 1.4


def test_a_group_of_one_scan_is_moved_and_not_scaled():
    group = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    Y = scans(group=group, label=np.array([0, 1, 0, 1, 0, 1, 0, 1]))
    scale, shift = combat(Y, group, None, mean_only=False)
    assert (scale[2] == 1).all() and (shift[2] != 0).all()
    assert (scale[:2] != 1).all() and np.isfinite(shift).all()


def test_features_that_are_constant_given_class_and_group_stay():
    Y = scans()
    constant = np.full((len(Y), 1), 7.3)
    of_class, of_group = 1.0 + LABEL[:, None], 3.0 * GROUP[:, None]
    scale, shift = combat(
        np.hstack([constant, Y, of_class, of_group]), GROUP, LABEL, mean_only=False
    )
    alone, moved = combat(Y, GROUP, LABEL, mean_only=False)
    np.testing.assert_allclose(scale[:, 1:-2], alone, rtol=1e-9)
    np.testing.assert_allclose(shift[:, 1:-2], moved, rtol=1e-9)
    for column in (0, -2, -1):
        assert (scale[:, column] == 1).all() and (shift[:, column] == 0).all()


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("copies", [1, 2])
def test_few_features_or_scans_that_repeat_give_finite_maps(dim: int, copies: int):
    Y = np.repeat(scans(dim=dim)[:6], copies, axis=0)
    Y[GROUP[:6].repeat(copies) == 1] = Y[1]
    scale, shift = combat(Y, GROUP[:6].repeat(copies), None, mean_only=False)
    assert np.isfinite(scale).all() and np.isfinite(shift).all() and (scale > 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-100, 100), st.booleans())
def test_units_and_names_do_not_matter(seed, factor, offset, mean_only):
    Y = scans(seed)
    scale, shift = combat(Y, GROUP, LABEL, mean_only=mean_only)
    other, moved = combat(factor * Y + offset, GROUP, LABEL, mean_only=mean_only)
    np.testing.assert_allclose(other, scale, rtol=1e-6)
    size = 1e-6 * factor * np.abs(Y).max() + 1e-9 * abs(offset)
    np.testing.assert_allclose(moved, factor * shift + offset * (1 - scale), rtol=1e-6, atol=size)
    renamed, same = combat(Y, (GROUP + 1) % 3, 2 - LABEL, mean_only=mean_only)
    np.testing.assert_allclose(renamed[[1, 2, 0]], scale, rtol=1e-7)
    np.testing.assert_allclose(same[[1, 2, 0]], shift, rtol=1e-7, atol=1e-9)
