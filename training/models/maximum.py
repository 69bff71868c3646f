"""Max pooling."""

import torch
from torch import nn

from training.types import Attention, Instances, Mask, Pooled


class MaxPooling(nn.Module):
    r"""Take each unit's maximum over the real instances of a bag: $z_j = \max_n h_{nj}$.

    The attention is the share of units whose maximum an instance holds; the first one wins a tie,
    and the gradient goes to it alone.
    """

    def forward(self, instances: Instances, mask: Mask) -> tuple[Pooled, Attention]:
        """Pool the instances of each bag."""
        pooled, holder = instances.masked_fill(~mask.unsqueeze(-1), -torch.inf).max(dim=1)
        share = torch.full_like(pooled, 1 / pooled.shape[-1]).detach()
        empty = torch.zeros_like(instances[..., 0]).detach()
        return pooled, empty.scatter_add(1, holder, share)
