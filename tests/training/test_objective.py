from dataclasses import replace

import pytest
import torch

from tests.training import small
from tests.training.losses import kinds
from training import objective
from training.config import InfoNCE, ScoreLoss
from training.config_inputs import Regularisation
from training.data import sampling, scans
from training.data.bags import BagReader
from training.data.loading import Batch, Loader
from training.losses.infonce import bag_infonce
from training.losses.score import score_loss
from training.losses.task import task_loss


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    data = small.cohort(tmp_path_factory.mktemp("cohort"))
    found = scans.read(data, small.trial())
    loader = Loader(
        BagReader(data.root),
        found,
        dtype=torch.float32,
        device=torch.device("cpu"),
        resident_bytes=2**20,
    )
    draw = next(
        sampling.epoch(sampling.pool(found, paired=True), small.trial().sampling, key=(0, 0, 1))
    )
    return loader.batch(draw, 4)


def made(seed: int = 0) -> objective.Objective:
    return objective.initialise(small.trial(), seed, in_dim=small.DIM, num_outputs=1)


WEIGHTS, TEMPERATURES = torch.tensor([1.0, 0.5, 2.0]), torch.tensor([0.2, 0.3, 1.0])


def test_the_total_is_the_task_loss_plus_weighted_losses(batch: Batch):
    total, parts = made()(batch.bags, batch.mask, (), WEIGHTS, TEMPERATURES, batch)
    torch.testing.assert_close(total, parts[0] + (WEIGHTS * parts[1:]).sum())


def test_each_part_is_the_loss_it_is_named_for(batch: Batch):
    model = made()
    _, parts = model(batch.bags, batch.mask, (), WEIGHTS, TEMPERATURES, batch)
    output = model.model(batch.bags, batch.mask)
    n, pairs = batch.num_routine, len(batch.patient)
    torch.testing.assert_close(parts[0], task_loss(output.scores, batch.label, batch.weight))
    project = model.projections["0"].weight
    bags = output.bag @ project.T
    expected = bag_infonce(
        bags[n : n + pairs],
        bags[n + pairs :],
        temperature=0.2,
        first_scanner=batch.first_scanner,
        second_scanner=batch.second_scanner,
        patient=batch.patient,
        negatives="other_scanner",
    )
    torch.testing.assert_close(parts[1], expected)
    scores = output.scores[n : n + pairs], output.scores[n + pairs :]
    torch.testing.assert_close(parts[3], score_loss(*scores, form="logit_mse"))


def test_every_loss_reaches_the_embedding(batch: Batch):
    for place in range(4):
        model = made()
        _, parts = model(batch.bags, batch.mask, (), WEIGHTS, TEMPERATURES, batch)
        parts[place].backward()
        gradient = model.model.embedding.layers[0].linear.weight.grad
        assert gradient is not None and gradient.abs().max() > 1e-7, place


def test_without_a_batch_the_scores_come_alone(batch: Batch):
    (scores,) = made()(batch.bags, batch.mask, (), WEIGHTS, TEMPERATURES, None)
    assert scores.shape == (len(batch.label), 1)


def test_initialisation_depends_on_the_seed_alone_and_moves_no_other_generator():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other, third = made(1), made(1), made(2)
    assert torch.equal(before, torch.get_rng_state())
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    weight = "model.classifier.weight"
    assert not torch.equal(one.state_dict()[weight], third.state_dict()[weight])


def test_double_precision_starts_from_the_same_weights():
    config = small.trial(precision="float64")
    double = objective.initialise(config, 1, in_dim=small.DIM, num_outputs=1)
    for name, tensor in made(1).state_dict().items():
        assert torch.equal(double.state_dict()[name], tensor.double())


def test_losses_of_one_kind_are_numbered():
    losses = [InfoNCE(kind="infonce"), ScoreLoss(kind="score"), InfoNCE(kind="infonce")]
    assert objective.names(losses) == ["infonce", "score", "infonce_2"]


@pytest.mark.parametrize("kind", ["mixup", "group_dro"])
def test_a_loss_in_place_of_the_task_loss_replaces_the_smoothed_one(batch: Batch, kind: str):
    loss = kinds.LOSS.validate_python({"kind": kind})
    config = small.trial(losses=(loss,), regularisation={"label_smoothing": 0.3})
    model = objective.initialise(
        config, 0, in_dim=small.DIM, num_outputs=1, num_groups={"scanner": 3}
    )
    scanner = torch.cat([torch.arange(5) % 3, batch.first_scanner, batch.second_scanner])
    batch = replace(batch, groups={"scanner": scanner})
    one = torch.ones(1)
    total, parts = model.eval()(batch.bags, batch.mask, (), one, one, batch)
    scores = model.model(batch.bags, batch.mask).scores
    smoothed = task_loss(scores, batch.label, batch.weight, smoothing=0.3)
    torch.testing.assert_close(parts[0], smoothed)
    assert not torch.isclose(smoothed, task_loss(scores, batch.label, batch.weight))
    plain = objective.initialise(
        config.model_copy(update={"regularisation": Regularisation()}),
        0,
        in_dim=small.DIM,
        num_outputs=1,
        num_groups={"scanner": 3},
    )
    other, _ = plain.eval()(batch.bags, batch.mask, (), one, one, batch)
    assert not torch.isclose(total, other)
