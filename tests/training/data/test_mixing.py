from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training import small
from tests.training.losses import kinds
from training.config import MixStyle
from training.data.mixing import mix_style, mixed_style
from training.trainer import train


def example():
    draw = torch.Generator().manual_seed(0)
    bags = torch.randn(4, 6, 3, generator=draw).double() * 2 + 1
    mask = torch.arange(6) < torch.tensor([6, 3, 5, 1])[:, None]
    return bags.masked_fill(~mask[..., None], 0.0), mask


def test_statistics_are_exchanged_by_hand():
    # Tiles 1 and 3 (mean 2, SD 1) with the style of mean 10, SD 4: 6 and 14.
    bags = torch.tensor([[[1.0], [3.0]], [[6.0], [14.0]]]).double()
    mask, partner = torch.ones(2, 2, dtype=torch.bool), torch.tensor([1, 0])
    swapped = mixed_style(bags, mask, partner, torch.zeros(2).double())
    torch.testing.assert_close(swapped, bags.flip(0), rtol=0, atol=1e-4)
    half = mixed_style(bags, mask, partner, torch.full((2,), 0.5).double())
    expected = torch.tensor([[[3.5], [8.5]], [[3.5], [8.5]]]).double()
    torch.testing.assert_close(half, expected, rtol=0, atol=1e-4)


def test_the_bags_equal_a_loop_and_padding_stays_zero():
    bags, mask = example()
    partner, shares = torch.tensor([2, 0, 3, 1]), torch.tensor([0.1, 0.9, 0.5, 0.0]).double()
    found = mixed_style(bags, mask, partner, shares)
    assert not found[~mask].any()

    def style(i):
        tiles = bags[i][mask[i]].numpy()
        return tiles.mean(0), np.sqrt(tiles.var(0) + 1e-6)

    for i, j in enumerate(partner.tolist()):
        (m, s), (n, t), own = style(i), style(j), shares[i].item()
        tiles = (bags[i][mask[i]].numpy() - m) / s
        expected = tiles * (own * s + (1 - own) * t) + own * m + (1 - own) * n
        np.testing.assert_allclose(found[i][mask[i]].numpy(), expected, rtol=1e-12)


def test_a_bag_with_its_own_style_stays():
    bags, mask = example()
    torch.testing.assert_close(
        mixed_style(bags, mask, torch.arange(4), torch.rand(4).double()), bags
    )


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_the_share_of_mixed_steps_is_right(probability: float):
    batch, settings = kinds.batch(3, 1), MixStyle(probability=probability)
    mixed = [
        mix_style(replace(batch, key=(0, step)), settings).bags is not batch.bags
        for step in range(400)
    ]
    assert abs(np.mean(mixed) - probability) < 0.08


def test_draws_follow_the_key_alone_and_labels_stay():
    batch, settings = kinds.batch(), MixStyle(probability=1.0)
    one, other = (mix_style(batch, settings) for _ in range(2))
    assert torch.equal(one.bags, other.bags) and not torch.equal(one.bags, batch.bags)
    assert one.label is batch.label


def test_trials_are_bit_identical_whatever_their_companions(tmp_path):
    data = small.cohort(tmp_path)
    style = MixStyle(probability=0.7, alpha=0.5)
    everyone = train([small.routine(seed, mixstyle=style) for seed in range(4)], data)
    for chosen in ([3, 0], [1, 3, 2]):
        found = train([small.routine(seed, mixstyle=style) for seed in chosen], data)
        for seed, result in zip(chosen, found, strict=True):
            small.assert_same(result, everyone[seed])
    (plain,) = train([small.routine(0)], data)
    assert not np.array_equal(plain.predictions["score"], everyone[0].predictions["score"])
