"""Losses on the groups' risks: invariance, extrapolation, robust weights.

The risk of a group is the task loss over its bags in the batch, R_e = sum_i w_i l_i / sum_i w_i,
with smoothed labels where the task loss of training has them (`smoothing` of `bag_losses`);
groups that a batch lacks take no part. `IRM` and `V-REx` are penalties beside the task loss;
`GroupDRO` replaces it. What a lane remembers between steps is a buffer, so that it is stacked with
the lane, leaves with it and lies in its checkpoints. All run under `torch.func.vmap` over lanes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class Risks(NamedTuple):
    """The bags of each group, as shares of the group's weight, and which groups are present."""

    share: Float[Tensor, "group bag"]
    present: Bool[Tensor, " group"]

    def mean(self, values: Float[Tensor, " bag"]) -> Float[Tensor, " group"]:
        """Average over the bags of each group; zero where a group is not present."""
        return (self.share * values).sum(1)

    def over_groups(self, values: Float[Tensor, " group"]) -> Float[Tensor, ""]:
        """Average over the groups that are present."""
        return (values * self.present).sum() / self.present.sum().clamp_min(1)


def risks(group: Int[Tensor, " bag"], weights: Float[Tensor, " bag"], *, num_groups: int) -> Risks:
    """Prepare to average over groups.

    Args:
        group: group number of each bag; -1: none.
        weights: of the bags in the task loss; a group of weight 0 is not present.
        num_groups: how many groups there are.
    """
    inside = group[None, :] == torch.arange(num_groups, device=group.device)[:, None]
    total = (inside * weights).sum(1, keepdim=True)
    share = inside * weights / total.clamp_min(torch.finfo(weights.dtype).tiny)
    return Risks(share, (inside & (weights > 0)).any(1))


def irm_penalty(slopes: Float[Tensor, " bag"], *, of: Risks) -> Float[Tensor, ""]:
    r"""Average over groups the squared gradient of the risk in a common factor of the scores.

    $\frac1E \sum_e (\partial R_e(w s) / \partial w |_{w=1})^2$, whose inner derivative is the mean
    over bags of that of their losses.

    Arjovsky, Bottou, Gulrajani and Lopez-Paz, 2019 (arXiv 1907.02893), IRMv1. Departures: the
    squared gradient of one batch, which is biased upwards, not the product of two half batches as
    in the authors' code; the task term is the mean over bags, not over groups; Adam is not reset
    where the penalty begins.

    Args:
        slopes: derivative of each bag's loss in a common factor of all scores, at 1.
        of: the groups.
    """
    return of.over_groups(of.mean(slopes).square())


def vrex_penalty(losses: Float[Tensor, " bag"], *, of: Risks) -> Float[Tensor, ""]:
    """Compute the variance of the groups' risks, over the groups that are present.

    Krueger, Caballero, Jacobsen et al., ICML 2021 (V-REx), equation 8, with the variance of
    DomainBed (divided by the number of groups). Departures: as in `irm_penalty`, the last two.
    """
    each = of.mean(losses)
    return of.over_groups((each - of.over_groups(each)).square())


class Annealing(nn.Module):
    """Give 0 for the first steps, then 1; counts the steps of training in a buffer.

    A departure: in the authors' code the penalty has the weight 1 in the first steps.
    """

    done: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("done", torch.zeros(1))

    def forward(self) -> Float[Tensor, ""]:
        """Count a step and give its factor."""
        factor = (self.done >= self.steps).to(self.done.dtype)[0]
        if self.training:
            self.done.add_(1)
        return factor


class GroupWeights(nn.Module):
    r"""Weigh groups by the exponential of their past risks.

    $q_e \leftarrow q_e \exp(\eta R_e)$, normalised; the loss is $\sum_e q_e R_e$.

    Sagawa, Koh, Hashimoto and Liang, ICLR 2020, algorithm 1. Departures: q is kept as a logarithm;
    the sum is over the groups that the batch has, their q scaled to sum to one; groups are those of
    one column, not column × class.

    Args:
        num_groups: how many groups there are.
        eta: step size.
    """

    log_q: Tensor

    def __init__(self, num_groups: int, eta: float) -> None:
        super().__init__()
        self.eta = eta
        self.register_buffer("log_q", torch.zeros(num_groups))

    def forward(self, losses: Float[Tensor, " bag"], *, of: Risks) -> Float[Tensor, ""]:
        """Compute the loss from those of the bags; in training the weights follow first."""
        each = of.mean(losses)
        log_q = self.log_q + self.eta * each.detach()
        log_q = log_q - torch.logsumexp(log_q, dim=0)
        if self.training:
            self.log_q.copy_(log_q)
        # A group that is absent gets no share; without any group the sum is zero.
        share = torch.softmax(log_q.masked_fill(~of.present, torch.finfo(log_q.dtype).min), dim=0)
        return (share * of.present * each).sum()
