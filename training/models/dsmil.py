"""Dual-stream multiple-instance learning."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.models.linear import per_instance
from training.models.weighting import softmax_over_real
from training.types import Attention, Instances, Mask, Scores


class DSMIL(nn.Module):
    r"""Average the score of the critical instance and that of a bag weighted by likeness to it.

    For each class c: critical instance $m = \arg\max_n w_c^\top h_n + b_c$; queries
    $q_n = W_q h_n + b_q$ and values $v_n = W_v h_n$; weights
    $u_n = \mathrm{softmax}_n(\langle q_n, q_m \rangle / \sqrt{d_q})$; $z_c = \sum_n u_n v_n$; and
    $s_c = \frac{1}{2}(w_c^\top h_m + b_c) + \frac{1}{2}(W_b [z_1; \ldots; z_C] + b_b)_c$.

    Li, Li and Eliceiri, CVPR 2021, section 3.2: max-pooling stream, distance measurement U, bag
    stream, and their mean as the bag's score.
    Departures: the inner product is divided by the root of the query's width, and W_b sees the bag
    embeddings of all classes, both as in the authors' code; W_v has no bias, which that of W_b
    would repeat; the task loss is of the mean score, not the mean of two losses. The first of
    equally critical instances counts.

    The bag embedding is the concatenation of the z_c: the critical instance's score is no part of
    it. The attention is the mean of u over classes.

    Args:
        embed_dim: width of the instances h.
        query_dim: width of the queries.
        num_outputs: columns of the scores; one for a binary task.
    """

    def __init__(self, embed_dim: int, query_dim: int, num_outputs: int) -> None:
        super().__init__()
        self.bag_width = num_outputs * embed_dim
        self.scale = query_dim**-0.5
        self.instance = nn.Linear(embed_dim, num_outputs)
        self.query = nn.Linear(embed_dim, query_dim)
        self.value = nn.Linear(embed_dim, embed_dim, bias=False)
        self.classifier = nn.Linear(self.bag_width, num_outputs)

    def forward(
        self, instances: Instances, mask: Mask
    ) -> tuple[Scores, Float[Tensor, "bag joined"], Attention]:
        """Score and pool the instances of each bag."""
        scores = per_instance(self.instance, instances).transpose(1, 2)  # [bag, class, instance]
        real = mask.unsqueeze(1)
        best = scores.masked_fill(~real, -torch.inf).argmax(-1, keepdim=True)
        # Products with a one-hot row, and not `gather`, whose gradient a GPU adds in any order.
        places = torch.arange(scores.shape[-1], device=scores.device)
        critical = (places == best).to(scores.dtype)
        queries = per_instance(self.query, instances)
        likeness = torch.bmm(torch.bmm(critical, queries), queries.transpose(1, 2))
        attention = softmax_over_real(likeness * self.scale, real)
        pooled = torch.bmm(attention, per_instance(self.value, instances)).flatten(1)
        top = (critical * scores).sum(-1)
        return (top + self.classifier(pooled)) / 2, pooled, attention.mean(1)
