"""The contract of every head: shapes, gradients, masks, order, padding, lanes."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from tests.training import small
from training.config_heads import (
    AttentionHead,
    ClamMBHead,
    ClamSBHead,
    DSMILHead,
    GatedAttentionHead,
    Head,
    LinearProbeHead,
    MaxHead,
    MeanHead,
    TransMILHead,
)
from training.data.index import Dataset
from training.dropout import draw_dropped
from training.lanes import Lanes
from training.models import MILModel, build
from training.trainer import train

WIDTHS = (8, 6)
HEADS: list[Head] = [
    *(
        head
        for norm in ("batch", "none")
        for head in (
            MeanHead(kind="mean", embed_dims=WIDTHS, norm=norm),
            MaxHead(kind="max", embed_dims=WIDTHS, norm=norm),
            AttentionHead(kind="attention", embed_dims=WIDTHS, norm=norm, attention_dim=4),
            GatedAttentionHead(
                kind="gated_attention", embed_dims=WIDTHS, norm=norm, attention_dim=4
            ),
            ClamSBHead(kind="clam_sb", embed_dims=WIDTHS, norm=norm, attention_dim=4),
            ClamMBHead(kind="clam_mb", embed_dims=WIDTHS, norm=norm, attention_dim=4),
            DSMILHead(kind="dsmil", embed_dims=WIDTHS, norm=norm, query_dim=3),
            TransMILHead(kind="transmil", embed_dims=WIDTHS, norm=norm, num_heads=2),
        )
    ),
    TransMILHead(kind="transmil", embed_dims=WIDTHS, num_heads=3, position="none"),
    LinearProbeHead(kind="linear_probe"),
]
SIZES = [4, 7, 1, 5]


def named(head: Head) -> str:
    return "-".join([head.kind, head.norm, getattr(head, "position", "")]).strip("-")


def ordered(head: Head) -> bool:
    return isinstance(head, TransMILHead) and head.position == "ppeg"


def bag_width(head: Head, num_outputs: int) -> int:
    if isinstance(head, ClamMBHead):
        return 6 * max(num_outputs, 2)
    if isinstance(head, DSMILHead):
        return 6 * num_outputs
    return 5 if isinstance(head, LinearProbeHead) else 6


every_head = pytest.mark.parametrize("head", HEADS, ids=named)
in_both_modes = pytest.mark.parametrize("train", [True, False])
binary_and_more = pytest.mark.parametrize("num_outputs", [1, 3])


def made(head: Head, num_outputs: int = 3, *, train: bool = True, seed: int = 0) -> MILModel:
    torch.manual_seed(seed)
    return build(head, in_dim=5, num_outputs=num_outputs).double().train(train)


def batch(padding: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    bags = torch.randn(len(SIZES), max(SIZES), 5, generator=generator).double()
    bags = torch.cat([bags, bags.new_zeros(len(SIZES), padding, 5)], dim=1)
    mask = torch.arange(bags.shape[1]) < torch.tensor(SIZES)[:, None]
    return bags, mask


def test_every_kind_of_head_is_here():
    kinds = {
        get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(get_args(Head)[0])
    }
    assert {head.kind for head in HEADS} == kinds


@every_head
@in_both_modes
@binary_and_more
def test_shapes_and_attention(head: Head, train: bool, num_outputs: int):
    bags, mask = batch()
    model = made(head, num_outputs, train=train)
    output = model(bags, mask)
    assert output.scores.shape == (4, num_outputs)
    assert output.bag.shape == (4, model.bag_width) == (4, bag_width(head, num_outputs))
    assert output.instances.shape == (4, 7, model.embedding.width)
    torch.testing.assert_close(output.attention.sum(1), torch.ones(4).double())
    assert not output.attention[~mask].any() and (output.attention >= 0).all()


@every_head
@binary_and_more
def test_gradient_reaches_all_parameters(head: Head, num_outputs: int):
    model = made(head, num_outputs)
    bags, mask = batch()
    (model(bags, mask).scores - 0.3).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-9, name


@every_head
def test_gradients_agree_with_finite_differences(head: Head):
    bags, mask = batch()
    model = made(head, train=False)
    names = [name for name, _ in model.named_parameters()]
    values = tuple(value.detach().clone().requires_grad_() for value in model.parameters())

    def scores(*given: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(
            model, dict(zip(names, given, strict=True)), (bags, mask)
        ).scores

    assert torch.autograd.gradcheck(scores, values, fast_mode=True)


@every_head
@in_both_modes
def test_what_padding_holds_does_not_matter(head: Head, train: bool):
    bags, mask = batch()
    filled = torch.where(mask[..., None], bags, 100.0)
    one, other = (made(head, train=train)(each, mask) for each in (bags, filled))
    torch.testing.assert_close(one.scores, other.scores)
    torch.testing.assert_close(one.bag, other.bag)
    torch.testing.assert_close(one.attention, other.attention)


@every_head
def test_no_gradient_goes_to_padding(head: Head):
    bags, mask = batch(padding=2)
    bags = torch.where(mask[..., None], bags, 100.0).requires_grad_()
    made(head)(bags, mask).scores.square().sum().backward()
    assert not bags.grad[~mask].any() and bags.grad[mask].abs().max() > 1e-9


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
    together = model(bags, mask)
    for number, size in enumerate(SIZES):
        alone = model(bags[number : number + 1, :size], mask[number : number + 1, :size])
        torch.testing.assert_close(alone.scores[0], together.scores[number])
        torch.testing.assert_close(alone.bag[0], together.bag[number])


@every_head
@in_both_modes
def test_padding_may_stand_anywhere(head: Head, train: bool):
    """Real instances keep their order; TransMIL's layout must follow them, not their places."""
    bags, mask = batch(padding=3)
    order = torch.tensor([7, 0, 1, 8, 2, 3, 9, 4, 5, 6])
    one = made(head, train=train)(bags, mask)
    other = made(head, train=train)(bags[:, order], mask[:, order])
    torch.testing.assert_close(one.scores, other.scores)
    torch.testing.assert_close(one.attention[:, order], other.attention)


