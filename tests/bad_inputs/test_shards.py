"""Shards that are damaged are refused at launch, or by the worker that meets them later."""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from orchestrator import plan, spec
from tests.bad_inputs import command, inputs
from training import trainer
from training.data import index
from training.errors import DataError

Change = Callable[[Path], object]
SHARD = "shards/one-000.h5"


def dataset(
    name: str, make: Callable[[np.ndarray], np.ndarray | None], **options: object
) -> Change:
    """Replace a dataset of the shard by another one, or by none."""

    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            array = make(file[name][()])
            del file[name]
            if array is not None:
                file.create_dataset(name, data=array, **options)

    return change


def value(name: str, number: float) -> Change:
    """Set the first number of every tile."""

    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file[name][...] = np.full(file[name].shape, number)

    return change


def group(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["tile"]
        file.create_group("tile")


def flip(path: Path) -> None:
    """Flip a bit of every number, as a bad disk might."""
    with h5py.File(path, "r") as file:
        start, size = file["embeddings"].id.get_offset(), file["embeddings"].id.get_storage_size()
    content = bytearray(path.read_bytes())
    for place in range(start, start + size, 2):
        content[place] ^= 1
    path.write_bytes(content)


def none(_: np.ndarray) -> None:
    return None


DAMAGE: dict[str, tuple[Change, str]] = {
    "missing": (Path.unlink, "one-000.h5: missing"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable HDF5 file"),
    "text": (lambda path: path.write_text("hello"), "not a readable HDF5 file"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:5000]), "not a readable HDF5"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "not a readable HDF5 file"),
    "a dangling link": (lambda path: (path.unlink(), path.symlink_to("no")), "one-000.h5: missing"),
    "no embeddings": (dataset("embeddings", none), "no dataset 'embeddings'"),
    "no tiles": (dataset("tile", none), "no dataset 'tile'"),
    "no coordinates": (dataset("coords", none), "no dataset 'coords'"),
    "a group for a dataset": (group, "no dataset 'tile'"),
    "too short": (dataset("embeddings", lambda array: array[:-1]), "tile is ((128,), 'int32')"),
    "another width": (dataset("embeddings", lambda array: array[:, :2]), "of width 4"),
    "one axis": (dataset("embeddings", np.ravel), "one-000.h5"),
    "three axes": (dataset("embeddings", lambda array: array[None]), "one-000.h5"),
    "a scalar": (dataset("embeddings", lambda array: array[0, 0]), "one-000.h5"),
    "no rows": (dataset("embeddings", lambda array: array[:0]), "lies outside"),
    "float64": (dataset("embeddings", lambda array: array.astype("float64")), "expects float16"),
    "whole numbers": (dataset("embeddings", lambda array: array.astype("int8")), "are int8"),
    "text in it": (dataset("embeddings", lambda array: array.astype("S4")), "one-000.h5"),
    "tiles of 64 bits": (dataset("tile", lambda array: array.astype("int64")), "tile is"),
    "NaN": (value("embeddings", np.nan), "embeddings are not all finite"),
    "infinite": (value("embeddings", np.inf), "embeddings are not all finite"),
    "negative tiles": (value("tile", -1), "differs from its checksum"),
    "flipped bits": (flip, "differs from its checksum"),
    "flipped and in chunks": (
        lambda path: (flip(path), dataset("embeddings", np.copy, chunks=(8, 4))(path)),
        "differs from its checksum"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "says"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_shard_is_refused_at_launch(data: Path, change: Change, says: str) -> None:
    change(data / SHARD)
    spec_path = inputs.write_spec(data.parent)
    command.refused(
        data.parent, "launch", spec_path, "--results", data.parent / "results",
        code=command.SPEC_ERROR, says=["one-000.h5", says],
    )  # fmt: skip


@pytest.mark.parametrize("options", [{"chunks": (8, 4)}, {"compression": "gzip"}])
def test_a_shard_of_another_layout_is_read_all_the_same(data: Path, options: dict) -> None:
    dataset("embeddings", np.copy, **options)(data / SHARD)
    spec_path = inputs.write_spec(data.parent)
    answer = command.sweep("launch", spec_path, "-n", "--results", data.parent / "results")
    assert answer.code == 0, answer


HARMLESS = ("tiles of 64 bits",)
LATER = {name: case for name, case in DAMAGE.items() if name not in HARMLESS}


@pytest.mark.parametrize("resident_bytes", [0, 2**20])
@pytest.mark.parametrize(("change", "_"), LATER.values(), ids=LATER)
def test_a_shard_that_is_damaged_after_the_launch_is_a_data_error_with_the_scan(
    data: Path, change: Change, _: str, resident_bytes: int
) -> None:
    checked = index.read(data)
    rows = spec.expand(spec.read(inputs.write_spec(data.parent)))
    trial = plan.make(rows, dataset=checked, lanes_max=1).trials[0]
    change(data / SHARD)
    with pytest.raises(DataError) as error:
        trainer.train([trial.config], checked, resident_bytes=resident_bytes)
    for text in ("one-000.h5", "encoder 'one'", "view 'slide ", "patient 'patient "):
        assert text in error.value.message


def test_a_bag_that_is_read_by_some_tiles_must_be_finite(data: Path) -> None:
    checked = index.read(data)
    text = inputs.spec_with(sampling={"tiles_per_bag": 2}, stopping=LAST)
    rows = spec.expand(spec.read(inputs.write_spec(data.parent, text)))
    trial = plan.make(rows, dataset=checked, lanes_max=1).trials[0]
    value("embeddings", np.nan)(data / SHARD)
    with pytest.raises(DataError, match=r"view 'slide .* embeddings are not all finite"):
        trainer.train([trial.config], checked, resident_bytes=0)


LAST = {"validation_share": 0, "epoch": "last", "threshold": "half"}


def test_a_shard_that_is_put_right_is_compared_anew(data: Path, tmp_path: Path) -> None:
    shutil.copy(data / SHARD, tmp_path / "sound.h5")
    checked = index.read(data)
    rows = spec.expand(spec.read(inputs.write_spec(data.parent)))
    trial = plan.make(rows, dataset=checked, lanes_max=1).trials[0]
    flip(data / SHARD)
    with pytest.raises(DataError):
        trainer.train([trial.config], checked)
    shutil.copy(tmp_path / "sound.h5", data / SHARD)
    assert trainer.train([trial.config], checked)[0].state == "done"
