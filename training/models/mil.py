"""A multiple-instance model: tile embedding, pooling, linear classifier."""

from typing import NamedTuple

from torch import nn

from training.models.embedding import Dropped, TileEmbedding
from training.types import Attention, Bags, Instances, Mask, Pooled, Scores


class Output(NamedTuple):
    """What a model says about a batch: scores s, bag embeddings z, tile embeddings h, weights a."""

    scores: Scores
    bag: Pooled
    instances: Instances
    attention: Attention


class MILModel(nn.Module):
    """Score bags: s = W z + b, z = pool(h), h = f(x).

    The order of a bag's instances does not matter; padded and unpadded bags agree. Each bag must
    have a real instance (the index check refuses empty bags).

    Args:
        embedding: f.
        pooling: a module from (instances, mask) to (bag embedding, attention).
        num_outputs: columns of the scores.
    """

    def __init__(self, embedding: TileEmbedding, pooling: nn.Module, *, num_outputs: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.pooling = pooling
        self.classifier = nn.Linear(embedding.width, num_outputs)

    def forward(self, bags: Bags, mask: Mask, dropped: tuple[Dropped, ...] = ()) -> Output:
        """Score a batch; `dropped` holds one dropout mask per embedding layer, or none."""
        instances = self.embedding(bags, mask, dropped)
        pooled, attention = self.pooling(instances, mask)
        return Output(self.classifier(pooled), pooled, instances, attention)
