"""Batch norm over the real instances of a batch of bags."""

import torch
from torch import nn

from training.types import Instances, Mask


class MaskedBatchNorm(nn.Module):
    r"""Normalise each unit over the real instances of a batch.

    $y = \gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta$.

    Ioffe and Szegedy, ICML 2015, algorithm 1; mu and sigma^2 are the mean and the (biased)
    variance of the real instances of all bags of the batch. In evaluation the running statistics
    stand for them; they follow with the unbiased variance, as in `torch.nn.BatchNorm1d`.
    Departure: padded instances are normalised too but count nowhere.

    Args:
        num_units: width of the instances.
        eps: epsilon.
        momentum: share of the new batch in the running statistics.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, num_units: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_units))
        self.bias = nn.Parameter(torch.zeros(num_units))
        self.register_buffer("running_mean", torch.zeros(num_units))
        self.register_buffer("running_var", torch.ones(num_units))

    def forward(self, instances: Instances, mask: Mask, scale: float = 1.0) -> Instances:
        """Normalise and multiply by `scale`; in training follow the statistics of the batch."""
        rows = instances.flatten(0, 1)
        if not self.training:
            slope = (self.running_var + self.eps).rsqrt() * self.weight
            shift = self.bias - self.running_mean * slope
            return (rows * (slope * scale) + shift * scale).view_as(instances)
        real = mask.flatten().to(rows.dtype)
        count = real.sum()
        share = (real / count).unsqueeze(0)
        # Products with a row of shares: one pass over the rows, and no masked copy of them.
        mean = (share @ rows).squeeze(0)
        centred = rows - mean
        var = (share @ (centred * centred)).squeeze(0)
        self._follow(mean.detach(), var.detach() * (count / (count - 1).clamp_min(1)))
        slope = (var + self.eps).rsqrt() * self.weight
        return (centred * (slope * scale) + self.bias * scale).view_as(instances)

    @torch.no_grad()
    def _follow(self, mean: torch.Tensor, var: torch.Tensor) -> None:
        self.running_mean.mul_(1 - self.momentum).add_(mean * self.momentum)
        self.running_var.mul_(1 - self.momentum).add_(var * self.momentum)
