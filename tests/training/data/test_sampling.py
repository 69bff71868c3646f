from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training import small
from training.config import Sampling
from training.data import sampling, scans
from training.data.index import Dataset
from training.data.sampling import Draw, Pool, TilePair
from training.data.scans import Scans
from training.data.shards import View
from training.errors import DataError

KEY = (0, 0, 1)
TRIAL = small.trial()
SIZES = Sampling(slides_per_batch=4, pairs_per_batch=3, tiles_per_bag=5)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Scans:
    return scans.read(small.cohort(tmp_path_factory.mktemp("cohort")), small.trial())


@pytest.fixture(scope="module")
def pool(cohort: Scans) -> Pool:
    return sampling.pool(cohort, paired=True)


def made(root: Path, views: list[View]) -> Dataset:
    """The small cohort, with bags that do not depend on the scanner's name."""
    return small.cohort(root, views, load=lambda view: small.bag(replace(view, scanner="A")))


def draws(pool: Pool, sizes: Sampling = SIZES, key: sampling.Key = KEY) -> list[Draw]:
    return list(sampling.epoch(pool, sizes, key=key))


def test_an_epoch_draws_each_routine_training_scan_once(cohort: Scans, pool: Pool):
    drawn = np.concatenate([draw.routine for draw in draws(pool)])
    table = cohort.table
    expected = np.flatnonzero((table["part"] == "train") & table["routine"])
    assert sorted(drawn) == list(expected)
    assert len(draws(pool)) == sampling.steps_per_epoch(pool, SIZES)
    assert {len(draw.routine) for draw in draws(pool)[:-1]} == {4}


def test_pairs_are_two_training_scans_of_a_slide_on_one_pair_of_scanners(cohort: Scans, pool: Pool):
    table = cohort.table
    for draw in draws(pool):
        assert draw.pairs.shape == (3, 2)
        first, second = (table.iloc[column] for column in draw.pairs.T)
        assert list(first["slide"]) == list(second["slide"])
        assert first["slide"].is_unique
        assert set(first["part"]) == {"train"}
        assert first["scanner"].nunique() == second["scanner"].nunique() == 1
        assert first["scanner"].iloc[0] < second["scanner"].iloc[0]


def test_routine_draws_do_not_change_when_pairs_are_added(cohort: Scans, pool: Pool):
    alone = sampling.pool(cohort, paired=False)
    for one, other in zip(draws(pool), draws(alone), strict=True):
        assert np.array_equal(one.routine, other.routine) and one.key == other.key
        assert other.pairs.shape == (0, 2)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_another_draw_seed_fold_or_epoch_gives_another_order(pool: Pool, place: int):
    key = tuple(number + (number_place == place) for number_place, number in enumerate(KEY))
    one, other = (
        np.concatenate([draw.routine for draw in draws(pool, key=each)]) for each in (KEY, key)
    )
    assert not np.array_equal(one, other)
    assert sorted(one) == sorted(other)


@pytest.mark.parametrize(("num_pairs", "sizes"), [(50, {30, 10}), (20, {20, 10}), (5, {5})])
def test_slides_are_drawn_equally_often_whatever_their_scanners(num_pairs: int, sizes: set[int]):
    pairs = (np.arange(30), np.arange(30, 40))
    pool = Pool(routine=np.arange(4000), pairs=tuple(np.stack([p, p], 1) for p in pairs))
    found = draws(pool, Sampling(slides_per_batch=1, pairs_per_batch=num_pairs))
    assert {len(draw.pairs) for draw in found} == sizes
    counts = np.bincount(np.concatenate([draw.pairs[:, 0] for draw in found]))
    first, second = counts[:30].mean(), counts[30:].mean()
    assert abs(first / second - 1) < 0.12
    assert counts.min() > 0.7 * counts.mean() and counts.max() < 1.3 * counts.mean()


def test_an_unknown_scanner_forms_no_pair(tmp_path):
    views = [replace(view, scanner=view.scanner.replace("B", "")) for view in small.views()]
    found = scans.read(made(tmp_path, views), small.trial())
    pool = sampling.pool(found, paired=True)
    scanners = found.table["scanner"].to_numpy()
    assert "" in set(scanners[pool.routine])
    assert [set(scanners[pairs.ravel()]) for pairs in pool.pairs] == [{"A", "C"}]


