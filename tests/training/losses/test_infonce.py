import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.losses.infonce import bag_infonce, tile_infonce

RULES = ["other_scanner", "anchor_scanner", "mixed"]
rules = pytest.mark.parametrize("negatives", RULES)


def is_negative(rule, side, anchor_side, scanner, anchor_scanner, positive_scanner):
    """Say whether a scan may be a negative by its side and scanner alone."""
    if rule == "other_scanner":
        return side != anchor_side and scanner == positive_scanner
    if rule == "anchor_scanner":
        return side == anchor_side and scanner == anchor_scanner
    return True


def slow_tile(sides, matched, tau, scanners, patient, rule):
    """Loop over every anchor and every candidate; a bag is a pair with one tile."""
    total, num_anchors = 0.0, 0
    num_pairs, num_tiles = matched.shape
    owners = np.broadcast_to(patient, (2, num_pairs))
    unit = [s / np.linalg.norm(s, axis=-1, keepdims=True) for s in sides]
    for a_side in (0, 1):
        for i, t in np.ndindex(num_pairs, num_tiles):
            if not matched[i, t]:
                continue
            anchor = unit[a_side][i, t]
            positive = math.exp(anchor @ unit[1 - a_side][i, t] / tau)
            rest = 0.0
            for side, j, u in np.ndindex(2, num_pairs, num_tiles):
                if not matched[j, u] or (i, t) == (j, u):
                    continue
                if i != j and owners[side][j] in owners[:, i]:
                    continue
                scanner = scanners[side][j]
                own, other = scanners[a_side][i], scanners[1 - a_side][i]
                if is_negative(rule, side, a_side, scanner, own, other):
                    rest += math.exp(anchor @ unit[side][j, u] / tau)
            total -= math.log(positive / (positive + rest))
            num_anchors += 1
    return total / max(num_anchors, 1)


def example(seed, num_pairs, num_tiles, dim=3):
    draw = np.random.default_rng(seed)
    sides = draw.normal(size=(2, num_pairs, num_tiles, dim))
    matched = draw.random((num_pairs, num_tiles)) < 0.7
    scanners = draw.integers(0, 3, size=(2, num_pairs))
    patient = draw.integers(0, max(num_pairs - 1, 1), size=num_pairs)
    return sides, matched, scanners, patient


def bag(sides, scanners, patient, *, temperature=0.5, negatives="mixed"):
    first, second = (torch.as_tensor(s) for s in sides)
    owners = np.array(np.broadcast_to(patient, (2, len(first))))
    a, b, p, other = map(torch.as_tensor, (*scanners, *owners))
    return bag_infonce(
        first,
        second,
        temperature=temperature,
        first_scanner=a,
        second_scanner=b,
        patient=p,
        second_patient=other if np.ndim(patient) > 1 else None,
        negatives=negatives,
    )


def tile(sides, matched, scanners, patient, *, temperature=0.5, negatives="mixed"):
    first, second = (torch.as_tensor(s) for s in sides)
    owners = np.array(np.broadcast_to(patient, (2, len(first))))
    a, b, p, other = map(torch.as_tensor, (*scanners, *owners))
    return tile_infonce(
        first,
        second,
        matched=torch.as_tensor(matched),
        temperature=temperature,
        first_scanner=a,
        second_scanner=b,
        patient=p,
        second_patient=other if np.ndim(patient) > 1 else None,
        negatives=negatives,
    )


