"""The weights of the epoch that counts, and of those that may still come to count, by lane."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from training.config import Stopping
from training.progress import Progress


class Choice:
    """Rows of weights of the chosen epochs.

    With `within_margin`, an epoch that is not the choice can become it when the best value rises
    and the choice falls out of the margin. Its weights are kept as long as that can happen
    (`progress.contenders`): a handful of rows a lane, in the memory of the host.

    Args:
        flat: parameters of all lanes, as they are before the first epoch.
        state: buffers of all lanes.
        stopping: which epoch counts.
    """

    def __init__(self, flat: Tensor, state: Tensor, stopping: Stopping) -> None:
        self.flat, self.state = flat.clone(), state.clone()
        self._stopping = stopping
        self._kept: list[dict[int, tuple[Tensor, Tensor]]] = [{} for _ in flat]

    def keep(self, lane: int, progress: Progress, rows: tuple[Tensor, Tensor]) -> None:
        """Take the last epoch's rows; `progress` has judged it, and says which epoch is chosen."""
        if self._stopping.epoch == "within_margin":
            kept = self._kept[lane]
            flat, state = rows
            kept[progress.epochs_trained] = flat.cpu().clone(), state.cpu().clone()
            for epoch in kept.keys() - set(progress.contenders(self._stopping)):
                del kept[epoch]
            rows = kept[progress.epoch]
        self.flat[lane].copy_(rows[0])
        self.state[lane].copy_(rows[1])

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Give a copy of all that a checkpoint needs."""
        tensors = {"chosen_flat": self.flat.clone(), "chosen_state": self.state.clone()}
        if self._stopping.epoch != "within_margin":
            return tensors, {}
        rows = [pair for kept in self._kept for pair in kept.values()]
        for number, (name, like) in enumerate((("flat", self.flat), ("state", self.state))):
            none = torch.empty(0, like.shape[1], dtype=like.dtype)
            each = [pair[number][None] for pair in rows]
            tensors[f"contenders_{name}"] = torch.cat([none, *each])
        return tensors, {"contenders": [list(kept) for kept in self._kept]}

    def restore(
        self,
        tensors: Mapping[str, Tensor],
        counters: Mapping[str, Any],
        progress: Sequence[Progress],
    ) -> None:
        """Go on from a snapshot.

        Raises:
            KeyError: It lacks something.
            ValueError: It is not whole.
        """
        require_shape(tensors, "chosen_flat", self.flat.shape)
        require_shape(tensors, "chosen_state", self.state.shape)
        kept: list[dict[int, tuple[Tensor, Tensor]]] = [{} for _ in self.flat]
        if self._stopping.epoch == "within_margin":
            flat, state = tensors["contenders_flat"], tensors["contenders_state"]
            expected = [sorted(each.contenders(self._stopping)) for each in progress]
            if counters["contenders"] != expected:
                raise ValueError(f"weights of epochs {counters['contenders']}, not {expected}")
            owners = [(lane, epoch) for lane, epochs in enumerate(expected) for epoch in epochs]
            require_shape(tensors, "contenders_flat", (len(owners), self.flat.shape[1]))
            require_shape(tensors, "contenders_state", (len(owners), self.state.shape[1]))
            for place, (lane, epoch) in enumerate(owners):
                kept[lane][epoch] = flat[place].cpu().clone(), state[place].cpu().clone()
        self.flat, self.state = tensors["chosen_flat"].clone(), tensors["chosen_state"].clone()
        self._kept = kept


def require_shape(tensors: Mapping[str, Tensor], name: str, shape: Sequence[int]) -> None:
    """Refuse a tensor of another shape.

    Raises:
        KeyError: There is no such tensor.
        ValueError: It has another shape.
    """
    if tuple(tensors[name].shape) != tuple(shape):
        raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}")