def test_scans_of_unknown_scanners_alone_form_no_pair(tmp_path):
    dataset = made(tmp_path, [replace(view, scanner="") for view in small.views()])
    found = scans.read(dataset, small.routine())
    assert len(sampling.pool(found, paired=False).routine)
    with pytest.raises(DataError, match="no training slide"):
        sampling.pool(found, paired=True)
    with pytest.raises(DataError, match="no training slide"):
        scans.read(dataset, small.trial())


def test_unseen_scanners_are_in_no_pool(tmp_path):
    data = small.cohort(tmp_path)
    found = scans.read(data, small.trial(unseen_scanners=("B",)))
    pool = sampling.pool(found, paired=True)
    rows = np.concatenate([pool.routine, *(pairs.ravel() for pairs in pool.pairs)])
    assert "B" not in set(found.table["scanner"].to_numpy()[rows])
    assert len(pool.pairs) == 1


def test_a_pool_without_pairs_is_refused_where_they_are_wanted(tmp_path):
    data = small.cohort(tmp_path, small.views(scanners=("A",)))
    found = scans.read(data, small.routine())
    assert len(sampling.pool(found, paired=False).routine)
    with pytest.raises(DataError, match="no training slide"):
        sampling.pool(found, paired=True)


@given(st.integers(1, 40), st.integers(1, 40) | st.none())
def test_tiles_are_distinct_and_no_more_than_the_limit(num_tiles: int, limit: int | None):
    found = sampling.tiles(num_tiles, limit, key=KEY, slide="s")
    assert len(set(found.tolist())) == len(found) == min(num_tiles, limit or num_tiles)
    assert set(found.tolist()) <= set(range(num_tiles))


def test_tiles_differ_between_slides_and_steps():
    found = {
        tuple(sampling.tiles(100, 5, key=(*KEY, step), slide=slide).tolist())
        for step in range(3)
        for slide in ("a", "b")
    }
    assert len(found) == 6


tile_numbers = st.lists(st.integers(0, 12), unique=True, min_size=1, max_size=10)


@given(tile_numbers, tile_numbers, st.integers(1, 12) | st.none())
def test_a_pair_has_the_same_tissue_places_first(one: list[int], other: list[int], limit):
    first, second = np.array(one, np.int32), np.array(other, np.int32)
    shared = sampling.common(first, second)
    assert shared.matched == len(set(one) & set(other))
    found = sampling.pair_tiles(shared, (len(one), len(other)), limit, key=KEY, slide="s")
    matched = found.matched
    assert np.array_equal(first[found.first[:matched]], second[found.second[:matched]])
    for side, size in zip((found.first, found.second), (len(one), len(other)), strict=True):
        assert len(set(side.tolist())) == len(side) == min(limit or size, size)
        assert set(side.tolist()) <= set(range(size))
    assert matched == min(limit or shared.matched, shared.matched)
    if limit is None or limit >= max(len(one), len(other)):
        whole = sampling.pair_tiles(shared, (len(one), len(other)), None, key=KEY, slide="s")
        assert all(np.array_equal(a, b) for a, b in zip(found, whole, strict=True))


@given(tile_numbers, tile_numbers, st.integers(1, 12))
def test_a_pairs_tiles_are_drawn_from_the_key_and_the_slide(
    one: list[int], other: list[int], limit
):
    shared = sampling.common(np.array(one, np.int32), np.array(other, np.int32))
    sizes = (len(one), len(other))
    first, again = (sampling.pair_tiles(shared, sizes, limit, key=KEY, slide="s") for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_bag_is_filled_up_with_other_tiles_for_each_scan_on_its_own():
    shared = TilePair(np.arange(3), np.arange(3), 3)
    found = sampling.pair_tiles(shared, (100, 100), 10, key=KEY, slide="s")
    assert found.matched == 3
    assert list(found.first[:3]) == list(found.second[:3]) == [0, 1, 2]
    assert len(found.first) == len(found.second) == 10
    assert set(found.first[3:]) != set(found.second[3:])
    assert min(found.first[3:].min(), found.second[3:].min()) >= 3


def test_scans_without_shared_places_are_drawn_from_independently():
    nothing = TilePair(np.array([], np.int64), np.array([], np.int64), 0)
    found = sampling.pair_tiles(nothing, (100, 100), 10, key=KEY, slide="s")
    assert not np.array_equal(found.first, found.second)