@every_head
@in_both_modes
def test_the_order_of_instances_matters_only_where_the_paper_says_so(head: Head, train: bool):
    bags, mask = batch()
    order = torch.tensor([2, 0, 3, 1, 6, 4, 5])
    order, mask = order, torch.ones_like(mask)
    one = made(head, train=train)(bags, mask)
    other = made(head, train=train)(bags[:, order], mask[:, order])
    assert torch.allclose(one.scores, other.scores, atol=1e-9) != ordered(head)
    if not ordered(head):
        torch.testing.assert_close(one.attention[:, order], other.attention)


@pytest.mark.parametrize("head", [head for head in HEADS if head.embed_dims], ids=named)
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


class Tuple(nn.Module):
    """A model that answers lanes with plain tensors: a loss, and what it is made of."""

    def __init__(self, model: MILModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, bags, mask, dropped):
        output = self.model(bags, mask, dropped)
        loss = output.scores.square().mean() + output.bag.square().mean()
        return loss, output.scores, output.bag, output.attention


def stepped(head: Head, lanes: list[int], num_outputs: int, dtype: torch.dtype, together: int):
    """Take three steps of gradient descent in these lanes; everything a lane knows afterwards."""
    bags, mask = batch(padding=2)
    bags = bags.to(dtype).repeat(1, 4, 1)
    mask = mask.repeat(1, 4)
    models = [Tuple(made(head, num_outputs, seed=seed)).to(dtype) for seed in lanes]
    stack = Lanes(models, device=torch.device("cpu"), together=together)
    generators = [torch.Generator().manual_seed(seed) for seed in lanes]
    found = []
    for _ in range(3):
        outputs = []
        for group in stack.groups:
            dropped = draw_dropped(
                generators[group.where],
                (bags.shape[0], bags.shape[1]),
                widths=head.embed_dims,
                dropout=head.dropout,
            )
            loss, *rest = stack.call(
                group, group.share(bags), group.share(mask), dropped, shared=(), train=True
            )
            group.backward(loss)
            outputs.append([part.detach() for part in (loss, *rest)])
        found += [torch.cat(parts).view(len(lanes), -1) for parts in zip(*outputs, strict=True)]
        with torch.no_grad():
            stack.flat -= 0.1 * stack.grad
        found.append(stack.grad.clone())
    return torch.cat([*found, stack.state], dim=1)


@every_head
@binary_and_more
def test_a_lane_has_the_same_bits_in_every_company(head: Head, num_outputs: int):
    everyone = stepped(head, list(range(16)), num_outputs, torch.float32, 16)
    assert everyone.isfinite().all()
    for lanes in ([3, 0], [15, 3, 8], [7, 3, 1, 0, 2, 15, 9, 4]):
        together = stepped(head, lanes, num_outputs, torch.float32, 16)
        for position, lane in enumerate(lanes):
            assert torch.equal(together[position], everyone[lane]), lanes
    assert torch.equal(stepped(head, list(range(16)), num_outputs, torch.float32, 3), everyone)


@every_head
def test_lanes_agree_with_a_model_alone(head: Head):
    together = stepped(head, [0, 1], 2, torch.float64, 2)
    bags, mask = batch(padding=2)
    model = made(head, 2, seed=1)
    (dropped,) = (
        draw_dropped(
            [torch.Generator().manual_seed(1)],
            (4, 36),
            widths=head.embed_dims,
            dropout=head.dropout,
        ),
    )
    output = model(bags.repeat(1, 4, 1), mask.repeat(1, 4), tuple(each[0] for each in dropped))
    scores = together[1, 1 : 1 + output.scores.numel()].view_as(output.scores)
    torch.testing.assert_close(scores, output.scores, rtol=1e-10, atol=1e-12)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root: Path = tmp_path_factory.mktemp("cohort")
    return small.cohort(root)


@pytest.mark.parametrize(
    "head", [each for each in HEADS if each.norm == "batch" or not each.embed_dims], ids=named
)
def test_trials_are_bit_identical_whatever_their_companions(cohort: Dataset, head: Head):
    def config(seed: int):
        losses = small.losses(scale=0.1 + seed)
        # A linear probe has no embedding that InfoNCE could change.
        return small.trial(seed, head=head, losses=losses if head.embed_dims else losses[2:])

    everyone = train([config(seed) for seed in range(5)], cohort)
    assert {result.state for result in everyone} == {"done"}
    for chosen in ([4, 0], [1, 2, 4]):
        for seed, result in zip(chosen, train([config(s) for s in chosen], cohort), strict=True):
            small.assert_same(result, everyone[seed])
