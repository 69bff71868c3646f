"""A multiple-instance model: tile embedding, then a head that pools and scores."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.models.embedding import Dropped, TileEmbedding
from training.types import Attention, Bags, Instances, Mask, Pooled, Scores


class Output(NamedTuple):
    """What a model says about a batch: scores s, bag embeddings z, tile embeddings h, weights a.

    Where a head has an attention branch per class, a is their mean, and `branches` has each.
    """

    scores: Scores
    bag: Pooled
    instances: Instances
    attention: Attention
    branches: Float[Tensor, "bag branch instance"] | None = None


class MILModel(nn.Module):
    """Score bags: s = W z + b, z = pool(h), h = f(x); or (s, z) = head(h) where it scores itself.

    The order of a bag's instances does not matter (but for TransMIL's position encoding); padded
    and unpadded bags agree. Each bag must have a real instance (the index check refuses empty
    bags). In all heads the scores follow from the bag embedding alone, except in DSMIL, which adds
    the score of the critical instance.

    Args:
        embedding: f; without layers it is the identity.
        pooling: a module from (instances, mask) to (bag embedding, attention); without a classifier
            one to (scores, bag embedding, attention), which may have an axis of branches.
        classifier: from bag embeddings to scores.
        bag_width: width of the bag embeddings.
    """

    def __init__(
        self,
        embedding: TileEmbedding,
        pooling: nn.Module,
        classifier: nn.Linear | None = None,
        *,
        bag_width: int,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.pooling = pooling
        self.classifier = classifier
        self.bag_width = bag_width

    def forward(self, bags: Bags, mask: Mask, dropped: tuple[Dropped, ...] = ()) -> Output:
        """Score a batch; `dropped` holds one dropout mask per embedding layer, or none."""
        instances = self.embedding(bags, mask, dropped)
        if self.classifier is None:
            scores, pooled, attention = self.pooling(instances, mask)
            if attention.dim() == 3:
                return Output(scores, pooled, instances, attention.mean(1), attention)
        else:
            pooled, attention = self.pooling(instances, mask)
            scores = self.classifier(pooled)
        return Output(scores, pooled, instances, attention)

    def start_at(self, scores: Sequence[float]) -> None:
        """Add these to the biases, so that the scores start there, whatever the bag."""
        layers = [self.classifier or self.pooling.classifier]
        if self.classifier is None and hasattr(self.pooling, "instance"):
            layers.append(self.pooling.instance)  # DSMIL: the scores are the mean of both
        for layer in layers:
            assert isinstance(layer, nn.Linear) and len(layer.bias) == len(scores)
            with torch.no_grad():
                layer.bias.add_(torch.tensor(scores))
