import itertools
from pathlib import Path

import pytest
import torch
from pydantic import Field

from tests.training import small
from tests.training.plain import assert_as_in_a_plain_loop, session
from training import lineage
from training.config import (
    AttentionHead,
    GatedAttentionHead,
    Head,
    MaxHead,
    MeanHead,
    Optim,
    Sampling,
    TrialConfig,
)
from training.data import folds
from training.data.index import Dataset
from training.errors import DataError
from training.session import _identity


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


HEADS: list[Head] = [
    MeanHead(kind="mean", embed_dims=(11,), norm="none"),
    MaxHead(kind="max", embed_dims=(11,), dropout=0.5),
    AttentionHead(kind="attention", embed_dims=(11,), attention_dim=3),
    GatedAttentionHead(kind="gated_attention", embed_dims=(13, 9), attention_dim=5),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.kind)
@pytest.mark.parametrize("tiles_per_bag", [4, 99, None])
def test_lanes_agree_with_a_plain_loop_in_float64(
    cohort: Dataset, head: Head, tiles_per_bag: int | None
):
    sizes = Sampling(slides_per_batch=5, pairs_per_batch=3, tiles_per_bag=tiles_per_bag)
    chosen = slice(None, None, 1 if tiles_per_bag else 2)  # the tile loss needs a number of tiles
    configs = [
        small.trial(
            seed,
            head=head,
            sampling=sizes,
            precision="float64",
            losses=small.losses(1 + seed, 0.1 + 0.1 * seed)[chosen],
            optim=Optim(
                lr=0.003 * (1 + seed),
                weight_decay=0.1 * seed,
                clip=None if seed else 0.3,
                epochs=2,
                warmup_epochs=1,
            ),
        )
        for seed in range(3)
    ]
    assert_as_in_a_plain_loop(configs, cohort)


def test_validation_has_no_dropout_and_leaves_no_trace(cohort: Dataset):
    trained = session([small.trial(seed) for seed in range(2)], cohort)
    trained.run_epoch()
    before = trained.lanes.flat.clone(), trained.lanes.state.clone()
    states = [generator.get_state() for generator in trained.generators]
    losses = torch.zeros(2, 2 + len(trained.shared.losses))
    for _ in range(2):
        trained._judge(losses)
    for progress in trained.progress:
        _, one, other = progress.curves["validation_loss"]
        assert one == other
    assert torch.equal(before[0], trained.lanes.flat)
    assert torch.equal(before[1], trained.lanes.state)
    for generator, state in zip(trained.generators, states, strict=True):
        assert torch.equal(generator.get_state(), state)


def test_running_statistics_follow_the_training_batches(cohort: Dataset):
    trained = session([small.trial(seed) for seed in range(2)], cohort)
    before = trained.lanes.state.clone()
    trained.run_epoch()
    assert not torch.equal(before[0], trained.lanes.state[0])
    assert not torch.equal(trained.lanes.state[0], trained.lanes.state[1])


def test_an_unseen_scanner_without_others_is_refused(cohort: Dataset):
    config = small.routine(unseen_scanners=("A", "B", "C"))
    with pytest.raises(DataError, match="no routine scan"):
        session([config, config], cohort)


def test_pairs_that_do_not_exist_are_refused(cohort: Dataset):
    config = small.trial(unseen_scanners=("B", "C"))
    with pytest.raises(DataError, match="no training slide has scans on two seen scanners"):
        session([config, config], cohort)


def test_a_snapshot_is_a_copy(cohort: Dataset):
    trained = session([small.trial(seed) for seed in range(2)], cohort)
    tensors, _ = trained.snapshot()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    trained.run_epoch()
    assert all(torch.equal(tensors[name], before[name]) for name in before)


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors, _: tensors.pop("mean"),
        lambda tensors, _: tensors.update(flat=tensors["flat"][:1]),
        lambda tensors, _: tensors.update(chosen_state=tensors["chosen_state"][:, :3]),
        lambda tensors, _: tensors.update(generators=tensors["generators"][:, :16].contiguous()),
        lambda _, counters: counters.pop("slots"),
        lambda _, counters: counters.update(slots=[0, 7]),
        lambda _, counters: counters["progress"][0].update(unknown=1),
    ],
)
def test_a_snapshot_that_is_not_whole_leaves_the_session_as_new(cohort: Dataset, damage):
    configs = [small.trial(seed) for seed in range(2)]
    trained, fresh = session(configs, cohort), session(configs, cohort)
    trained.run_epoch()
    tensors, counters = trained.snapshot()
    damage(tensors, counters)
    with pytest.raises(ValueError, match="not whole"):
        fresh.restore(tensors, counters)
    assert fresh.epoch == 0 and not fresh.progress[0].curves
    fresh.run_epoch()
    assert torch.equal(fresh.lanes.flat, trained.lanes.flat)


def identity(configs: list[TrialConfig], dataset: Dataset, device: str = "cpu") -> lineage.Identity:
    return _identity(configs, folds.fingerprint(dataset, configs[0]), torch.device(device))


def test_an_identity_follows_trials_data_and_kind_of_device(cohort: Dataset, tmp_path: Path):
    configs = [small.trial(0), small.trial(1)]
    other = small.cohort(tmp_path, small.views(21))
    found = [
        identity(configs, cohort),
        identity(configs[::-1], cohort),
        identity(configs, other),
        identity(configs, cohort, "cuda:0"),
    ]
    assert all(one != two for one, two in itertools.combinations(found, 2))
    assert identity(configs, cohort, "cuda:1") == found[3]


def test_a_field_added_later_leaves_the_identity_as_it_was(cohort: Dataset):
    class Later(Optim):
        nesterov: bool = Field(False, json_schema_extra={"added": True})

    config = small.trial()
    later = [
        config.model_copy(update={"optim": Later(lr=0.01, epochs=2, clip=1.0, **new)})
        for new in ({}, {"nesterov": True})
    ]
    one, two = (identity([each], cohort) for each in later)
    assert one == identity([config], cohort) != two


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_and_the_same_in_every_pack(cohort: Dataset, precision: str):
    configs = [small.trial(seed, precision=precision) for seed in range(3)]
    found = [session(configs, cohort), session([configs[2], configs[0]], cohort)]
    full = session([small.trial(seed) for seed in range(3)], cohort)
    for each in (*found, full):
        each.run_epoch()
        assert each.lanes.flat.dtype == torch.float32 and each.lanes.flat.isfinite().all()
    assert torch.equal(found[0].lanes.flat[2], found[1].lanes.flat[0])
    far = (found[0].lanes.flat - full.lanes.flat).abs()
    assert 0 < far.max() < 0.1, "four steps of at most 0.01 each"
