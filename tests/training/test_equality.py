"""Every head with every loss: lanes have the same bits in every pack, and are ordinary models."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tests.training import small
from tests.training.losses import kinds
from tests.training.models.test_contract import HEADS
from tests.training.models.test_contract import named as head_name
from tests.training.plain import assert_as_in_a_plain_loop
from training.config import Head, Loss, Optim, TrialConfig
from training.data.index import Dataset
from training.trainer import LaneResult, train

PACKS = ([11, 4], [4, 15, 0], [9, 2, 15, 4, 7, 0, 11, 3])


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root: Path = tmp_path_factory.mktemp("cohort")
    return kinds.cohort(root)


def trial(seed: int, head: Head, loss: Loss, **changed: object) -> TrialConfig:
    """Lanes that differ in seed, weight, temperature, learning rate, decay and clipping."""
    optim = Optim(
        lr=0.003 * (1 + seed % 3), weight_decay=0.1 * (seed % 2), epochs=2,
        clip=None if seed % 4 == 0 else 0.5,
    )  # fmt: skip
    return kinds.trial(seed, loss, **({"head": head, "optim": optim} | changed))


def pairs() -> list[tuple[Head, Loss]]:
    """List what may stand together: each kind of head, each kind of loss."""
    heads = {head.kind: head for head in reversed(HEADS)}.values()
    losses = {loss.kind: loss for loss in reversed(kinds.LOSSES)}.values()
    found = []
    for head in heads:
        for loss in losses:
            try:
                trial(0, head, loss)
            except ValidationError:
                continue
            found.append((head, loss))
    return found


PAIRS = pairs()
SAMPLE = PAIRS[:: len(PAIRS) // 3]


def named(value: object) -> str:
    return head_name(value) if value in HEADS else kinds.named(value)  # type: ignore[arg-type]


def assert_equal_in_all_packs(cohort: Dataset, head: Head, loss: Loss) -> None:
    everyone = trained(cohort, range(16), head, loss)
    assert {result.state for result in everyone} == {"done"}
    for seeds in PACKS:
        for seed, result in zip(seeds, trained(cohort, seeds, head, loss), strict=True):
            small.assert_same(result, everyone[seed])


def trained(cohort: Dataset, seeds, head: Head, loss: Loss) -> list[LaneResult]:
    return train([trial(seed, head, loss) for seed in seeds], cohort)


def assert_lanes_are_ordinary_models(cohort: Dataset, head: Head, loss: Loss) -> None:
    configs = [
        trial(seed, head, loss, precision="float64", optim=Optim(lr=0.003, epochs=1, clip=0.5))
        for seed in range(2)
    ]
    assert_as_in_a_plain_loop(configs, cohort)


@pytest.mark.parametrize(("head", "loss"), SAMPLE, ids=named)
def test_a_sample_has_the_same_bits_in_two_packs(cohort: Dataset, head: Head, loss: Loss):
    one, other = trained(cohort, [0, 1, 2], head, loss), trained(cohort, [2, 5], head, loss)
    small.assert_same(other[0], one[2])
    assert not np.array_equal(one[0].predictions["score"], one[1].predictions["score"])


@pytest.mark.slow
@pytest.mark.parametrize(("head", "loss"), PAIRS, ids=named)
def test_a_lane_has_the_same_bits_in_every_pack(cohort: Dataset, head: Head, loss: Loss):
    assert_equal_in_all_packs(cohort, head, loss)


@pytest.mark.slow
@pytest.mark.parametrize(("head", "loss"), PAIRS, ids=named)
def test_a_lane_is_an_ordinary_model_in_float64(cohort: Dataset, head: Head, loss: Loss):
    assert_lanes_are_ordinary_models(cohort, head, loss)


@pytest.mark.slow
@pytest.mark.parametrize("head", [head for head in HEADS if head.embed_dims], ids=head_name)
def test_a_lane_has_the_same_bits_in_every_pack_in_float16(cohort: Dataset, head: Head):
    packs = [
        train([trial(seed, head, kinds.LOSSES[0], precision="float16") for seed in seeds], cohort)
        for seeds in ([0, 1, 2], [2, 5])
    ]
    small.assert_same(packs[1][0], packs[0][2])
