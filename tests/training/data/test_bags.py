"""Bags as training reads them: compared once with their checksum."""

from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from tests.training.data import examples
from training.data import bags
from training.data.bags import BagReader
from training.errors import DataError


def rows(root: Path) -> list[Any]:
    return list(examples.write(root).index.itertuples(index=False))


def test_a_bag_is_compared_once_in_a_process(tmp_path: Path) -> None:
    row = rows(tmp_path)[0]
    with mock.patch.object(bags, "checksum", wraps=bags.checksum) as counted:
        first = BagReader(tmp_path).whole(row)
        assert np.array_equal(BagReader(tmp_path).whole(row), first)
    assert counted.call_count == 1


def test_a_bag_that_changed_is_refused_by_name_and_again_next_time(tmp_path: Path) -> None:
    row = rows(tmp_path)[0]
    with h5py.File(tmp_path / row.shard, "r+") as file:
        file["embeddings"][row.row_start, 0] = 1.0
    for _ in range(2):
        with pytest.raises(DataError) as error:
            BagReader(tmp_path).whole(row)
    for text in (row.shard, repr(row.encoder), repr(row.view), repr(row.patient), "checksum"):
        assert text in error.value.message


def test_what_the_file_system_said_is_the_cause(tmp_path: Path) -> None:
    row = rows(tmp_path)[0]
    (tmp_path / row.shard).unlink()
    with pytest.raises(DataError) as error:
        BagReader(tmp_path).embeddings(row)
    assert isinstance(error.value.__cause__, FileNotFoundError)


@given(arrays.arrays(np.float16, (3, 4)) | arrays.arrays(np.float32, (3, 4)))
def test_finite_means_what_numpy_means(values: np.ndarray) -> None:
    assert bags.is_finite(values) == np.isfinite(values).all()


def test_numbers_whose_sum_overflows_are_finite() -> None:
    assert bags.is_finite(np.full(4, np.finfo(np.float32).max, np.float32))


def test_a_whole_read_that_was_begun_before_the_shard_is_gone_is_an_error_with_the_scan(
    tmp_path: Path,
) -> None:
    row, reader = rows(tmp_path)[0], BagReader(tmp_path)
    reader.embeddings(row)
    (tmp_path / row.shard).unlink()
    with pytest.raises(DataError, match="cannot be read"):
        reader.whole(row)
