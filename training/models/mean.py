"""Mean pooling."""

from torch import nn

from training.models.weighting import weigh
from training.types import Attention, Instances, Mask, Pooled


class MeanPooling(nn.Module):
    r"""Average the real instances of a bag: $z = \sum_n h_n / N$; the attention is 1/N."""

    def forward(self, instances: Instances, mask: Mask) -> tuple[Pooled, Attention]:
        """Pool the instances of each bag."""
        real = mask.to(instances.dtype)
        attention = real / real.sum(-1, keepdim=True)
        return weigh(instances, attention), attention
