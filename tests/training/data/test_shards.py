import math
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.data import examples
from training.config import Task
from training.data import index, shards
from training.data.bags import Bag, BagReader, checksum
from training.data.shards import View
from training.errors import DataError


def test_every_bag_is_read_as_it_was_written(tmp_path: Path) -> None:
    views = examples.scans()
    dataset = examples.write(tmp_path, views)
    reader = BagReader(tmp_path)
    expected = {view.view: examples.bag(view) for view in views}
    for row in dataset.index.itertuples():
        bag = expected[row.view]
        np.testing.assert_array_equal(reader.embeddings(row), bag.embeddings)
        np.testing.assert_array_equal(reader.tiles(row), bag.tile)
        np.testing.assert_array_equal(reader.coords(row), bag.coords)
        assert row.checksum == checksum(bag)


def test_a_series_of_the_index_is_a_row_too(tmp_path: Path) -> None:
    dataset = examples.write(tmp_path)
    row = dataset.index.iloc[3]
    assert BagReader(tmp_path).embeddings(row).shape == (row["num_tiles"], 4)


def test_bags_are_read_only_views_of_the_file(tmp_path: Path) -> None:
    dataset = examples.write(tmp_path)
    row = dataset.index.iloc[0]
    found = BagReader(tmp_path).embeddings(row)
    assert not found.flags.owndata
    assert not found.flags.writeable


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    wide=st.sets(st.integers(0, 7)),
    shard_bytes=st.integers(1, 300),
)
def test_bags_survive_any_sizes_types_and_shard_sizes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], wide: set[int], shard_bytes: int
) -> None:
    root = tmp_path_factory.mktemp("data")
    views = [
        View(
            **dict.fromkeys(("patient", "slide", "scan", "view"), f"s{number}"),
            routine=True,
            num_tiles=size,
            dim=2,
            dtype="float32" if number in wide else "float16",
        )
        for number, size in enumerate(sizes)
    ]
    dataset = examples.write(root, views, shard_bytes=shard_bytes)
    reader = BagReader(root)
    by_view = {row.view: row for row in dataset.index.itertuples()}
    for view in views:
        found = reader.embeddings(by_view[view.view])
        assert found.dtype == view.dtype
        np.testing.assert_array_equal(found, examples.bag(view).embeddings)
    for _, rows in dataset.index.groupby("shard"):
        width = 2 * np.dtype(rows["dtype"].iloc[0]).itemsize + 12
        assert len(rows) == 1 or rows["num_tiles"].sum() * width <= shard_bytes
        assert rows["dtype"].nunique() == 1


def test_datasets_are_contiguous_uncompressed_and_on_pages(tmp_path: Path) -> None:
    examples.write(tmp_path)
    with h5py.File(tmp_path / "shards" / "one-000.h5") as file:
        for dataset in file.values():
            assert dataset.chunks is None
            assert dataset.compression is None
            assert dataset.id.get_offset() % shards.ALIGNMENT == 0


