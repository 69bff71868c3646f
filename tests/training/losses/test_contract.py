"""The contract of every loss: gradients, order, what is absent, lanes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.training import small
from tests.training.losses import kinds
from tests.training.losses.kinds import LOSSES, made, named, output, value
from tests.training.plain import assert_as_in_a_plain_loop
from training.config import Loss, Optim, Sampling, TrialConfig
from training.config_losses import BarlowTwins, CDann, ClamClustering, Dann, GroupDRO, Mixup
from training.data.index import Dataset
from training.data.loading import Batch
from training.lanes import Lanes
from training.models import Output
from training.trainer import Stopped, train

every_loss = pytest.mark.parametrize("loss", LOSSES, ids=named)
binary_and_more = pytest.mark.parametrize("num_outputs", [1, 3])
REVERSED = (Dann, CDann)
LEARNED = (*REVERSED, ClamClustering)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root: Path = tmp_path_factory.mktemp("cohort")
    return kinds.cohort(root)


def rearranged(batch: Batch, at: Output, bags: torch.Tensor, pairs: torch.Tensor):
    """Another order of the bags and the same order of the pairs in it."""
    moved = replace(
        batch,
        **{name: getattr(batch, name)[bags] for name in ("bags", "mask", "label", "weight")},
        **{
            name: getattr(batch, name)[pairs]
            for name in ("matched", "first_scanner", "second_scanner", "patient")
        },
        groups={name: group[bags] for name, group in batch.groups.items()},
    )
    return moved, Output(*(each[bags] for each in at[:4]))


def test_every_kind_of_loss_is_here():
    assert {loss.kind for loss in LOSSES} == kinds.kinds()


@every_loss
@binary_and_more
def test_it_is_finite_and_has_a_gradient(loss: Loss, num_outputs: int):
    batch = kinds.batch()
    at = output(batch, num_outputs)
    model = made(loss, num_outputs)
    for module in model.beside.values():
        if hasattr(module, "done"):
            module.done.fill_(99)
    found = value(loss, at, batch, model)
    assert found.shape == () and found.isfinite()
    parts = torch.autograd.grad(found, list(at[:4]), allow_unused=True)
    largest = [part.abs().max() for part in parts if part is not None]
    assert largest and max(largest) > 1e-6 and all(each.isfinite() for each in largest)


@every_loss
@binary_and_more
def test_gradients_agree_with_finite_differences(loss: Loss, num_outputs: int):
    if isinstance(loss, GroupDRO):
        loss = loss.model_copy(update={"eta": 0.0})  # its weights are no function of the scores
    batch = kinds.batch()
    model = made(loss, num_outputs).eval()

    def function(*parts: torch.Tensor) -> torch.Tensor:
        found = value(loss, Output(*parts), batch, model)
        return -found if isinstance(loss, REVERSED) else found

    at = output(batch, num_outputs)[:4]
    if isinstance(loss, REVERSED):
        numeric = torch.autograd.gradcheck(function, at, fast_mode=True, raise_exception=False)
        assert not numeric
        with torch.no_grad():
            expected = slopes(function, at[1])(at)
        assert torch.allclose(torch.autograd.grad(-function(*at), at[1])[0], expected, atol=1e-6)
        return
    assert torch.autograd.gradcheck(function, at, fast_mode=True)


def slopes(function, of):
    """Central differences of a function of all parts in one of them."""

    def found(parts):
        place = [part is of for part in parts].index(True)
        slope = torch.zeros_like(of)
        for number in range(of.numel()):
            step = torch.zeros(of.numel()).double()
            step[number] = 1e-5
            up, down = (
                function(*parts[:place], of + sign * step.view_as(of), *parts[place + 1 :])
                for sign in (1, -1)
            )
            slope.view(-1)[number] = (up - down) / 2e-5
        return slope

    return found


@pytest.mark.parametrize("loss", [x for x in LOSSES if not isinstance(x, Mixup)], ids=named)
def test_the_order_of_bags_and_pairs_does_not_matter(loss: Loss):
    batch = kinds.batch(6, 4)
    at, model = output(batch), made(loss).eval()
    routine, pairs = torch.tensor([3, 5, 0, 1, 4, 2]), torch.tensor([2, 0, 3, 1])
    bags = torch.cat([routine, 6 + pairs, 10 + pairs])
    moved = rearranged(batch, at, bags, pairs)
    torch.testing.assert_close(value(loss, at, batch, model), value(loss, *moved[::-1], model))


@pytest.mark.parametrize("loss", [x for x in LOSSES if kinds.between_scans(x)], ids=named)
def test_no_pair_gives_zero_with_a_gradient(loss: Loss):
    batch = kinds.batch(6, 0)
    at = output(batch)
    found = value(loss, at, batch)
    assert found.item() == 0
    for part in torch.autograd.grad(found, list(at[:4]), allow_unused=True):
        assert part is None or not part.any()


@pytest.mark.parametrize("loss", [x for x in LOSSES if hasattr(x, "group")], ids=named)
@pytest.mark.parametrize("number", [-1, 1])
def test_a_batch_with_one_group_or_none_has_a_finite_gradient(loss: Loss, number: int):
    batch = kinds.batch()
    alone = torch.full_like(batch.label, number)
    batch = replace(batch, groups={"scanner": alone, "site": alone})
    at, model = output(batch), made(loss)
    found = value(loss, at, batch, model)
    assert found.isfinite()
    if loss.kind in ("coral", "mmd", "lmmd", "vrex") or (
        number < 0 and loss.kind in ("irm", "group_dro", "dann", "cdann")
    ):
        assert found.item() == pytest.approx(0, abs=1e-15)
    for part in torch.autograd.grad(found, list(at[:4]), allow_unused=True):
        assert part is None or part.isfinite().all()


@every_loss
def test_weight_zero_trains_as_the_task_loss_alone(cohort: Dataset, loss: Loss):
    given = {"head": kinds.head(loss)}
    without = train([small.trial(seed, losses=(), **given) for seed in range(2)], cohort)
    free = loss.model_copy(update={"weight": 0.0})
    found = train([small.trial(seed, losses=(free,), **given) for seed in range(2)], cohort)
    for one, other in zip(found, without, strict=True):
        assert one.curves[loss.kind].shape == (2,)
        if isinstance(loss, LEARNED) or getattr(loss, "projection_dim", 0):
            # The norm that clips is a sum over more parameters.
            np.testing.assert_allclose(
                one.predictions["score"], other.predictions["score"], rtol=2e-3, atol=1e-4
            )
            continue
        assert np.array_equal(one.predictions["score"], other.predictions["score"])


class Alone(nn.Module):
    """A loss without its model, on answers that are arguments."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, scores, bag, instances, attention, temperature, batch):
        at = Output(scores, bag, instances, attention)
        loss = self.objective.losses[0]
        return (self.objective._robustness(0, loss, at, batch, temperature),)


