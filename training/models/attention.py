"""Attention pooling."""

import torch
from torch import nn

from training.models.linear import per_instance
from training.models.weighting import softmax_over_real, weigh
from training.types import Attention, Instances, Mask, Pooled


class AttentionPooling(nn.Module):
    r"""Weigh instances by a learned score.

    $z = \sum_n a_n h_n$ with $a = \mathrm{softmax}_n(w^\top \tanh(V h_n + b))$.

    Ilse, Tomczak and Welling, ICML 2018, equations 7 and 8.
    Departures: V has a bias, as in the authors' code; w has none, because softmax cancels it and
    Adam would turn the rounding noise of its gradient into steps. Padded instances get no weight.

    Args:
        embed_dim: width of the instances h.
        attention_dim: rows of V.
    """

    def __init__(self, embed_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(embed_dim, attention_dim)
        self.score = nn.Linear(attention_dim, 1, bias=False)

    def forward(self, instances: Instances, mask: Mask) -> tuple[Pooled, Attention]:
        """Pool the instances of each bag."""
        hidden = torch.tanh(per_instance(self.hidden, instances))
        attention = softmax_over_real(per_instance(self.score, hidden).squeeze(-1), mask)
        return weigh(instances, attention), attention
