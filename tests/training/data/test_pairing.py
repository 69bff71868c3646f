from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training import small
from training.data import pairing, sampling, scans
from training.data.bags import BagReader
from training.data.index import Dataset
from training.data.loading import Batch, Loader

KEY = (0, 0, 1, 2)
SIZES = small.trial().sampling


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


def batches(
    cohort: Dataset, pairs: str, limit: int | None = 4
) -> list[tuple[Batch, sampling.Draw]]:
    found = scans.read(cohort, small.trial())
    loader = Loader(
        BagReader(cohort.root),
        found,
        dtype=torch.float64,
        device=torch.device("cpu"),
        resident_bytes=2**20,
    )
    pool = sampling.pool(found, paired=True)
    draws = [
        pairing.compare(draw, pairs, patient=found.patient)
        for draw in sampling.epoch(pool, SIZES, key=KEY[:3])
    ]
    return [(loader.batch(draw, limit), draw) for draw in draws]


patients = st.lists(st.integers(0, 5), min_size=2, max_size=12)


@given(patients, st.integers(0, 99))
def test_partners_are_a_permutation_in_which_none_meets_itself(patient: list[int], step: int):
    found = pairing.partners(np.array(patient), key=(0, 0, 1, step))
    assert sorted(found) == list(range(len(patient)))
    assert (found != np.arange(len(patient))).all()


@given(patients, st.integers(0, 99))
def test_partners_are_of_other_patients_wherever_possible(patient: list[int], step: int):
    numbers = np.array(patient)
    found = pairing.partners(numbers, key=(0, 0, 1, step))
    most = int(np.bincount(numbers).max())
    # Of the most frequent patient's pairs, only as many as there are others can leave.
    unavoidable = max(0, 2 * most - len(numbers))
    assert (numbers[found] == numbers).sum() == unavoidable


def test_one_pair_alone_has_no_partner_and_two_have_each_other():
    assert pairing.partners(np.array([3]), key=KEY).tolist() == []
    assert pairing.partners(np.array([3, 4]), key=KEY).tolist() == [1, 0]


def test_every_partner_is_as_likely_and_follows_the_key():
    numbers = np.arange(5)
    drawn = np.array([pairing.partners(numbers, key=(0, 0, 1, step)) for step in range(2000)])
    assert np.array_equal(drawn[7], pairing.partners(numbers, key=(0, 0, 1, 7)))
    for pair in range(5):
        counts = np.bincount(drawn[:, pair], minlength=5)
        assert counts[pair] == 0
        # 500 expected for each of the others, SD 19.
        assert abs(np.delete(counts, pair) - 500).max() < 100


@given(st.integers(1, 60), st.integers(1, 40) | st.none(), st.integers(0, 50))
def test_halves_are_disjoint_and_as_large_as_asked(num_tiles: int, limit: int | None, step: int):
    first, second, matched = pairing.halves(num_tiles, limit, key=(0, 0, 1, step), slide="s")
    assert matched == 0
    if num_tiles == 1:
        assert first.tolist() == second.tolist() == [0]
        return
    size = num_tiles // 2 if limit is None else min(limit, num_tiles // 2)
    assert len(first) == len(second) == size
    both = [*first.tolist(), *second.tolist()]
    assert len(set(both)) == 2 * size and set(both) <= set(range(num_tiles))
    assert sorted(first) == list(first) and sorted(second) == list(second)


def test_each_tile_is_as_often_on_each_side():
    drawn = [pairing.halves(6, 2, key=(0, 0, 1, step), slide="s") for step in range(3000)]
    for side in (0, 1):
        counts = np.bincount(np.concatenate([each[side] for each in drawn]), minlength=6)
        assert abs(counts - 1000).max() < 150  # SD 26


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(10, 19)), max_size=8), st.integers(0, 99))
def test_one_scan_of_each_pair_is_given_twice(pairs: list[tuple[int, int]], step: int):
    rows = np.array(pairs, np.int64).reshape(-1, 2)
    found = pairing.one_scan(rows, key=(0, 0, 1, step))
    assert found.shape == rows.shape and (found[:, 0] == found[:, 1]).all()
    assert all(chosen in pair for chosen, pair in zip(found[:, 0], rows, strict=True))


def test_both_scans_of_a_pair_are_as_likely():
    rows = np.array([[0, 1]] * 4)
    found = [pairing.one_scan(rows, key=(0, 0, 1, step))[:, 0] for step in range(1000)]
    assert abs(np.mean(found, axis=0) - 0.5).max() < 0.08  # SD .016


def test_scans_are_compared_as_they_were_drawn(cohort: Dataset):
    for batch, draw in batches(cohort, "scans"):
        assert batch.partner is None and draw.partner is None
        first, second = batch.sides(batch.bags)
        assert torch.equal(first, batch.bags[batch.first])
        assert torch.equal(second, batch.bags[batch.second])


def test_shuffled_pairs_leave_every_bag_its_place_and_its_label(cohort: Dataset):
    plain, shuffled = (batches(cohort, pairs) for pairs in ("scans", "shuffled"))
    for (one, draw), (other, same) in zip(plain, shuffled, strict=True):
        assert np.array_equal(draw.pairs, same.pairs) and np.array_equal(draw.routine, same.routine)
        for name in ("bags", "mask", "label", "weight", "matched", "patient"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert all(torch.equal(one.groups[name], other.groups[name]) for name in one.groups)
        second = other.partners(other.patient)
        assert (other.anchors(other.patient) != second).all()
        bags = other.sides(other.bags)[1]
        expected = one.bags[one.second][torch.from_numpy(same.partner)]
        assert torch.equal(bags, expected)


@pytest.mark.parametrize("limit", [2, 4, None])
def test_same_scan_pairs_are_two_disjoint_draws_of_one_scan(cohort: Dataset, limit: int | None):
    plain = batches(cohort, "scans", limit)
    for (one, draw), (other, same) in zip(plain, batches(cohort, "same_scan", limit), strict=True):
        assert len(one.label) == len(other.label) and np.array_equal(draw.routine, same.routine)
        assert torch.equal(one.label, other.label) and torch.equal(one.weight, other.weight)
        assert torch.equal(other.first_scanner, other.second_scanner)
        assert not other.matched.any()
        for pair, (chosen, again) in enumerate(same.pairs):
            assert chosen == again and chosen in draw.pairs[pair]
            a, b = (
                other.bags[side][pair][other.mask[side][pair]]
                for side in (other.first, other.second)
            )
            assert len(a) == len(b) > 0
            assert not (a[:, None] == b[None]).all(-1).any()


def test_a_bag_of_one_tile_is_compared_with_itself(tmp_path):
    views = [replace(view, num_tiles=1) for view in small.views()]
    alone = small.cohort(
        tmp_path, views, load=lambda view: small.bag(replace(view, num_tiles=1, scanner="A"))
    )
    for batch, _ in batches(alone, "same_scan"):
        assert batch.mask.all() and batch.mask.shape[1] == 1
        assert torch.equal(*batch.sides(batch.bags))
