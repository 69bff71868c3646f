"""Weights are read from files without code."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from training.errors import DataError
from training.extraction import checkpoints


def test_files_of_both_kinds_and_of_training_wrappers_are_read(tmp_path):
    state = {"a.weight": torch.arange(3.0), "b": torch.zeros(2, 2)}
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.bin")
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "nested.pth")
    torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "parallel.pth")
    for name in ("w.safetensors", "w.bin", "nested.pth", "parallel.pth"):
        found = checkpoints.read(tmp_path / name)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("run-by-pickle"),))


def test_files_that_hold_code_or_rubbish_are_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Evil()}, "evil.pth")
    Path("rubbish.pth").write_bytes(b"no weights at all")
    Path("rubbish.safetensors").write_bytes(b"\0" * 100)
    Path("empty.pth").touch()
    torch.save({"epoch": 3}, "none.pth")
    torch.save([1, 2], "list.pth")
    names = ("evil.pth", "rubbish.pth", "rubbish.safetensors", "empty.pth", "none.pth", "list.pth")
    for name in (*names, "missing.pth"):
        with pytest.raises(DataError) as error:
            checkpoints.read(Path(name))
        assert error.value.message.startswith(name)
    assert not Path("run-by-pickle").exists()


def test_a_file_cut_anywhere_is_refused_by_name(tmp_path):
    torch.save({"a": torch.arange(3.0)}, tmp_path / "whole", _use_new_zipfile_serialization=False)
    whole, cut = (tmp_path / "whole").read_bytes(), tmp_path / "cut.bin"
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.bin"):
            checkpoints.read(cut)
