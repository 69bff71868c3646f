"""Gated attention pooling."""

import torch
from torch import nn

from training.models.linear import per_instance
from training.models.weighting import softmax_over_real, weigh
from training.types import Attention, Instances, Mask, Pooled


class GatedAttentionPooling(nn.Module):
    r"""Weigh instances by a learned score with a gate.

    $z = \sum_n a_n h_n$ with
    $a = \mathrm{softmax}_n(w^\top (\tanh(V h_n + b) \odot \sigma(U h_n + c)))$.

    Ilse, Tomczak and Welling, ICML 2018, equations 7 and 9.
    Departures: as in `AttentionPooling`. The sigmoid is written (1 + tanh(x / 2)) / 2, the same
    function: on a CPU torch rounds `sigmoid` differently at the end of a tensor than inside it
    (measured), so that a lane's bits would depend on its position.

    Args:
        embed_dim: width of the instances h.
        attention_dim: rows of V and of U.
    """

    def __init__(self, embed_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(embed_dim, attention_dim)
        self.gate = nn.Linear(embed_dim, attention_dim)
        self.score = nn.Linear(attention_dim, 1, bias=False)

    def forward(self, instances: Instances, mask: Mask) -> tuple[Pooled, Attention]:
        """Pool the instances of each bag."""
        hidden = torch.tanh(per_instance(self.hidden, instances))
        gate = (torch.tanh(per_instance(self.gate, instances) / 2) + 1) / 2
        attention = softmax_over_real(per_instance(self.score, hidden * gate).squeeze(-1), mask)
        return weigh(instances, attention), attention
