"""What the pooling heads share: weights over real instances, and the weighted sum."""

import torch

from training.types import Attention, Instances, Mask, Pooled


def softmax_over_real(scores: Attention, mask: Mask) -> Attention:
    """Turn scores into weights that sum to one over the real instances of a bag."""
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)


def weigh(instances: Instances, attention: Attention) -> Pooled:
    """Sum the instances of each bag with their weights: z = sum_n a_n h_n."""
    return torch.bmm(attention.unsqueeze(1), instances).squeeze(1)
