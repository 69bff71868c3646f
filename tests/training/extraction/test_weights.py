"""Weights are local files, or come from the hub; what it refuses names what helps."""

import dataclasses
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from training.errors import DataError
from training.extraction import encoder_table, weights
from training.extraction.weights import Weights

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

    monkeypatch.setattr(weights, "hf_hub_download", fetch)


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
        weights.download(UNI)
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
        weights.download(UNI)
    assert "--checkpoint uni=PATH" in raised.value.hint


def test_a_revision_that_is_not_there_is_named(monkeypatch):
    hub(monkeypatch, lambda *_: RevisionNotFoundError("404", response=ANSWER))
    with pytest.raises(DataError, match="no revision"):
        weights.download(UNI)


def test_safetensors_are_preferred_and_the_commit_is_told(monkeypatch, tmp_path):
    place = tmp_path / "models--MahmoodLab--UNI" / "snapshots" / "abc123"
    asked = []

    def answer(repository, name, revision):
        asked.append((repository, name, revision))
        return EntryNotFoundError("404") if name.endswith("safetensors") else place / name

    hub(monkeypatch, answer)
    assert weights.download(UNI) == (place / "pytorch_model.bin", "abc123")
    assert asked == [
        ("MahmoodLab/UNI", "model.safetensors", None), ("MahmoodLab/UNI", "pytorch_model.bin", None)
    ]  # fmt: skip
    hub(monkeypatch, lambda *_: EntryNotFoundError("404"))
    with pytest.raises(DataError, match="has none of"):
        weights.download(UNI)


def test_the_revision_of_a_file_is_its_content(tmp_path):
    (tmp_path / "a").write_bytes(b"weights")
    (tmp_path / "b").write_bytes(b"weights")
    (tmp_path / "c").write_bytes(b"others")
    a, b, c = (weights.digest(tmp_path / name) for name in "abc")
    assert a == b != c
    with pytest.raises(DataError):
        weights.digest(tmp_path / "missing")


def test_a_file_that_is_given_is_taken_and_none_names_the_argument_that_brings_one(tmp_path):
    path = tmp_path / "weights 'ü'.pth"
    path.write_bytes(b"weights")
    assert weights.locate(UNI, path) == Weights(path=path, revision=weights.digest(path))
    with pytest.raises(DataError) as error:
        weights.locate(dataclasses.replace(UNI, hub=""))
    assert "--checkpoint uni=PATH" in error.value.hint


def test_a_file_of_the_second_name_is_found_in_the_cache_without_internet(monkeypatch, tmp_path):
    def answer(_repository, name, _revision):
        cached = name == "pytorch_model.bin"
        return tmp_path / name if cached else LocalEntryNotFoundError("Cannot find it on the disk")

    hub(monkeypatch, answer)
    assert weights.download(UNI) == (tmp_path / "pytorch_model.bin", "")
