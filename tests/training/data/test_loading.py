import threading

import h5py
import numpy as np
import pytest
import torch

from tests.training import small
from training.data import resident, sampling, scans
from training.data.bags import BagReader
from training.data.index import Dataset
from training.data.loading import Loader
from training.data.sampling import Draw
from training.errors import DataError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


def loader(cohort: Dataset, resident_bytes: int = 2**20) -> tuple[Loader, scans.Scans]:
    found = scans.read(cohort, small.trial())
    given = {"dtype": torch.float32, "device": CPU, "resident_bytes": resident_bytes}
    return Loader(BagReader(cohort.root), found, **given), found


def draw(found: scans.Scans) -> Draw:
    pool = sampling.pool(found, paired=True)
    return next(sampling.epoch(pool, small.trial().sampling, key=(0, 0, 1)))


@pytest.mark.parametrize("resident_bytes", [0, 2**20])
def test_whole_bags_are_those_on_disk(cohort: Dataset, resident_bytes: int):
    load, found = loader(cohort, resident_bytes)
    reader, rows = BagReader(cohort.root), np.array([3, 0, 11])
    bags, mask = load.whole(rows)
    for place, row in enumerate(rows):
        expected = reader.embeddings(found.table.iloc[row])
        np.testing.assert_array_equal(bags[place][mask[place]].numpy(), expected)
    assert not bags[~mask].any()
    assert bags.shape[1] == mask.sum(1).max()


@pytest.mark.parametrize("limit", [4, None])
def test_resident_and_mapped_bags_are_the_same(cohort: Dataset, limit: int | None):
    one, found = loader(cohort)
    other, _ = loader(cohort, 0)
    here = draw(found)
    a, b = one.batch(here, limit), other.batch(here, limit)
    assert torch.equal(a.bags, b.bags) and torch.equal(a.mask, b.mask)


def test_bags_that_stay_go_where_the_next_do_not_fit(cohort: Dataset):
    loader(cohort)
    assert resident._kept
    loader(cohort, 0)
    assert not resident._kept


def test_bags_that_a_gpu_has_no_room_for_are_read_for_each_batch(cohort: Dataset, monkeypatch):
    expected, found = loader(cohort)
    resident.forget()

    def full(_):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(Loader, "_read_all", full)
    load, _ = loader(cohort)
    here = draw(found)
    assert torch.equal(load.batch(here, 4).bags, expected.batch(here, 4).bags)


def epoch(found: scans.Scans) -> list[Draw]:
    pool = sampling.pool(found, paired=True)
    return list(sampling.epoch(pool, small.trial().sampling, key=(0, 0, 1)))


def readers() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("loader")]


def test_a_bag_that_is_damaged_is_told_when_its_batch_comes(tmp_path):
    load, found = loader(small.cohort(tmp_path), 0)
    draws = epoch(found)
    seen, later = ({*one.routine.tolist(), *one.pairs.ravel().tolist()} for one in draws[:2])
    entry = found.table.iloc[min(later - seen)]
    with h5py.File(tmp_path / entry["shard"], "r+") as file:
        file["embeddings"][entry["row_start"]] = np.nan
    batches = load.batches(draws, None)
    assert torch.equal(next(batches).bags, load.batch(draws[0], None).bags)
    with pytest.raises(DataError, match=entry["view"]):
        next(batches)
    assert not readers()


def test_who_needs_no_more_batches_leaves_no_thread(cohort: Dataset):
    load, found = loader(cohort, 0)
    batches = load.batches(epoch(found), 4)
    next(batches)
    assert readers()
    batches.close()  # type: ignore[attr-defined]  # it is a generator
    assert not readers()


def test_half_precision_bags_come_as_asked(tmp_path):
    data = small.cohort(tmp_path, small.views(dtype="float16"))
    for resident_bytes in (0, 2**20):
        bags, _ = loader(data, resident_bytes)[0].whole(np.array([0]))
        assert bags.dtype == torch.float32
        assert torch.equal(bags, bags.half().float())


