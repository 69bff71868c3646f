"""Attention-MIL heads: ordinary modules, one a file."""

from torch import nn

from training.config import AttentionHead, GatedAttentionHead, Head, MaxHead, MeanHead
from training.models.attention import AttentionPooling
from training.models.embedding import TileEmbedding
from training.models.gated_attention import GatedAttentionPooling
from training.models.maximum import MaxPooling
from training.models.mean import MeanPooling
from training.models.mil import MILModel, Output

__all__ = ["MILModel", "Output", "build"]


def build(head: Head, *, in_dim: int, num_outputs: int) -> MILModel:
    """Make the model of a configuration, initialised from torch's global generator."""
    embedding = TileEmbedding(in_dim, head.embed_dims, norm=head.norm, dropout=head.dropout)
    return MILModel(embedding, _pooling(head), num_outputs=num_outputs)


def _pooling(head: Head) -> nn.Module:
    width = head.embed_dims[-1]
    match head:
        case MeanHead():
            return MeanPooling()
        case MaxHead():
            return MaxPooling()
        case AttentionHead():
            return AttentionPooling(width, head.attention_dim)
        case GatedAttentionHead():
            return GatedAttentionPooling(width, head.attention_dim)
