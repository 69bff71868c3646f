"""The tile embedding: linear layers with batch norm, leaky ReLU and dropout.

Dropout has no generator here: the caller draws which units drop (`training.dropout.draw_dropped`),
since a draw inside `vmap` would serve all lanes from one generator.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor, nn

from training.models.half import half_product
from training.models.linear import per_instance
from training.models.normalisation import MaskedBatchNorm
from training.types import Bags, Instances, Mask

Dropped = Bool[Tensor, "bag instance _"]
"""True where dropout zeroes a unit of a layer."""


class EmbeddingLayer(nn.Module):
    """Map instances: linear, batch norm (or a bias), leaky ReLU with slope 0.01, dropout.

    Args:
        in_dim: width of the input.
        out_dim: width of the output.
        norm: batch, where the linear layer has no bias (batch norm would cancel it), or none.
        dropout: share of units dropped, rounded to 1/65536 as in `quantised`.

    Attributes:
        low: a type of half the size in which the product with the weights is computed; all else
            stays as it is: sums over tiles and losses need their digits.
    """

    low: torch.dtype | None = None

    def __init__(self, in_dim: int, out_dim: int, *, norm: str, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim, bias=norm == "none")
        self.norm = MaskedBatchNorm(out_dim) if norm == "batch" else None
        self.scale = 1 / (1 - quantised(dropout) / 65536)

    def forward(self, bags: Bags, mask: Mask, dropped: Dropped | None) -> Instances:
        """Embed; `dropped` is the dropout mask, or None."""
        instances = self._product(bags)
        # Leaky ReLU commutes with the factor that makes up for dropped units: it costs no pass.
        scale = 1.0 if dropped is None else self.scale
        instances = instances * scale if self.norm is None else self.norm(instances, mask, scale)
        instances = F.leaky_relu(instances, 0.01)
        # A product, not `masked_fill`, which is a branch per unit: 4 to 10 times as slow on a CPU.
        return instances if dropped is None else instances * ~dropped

    def _product(self, bags: Bags) -> Instances:
        if self.low is None:
            return per_instance(self.linear, bags)
        if self.low is torch.float16:
            return half_product(self.linear, bags)
        with torch.autocast(bags.device.type, dtype=self.low):
            found: Instances = per_instance(self.linear, bags).to(bags.dtype)
        return found


def quantised(dropout: float) -> int:
    """Round a dropout share to 65536ths: 16 random bits decide a unit, at a quarter of the cost."""
    return min(round(dropout * 65536), 65535)


class TileEmbedding(nn.Module):
    """A stack of embedding layers: h = f(x); without layers the identity.

    Args:
        in_dim: width of the encoder's embeddings.
        widths: width of each layer.
        norm: batch or none.
        dropout: share of units dropped after each layer.
    """

    def __init__(self, in_dim: int, widths: Sequence[int], *, norm: str, dropout: float) -> None:
        super().__init__()
        dims = [in_dim, *widths]
        self.width = dims[-1]
        self.layers = nn.ModuleList(
            EmbeddingLayer(before, after, norm=norm, dropout=dropout)
            for before, after in itertools.pairwise(dims)
        )

    def forward(self, bags: Bags, mask: Mask, dropped: tuple[Dropped, ...]) -> Instances:
        """Embed through all layers; `dropped` holds one dropout mask per layer, or none."""
        for number, layer in enumerate(self.layers):
            bags = layer(bags, mask, dropped[number] if dropped else None)
        return bags