@pytest.mark.parametrize(
    ("negatives", "expected"),
    [
        # q1a = (1, 0), q1b = (0, 1), q2a = (0, 1), q2b = (1, 0), tau = 1: every positive has
        # similarity 0, across scanners the negative has 1, on the own scanner 0.
        ("other_scanner", math.log(1 + math.e)),
        ("anchor_scanner", math.log(2)),
        ("mixed", math.log(2 + math.e)),
    ],
)
def test_each_rule_equals_the_value_by_hand(negatives, expected):
    first = torch.tensor([[3.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    second = torch.tensor([[0.0, 5.0], [0.1, 0.0]], dtype=torch.float64)
    arguments = ([0, 0], [1, 1]), [0, 1]
    loss = bag((first, second), *arguments, temperature=1.0, negatives=negatives)
    assert loss.item() == pytest.approx(expected, abs=1e-14)
    every = torch.ones(2, 1, dtype=torch.bool)
    sides = first[:, None], second[:, None]
    loss = tile(sides, every, *arguments, temperature=1.0, negatives=negatives)
    assert loss.item() == pytest.approx(expected, abs=1e-14)


def test_perfect_alignment_equals_the_value_by_hand():
    both = torch.eye(3, dtype=torch.float64)
    loss = bag((both, both), ([0] * 3, [1] * 3), [0, 1, 2], temperature=0.1)
    # Positive 1, four negatives at 0: log(1 + 4 exp(-1 / tau)).
    assert loss.item() == pytest.approx(math.log1p(4 * math.exp(-10)), abs=1e-14)


def test_a_scan_on_a_third_scanner_is_no_negative():
    sides = example(0, 3, 1)[0][:, :, 0]
    two = bag(sides[:, :2], ([0, 0], [1, 1]), [0, 1], negatives="other_scanner")
    three = bag(sides, ([0, 0, 2], [1, 1, 3]), [0, 1, 2], negatives="other_scanner")
    assert three.item() * 3 == pytest.approx(two.item() * 2, rel=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.sampled_from(RULES), st.floats(0.05, 2.0))
def test_bag_loss_equals_a_loop(seed, num_pairs, negatives, tau):
    sides, _, scanners, patient = example(seed, num_pairs, 1)
    every = np.ones((num_pairs, 1), dtype=bool)
    loss = bag(sides[:, :, 0], scanners, patient, temperature=tau, negatives=negatives)
    expected = slow_tile(sides, every, tau, scanners, patient, negatives)
    assert loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-13)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4), st.sampled_from(RULES))
def test_tile_loss_equals_a_loop(seed, num_pairs, num_tiles, negatives):
    sides, matched, scanners, patient = example(seed, num_pairs, num_tiles)
    loss = tile(sides, matched, scanners, patient, negatives=negatives)
    expected = slow_tile(sides, matched, 0.5, scanners, patient, negatives)
    assert loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-13)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3), st.sampled_from(RULES))
def test_pairs_of_two_patients_have_negatives_of_neither(seed, num_pairs, num_tiles, negatives):
    sides, matched, scanners, _ = example(seed, num_pairs, num_tiles)
    patient = np.random.default_rng([seed, 1]).integers(0, 4, size=(2, num_pairs))
    loss = tile(sides, matched, scanners, patient, negatives=negatives)
    expected = slow_tile(sides, matched, 0.5, scanners, patient, negatives)
    assert loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-13)
    loss = bag(sides[:, :, 0], scanners, patient, negatives=negatives)
    every = np.ones((num_pairs, 1), dtype=bool)
    expected = slow_tile(sides[:, :, :1], every, 0.5, scanners, patient, negatives)
    assert loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-13)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from(RULES))
def test_order_of_pairs_scans_and_scales_does_not_matter(seed, num_pairs, negatives):
    sides, matched, scanners, patient = example(seed, num_pairs, 3)
    draw = np.random.default_rng(seed)
    order = draw.permutation(num_pairs)
    loss = tile(sides, matched, scanners, patient, negatives=negatives)
    for changed in (
        tile(sides[::-1].copy(), matched, scanners[::-1].copy(), patient, negatives=negatives),
        tile(
            sides[:, order], matched[order], scanners[:, order], patient[order], negatives=negatives
        ),
        tile(
            sides * draw.uniform(1e-3, 1e3, (2, num_pairs, 3, 1)),
            matched,
            scanners,
            patient,
            negatives=negatives,
        ),
    ):
        torch.testing.assert_close(changed, loss, rtol=1e-10, atol=1e-13)
    bags = bag(sides[:, :, 0], scanners, patient, negatives=negatives)
    swapped = bag(sides[::-1, :, 0].copy(), scanners[::-1].copy(), patient, negatives=negatives)
    torch.testing.assert_close(swapped, bags, rtol=1e-10, atol=1e-13)


@rules
def test_gradient_equals_finite_differences(negatives):
    sides, matched, scanners, patient = example(2, 4, 3)
    tau = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    tiles = [torch.from_numpy(s).requires_grad_() for s in sides]

    def of_tiles(a, b, t):
        return tile((a, b), matched, scanners, patient, temperature=t, negatives=negatives)

    def of_bags(a, b, t):
        return bag((a, b), scanners, patient, temperature=t, negatives=negatives)

    assert torch.autograd.gradcheck(of_tiles, (*tiles, tau))
    bags = [torch.from_numpy(s[:, 0]).requires_grad_() for s in sides]
    assert torch.autograd.gradcheck(of_bags, (*bags, tau))


