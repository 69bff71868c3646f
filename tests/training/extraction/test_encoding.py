"""Batches come out in order with what was wanted of them, and time is counted."""

import contextlib

import numpy as np
import pytest
import torch

from tests.training.extraction.small_encoders import save, small, tiles
from training.extraction import encoders, encoding, weights
from training.extraction.decode import Decoded
from training.extraction.encoding import Clock


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    encoder = small("uni")
    path = save(encoder, tmp_path_factory.mktemp("w") / "uni.pth")
    return encoders.load(encoder, weights.locate(encoder, path))


def batches(count=3):
    shown = [(tiles(2, seed=number), tiles(2, seed=number + 50)) for number in range(count)]
    return [
        Decoded(part=number, start=0, tiles=looks, whole=np.ones(2, bool))
        for number, looks in enumerate(shown)
    ]


def test_each_look_goes_through_the_encoders_that_are_wanted(loaded):
    given, clock = batches(), Clock()
    wanted = {0: [(0, loaded)], 1: [], 2: [(1, loaded), (0, loaded)]}
    found = list(
        encoding.encode(
            given, lambda batch: wanted[batch.part], device=torch.device("cpu"), clock=clock
        )
    )
    assert [each.batch.part for each in found] == [0, 1, 2]
    assert [len(each.embeddings) for each in found] == [1, 0, 2]
    np.testing.assert_array_equal(found[2].embeddings[1], loaded.embed(given[2].tiles[0]).numpy())
    assert clock.encoded > 0 and clock.waited >= 0 and clock.copied == 0


@pytest.mark.gpu
def test_a_gpu_gives_the_same_from_pinned_memory(loaded, tmp_path):
    encoder = small("uni")
    there = encoders.load(
        encoder, weights.locate(encoder, save(encoder, tmp_path / "u.pth")), device="cuda"
    )
    given, clock = [batch.pin_memory() for batch in batches(4)], Clock()
    found = list(
        encoding.encode(given, lambda _: [(0, there)], device=torch.device("cuda"), clock=clock)
    )
    for batch, each in zip(given, found, strict=True):
        expected = loaded.embed(batch.tiles[0]).numpy()
        np.testing.assert_allclose(each.embeddings[0], expected, rtol=1e-3, atol=1e-3)
    assert clock.copied > 0 and clock.encoded > 0


class Fake:
    """Stands for a stream or an event of the second GPU of a machine."""

    def __init__(self, log):
        self.log = log

    def record(self, stream=None):
        self.log.append(stream)

    def wait_stream(self, _stream): ...


def test_what_is_waited_for_is_on_the_gpu_that_encodes_and_not_on_the_first(loaded, monkeypatch):
    log = []
    second = Fake(log)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: second)
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _tensor, _stream: None)
    monkeypatch.setattr(encoding, "_mark", lambda: Fake(log))
    encoding._launch_on_gpu(batches(1)[0], [(0, loaded)], torch.device("cpu"), Fake(log))
    assert log == [None, None, second, second]  # the copy is marked inside its own stream
