"""AdamW over a stack of lanes that differ in learning rate, weight decay and clipping.

`torch.optim.AdamW` does the arithmetic (Loshchilov and Hutter, ICLR 2019, algorithm 2), with one
parameter group per lane, whose one parameter is the lane's row. Weight decay acts on all
parameters, biases and norms too, as torch does by default. The fused step is used: it handles each
row as a tensor of its own, so that a lane's bits do not depend on its companions.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from training.config import Optim
from training.lanes import Lanes


class LaneAdamW:
    """Optimises the rows of a stack.

    Args:
        lanes: the stack.
        optims: each lane's settings.
    """

    def __init__(self, lanes: Lanes, optims: Sequence[Optim]) -> None:
        self.optims = list(optims)
        self.mean = torch.zeros_like(lanes.flat)
        self.square = torch.zeros_like(lanes.flat)
        self.steps = 0
        self._bind(lanes)

    def _bind(self, lanes: Lanes) -> None:
        """Point torch's optimiser at the rows of the stack and of the moments."""
        self._lanes = lanes
        rows = [row.detach() for row in lanes.flat]
        for row, gradient in zip(rows, lanes.grad, strict=True):
            row.grad = gradient
        groups = [
            {"params": [row], "lr": optim.lr, "weight_decay": optim.weight_decay}
            for row, optim in zip(rows, self.optims, strict=True)
        ]
        self._torch = torch.optim.AdamW(groups, fused=True)
        for row, mean, square in zip(rows, self.mean, self.square, strict=True):
            step = torch.tensor(float(self.steps), device=row.device)
            self._torch.state[row] = {"step": step, "exp_avg": mean, "exp_avg_sq": square}
        clips = [math.inf if optim.clip is None else optim.clip for optim in self.optims]
        self._clips = lanes.flat.new_tensor(clips) if min(clips) < math.inf else None

    def step(self, factor: float) -> None:
        """Clip the gradients and move the parameters.

        Args:
            factor: of the schedule, multiplies each lane's learning rate.
        """
        if self._clips is not None:
            norms = torch.stack([torch.linalg.vector_norm(row) for row in self._lanes.grad])
            shrink = (self._clips / (norms + 1e-6)).clamp_max(1)
            self._lanes.grad.mul_(shrink[:, None])
        for group, optim in zip(self._torch.param_groups, self.optims, strict=True):
            group["lr"] = optim.lr * factor
        self._torch.step()
        self.steps += 1

    def select(self, lanes: Lanes, positions: Sequence[int]) -> None:
        """Keep the lanes at these positions, after the stack did the same."""
        self.optims = [self.optims[position] for position in positions]
        self.put(lanes, self.mean[list(positions)], self.square[list(positions)], self.steps)

    def put(self, lanes: Lanes, mean: Tensor, square: Tensor, steps: int) -> None:
        """Replace the state, for example by that of a checkpoint."""
        self.mean, self.square, self.steps = mean.clone(), square.clone(), steps
        self._bind(lanes)


def schedule(optim: Optim, step: int, steps_per_epoch: int) -> float:
    """Give the factor of the learning rate at a step, counted from 0.

    Linear warm-up to 1 over `warmup_epochs`; then constant, or half a cosine that would reach zero
    at the step after the last (Loshchilov and Hutter, ICLR 2017, equation 5, without restarts).
    """
    warmup = optim.warmup_epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / warmup
    if optim.schedule == "constant":
        return 1.0
    total = optim.epochs * steps_per_epoch
    return (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2
