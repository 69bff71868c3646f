"""TransMIL: a small transformer over the instances of a bag, with a class token."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.models.linear import per_instance
from training.models.position import PyramidPosition
from training.models.weighting import softmax_over_real
from training.types import Attention, Instances, Mask, Pooled

QUERIES = 512
"""Queries attended for at once; bounds the memory of long bags."""

Heads = Float[Tensor, "bag head instance hidden"]
"""Queries, keys or values, split over the attention heads."""


class SelfAttention(nn.Module):
    r"""Attend from tokens to tokens, after layer norm, and add the result to them.

    $y = x + W_o\,\mathrm{concat}_h(\mathrm{softmax}(Q_h K_h^\top / \sqrt{d_h}) V_h) + b_o$ with
    Q, K, V linear in LN(x). Products instead of torch's fused attention, which has no batching rule
    under `vmap` on a CPU (torch 2.13).

    Args:
        width: of the tokens.
        num_heads: attention heads; divides the width.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (width // num_heads) ** -0.5
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(
        self, tokens: Instances, mask: Mask, *, num_queries: int
    ) -> tuple[Float[Tensor, "bag query embedding"], Float[Tensor, "bag head instance"]]:
        """Update the first `num_queries` tokens; also give the first one's weights."""
        normed = per_token_norm(self.norm, tokens)
        queries, keys, values = (
            self._split(part) for part in per_instance(self.project, normed).chunk(3, dim=-1)
        )
        real = mask[:, None, None, :]
        found, first = [], None
        for start in range(0, num_queries, QUERIES):
            part = queries[:, :, start : min(start + QUERIES, num_queries)]
            scores = torch.matmul(part * self.scale, keys.transpose(2, 3))
            weights = softmax_over_real(scores, real)
            first = weights[:, :, 0] if first is None else first
            found.append(torch.matmul(weights, values))
        assert first is not None
        joined = torch.cat(found, dim=2).transpose(1, 2).flatten(2)
        update: Instances = tokens[:, :num_queries] + per_instance(self.out, joined)
        return update, first

    def _split(self, part: Instances) -> Heads:
        return part.reshape(*part.shape[:2], self.num_heads, -1).transpose(1, 2)


class TransMILPooling(nn.Module):
    r"""Pool through two self-attention layers with a position encoding between them.

    $t^0 = [t_\mathrm{class}; h_1 \ldots h_N]$, $t^1 = \mathrm{MSA}(\mathrm{LN}(t^0)) + t^0$,
    $t^2 = \mathrm{PPEG}(t^1)$, $t^3 = \mathrm{MSA}(\mathrm{LN}(t^2)) + t^2$, and the bag embedding
    is $z = \mathrm{LN}(t^3_\mathrm{class})$.

    Shao, Bian, Chen, Wang, Zhang, Ji and Zhang, NeurIPS 2021, section 3 (TPT module and PPEG).
    Departures: exact softmax attention over the tiles of the batch (`sampling.tiles_per_bag` bounds
    them in training; whole bags are scored) for Nyström attention with its convolution over the
    values; no copies of the first tiles to fill the square, see `PyramidPosition`; the tile
    embedding of the other heads stands for the paper's linear layer with ReLU; no dropout inside
    attention. The second layer is computed for the class token alone, since nothing else of it is
    used.

    With position `ppeg` the order of the tiles matters, as in the paper. The attention is that of
    the class token in the second layer, averaged over its heads and shared out among the tiles.

    Args:
        width: of the instances h.
        num_heads: attention heads; divides the width.
        position: ppeg or none.
    """

    def __init__(self, width: int, num_heads: int, *, position: str) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(width))
        self.first = SelfAttention(width, num_heads)
        self.position = PyramidPosition(width) if position == "ppeg" else None
        self.second = SelfAttention(width, num_heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, instances: Instances, mask: Mask) -> tuple[Pooled, Attention]:
        """Pool the instances of each bag."""
        token = self.token.expand(len(instances), 1, -1)
        tokens = torch.cat([token, instances], dim=1)
        real = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        tokens, _ = self.first(tokens, real, num_queries=tokens.shape[1])
        if self.position is not None:
            placed = self.position(tokens[:, 1:], mask)
            tokens = torch.cat([tokens[:, :1], placed], dim=1)
        tokens, weights = self.second(tokens, real, num_queries=1)
        attention = weights[:, :, 1:].mean(1)
        return self.norm(tokens[:, 0]), attention / attention.sum(-1, keepdim=True)


def per_token_norm(norm: nn.LayerNorm, tokens: Instances) -> Instances:
    """Normalise each token, as one call over all rows of a batch."""
    normed: Instances = norm(tokens.flatten(0, 1)).view_as(tokens)
    return normed
