"""A discriminator behind a gradient reversal: what it can tell of the group, the model unlearns."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class Discriminator(nn.Module):
    r"""Tell the group of a bag from its embedding, and give the reversed gradient to the model.

    $\sum_i v_i \, \mathrm{CE}(D(r(z_i) + e_{y_i}), g_i)$, with $r(z) = z$ and $dr/dz = -1$, so that
    D minimises what the model maximises; $v_i = 1 / \text{bags}$ and no e (DANN), or
    $v_i = 1 / (\text{classes present} \times \text{bags of class } y_i)$ and an embedding e per
    class that belongs to D (CDANN).

    DANN: Ganin, Ustinova, Ajakan et al., JMLR 2016, equation 9 and algorithm 1. CDANN: Li, Tian,
    Gong et al., ECCV 2018, as DomainBed writes it. Departures: the configuration's weight lambda
    multiplies the whole loss, not the reversed gradient alone; D follows the lane's optimiser,
    whose Adam steps do not depend on the scale of a gradient, so that this matters only where
    lambda is 0 (nothing is learned) and where gradients are clipped. One step of D per step of the
    model, at the lane's learning rate and weight decay; no gradient penalty, no dropout, no
    schedule of lambda.

    Args:
        width: of the embeddings z.
        dims: widths of the hidden layers; ReLU after each.
        num_groups: how many groups there are.
        num_classes: how many classes e has; 0 for DANN.
    """

    def __init__(
        self, width: int, dims: Sequence[int], *, num_groups: int, num_classes: int = 0
    ) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(
            nn.Linear(before, after) for before, after in zip([width, *dims], dims, strict=False)
        )
        self.out = nn.Linear([width, *dims][-1], num_groups)
        self.classes = nn.Linear(num_classes, width, bias=False) if num_classes else None

    def forward(
        self,
        bags: Float[Tensor, "bag embedding"],
        group: Int[Tensor, " bag"],
        label: Int[Tensor, " bag"],
    ) -> Float[Tensor, ""]:
        """Compute the loss; bags of no group (-1) do not count."""
        known = (group >= 0).to(bags.dtype)
        rows = reverse(bags)
        if self.classes is not None:
            one_hot = F.one_hot(label.long(), self.classes.in_features).to(bags.dtype)
            rows = rows + self.classes(torch.zeros_like(bags).sum() + one_hot)
            each = (one_hot * known[:, None]).sum(0)
            known = known / (one_hot @ each).clamp_min(1)
        for layer in self.hidden:
            rows = torch.relu(layer(rows))
        log_p = torch.log_softmax(self.out(rows), dim=-1)
        loss = -log_p.gather(-1, group.long().clamp_min(0)[:, None])[:, 0]
        return (known * loss).sum() / known.sum().clamp_min(torch.finfo(bags.dtype).tiny)


def reverse(bags: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Leave the values as they are, to the bit, and turn the gradient's sign."""
    return 2 * bags.detach() - bags
