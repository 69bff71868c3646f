"""Puts decoded tiles through encoders: copies, arithmetic and results overlap on a GPU.

A batch is copied on a stream of its own while the one before is encoded, and its embeddings are
taken one batch later, when they have arrived. Where time goes is counted.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.extraction.decode import Decoded
from training.extraction.encoders import Loaded

Wanted = Callable[[Decoded], Sequence[tuple[int, Loaded]]]
"""Says of a batch which of its looks goes through which encoder."""


@dataclass(slots=True, kw_only=True)
class Clock:
    """Where the time of this process went, seconds.

    Args:
        waited: for decoded tiles.
        copied: tiles to the device.
        encoded: in encoders, results brought back among it.
    """

    waited: float = 0.0
    copied: float = 0.0
    encoded: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoded:
    """Embeddings of a batch, in the order of what was wanted of it: float32 [tile, dim] each."""

    batch: Decoded
    embeddings: tuple[np.ndarray, ...]


@dataclass(slots=True, kw_only=True, eq=False)
class _Flight:
    """A batch whose embeddings are on their way."""

    batch: Decoded
    found: list[Tensor]
    done: Any = None
    marks: list[Any] = field(default_factory=list)


def encode(
    batches: Iterable[Decoded], wanted: Wanted, *, device: torch.device, clock: Clock
) -> Iterator[Encoded]:
    """Encode batches, in order.

    Args:
        batches: decoded tiles, in pinned memory for a GPU.
        wanted: looks and encoders of a batch; none for a batch that could not be decoded.
        device: where the encoders are.
        clock: is added to.
    """
    stream: Any = None
    if device.type == "cuda":
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's own
    flight: _Flight | None = None
    began = time.perf_counter()
    for batch in batches:
        clock.waited += time.perf_counter() - began
        if stream is None:
            launched = _launch(batch, wanted(batch), clock)
        else:
            launched = _launch_on_gpu(batch, wanted(batch), device, stream)
        if flight is not None:
            yield _land(flight, clock)
        flight = launched
        began = time.perf_counter()
    clock.waited += time.perf_counter() - began
    if flight is not None:
        yield _land(flight, clock)


def _launch(batch: Decoded, wanted: Sequence[tuple[int, Loaded]], clock: Clock) -> _Flight:
    began = time.perf_counter()
    found = [loaded.embed(batch.tiles[look].to(loaded.device)).cpu() for look, loaded in wanted]
    clock.encoded += time.perf_counter() - began
    return _Flight(batch=batch, found=found)


def _launch_on_gpu(
    batch: Decoded,
    wanted: Sequence[tuple[int, Loaded]],
    device: torch.device,
    stream: Any,
) -> _Flight:
    """Queue copies and arithmetic; nothing here waits for the GPU."""
    marks = [_mark() for _ in range(4)]
    with torch.cuda.stream(stream):
        marks[0].record()
        looks = {look for look, _ in wanted}
        tiles = {look: batch.tiles[look].to(device, non_blocking=True) for look in sorted(looks)}
        marks[1].record()
    current = torch.cuda.current_stream(device)
    current.wait_stream(stream)
    for each in tiles.values():
        each.record_stream(current)
    marks[2].record(current)  # by itself it would take the stream of the first GPU
    found = [loaded.embed(tiles[look]).to("cpu", non_blocking=True) for look, loaded in wanted]
    marks[3].record(current)
    return _Flight(batch=batch, found=found, done=marks[3], marks=marks)


def _mark() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's own


def _land(flight: _Flight, clock: Clock) -> Encoded:
    if flight.done is not None:
        flight.done.synchronize()
        clock.copied += flight.marks[0].elapsed_time(flight.marks[1]) / 1000
        clock.encoded += flight.marks[2].elapsed_time(flight.marks[3]) / 1000
    return Encoded(batch=flight.batch, embeddings=tuple(each.numpy() for each in flight.found))
