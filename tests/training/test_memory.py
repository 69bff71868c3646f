"""Fewer lanes in a call, where memory does not suffice: the same bits."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.training import small
from training import checkpoint as checkpoints
from training import memory, objective
from training.artefacts import Keep
from training.config import MeanHead, TrialConfig
from training.config_heads import TransMILHead
from training.data import sampling, scans
from training.data.index import Dataset
from training.lanes import Lanes
from training.optimiser import LaneAdamW
from training.session import Session
from training.trainer import Stopped, train


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


def out_of_memory_above(lanes: int, monkeypatch: pytest.MonkeyPatch, after: int = 0) -> list[int]:
    """Let calls of more lanes fail, after as many calls; the sizes of all calls."""
    honest, seen = Lanes.call, []

    def call(self, group, *arguments, **given):
        seen.append(len(group))
        if len(seen) > after and len(group) > lanes:
            raise torch.OutOfMemoryError("no room")
        return honest(self, group, *arguments, **given)

    monkeypatch.setattr(Lanes, "call", call)
    return seen


@pytest.mark.parametrize("after", [0, 5])
def test_halving_in_the_middle_of_training_changes_no_bit(
    cohort: Dataset, tmp_path: Path, monkeypatch, caplog, after: int
):
    configs = [small.varied(number) for number in range(9)]
    undisturbed = train(configs, cohort)
    seen = out_of_memory_above(3, monkeypatch, after)
    found = train(configs, cohort, checkpoint=tmp_path, stop=lambda: False)
    assert max(seen[after + 4 :]) <= 3 < max(seen)
    assert "lanes in one call from now on" in caplog.text
    for one, other in zip(found, undisturbed, strict=True):
        small.assert_same(one, other)


def test_an_epoch_begins_where_it_began_however_often(cohort: Dataset, tmp_path: Path, monkeypatch):
    configs = [small.varied(number) for number in range(8)]
    undisturbed = train(configs, cohort)
    honest, tries = Session._part, []

    def part(self):
        tries.append(self.epoch)
        if tries.count(2) in (1, 2):
            raise torch.OutOfMemoryError("no room")
        honest(self)

    monkeypatch.setattr(Session, "_part", part)
    found = train(configs, cohort, checkpoint=tmp_path, stop=lambda: False)
    assert tries == [1, 2, 2, 2]
    for one, other in zip(found, undisturbed, strict=True):
        small.assert_same(one, other)


def test_whole_bags_that_do_not_fit_are_scored_with_fewer_lanes_in_a_call(
    cohort: Dataset, tmp_path: Path, monkeypatch
):
    configs, keep = [small.varied(number) for number in range(8)], Keep(attention=True)
    undisturbed = train(configs, cohort, keep=keep)
    epochs = configs[0].optim.epochs

    def note(epoch: int, _: int) -> None:
        if epoch == epochs:
            out_of_memory_above(2, monkeypatch)

    found = train(
        configs, cohort, checkpoint=tmp_path, stop=lambda: False, on_epoch=note, keep=keep
    )
    for one, other in zip(found, undisturbed, strict=True):
        small.assert_same(one, other)
        assert np.array_equal(one.kept.weight, other.kept.weight)
        pd.testing.assert_frame_equal(one.kept.agreement, other.kept.agreement)


def test_a_checkpoint_that_memory_has_no_room_for_is_no_broken_one(
    cohort: Dataset, tmp_path: Path, monkeypatch
):
    with pytest.raises(Stopped):
        train([small.varied(0)], cohort, checkpoint=tmp_path, stop=lambda: True)

    def put(*_):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(LaneAdamW, "put", put)
    with pytest.raises(torch.OutOfMemoryError):
        train([small.varied(0)], cohort, checkpoint=tmp_path)


def test_where_two_lanes_do_not_fit_a_checkpoint_is_left_for_parts_of_the_pack(
    cohort: Dataset, tmp_path: Path, monkeypatch
):
    configs = [small.varied(number) for number in range(4)]
    undisturbed = train(configs, cohort)
    epochs: list[int] = []
    with monkeypatch.context() as patch:
        calls = out_of_memory_above(1, patch, after=10**6)

        def note(epoch: int, _: int) -> None:
            epochs.append(epoch)
            out_of_memory_above(1, patch)

        with pytest.raises(torch.OutOfMemoryError):
            train(configs, cohort, checkpoint=tmp_path, stop=lambda: False, on_epoch=note)
    assert epochs == [1] and calls
    for half in ([0, 1], [3, 2], [2]):
        later: list[int] = []
        found = train(
            [configs[lane] for lane in half],
            cohort,
            checkpoint=tmp_path,
            on_epoch=lambda epoch, _, later=later: later.append(epoch),
        )
        assert later == [2]
        for lane, result in zip(half, found, strict=True):
            small.assert_same(result, undisturbed[lane])


@pytest.mark.parametrize("rule", ["best", "within_margin"])
def test_parts_go_on_where_lanes_have_ended(cohort: Dataset, tmp_path: Path, rule: str):
    def early(seed: int):
        config = small.stopping_early(seed)
        stopping = config.stopping.model_copy(update={"epoch": rule, "metric": "auroc"})
        return config.model_copy(update={"stopping": stopping})

    configs = [early(seed) for seed in range(4)]
    undisturbed = train(configs, cohort)
    ends = sorted(result.epochs_trained for result in undisturbed)
    assert ends[0] < ends[-1]
    epochs: list[int] = []
    with pytest.raises(Stopped):
        train(
            configs, cohort, checkpoint=tmp_path, stop=lambda: len(epochs) == ends[-1] - 1,
            on_epoch=lambda epoch, _: epochs.append(epoch),
        )  # fmt: skip
    for half in ([0, 1], [2, 3], [3, 0, 1], [1], [2]):
        found = train([configs[lane] for lane in half], cohort, checkpoint=tmp_path)
        for lane, result in zip(half, found, strict=True):
            small.assert_same(result, undisturbed[lane])


def test_a_checkpoint_of_some_of_the_trials_is_of_no_use(cohort: Dataset, tmp_path: Path, caplog):
    configs = [small.varied(number) for number in range(3)]
    with pytest.raises(Stopped):
        train(configs[:2], cohort, checkpoint=tmp_path, stop=lambda: True)
    assert checkpoints.read(tmp_path) is not None
    train(configs, cohort, checkpoint=tmp_path)
    assert "it is of other trials" in caplog.text


def together(cohort: Dataset, device: str, config: TrialConfig, *, lanes: int = 2) -> int:
    model = objective.initialise(config, 0, in_dim=small.DIM, num_outputs=1)
    found = scans.read(cohort, config)
    pool = sampling.pool(found, paired=config.views == "all")
    return memory.lanes_together(
        torch.device(device), [config] * lanes, [model] * lanes, scans=found, pool=pool,
        gpu_share=1.0,
    )  # fmt: skip


def test_a_cpu_computes_as_many_lanes_as_its_cache_holds(cohort: Dataset, monkeypatch):
    tiles = scans.read(cohort, small.trial()).table["num_tiles"].clip(upper=4).mean()
    monkeypatch.setattr(memory, "CACHE_NUMBERS", 11 * tiles * 13 * 51.5)
    assert together(cohort, "cpu", small.trial()) == 51
    monkeypatch.setattr(memory, "CACHE_NUMBERS", 100)
    assert together(cohort, "cpu", small.trial()) == 2


def gpu(monkeypatch: pytest.MonkeyPatch, *, free: int, total: int, kept: int, used: int) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, total))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: kept + used)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: used)


def test_a_gpu_computes_as_many_lanes_as_its_free_memory_holds(cohort: Dataset, monkeypatch):
    gpu(monkeypatch, free=10**8, total=9 * 10**8, kept=10**7, used=0)
    config = small.routine()
    lane = memory.CHUNK_INSTANCES * (small.DIM + 8 * (13 + 9 + 5)) * 4
    assert together(cohort, "cuda", config) == int(0.7 * 1.1e8 / lane) == 10
    row = 4 * sum(
        each.numel()
        for each in objective.initialise(config, 0, in_dim=small.DIM, num_outputs=1).parameters()
    )
    many = 4000
    found = together(cohort, "cuda", config, lanes=many)
    assert found == int(0.7 * (1.1e8 - 13 * many * row) / lane) < 8
    assert together(cohort, "cuda", config, lanes=30_000) == 2


def test_workers_on_one_gpu_leave_each_other_room(monkeypatch):
    gpu(monkeypatch, free=70, total=90, kept=5, used=10)
    assert memory.free_bytes(torch.device("cuda"), 1.0) == 75
    assert memory.free_bytes(torch.device("cuda"), 0.5) == 35


def test_what_grows_with_the_square_of_tiles_counts():
    sizes = {"bags": 40, "tiles": 1000, "in_dim": 7}
    plain = small.routine(head=MeanHead(kind="mean", embed_dims=(16,)))
    of_layers = 40 * 1000 * (7 + 8 * 16)
    assert memory.of_a_lane(plain, longest=0, **sizes) == of_layers
    assert memory.of_a_lane(plain, longest=10**6, **sizes) == 10**6 * (7 + 8 * 16)
    head = TransMILHead(kind="transmil", embed_dims=(16,), num_heads=4)
    attends = plain.model_copy(update={"head": head})
    assert memory.of_a_lane(attends, longest=0, **sizes) == of_layers + 6 * 40 * 4 * 1000**2
    scored = memory.of_a_lane(attends, longest=10**6, **sizes)
    assert scored == 10**6 * (7 + 8 * 16 + 6 * 4 * 512)
    compares = small.trial(head=plain.head)  # one of its losses is between tiles of 3 pairs
    assert memory.of_a_lane(compares, longest=0, **sizes) == of_layers + 6 * (3 * 1000) ** 2
