import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.losses.score import attention_loss, score_loss

FORMS = ["logit_mse", "probability_mse", "variance", "jensen_shannon", "huber"]
forms = pytest.mark.parametrize("form", FORMS)
columns = pytest.mark.parametrize("num_columns", [1, 3])


def distribution(s):
    logits = [0.0, s[0]] if len(s) == 1 else list(s)
    top = max(logits)
    odds = [math.exp(v - top) for v in logits]
    return [o / sum(odds) for o in odds]


def slow_pair(a, b, form):
    if form == "jensen_shannon":
        total = 0.0
        for p, q in zip(distribution(a), distribution(b), strict=True):
            total += p * math.log(2 * p / (p + q)) / 2 + q * math.log(2 * q / (p + q)) / 2
        return total
    if form == "probability_mse":
        p, q = distribution(a), distribution(b)
        if len(a) == 1:
            p, q = p[1:], q[1:]
        return sum((x - y) ** 2 for x, y in zip(p, q, strict=True)) / len(p)
    if len(a) > 1:
        a, b = [v - sum(a) / len(a) for v in a], [v - sum(b) / len(b) for v in b]
    values = []
    for x, y in zip(a, b, strict=True):
        middle, gap = (x + y) / 2, abs(x - y)
        values.append(
            {
                "logit_mse": gap**2,
                "variance": ((x - middle) ** 2 + (y - middle) ** 2) / 2,
                "huber": gap**2 / 2 if gap < 1 else gap - 0.5,
            }[form]
        )
    return sum(values) / len(values)


def example(seed, num_pairs, num_columns):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(2, num_pairs, num_columns)) * 2


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("logit_mse", math.log(3) ** 2),
        ("probability_mse", (3 / 4 - 1 / 2) ** 2),
        ("variance", math.log(3) ** 2 / 4),
        # 1/2 KL((3/4, 1/4) || (5/8, 3/8)) + 1/2 KL((1/2, 1/2) || (5/8, 3/8))
        (
            "jensen_shannon",
            (3 / 4 * math.log(6 / 5) + 1 / 4 * math.log(2 / 3)) / 2
            + (math.log(4 / 5) + math.log(4 / 3)) / 4,
        ),
        ("huber", math.log(3) - 1 / 2),
    ],
)
def test_each_form_equals_the_value_by_hand(form, expected):
    first = torch.tensor([[math.log(3)]], dtype=torch.float64)
    loss = score_loss(first, torch.zeros_like(first), form=form)
    assert loss.item() == pytest.approx(expected, abs=1e-15)


def test_class_logits_are_centred_by_hand():
    first = torch.tensor([[3.0, 0.0, 0.0]], dtype=torch.float64)  # centred: 2, -1, -1
    second = torch.full_like(first, 7.0)  # centred: 0, 0, 0
    assert score_loss(first, second, form="logit_mse").item() == pytest.approx(2.0, abs=1e-14)
    assert score_loss(first, second, form="variance").item() == pytest.approx(0.5, abs=1e-14)
    huber = (1.5 + 0.5 + 0.5) / 3
    assert score_loss(first, second, form="huber").item() == pytest.approx(huber, abs=1e-14)


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 8), st.sampled_from([1, 2, 5]), st.sampled_from(FORMS)
)
def test_loss_equals_a_loop(seed, num_pairs, num_columns, form):
    first, second = example(seed, num_pairs, num_columns)
    loss = score_loss(torch.from_numpy(first), torch.from_numpy(second), form=form)
    expected = np.mean([slow_pair(a, b, form) for a, b in zip(first, second, strict=True)])
    assert loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-14)


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 8), st.sampled_from([1, 4]), st.sampled_from(FORMS)
)
def test_order_of_pairs_and_of_scans_does_not_matter(seed, num_pairs, num_columns, form):
    first, second = map(torch.from_numpy, example(seed, num_pairs, num_columns))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(num_pairs))
    loss = score_loss(first, second, form=form)
    torch.testing.assert_close(score_loss(second, first, form=form), loss)
    torch.testing.assert_close(score_loss(first[order], second[order], form=form), loss)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-50, 50), st.sampled_from(FORMS))
def test_a_constant_on_all_class_logits_does_not_matter(seed, constant, form):
    first, second = map(torch.from_numpy, example(seed, 4, 3))
    torch.testing.assert_close(
        score_loss(first + constant, second, form=form), score_loss(first, second, form=form)
    )


@forms
@columns
def test_gradient_equals_finite_differences(form, num_columns):
    first, second = (torch.from_numpy(s).requires_grad_() for s in example(3, 5, num_columns))
    assert torch.autograd.gradcheck(lambda a, b: score_loss(a, b, form=form), (first, second))


