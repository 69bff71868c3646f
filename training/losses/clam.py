"""The instance clustering loss of CLAM: attention is asked to order tiles by their class."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from training.models.linear import per_instance
from training.types import Instances, Mask


class InstanceClustering(nn.Module):
    r"""Tell the most attended tiles of a bag from the least attended, for the bag's class.

    Per bag of class y, with the attention of the branch of y (CLAM-SB: of the one branch) and
    $u_n = w_y^\top h_n + b_y$: half the mean of $l(u_n)$ over the B most attended tiles, label 1,
    and half that of $l(-u_n)$ over the B least attended, label 0. With `out_of_class`, for each
    other class c also the mean of $l(-w_c^\top h_n - b_c)$ over the B most attended tiles of its
    branch, and all is divided by the number of classes. The loss is the weighted mean over bags.

    $l(u) = \log(1 + \exp(1 - u))$ is the smooth SVM of Berrada, Zisserman and Kumar (ICLR 2018) for
    two classes, with temperature and margin 1; without the margin it is cross-entropy.

    Lu, Williamson, Chen, Chen, Barbieri and Mahmood, Nature Biomedical Engineering 2021, Methods,
    instance-level clustering; means, and the division by the classes, as in the authors' code.
    Departures: a class has one logit u, the difference of the paper's two; a bag of fewer than 2 B
    tiles gives half of them to each label, so that no tile has both and a bag of one tile gives
    nothing; tiles of equal attention count in the order of the bag; several bags per step; the
    weight stands beside a task loss of weight 1, for which the paper's .7 and .3 are 3/7.

    Args:
        width: of the tile embeddings h.
        num_classes: of the task.
        num_tiles: B.
        form: smooth_svm or cross_entropy.
        out_of_class: whether the other classes' branches get labels too.
    """

    def __init__(
        self, width: int, num_classes: int, *, num_tiles: int, form: str, out_of_class: bool
    ) -> None:
        super().__init__()
        self.classifiers = nn.Linear(width, num_classes)
        self.num_tiles, self.out_of_class = num_tiles, out_of_class
        self.margin = 1.0 if form == "smooth_svm" else 0.0

    def forward(
        self,
        instances: Instances,
        attention: Float[Tensor, "bag branch instance"],
        mask: Mask,
        label: Int[Tensor, " bag"],
        weight: Float[Tensor, " bag"],
    ) -> Float[Tensor, ""]:
        """Compute the loss; attention has a branch per class, or one for all."""
        logits = per_instance(self.classifiers, instances).transpose(1, 2)  # [bag, class, instance]
        top, bottom = extremes(attention.detach(), mask, self.num_tiles)
        many = top.sum(-1).clamp_min(1)
        high = (top * self._loss(logits)).sum(-1) / many
        low = (bottom * self._loss(-logits)).sum(-1) / many
        num_classes = logits.shape[1]
        own = F.one_hot(label.long(), num_classes).to(logits.dtype)
        each = (own * (high + low) / 2).sum(1)
        if self.out_of_class:
            others = (top * self._loss(-logits)).sum(-1) / many
            each = (each + ((1 - own) * others).sum(1)) / num_classes
        return (weight * each).sum() / weight.sum()

    def _loss(self, logits: Float[Tensor, "bag class instance"]) -> Tensor:
        return -F.logsigmoid(logits - self.margin)


def extremes(
    attention: Float[Tensor, "bag branch instance"], mask: Mask, num_tiles: int
) -> tuple[Bool[Tensor, "bag branch instance"], Bool[Tensor, "bag branch instance"]]:
    """Mark the most and the least attended tiles of each bag and branch, as many of each.

    Args:
        attention: not negative.
        mask: True where an instance is real.
        num_tiles: of each, or half of the bag's if that is less.
    """
    # Ranks and not the tiles themselves: fixed shapes, and no gradient through an index.
    kept = attention.masked_fill(~mask.unsqueeze(1), -1.0)
    order = torch.argsort(kept, dim=-1, descending=True, stable=True)
    rank = torch.argsort(order, dim=-1)
    count = mask.sum(1)[:, None, None]
    each = (count // 2).clamp_max(num_tiles)
    return rank < each, (rank >= count - each) & (rank < count)