def stepped(loss: Loss, lanes: list[int], sizes: tuple[int, int, int, int], together: int):
    """Two steps in these lanes: values, gradients of all answers and parameters, buffers."""
    batch = kinds.batch(*sizes[:3], dim=sizes[3])
    batch = replace(batch, weight=batch.weight.float(), bags=batch.bags.float())
    models = [Alone(made(loss, 2, seed, sizes[3])).float() for seed in lanes]
    stack = Lanes(models, device=torch.device("cpu"), together=together)
    answers = [output(batch, 2, seed) for seed in lanes]
    stacked = [
        torch.stack(parts).detach().float()
        for parts in zip(*(each[:4] for each in answers), strict=True)
    ]
    temperature = torch.tensor([0.1 + 0.05 * seed for seed in lanes])
    found = []
    for _ in range(2):
        for group in stack.groups:
            mine = [part[group.where].clone().requires_grad_() for part in stacked]
            (values,) = stack.call(
                group, *mine, temperature[group.where], shared=(batch,), train=True
            )
            wanted = [*mine, *group.parameters.values()]
            slopes = torch.autograd.grad(values.sum(), wanted, allow_unused=True)
            kept = [values.detach()] + [each for each in slopes if each is not None]
            found.append(
                torch.cat(
                    [part.flatten(1) if part.dim() > 1 else part[:, None] for part in kept], dim=1
                )
            )
    half = len(found) // 2
    return torch.cat([torch.cat(found[:half]), torch.cat(found[half:]), stack.state], dim=1)