@forms
@columns
def test_lanes_equal_a_loop_over_lanes(form, num_columns):
    first, second = map(torch.from_numpy, example(4, 5, num_columns))
    lanes = torch.stack([first, 2 * first, -first]), torch.stack([second, second, second / 2])
    grad = torch.func.grad_and_value(lambda a, b: score_loss(a, b, form=form), argnums=(0, 1))
    gradients, losses = torch.func.vmap(grad)(*lanes)
    for k, (a, b) in enumerate(zip(*lanes, strict=True)):
        alone, value = grad(a, b)
        torch.testing.assert_close(losses[k], value, rtol=1e-13, atol=1e-15)
        torch.testing.assert_close(gradients[0][k], alone[0], rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(gradients[1][k], alone[1], rtol=1e-12, atol=1e-15)


@forms
@columns
@pytest.mark.parametrize("num_pairs", [3, 7, 16])
def test_a_lane_is_bit_identical_in_every_position_and_company(form, num_columns, num_pairs):
    draw = torch.Generator().manual_seed(6)
    first, second = torch.randn(2, 9, num_pairs, num_columns, generator=draw) * 3
    grad = torch.func.grad_and_value(lambda a, b: score_loss(a, b, form=form), argnums=(0, 1))
    (by_first, by_second), losses = torch.func.vmap(grad)(first, second)
    for lanes in ([8, 0], [3, 8, 1], list(range(8, -1, -1))):
        gradients, values = torch.func.vmap(grad)(first[lanes], second[lanes])
        assert torch.equal(values, losses[lanes])
        assert torch.equal(gradients[0], by_first[lanes])
        assert torch.equal(gradients[1], by_second[lanes])


@forms
@columns
def test_no_pair_gives_zero_with_a_gradient(form, num_columns):
    first = torch.zeros(0, num_columns, requires_grad=True)
    loss = score_loss(first, torch.zeros(0, num_columns), form=form)
    loss.backward()
    assert loss.item() == 0
    assert first.grad.shape == (0, num_columns)


@forms
@columns
def test_equal_scores_give_zero(form, num_columns):
    first = torch.randn(6, num_columns, generator=torch.Generator().manual_seed(0)).double()
    first.requires_grad_()
    loss = score_loss(first, first.detach(), form=form)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-15)
    assert first.grad.abs().max() < 1e-15


@forms
@columns
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_logits_stay_finite(form, num_columns, dtype):
    first = torch.tensor([[1e4], [-1e4], [1e4], [0.0]], dtype=dtype).repeat(1, num_columns)
    first[:, -1] *= -1
    second = torch.tensor([[-1e4], [-1e4], [0.0], [1e4]], dtype=dtype).repeat(1, num_columns)
    first.requires_grad_()
    loss = score_loss(first, second, form=form)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(first.grad).all()


def test_opposite_certainties_have_the_largest_divergence():
    loss = score_loss(torch.tensor([[1e4]]), torch.tensor([[-1e4]]), form="jensen_shannon")
    assert loss.item() == pytest.approx(math.log(2))


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="'kl'"):
        score_loss(torch.zeros(1, 1), torch.zeros(1, 1), form="kl")


def attention(seed, num_pairs=3, num_tiles=5):
    draw = np.random.default_rng(seed)
    sides = draw.dirichlet(np.ones(num_tiles), size=(2, num_pairs))
    return *map(torch.from_numpy, sides), torch.from_numpy(draw.random(sides.shape[1:]) < 0.7)


def test_attention_of_shared_places_equals_the_value_by_hand():
    # Scaled over the two shared places: (3/4, 1/4) and (1/2, 1/2); as jensen_shannon above.
    first = torch.tensor([[0.3, 0.1, 0.6]], dtype=torch.float64)
    second = torch.tensor([[0.2, 0.2, 0.6]], dtype=torch.float64)
    matched = torch.tensor([[True, True, False]])
    expected = (3 / 4 * math.log(6 / 5) + 1 / 4 * math.log(2 / 3)) / 2
    expected += (math.log(4 / 5) + math.log(4 / 3)) / 4
    found = attention_loss(first, second, matched=matched)
    assert found.item() == pytest.approx(expected, abs=1e-15)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_attention_equals_a_loop_and_scans_may_swap(seed):
    first, second, matched = attention(seed)
    total = 0.0
    for a, b, keep in zip(first.numpy(), second.numpy(), matched.numpy(), strict=True):
        if keep.any():
            p, q = a[keep] / a[keep].sum(), b[keep] / b[keep].sum()
            total += sum(p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))) / 2
    found = attention_loss(first, second, matched=matched)
    assert found.item() == pytest.approx(total / 3, abs=1e-13)
    torch.testing.assert_close(attention_loss(second, first, matched=matched), found)


def test_attention_that_is_zero_stays_finite():
    first = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], requires_grad=True)
    second = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    matched = torch.tensor([[True, True, True], [True, True, False]])
    found = attention_loss(first, second, matched=matched)
    found.backward()
    assert found.item() == pytest.approx(math.log(2) / 2)
    assert first.grad.isfinite().all()
