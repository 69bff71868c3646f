from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.data import examples
from training.data import moments
from training.data.bags import Bag, BagReader, Row
from training.data.shards import View

SIZES = (1, 5, 9, 4)


def bag(view: View) -> Bag:
    """Tile numbers of a scan on GT450 start two later."""
    found = examples.bag(view)
    return replace(found, tile=found.tile + 2 * (view.scanner == "GT450"))


@pytest.fixture(params=[4096, 3], ids=["whole", "in chunks"])
def scans(request, tmp_path: Path, monkeypatch) -> tuple[BagReader, list[Row]]:
    monkeypatch.setattr(moments, "_CHUNK_TILES", request.param)
    given = [
        replace(view, num_tiles=SIZES[number // 2])
        for number, view in enumerate(examples.scans(len(SIZES)))
    ]
    data = examples.write(tmp_path, given, load=bag)
    return BagReader(data.root), list(data.index.itertuples(index=False))


def tiles(reader: BagReader, entries: Sequence[Row]) -> list[np.ndarray]:
    return [np.array(reader.embeddings(entry), np.float64) for entry in entries]


def test_means_and_variances_are_those_of_the_tiles(scans):
    reader, entries = scans
    found = moments.of_scans(reader, entries)
    for number, expected in enumerate(tiles(reader, entries)):
        np.testing.assert_allclose(found.mean[number], expected.mean(0), rtol=1e-13)
        np.testing.assert_allclose(found.variance[number], expected.var(0), rtol=1e-12, atol=1e-30)


def test_covariance_within_scans_counts_each_scan_once(scans):
    reader, entries = scans
    mean = moments.of_scans(reader, entries).mean
    expected = np.mean([np.cov(each.T, ddof=0) for each in tiles(reader, entries)], axis=0)
    np.testing.assert_allclose(moments.within(reader, entries, mean), expected, rtol=1e-12)


def test_differences_are_of_shared_tiles_and_each_pair_counts_once(scans):
    reader, entries = scans
    pairs = list(zip(entries[::2], entries[1::2], strict=True))
    one, other = tiles(reader, entries)[::2], tiles(reader, entries)[1::2]
    apart = [a[2:] - b[: len(a) - 2] for a, b in zip(one, other, strict=True) if len(a) > 2]
    assert [len(each) for each in apart] == [3, 7, 2]  # the first slide shares no tile
    expected = np.mean([each.T @ each / len(each) for each in apart], axis=0)
    found = moments.of_differences(reader, pairs)
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert moments.of_differences(reader, pairs[:1]) is None
