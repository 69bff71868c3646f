import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.losses.embedding import embedding_loss

FORMS = ["mse", "cosine"]
forms = pytest.mark.parametrize("form", FORMS)


def slow(first, second, real, form):
    each = []
    for a, b, counts in zip(first, second, real, strict=True):
        if counts and form == "mse":
            each.append(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a))
        elif counts:
            length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
            each.append(1 - sum(x * y for x, y in zip(a, b, strict=True)) / length)
    return sum(each) / max(len(each), 1)


def example(seed, rows=6, dim=3):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(2, rows, dim)), draw.random(rows) < 0.7


def loss(sides, real, form):
    first, second, real = map(torch.as_tensor, (*sides, real))
    return embedding_loss(first, second, real=real, form=form)


@pytest.mark.parametrize(("form", "expected"), [("mse", (25 / 2 + 1 / 2) / 2), ("cosine", 0.6)])
def test_each_form_equals_the_value_by_hand(form, expected):
    # Differences (-3, 4) and (1, 0); cosines 0 and 4/5.
    first = torch.tensor([[0.0, 4.0], [4.0, 3.0]], dtype=torch.float64)
    second = torch.tensor([[3.0, 0.0], [3.0, 3.0]], dtype=torch.float64)
    second[1] = first[1] - torch.tensor([1.0, 0.0]) if form == "mse" else torch.tensor([2.0, 0.0])
    assert loss((first, second), [True, True], form).item() == pytest.approx(expected, abs=1e-14)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(FORMS))
def test_loss_equals_a_loop(seed, form):
    sides, real = example(seed)
    assert loss(sides, real, form).item() == pytest.approx(slow(*sides, real, form), abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_cosine_knows_no_length(seed):
    sides, real = example(seed)
    lengths = np.random.default_rng(seed).uniform(0.1, 9, size=(6, 1))
    scaled = sides[0] * lengths, sides[1]
    torch.testing.assert_close(loss(scaled, real, "cosine"), loss(sides, real, "cosine"))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(FORMS))
def test_scans_may_swap_and_turn_together(seed, form):
    sides, real = example(seed)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    expected = loss(sides, real, form)
    torch.testing.assert_close(loss(sides[::-1].copy(), real, form), expected)
    torch.testing.assert_close(loss(sides @ turn, real, form), expected)


@forms
def test_ignored_rows_may_hold_anything(form):
    sides, _ = example(0)
    real = np.array([True] * 4 + [False] * 2)
    expected = loss(sides[:, :4], real[:4], form)
    sides[:, 4:] = np.nan
    torch.testing.assert_close(loss(sides, real, form), expected)


@forms
def test_equal_scans_give_zero(form):
    sides, real = example(1)
    assert loss((sides[0], sides[0]), real, form).item() == pytest.approx(0, abs=1e-15)


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="'l1'"):
        loss(*example(0), "l1")
