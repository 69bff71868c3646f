import math
from pathlib import Path

import pytest
import torch

from training import checkpoint
from training.errors import DataError


def test_what_is_written_is_read(tmp_path: Path):
    folder = tmp_path / "with space" / "pack"
    tensors = {"flat": torch.randn(3, 5)[:, 1:], "bytes": torch.arange(7, dtype=torch.uint8)}
    counters = {"epoch": 3, "progress": [{"best": 0.1 + 0.2, "value": math.inf}]}
    checkpoint.write(folder, tensors, counters)
    found = checkpoint.read(folder, device="cpu")
    assert found is not None
    assert found[1] == counters
    assert all(torch.equal(found[0][name], tensors[name]) for name in tensors)


def test_a_second_checkpoint_replaces_the_first_and_leaves_one_file(tmp_path: Path):
    for epoch in (1, 2):
        checkpoint.write(tmp_path, {"flat": torch.zeros(1)}, {"epoch": epoch})
    found = checkpoint.read(tmp_path, device="cpu")
    assert found is not None and found[1] == {"epoch": 2}
    assert len(list(tmp_path.iterdir())) == 1


def test_no_checkpoint_is_none(tmp_path: Path):
    assert checkpoint.read(tmp_path / "nothing", device="cpu") is None


def test_a_broken_checkpoint_is_named(tmp_path: Path):
    checkpoint.write(tmp_path, {"flat": torch.zeros(100)}, {})
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match="not a checkpoint"):
        checkpoint.read(tmp_path, device="cpu")
