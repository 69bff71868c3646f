from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training import small
from tests.training.losses import kinds
from tests.training.plain import session
from training.config import Sampling
from training.config_inputs import Regularisation
from training.data import noise
from training.data.bags import BagReader
from training.data.index import Dataset
from training.data.noise import add_noise

NOISY = Regularisation(noise=0.5)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


@pytest.mark.parametrize("resident_bytes", [0, 2**20])
def test_the_spread_is_that_of_all_tiles_of_training_scans_on_seen_scanners(
    cohort: Dataset, resident_bytes: int
):
    config = small.trial(unseen_scanners=("C",), regularisation=NOISY)
    trained = session([config, config], cohort)
    table = trained.scans.table
    rows = table[(table["part"] == "train") & (table["scanner"] != "C")]
    reader = BagReader(cohort.root)
    tiles = np.concatenate([reader.embeddings(row) for row in rows.itertuples()])
    np.testing.assert_allclose(trained.noise, 0.5 * tiles.astype(np.float64).std(0), rtol=1e-12)
    again = noise.spread(trained.loader, trained.scans.of("train", seen_only=True))
    assert torch.equal(trained.noise, 0.5 * again)


def test_noise_has_the_stated_spread_in_each_feature_and_leaves_padding():
    batch = kinds.batch(40, 20, num_tiles=100)
    mask = torch.arange(100) < 30 + torch.arange(80)[:, None] % 71
    batch = replace(batch, bags=batch.bags.masked_fill(~mask[..., None], 0.0), mask=mask)
    sd = torch.tensor([0.0, 0.1, 1.0, 2.0, 30.0]).double()
    before = batch.bags.clone()
    found = add_noise(batch, sd)
    assert torch.equal(batch.bags, before) and not found.bags[~mask].any()
    moved = (found.bags - batch.bags)[mask]
    assert len(moved) > 4000
    # The standard error of an SD from n draws is its own over sqrt(2 n): 1.1 % of it.
    torch.testing.assert_close(moved.std(0), sd, rtol=0.05, atol=0)
    assert (moved.mean(0).abs() <= 5 * sd / len(moved) ** 0.5).all()
    correlation = torch.corrcoef(moved[:, 1:].T) - torch.eye(4)
    assert correlation.abs().max() < 0.08


def test_noise_follows_the_key_and_the_same_routine_bags_get_the_same():
    with_pairs, without = kinds.batch(6, 4), kinds.batch(6, 0)
    without = replace(without, bags=with_pairs.bags[:6])
    sd = torch.ones(kinds.DIM).double()
    found, alone = (add_noise(batch, sd) for batch in (with_pairs, without))
    assert torch.equal(found.bags[:6], alone.bags)
    assert torch.equal(found.bags, add_noise(with_pairs, sd).bags)
    other = add_noise(replace(with_pairs, key=(0, 0, 1, 1)), sd)
    assert not torch.equal(found.bags, other.bags)
    sides = (found.bags - with_pairs.bags)[found.first], (other.bags - with_pairs.bags)[found.first]
    assert not torch.equal(*sides)


def test_all_lanes_and_arms_train_on_the_same_noise(cohort: Dataset, monkeypatch):
    seen: list[torch.Tensor] = []
    trials = [
        small.trial(seed, regularisation=NOISY, sampling=Sampling(tiles_per_bag=4))
        for seed in range(2)
    ]
    routine = [
        small.routine(seed, regularisation=NOISY, sampling=Sampling(tiles_per_bag=4))
        for seed in range(2)
    ]
    for configs in (trials, routine):
        trained = session(configs, cohort)
        step = trained._step

        def keep(batch, step=step):
            seen.append(batch.bags[: batch.num_routine, :4])
            return step(batch)

        monkeypatch.setattr(trained, "_step", keep)
        trained.run_epoch()
    half = len(seen) // 2
    assert half and all(torch.equal(*pair) for pair in zip(seen[:half], seen[half:], strict=True))


def test_noise_is_in_training_alone(cohort: Dataset):
    trained = session([small.trial(seed, regularisation=NOISY) for seed in range(2)], cohort)
    rows = trained.validation.rows
    before = trained.loader.whole(rows)
    trained.run_epoch()
    assert all(torch.equal(*pair) for pair in zip(before, trained.loader.whole(rows), strict=True))
    plain = session([small.trial(seed) for seed in range(2)], cohort)
    assert plain.noise is None
    plain.run_epoch()
    assert not torch.equal(plain.lanes.flat, trained.lanes.flat)