@rules
@pytest.mark.parametrize("level", ["bag", "tile"])
def test_lanes_with_their_own_temperature_equal_a_loop_over_lanes(negatives, level):
    sides, matched, scanners, patient = example(5, 5, 3)

    def loss(a, b, tau):
        if level == "bag":
            return bag((a[:, 0], b[:, 0]), scanners, patient, temperature=tau, negatives=negatives)
        return tile((a, b), matched, scanners, patient, temperature=tau, negatives=negatives)

    first, second = map(torch.from_numpy, sides)
    lanes = (
        torch.stack([first, second, first + second]),
        torch.stack([second, first, first]),
        torch.tensor([0.1, 0.3, 1.0], dtype=torch.float64),
    )
    grad = torch.func.grad_and_value(loss, argnums=(0, 1))
    gradients, losses = torch.func.vmap(grad)(*lanes)
    for k, lane in enumerate(zip(*lanes, strict=True)):
        alone, value = grad(*lane)
        torch.testing.assert_close(losses[k], value, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(gradients[0][k], alone[0], rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(gradients[1][k], alone[1], rtol=1e-10, atol=1e-13)


@rules
@pytest.mark.parametrize("patient", [[0], [4, 4]])
def test_an_anchor_without_negatives_gives_zero_with_zero_gradient(negatives, patient):
    num = len(patient)
    first, second = torch.randn(2, num, 8, generator=torch.Generator().manual_seed(1))
    first.requires_grad_()
    loss = bag(
        (first, second), ([0] * num, [1] * num), patient, temperature=0.05, negatives=negatives
    )
    loss.backward()
    assert loss.item() == 0
    assert (first.grad == 0).all()
    first.grad = None
    one_tile = torch.ones(num, 1, dtype=torch.bool)
    sides = first[:, None], second[:, None]
    loss = tile(sides, one_tile, ([0] * num, [1] * num), patient, negatives=negatives)
    loss.backward()
    assert loss.item() == 0
    assert (first.grad == 0).all()


@rules
@pytest.mark.parametrize(("num_pairs", "num_tiles"), [(0, 3), (2, 3), (2, 0)])
def test_no_pair_gives_zero_with_a_gradient(negatives, num_pairs, num_tiles):
    first = torch.ones(num_pairs, num_tiles, 4, requires_grad=True)
    ids = torch.arange(num_pairs)
    nothing = torch.zeros(num_pairs, num_tiles, dtype=torch.bool)
    loss = tile((first, first.detach()), nothing, (ids, ids), ids, negatives=negatives)
    loss.backward()
    assert loss.item() == 0
    assert (first.grad == 0).all()


@rules
def test_no_bag_pair_gives_zero_with_a_gradient(negatives):
    first = torch.ones(0, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    loss = bag((first, first.detach()), (none, none), none, negatives=negatives)
    loss.backward()
    assert loss.item() == 0
    assert first.grad.shape == (0, 4)


@rules
def test_unmatched_tiles_may_hold_anything(negatives):
    sides, matched, scanners, patient = example(7, 4, 4)
    clean = tile(sides, matched, scanners, patient, negatives=negatives)
    sides[:, ~matched] = np.nan
    first, second = (torch.from_numpy(s).requires_grad_() for s in sides)
    loss = tile((first, second), matched, scanners, patient, negatives=negatives)
    loss.backward()
    torch.testing.assert_close(loss, clean, rtol=0, atol=0)
    assert torch.isfinite(first.grad).all()
    assert (first.grad[torch.from_numpy(~matched)] == 0).all()


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_zero_tiny_and_huge_embeddings_stay_finite(scale):
    first, second = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(2))
    first[0] *= scale
    first.requires_grad_()
    loss = bag((first, second), ([0] * 4, [1] * 4), list(range(4)), temperature=0.01)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(first.grad).all()
    if scale == 0:
        assert (first.grad[0] == 0).all()


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="'any'"):
        bag(torch.ones(2, 1, 2), ([0], [1]), [0], negatives="any")
