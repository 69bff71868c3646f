"""MIL heads: ordinary modules, one a file."""

from torch import nn

from training.config_heads import (
    AttentionHead,
    ClamMBHead,
    ClamSBHead,
    DSMILHead,
    GatedAttentionHead,
    Head,
    LinearProbeHead,
    MaxHead,
    MeanHead,
    TransMILHead,
)
from training.models.attention import AttentionPooling
from training.models.clam import ClamMB
from training.models.dsmil import DSMIL
from training.models.embedding import TileEmbedding
from training.models.gated_attention import GatedAttentionPooling
from training.models.maximum import MaxPooling
from training.models.mean import MeanPooling
from training.models.mil import MILModel, Output
from training.models.transmil import TransMILPooling

__all__ = ["MILModel", "Output", "build"]


def build(head: Head, *, in_dim: int, num_outputs: int) -> MILModel:
    """Make the model of a configuration, initialised from torch's global generator."""
    embedding = TileEmbedding(in_dim, head.embed_dims, norm=head.norm, dropout=head.dropout)
    width = embedding.width
    match head:
        case ClamMBHead():
            clam = ClamMB(width, head.attention_dim, num_outputs)
            return MILModel(embedding, clam, bag_width=clam.bag_width)
        case DSMILHead():
            dsmil = DSMIL(width, head.query_dim, num_outputs)
            return MILModel(embedding, dsmil, bag_width=dsmil.bag_width)
        case _:
            # The order matters for the initialisation: pooling before the classifier.
            pooling = _pooling(head, width)
            return MILModel(embedding, pooling, nn.Linear(width, num_outputs), bag_width=width)


def _pooling(
    head: MeanHead
    | MaxHead
    | AttentionHead
    | GatedAttentionHead
    | ClamSBHead
    | TransMILHead
    | LinearProbeHead,
    width: int,
) -> nn.Module:
    match head:
        case MeanHead() | LinearProbeHead():
            return MeanPooling()
        case MaxHead():
            return MaxPooling()
        case AttentionHead():
            return AttentionPooling(width, head.attention_dim)
        case GatedAttentionHead() | ClamSBHead():
            return GatedAttentionPooling(width, head.attention_dim)
        case TransMILHead():
            return TransMILPooling(width, head.num_heads, position=head.position)
