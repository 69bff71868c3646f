"""CLAM with an attention branch per class.

CLAM-SB, with one branch, has no module here: it is gated attention pooling with a linear classifier
(`GatedAttentionPooling`), to the last parameter. The instance clustering loss of both is a loss
beside the model (`training.losses.clam`).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.models.linear import per_instance
from training.models.weighting import softmax_over_real
from training.types import Instances, Mask, Scores


class ClamMB(nn.Module):
    r"""Give each class its own gated attention and its own linear classifier.

    $s_m = w_m^\top z_m + b_m$, $z_m = \sum_n a_{nm} h_n$,
    $a_{\cdot m} = \mathrm{softmax}_n(u_m^\top (\tanh(V h_n + b) \odot \sigma(U h_n + c)))$.

    Lu, Williamson, Chen, Chen, Barbieri and Mahmood, Nature Biomedical Engineering 2021, Methods,
    equations 1 (attention) and 2 (slide embeddings of the classes).
    Departures: no dropout inside the attention network; u_m has no bias and the sigmoid is written
    with tanh, as in `GatedAttentionPooling`. A binary task has one logit here: the two classes have
    their branches, and the score is s_1 - s_0, whose sigmoid is the softmax of the two.

    The bag embedding is the concatenation of the z_m; the model's attention is the mean over
    classes.

    Args:
        embed_dim: width of the instances h.
        attention_dim: rows of V and of U.
        num_outputs: columns of the scores; 1 for a binary task, with two branches.
    """

    def __init__(self, embed_dim: int, attention_dim: int, num_outputs: int) -> None:
        super().__init__()
        branches = max(num_outputs, 2)
        self.bag_width, self.binary = branches * embed_dim, num_outputs == 1
        self.hidden = nn.Linear(embed_dim, attention_dim)
        self.gate = nn.Linear(embed_dim, attention_dim)
        self.score = nn.Linear(attention_dim, branches, bias=False)
        self.classifier = nn.Linear(embed_dim, branches)

    def forward(
        self, instances: Instances, mask: Mask
    ) -> tuple[Scores, Float[Tensor, "bag joined"], Float[Tensor, "bag branch instance"]]:
        """Score and pool the instances of each bag; attention by class."""
        hidden = torch.tanh(per_instance(self.hidden, instances))
        gate = (torch.tanh(per_instance(self.gate, instances) / 2) + 1) / 2
        scores = per_instance(self.score, hidden * gate).transpose(1, 2)  # [bag, class, instance]
        attention = softmax_over_real(scores, mask.unsqueeze(1))
        pooled = torch.bmm(attention, instances)  # [bag, class, embedding]
        logits = (pooled * self.classifier.weight).sum(-1) + self.classifier.bias
        if self.binary:
            logits = logits[:, 1:] - logits[:, :1]
        return logits, pooled.flatten(1), attention
