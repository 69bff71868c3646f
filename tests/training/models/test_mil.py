"""The contract of every model: shapes, gradients, masks, order, padding."""

import pytest
import torch

from training.config import AttentionHead, GatedAttentionHead, Head, MaxHead, MeanHead
from training.models import MILModel, build

HEADS: list[Head] = [
    head
    for norm in ("batch", "none")
    for head in (
        MeanHead(kind="mean", embed_dims=(8, 6), norm=norm),
        MaxHead(kind="max", embed_dims=(8, 6), norm=norm),
        AttentionHead(kind="attention", embed_dims=(8, 6), norm=norm, attention_dim=4),
        GatedAttentionHead(kind="gated_attention", embed_dims=(8, 6), norm=norm, attention_dim=4),
    )
]
SIZES = [4, 7, 1, 5]

every_head = pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{head.kind}-{head.norm}")
in_both_modes = pytest.mark.parametrize("train", [True, False])


def made(head: Head, num_outputs: int = 3, *, train: bool = True) -> MILModel:
    torch.manual_seed(0)
    return build(head, in_dim=5, num_outputs=num_outputs).double().train(train)


def batch(padding: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    bags = torch.randn(len(SIZES), max(SIZES), 5, generator=generator).double()
    bags = torch.cat([bags, bags.new_zeros(len(SIZES), padding, 5)], dim=1)
    mask = torch.arange(bags.shape[1]) < torch.tensor(SIZES)[:, None]
    return bags, mask


@every_head
@in_both_modes
@pytest.mark.parametrize("num_outputs", [1, 3])
def test_shapes_and_attention(head: Head, train: bool, num_outputs: int):
    bags, mask = batch()
    output = made(head, num_outputs, train=train)(bags, mask)
    assert output.scores.shape == (4, num_outputs)
    assert output.bag.shape == (4, 6) and output.instances.shape == (4, 7, 6)
    torch.testing.assert_close(output.attention.sum(1), torch.ones(4).double())
    assert not output.attention[~mask].any() and (output.attention >= 0).all()


@every_head
def test_gradient_reaches_all_parameters(head: Head):
    model = made(head)
    bags, mask = batch()
    model(bags, mask).scores.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-9, name


@every_head
@in_both_modes
def test_what_padding_holds_does_not_matter(head: Head, train: bool):
    bags, mask = batch()
    filled = torch.where(mask[..., None], bags, 100.0)
    one, other = (made(head, train=train)(each, mask) for each in (bags, filled))
    torch.testing.assert_close(one.scores, other.scores)


@every_head
@in_both_modes
def test_more_padding_does_not_matter(head: Head, train: bool):
    one, other = (made(head, train=train)(*batch(padding)) for padding in (0, 6))
    torch.testing.assert_close(one.scores, other.scores)
    torch.testing.assert_close(one.attention, other.attention[:, :7])


@every_head
def test_padded_and_unpadded_bags_agree(head: Head):
    model = made(head, train=False)
    bags, mask = batch()
    together = model(bags, mask).scores
    for number, size in enumerate(SIZES):
        alone = model(bags[number : number + 1, :size], mask[number : number + 1, :size]).scores
        torch.testing.assert_close(alone[0], together[number])


@every_head
@in_both_modes
def test_the_order_of_instances_does_not_matter(head: Head, train: bool):
    bags, mask = batch()
    order = torch.randperm(bags.shape[1], generator=torch.Generator().manual_seed(2))
    one = made(head, train=train)(bags, mask)
    other = made(head, train=train)(bags[:, order], mask[:, order])
    torch.testing.assert_close(one.scores, other.scores)
    torch.testing.assert_close(one.attention[:, order], other.attention)


@every_head
def test_dropped_units_are_zero_and_the_rest_makes_up_for_them(head: Head):
    bags, mask = batch()
    generator = torch.Generator().manual_seed(3)
    dropped = tuple(
        torch.rand(4, 7, width, generator=generator) < head.dropout for width in head.embed_dims
    )
    first = made(head).embedding.layers[0]
    plain, thinned = first(bags, mask, None), first(bags, mask, dropped[0])
    torch.testing.assert_close(thinned, torch.where(dropped[0], 0, plain / (1 - head.dropout)))
    assert not made(head)(bags, mask, dropped).instances[dropped[1]].any()


def test_linear_layers_before_batch_norm_have_no_bias():
    assert "embedding.layers.0.linear.bias" not in made(HEADS[0]).state_dict()
    assert "embedding.layers.0.linear.bias" in made(HEADS[-1]).state_dict()
