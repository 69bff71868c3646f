"""AdamW over a stack of lanes that differ in learning rate, weight decay and clipping.

The fused step of `torch.optim.AdamW` does the arithmetic (Loshchilov and Hutter, ICLR 2019,
algorithm 2). It is called without the class around it, which takes as long as the step of a small
lane. It handles each row as a tensor of its own, so that a lane's bits do not depend on its
companions. Weight decay acts on all parameters, biases and norms too, as torch does by default.
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
        """List the rows of the stack and of the moments, by what their settings share."""
        self._lanes = lanes
        self._count = torch.tensor(float(self.steps), device=lanes.flat.device)
        stacks = (lanes.flat, lanes.grad, self.mean, self.square)
        rows = list(zip(*(lanes.rows(stack) for stack in stacks), strict=True))
        self._alike: dict[tuple[float, float], list[list[Tensor]]] = {}
        for optim, mine in zip(self.optims, rows, strict=True):
            lists = self._alike.setdefault((optim.lr, optim.weight_decay), [[] for _ in stacks])
            for known, row in zip(lists, mine, strict=True):
                known.append(row)
        clips = [math.inf if optim.clip is None else optim.clip for optim in self.optims]
        self._clips = lanes.flat.new_tensor(clips) if min(clips) < math.inf else None

    def step(self, factor: float) -> None:
        """Clip the gradients and move the parameters.

        Args:
            factor: of the schedule, multiplies each lane's learning rate.
        """
        if self._clips is not None:
            gradients = self._lanes.rows(self._lanes.grad)
            norms = torch.stack([torch.linalg.vector_norm(row) for row in gradients])
            shrink = (self._clips / (norms + 1e-6)).clamp_max(1)
            shrink = torch.where(self._clips.isinf(), 1, shrink)  # not NaN where the norm overflows
            self._lanes.grad.mul_(shrink[:, None])
        self._count += 1
        for (lr, decay), (rows, gradients, means, squares) in self._alike.items():
            torch._fused_adamw_(
                rows,
                gradients,
                means,
                squares,
                [],
                [self._count] * len(rows),
                lr=lr * factor,
                beta1=0.9,
                beta2=0.999,
                weight_decay=decay,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )
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
