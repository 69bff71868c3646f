import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from training import checkpoint


def file_of(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_what_is_written_is_read(tmp_path: Path):
    folder = tmp_path / "with space" / "pack"
    tensors = {"flat": torch.randn(3, 5)[:, 1:], "bytes": torch.arange(7, dtype=torch.uint8)}
    counters = {"epoch": 3, "progress": [{"best": 0.1 + 0.2, "value": math.inf}]}
    checkpoint.write(folder, tensors, counters)
    found = checkpoint.read(folder)
    assert found is not None
    assert found[1] == counters
    assert all(torch.equal(found[0][name], tensors[name]) for name in tensors)


def test_a_second_checkpoint_replaces_the_first_and_leaves_one_file(tmp_path: Path):
    for epoch in (1, 2):
        checkpoint.write(tmp_path, {"flat": torch.zeros(1)}, {"epoch": epoch})
    found = checkpoint.read(tmp_path)
    assert found is not None and found[1] == {"epoch": 2}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path):
    checkpoint.write(tmp_path, {"flat": torch.zeros(1)}, {"epoch": 1})
    with pytest.raises(TypeError):
        checkpoint.write(tmp_path, {"flat": torch.zeros(1)}, {"epoch": object()})
    found = checkpoint.read(tmp_path)
    assert found is not None and found[1] == {"epoch": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_no_checkpoint_is_none_without_a_warning(tmp_path: Path, caplog):
    assert checkpoint.read(tmp_path / "nothing") is None
    assert not caplog.records


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 40, 100, -1])
def test_a_truncated_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, caplog, kept: int):
    checkpoint.write(tmp_path, {"flat": torch.zeros(100)}, {})
    file = file_of(tmp_path)
    file.write_bytes(file.read_bytes()[:kept])
    assert checkpoint.read(tmp_path) is None
    assert f"{file}: not a checkpoint" in caplog.text


@pytest.mark.parametrize("metadata", [None, {}, {"counters": "{"}, {"counters": "[1]"}])
def test_a_foreign_file_is_passed_over_with_a_warning(tmp_path: Path, caplog, metadata):
    checkpoint.write(tmp_path, {}, {})
    save_file({"flat": torch.zeros(2)}, file_of(tmp_path), metadata=metadata)
    assert checkpoint.read(tmp_path) is None
    assert "training starts anew" in caplog.text
    file_of(tmp_path).write_bytes(b"PK" + bytes(range(256)) * 9)
    assert checkpoint.read(tmp_path) is None


def test_a_folder_in_its_place_is_passed_over_with_a_warning(tmp_path: Path, caplog):
    checkpoint.write(tmp_path, {}, {})
    file = file_of(tmp_path)
    file.unlink()
    file.mkdir()
    assert checkpoint.read(tmp_path) is None
    assert "not a checkpoint" in caplog.text


def test_heirs_of_a_pack_get_its_checkpoint_and_nothing_where_there_is_none(tmp_path: Path):
    checkpoint.write(tmp_path / "whole", {"a": torch.arange(3)}, {"epoch": 4})
    checkpoint.hand_down(tmp_path / "whole", [tmp_path / "half", tmp_path / "other"])
    for name in ("whole", "half", "other"):
        tensors, counters = checkpoint.read(tmp_path / name)
        assert tensors["a"].tolist() == [0, 1, 2] and counters == {"epoch": 4}
    checkpoint.hand_down(tmp_path / "none", [tmp_path / "heir"])
    assert not (tmp_path / "heir").exists()