@pytest.mark.parametrize("limit", [4, None])
def test_a_batch_holds_routine_bags_then_first_then_second_scans(cohort: Dataset, limit):
    load, found = loader(cohort)
    here = draw(found)
    batch = load.batch(here, limit)
    rows = np.concatenate([here.routine, here.pairs[:, 0], here.pairs[:, 1]])
    assert batch.num_routine == 5 and len(batch.patient) == 3
    assert batch.label.tolist() == found.label[rows].tolist()
    assert batch.first_scanner.tolist() == found.scanner[here.pairs[:, 0]].tolist()
    assert batch.second_scanner.tolist() == found.scanner[here.pairs[:, 1]].tolist()
    assert batch.label[batch.first].tolist() == batch.label[batch.second].tolist()
    sizes = found.table["num_tiles"].to_numpy()[rows[:5]]
    assert batch.mask[:5].sum(1).tolist() == np.minimum(sizes, limit or 99).tolist()


@pytest.mark.parametrize("limit", [4, None])
def test_matched_instances_are_the_same_tissue_place(cohort: Dataset, limit):
    """In the cohort, a tile's number says how far its row is from the first."""
    load, found = loader(cohort)
    here = draw(found)
    batch = load.batch(here, limit)
    reader = BagReader(cohort.root)
    assert batch.matched.any()
    for pair, scans_of in enumerate(here.pairs):
        numbers = []
        for side, row in zip((batch.first, batch.second), scans_of, strict=True):
            entry = found.table.iloc[row]
            disk = torch.from_numpy(np.array(reader.embeddings(entry)))
            mine = batch.bags[side][pair][batch.matched[pair]]
            where = (mine[:, None] == disk[None]).all(-1).int().argmax(1)
            numbers.append(reader.tiles(entry)[where.numpy()])
        np.testing.assert_array_equal(*numbers)
        assert len(numbers[0]) == batch.matched[pair].sum()


def test_each_slide_counts_once(cohort: Dataset):
    load, found = loader(cohort)
    here = draw(found)
    rows = np.concatenate([here.routine, here.pairs.T.ravel()])
    slides = found.table["slide"].to_numpy()[rows]
    weights = load.batch(here, 4).weight.numpy()
    for slide in set(slides):
        assert weights[slides == slide].sum() == pytest.approx(1)


def test_what_is_kept_of_pairs_stays_within_the_bound(cohort: Dataset):
    everything = int(scans.read(cohort, small.trial()).table["num_tiles"].sum() + 1) * small.DIM * 4
    read = []
    for spare in (0, 100, 2**20):
        load, found = loader(cohort, everything + spare)
        pool = sampling.pool(found, paired=True)
        batches = [
            load.batch(each, 4)
            for epoch in (1, 2)
            for each in sampling.epoch(pool, small.trial().sampling, key=(0, 0, epoch))
        ]
        kept = sum(places.nbytes for places in load._shared.values())
        assert kept <= spare and bool(kept) == bool(spare)
        assert {places.dtype.name for places in load._shared.values()} <= {"int32"}
        read.append(torch.cat([batch.bags.flatten() for batch in batches]))
    assert all(torch.equal(bags, read[0]) for bags in read)


def test_a_large_limit_is_no_limit(cohort: Dataset):
    load, found = loader(cohort)
    one, other = (load.batch(draw(found), limit) for limit in (99, None))
    for name in ("bags", "mask", "matched"):
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_bags_of_a_pair_are_filled_up_to_the_limit(cohort: Dataset):
    load, found = loader(cohort)
    here = draw(found)
    batch = load.batch(here, 6)
    sizes = found.table["num_tiles"].to_numpy()[here.pairs.T.ravel()]
    assert batch.mask[5:].sum(1).tolist() == np.minimum(sizes, 6).tolist()
    assert (batch.matched.sum(1) < 6).any()
