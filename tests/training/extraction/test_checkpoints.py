"""Weights come from files without code, or from the hub; what is refused names what helps."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import save_file

from training.errors import DataError
from training.extraction import checkpoints, encoder_table

UNI = encoder_table.find("uni")
ANSWER = SimpleNamespace(headers={}, request=None)
"""As much of an answer of the hub as its errors look at."""


def hub(monkeypatch, answer):
    """A hub that answers so."""

    def fetch(repository, name, *, revision):
        found = answer(repository, name, revision)
        if isinstance(found, Exception):
            raise found
        return str(found)

    monkeypatch.setattr(checkpoints, "hf_hub_download", fetch)


@pytest.mark.parametrize(
    "error",
    [
        GatedRepoError("403 Client Error.\nmore", response=ANSWER),
        RepositoryNotFoundError("401 Client Error.\nmore", response=ANSWER),
    ],
)
def test_terms_that_were_not_accepted_name_the_page_to_visit(monkeypatch, error):
    hub(monkeypatch, lambda *_: error)
    with pytest.raises(DataError) as raised:
        checkpoints.download(UNI)
    assert "'uni'" in raised.value.message and "\n" not in raised.value.message
    assert "https://huggingface.co/MahmoodLab/UNI" in raised.value.hint
    assert "HF_TOKEN" in raised.value.hint and "--checkpoint uni=PATH" in raised.value.hint


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("Cannot find it on the disk"),
        OfflineModeIsEnabled("offline mode is enabled"),
        OSError("Network is unreachable"),
    ],
)
def test_a_machine_without_internet_is_told_to_bring_the_file(monkeypatch, error):
    hub(monkeypatch, lambda *_: error)
    with pytest.raises(DataError, match="not reachable") as raised:
        checkpoints.download(UNI)
    assert "--checkpoint uni=PATH" in raised.value.hint


def test_a_revision_that_is_not_there_is_named(monkeypatch):
    hub(monkeypatch, lambda *_: RevisionNotFoundError("404", response=ANSWER))
    with pytest.raises(DataError, match="no revision"):
        checkpoints.download(UNI)


def test_safetensors_are_preferred_and_the_commit_is_told(monkeypatch, tmp_path):
    place = tmp_path / "models--MahmoodLab--UNI" / "snapshots" / "abc123"
    asked = []

    def answer(repository, name, revision):
        asked.append((repository, name, revision))
        return EntryNotFoundError("404") if name.endswith("safetensors") else place / name

    hub(monkeypatch, answer)
    assert checkpoints.download(UNI) == (place / "pytorch_model.bin", "abc123")
    assert asked == [
        ("MahmoodLab/UNI", "model.safetensors", None), ("MahmoodLab/UNI", "pytorch_model.bin", None)
    ]  # fmt: skip
    hub(monkeypatch, lambda *_: EntryNotFoundError("404"))
    with pytest.raises(DataError, match="has none of"):
        checkpoints.download(UNI)


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


def test_the_revision_of_a_file_is_its_content(tmp_path):
    (tmp_path / "a").write_bytes(b"weights")
    (tmp_path / "b").write_bytes(b"weights")
    (tmp_path / "c").write_bytes(b"others")
    a, b, c = (checkpoints.digest(tmp_path / name) for name in "abc")
    assert a == b != c
    with pytest.raises(DataError):
        checkpoints.digest(tmp_path / "missing")