@every_loss
@pytest.mark.parametrize("sizes", [(5, 3, 7, 9), (16, 16, 17, 33)])
def test_a_lane_has_the_same_bits_in_every_company(loss: Loss, sizes: tuple[int, ...]):
    everyone = stepped(loss, list(range(16)), sizes, 16)
    assert everyone.isfinite().all()
    for lanes in ([3, 0], [15, 3, 8], [7, 3, 1, 0, 2, 15, 9, 4]):
        together = stepped(loss, lanes, sizes, 16)
        for position, lane in enumerate(lanes):
            assert torch.equal(together[position], everyone[lane]), lanes
    assert torch.equal(stepped(loss, list(range(16)), sizes, 3), everyone)


@pytest.mark.slow
@every_loss
def test_trials_are_bit_identical_whatever_their_companions(cohort: Dataset, loss: Loss):
    everyone = train([kinds.trial(seed, loss) for seed in range(9)], cohort)
    assert {result.state for result in everyone} == {"done"}
    assert all(np.isfinite(result.curves[loss.kind]).all() for result in everyone)
    for chosen in ([8, 3], [7, 3, 0]):
        found = train([kinds.trial(seed, loss) for seed in chosen], cohort)
        for seed, result in zip(chosen, found, strict=True):
            small.assert_same(result, everyone[seed])


@every_loss
def test_lanes_agree_with_a_plain_loop_in_float64(cohort: Dataset, loss: Loss):
    optim = Optim(lr=0.003, epochs=2, clip=0.5)
    configs = [kinds.trial(seed, loss, precision="float64", optim=optim) for seed in range(2)]
    assert_as_in_a_plain_loop(configs, cohort)


def resumed(configs: list[TrialConfig], cohort: Dataset, folder: Path):
    """Stop in the second epoch, then go on."""
    steps = iter(range(10**6))
    with pytest.raises(Stopped):
        train(configs, cohort, checkpoint=folder, stop=lambda: next(steps) > 4)
    return train(configs, cohort, checkpoint=folder)


@pytest.mark.parametrize(
    "loss", [x for x in LOSSES if x.kind in ("irm", "group_dro", "dann", "mixup")], ids=named
)
def test_a_resumed_trial_is_the_same_bits(cohort: Dataset, loss: Loss, tmp_path: Path):
    configs = [kinds.trial(seed, loss, optim=Optim(lr=0.01, epochs=3)) for seed in range(2)]
    expected = train(configs, cohort)
    for one, other in zip(resumed(configs, cohort, tmp_path), expected, strict=True):
        small.assert_same(one, other)


@pytest.mark.parametrize("loss", [x for x in LOSSES if not kinds.between_scans(x)], ids=named)
def test_routine_scans_are_enough_for_losses_without_pairs(cohort: Dataset, loss: Loss):
    configs = [kinds.trial(seed, loss, views="routine") for seed in range(2)]
    for result in train(configs, cohort):
        assert result.state == "done" and np.isfinite(result.curves[loss.kind]).all()


# The scans of this cohort share their class alone, which Barlow Twins cannot spread over all units;
# it and the adversaries are trained in tests of their own.
FIRST = {
    loss.kind: loss for loss in reversed(LOSSES) if not isinstance(loss, (*REVERSED, BarlowTwins))
}


@pytest.mark.slow
@pytest.mark.parametrize("loss", FIRST.values(), ids=named)
def test_a_weight_brings_the_loss_down_in_training(cohort: Dataset, loss: Loss):
    """The mean of two lanes' last epochs, with the default weight and with next to none."""
    found = []
    for weight in (1e-9, loss.weight):
        weighted = loss.model_copy(update={"weight": weight})
        changed = {
            "losses": (weighted,),
            "head": kinds.head(loss),
            "optim": Optim(lr=0.01, epochs=12),
            "sampling": Sampling(slides_per_batch=8, pairs_per_batch=12, tiles_per_bag=4),
        }
        results = train([small.trial(seed, **changed) for seed in range(2)], cohort)
        found.append(np.mean([result.curves[loss.kind][-3:] for result in results]))
    assert found[1] < 0.97 * found[0]


def test_scangen_is_infonce_with_negatives_of_the_anchors_scanner():
    batch = kinds.batch()
    at = output(batch)
    found = [
        value(kinds.LOSS.validate_python({"kind": kind, **rest}), at, batch)
        for kind, rest in (("scangen", {}), ("infonce", {"negatives": "anchor_scanner"}))
    ]
    assert torch.equal(*found)
