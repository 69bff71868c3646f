import pytest
import torch
from torch import nn

from training.dropout import draw_dropped
from training.lanes import Lanes, aligned_alike

CPU = torch.device("cpu")


def stack(num_lanes: int, together: int = 16) -> Lanes:
    torch.manual_seed(0)
    return Lanes([nn.Linear(3, 2) for _ in range(num_lanes)], device=CPU, together=together)


def test_products_are_independent_of_alignment_in_this_process():
    assert aligned_alike()


def test_a_stack_needs_two_lanes():
    with pytest.raises(ValueError, match="two lanes"):
        stack(1)


@pytest.mark.parametrize(
    ("num_lanes", "together", "sizes"),
    [(2, 16, [2]), (5, 2, [2, 3]), (16, 16, [16]), (17, 16, [8, 9]), (3, 1, [3]), (4, 1, [2, 2])],
)
def test_groups_cover_the_stack_with_two_lanes_at_least(num_lanes, together, sizes):
    assert [len(group) for group in stack(num_lanes, together).groups] == sizes


def test_gradients_of_each_lane_are_its_own_models():
    lanes = stack(3)
    inputs = torch.randn(4, 3)
    scale = torch.tensor([1.0, 2.0, 3.0])
    for group in lanes.groups:
        (out,) = lanes.call(_wrapped(lanes, group), group.share(inputs), shared=(), train=True)
        group.backward(out.sum((1, 2)) * scale[group.where])
    expected = torch.stack([torch.cat([inputs.sum(0).repeat(2), torch.full((2,), 4.0)])] * 3)
    torch.testing.assert_close(lanes.grad[:, :8], expected * scale[:, None])
    assert not lanes.grad[:, 8:].any()


def _wrapped(lanes: Lanes, group):
    """Make the linear layer answer with a tuple, as models of lanes do."""
    lanes.modules[0].register_forward_hook(lambda _, __, out: (out,))
    return group


def test_named_tensors_are_those_of_the_model():
    torch.manual_seed(0)
    models = [nn.BatchNorm1d(3) for _ in range(2)]
    models[1].weight.data.fill_(5)
    del models[0].num_batches_tracked, models[1].num_batches_tracked
    lanes = Lanes(models, device=CPU)
    found = lanes.named(lanes.flat[1], lanes.state[1])
    assert list(found) == ["weight", "bias", "running_mean", "running_var"]
    assert torch.equal(found["weight"], torch.full((3,), 5.0))


def test_selecting_keeps_rows():
    lanes = stack(4)
    flat = lanes.flat.clone()
    lanes.select([3, 1])
    assert torch.equal(lanes.flat, flat[[3, 1]])


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_dropout_masks_depend_on_the_lanes_generator_alone():
    given = {"widths": (7, 3), "dropout": 0.25}
    one = draw_dropped(generators(1, 2, 3), (5, 3), **given)
    other = draw_dropped(generators(3, 1), (5, 3), **given)
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a[2], b[0]) and torch.equal(a[0], b[1])
        assert not torch.equal(a[0], a[1])


@pytest.mark.parametrize("dropout", [0.1, 0.25, 0.9])
def test_the_share_of_dropped_units_is_right(dropout: float):
    (mask,) = draw_dropped(generators(0), (100, 100), widths=(20,), dropout=dropout)
    assert mask.shape == (1, 100, 100, 20)
    assert abs(mask.double().mean().item() - dropout) < 0.004


def test_no_dropout_draws_nothing():
    (generator,) = generators(0)
    state = generator.get_state()
    assert draw_dropped([generator], (5, 3), widths=(7,), dropout=0.0) == ()
    assert torch.equal(generator.get_state(), state)


def test_a_stack_is_made_on_the_cpu_and_moved_once():
    """Any device but the CPU would do; the meta device needs no hardware."""
    torch.manual_seed(0)
    models = [nn.BatchNorm1d(3, dtype=torch.float64) for _ in range(3)]
    for model in models:
        del model.num_batches_tracked
    lanes = Lanes(models, device=torch.device("meta"))
    tensors = [lanes.flat, lanes.grad, lanes.state, *lanes.modules[0].parameters()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert lanes.flat.shape == lanes.state.shape == (3, 16)
    lanes.select([2, 0])
    assert lanes.groups[0].parameters["weight"].shape == (2, 3)
    assert lanes.groups[0].buffers["running_mean"].device.type == "meta"