def test_a_chunked_shard_of_someone_else_is_read_as_well(tmp_path: Path) -> None:
    dataset = examples.write(tmp_path)
    path = tmp_path / dataset.index["shard"][0]
    with h5py.File(path) as file:
        arrays = {name: dataset[()] for name, dataset in file.items()}
    path.unlink()
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=True, compression="gzip")
    for row in dataset.index.itertuples():
        found = BagReader(tmp_path).embeddings(row)
        np.testing.assert_array_equal(found, arrays["embeddings"][row.row_start :][: len(found)])


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    program = """
        import sys, pathlib
        from tests.training.data import examples
        examples.write(pathlib.Path(sys.argv[1]))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "one")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[3])
    os.utime(tmp_path / "one" / "index.parquet", (0, 0))
    examples.write(tmp_path / "two")
    assert examples.files(tmp_path / "one") == examples.files(tmp_path / "two")


def test_the_order_of_encoders_does_not_matter(tmp_path: Path) -> None:
    for root, names in ((tmp_path / "ab", "ab"), (tmp_path / "ba", "ba")):
        for name in names:
            examples.write(root, encoder=name)
    assert examples.files(tmp_path / "ab") == examples.files(tmp_path / "ba")


def test_a_second_encoder_joins_the_first(tmp_path: Path) -> None:
    first = examples.write(tmp_path)
    both = examples.write(tmp_path, encoder="two")
    assert both.index["encoder"].value_counts().to_dict() == {"one": 12, "two": 12}
    pd.testing.assert_frame_equal(both.index[both.index["encoder"] == "one"], first.index)


def test_replacing_an_encoder_leaves_the_other_alone_and_no_old_shard(tmp_path: Path) -> None:
    examples.write(tmp_path)
    examples.write(tmp_path, encoder="two")
    other = examples.files(tmp_path)["shards/two-000.h5"]
    again = examples.write(tmp_path, examples.scans(num_tiles=9))
    assert set(again.index["shard"]) == {"shards/one-001.h5", "shards/two-000.h5"}
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == [
        "one-001.h5",
        "two-000.h5",
    ]
    assert examples.files(tmp_path)["shards/two-000.h5"] == other


def test_a_failing_bag_leaves_nothing_behind(tmp_path: Path) -> None:
    def load(view: View) -> Bag:
        if view.slide == "slide 4":
            raise DataError("a tape is torn")
        return examples.bag(view)

    with pytest.raises(DataError, match="a tape is torn"):
        examples.write(tmp_path / "deep" / "data", load=load, shard_bytes=1)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_replacement_leaves_the_data_set_as_it_was(tmp_path: Path) -> None:
    examples.write(tmp_path)
    before = examples.files(tmp_path)

    def interrupt(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        examples.write(tmp_path, examples.scans(num_tiles=9), progress=interrupt, shard_bytes=50)
    assert examples.files(tmp_path) == before


@pytest.mark.parametrize("moment", ["shards", "cases", "index"])
def test_a_writer_killed_at_any_moment_leaves_a_valid_data_set(tmp_path: Path, moment: str) -> None:
    first = examples.write(tmp_path)
    program = f"""
        import os, sys, pathlib, signal
        from tests.training.data import examples
        from training.data import tables
        write = tables.write
        def kill(frame, path):
            if path.name.startswith("{moment}") or "{moment}" == "shards":
                os.kill(os.getpid(), signal.SIGKILL)
            write(frame, path)
        tables.write = kill
        examples.write(pathlib.Path(sys.argv[1]), examples.scans(8, num_tiles=9), shard_bytes=99)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    killed = subprocess.run(command, check=False, cwd=Path(__file__).parents[3])
    assert killed.returncode == -9
    found = index.read(tmp_path)
    assert index.check(found, encoders=["one"], task=examples.config().task) == []
    pd.testing.assert_frame_equal(found.index, first.index)
    examples.write(tmp_path, examples.scans(8, num_tiles=9), shard_bytes=99)
    used = set(index.read(tmp_path).index["shard"])
    assert {f"shards/{path.name}" for path in (tmp_path / "shards").iterdir()} == used


def test_a_bag_that_differs_from_its_view_is_refused(tmp_path: Path) -> None:
    wrong = {
        "width": lambda bag: Bag(
            embeddings=bag.embeddings[:, 1:], tile=bag.tile, coords=bag.coords
        ),
        "length": lambda bag: Bag(embeddings=bag.embeddings, tile=bag.tile[1:], coords=bag.coords),
        "type": lambda bag: Bag(
            embeddings=bag.embeddings.astype("float64"), tile=bag.tile, coords=bag.coords
        ),
        "not all finite": lambda bag: Bag(
            embeddings=bag.embeddings * np.float16(math.inf), tile=bag.tile, coords=bag.coords
        ),
    }
    for change in wrong.values():
        with pytest.raises(DataError, match=r"slide 0/AT2.*(expected|finite)"):
            examples.write(tmp_path / "data", load=lambda view, c=change: c(examples.bag(view)))
        assert not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_made_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        examples.write(tmp_path / "file" / "data")
    with pytest.raises(DataError, match="is a file"):
        examples.write(tmp_path / "file")


def test_a_missing_or_short_shard_is_a_data_error(tmp_path: Path) -> None:
    dataset = examples.write(tmp_path)
    row = dataset.index.iloc[-1].copy()
    row["row_start"] = 10_000
    with pytest.raises(DataError, match="expected rows 10000 to"):
        BagReader(tmp_path).embeddings(row)
    shutil.rmtree(tmp_path / "shards")
    with pytest.raises(DataError, match=r"one-000\.h5: .*cannot be read"):
        BagReader(tmp_path).embeddings(dataset.index.iloc[0])


def test_progress_counts_all_bags(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    examples.write(
        tmp_path, shard_bytes=60, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(number, 12) for number in range(1, 13)]


def test_two_encoders_that_are_added_at_once_are_both_kept(tmp_path: Path) -> None:
    views, begun = examples.scans(), []

    def load(view: View) -> Bag:
        if not begun:
            begun.append(view)
            examples.write(tmp_path, encoder="two")
        return examples.bag(view)

    dataset = examples.write(tmp_path, views, load=load)
    assert set(dataset.index["encoder"]) == {"one", "two"}
    assert index.check(dataset, encoders=["one", "two"], task=Task()) == []


def test_an_encoder_that_is_added_twice_at_once_is_refused_and_one_is_whole(
    tmp_path: Path,
) -> None:
    views, begun = examples.scans(), []

    def load(view: View) -> Bag:
        if not begun:
            begun.append(view)
            with pytest.raises(DataError, match="another import"):
                examples.write(tmp_path)
        return examples.bag(view)

    dataset = examples.write(tmp_path, views, load=load)
    assert index.check(dataset, encoders=["one"], task=Task()) == []
