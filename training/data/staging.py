"""Host memory that batches are read into, over and over: pinned where they go to a GPU."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Stage:
    """Two buffers in turn, so that one can be filled while the other is still on its way.

    Args:
        device: where the contents go.
        dtype: of the contents there. Where going there copies nothing, buffers are not reused.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._buffers: list[Tensor] = [torch.empty(0, dtype=torch.uint8)] * 2
        self._sent: list[torch.cuda.Event | None] = [None, None]
        self._turn = 0

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
        """Give an array to fill; what is in it is of no meaning."""
        kind = np.dtype(dtype)
        if self._device.type == "cpu" and torch.from_numpy(np.empty(0, kind)).dtype == self._dtype:
            return np.empty(shape, kind)
        self._turn = 1 - self._turn
        if (sent := self._sent[self._turn]) is not None:
            sent.synchronize()
        size = int(np.prod(shape)) * kind.itemsize
        if self._buffers[self._turn].numel() < size:
            pinned = self._device.type == "cuda"
            self._buffers[self._turn] = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        return self._buffers[self._turn][:size].numpy().view(kind).reshape(shape)

    def send(self, array: np.ndarray) -> Tensor:
        """Bring the array that was taken last to the device as it is stored; convert it there."""
        if self._device.type != "cuda":
            return torch.from_numpy(array).to(self._device).to(self._dtype)
        there = torch.from_numpy(array).to(self._device, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch
        event.record(torch.cuda.current_stream(self._device))
        self._sent[self._turn] = event
        return there.to(self._dtype)
