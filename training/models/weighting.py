"""What the pooling heads share: weights over real instances, and the weighted sum."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from training.types import Attention, Instances, Pooled


def softmax_over_real(
    scores: Float[Tensor, "*axes instance"], mask: Bool[Tensor, "*#axes instance"]
) -> Float[Tensor, "*axes instance"]:
    """Turn scores into weights that sum to one over the real instances of a bag.

    Axes between bag and instance (classes, attention heads, queries) have their own weights.
    """
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)


def weigh(instances: Instances, attention: Attention) -> Pooled:
    """Sum the instances of each bag with their weights: z = sum_n a_n h_n."""
    return torch.bmm(attention.unsqueeze(1), instances).squeeze(1)
