"""The task loss of classes: what the labels alone ask of the scores.

Runs under `torch.func.vmap` over lanes: no branch depends on a value.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from training.data.loading import Batch
from training.types import Scores


class BagLosses(NamedTuple):
    """What the task says of each bag, and what the bag counts, not less than 0."""

    each: Float[Tensor, " bag"]
    weight: Float[Tensor, " bag"]

    def mean(self) -> Float[Tensor, ""]:
        """Average over bags; 0 where none counts."""
        total = self.weight.sum()
        return (self.weight * self.each).sum() / total.clamp_min(torch.finfo(total.dtype).tiny)


def task_loss(
    scores: Scores,
    labels: Int[Tensor, " bag"],
    weights: Float[Tensor, " bag"],
    *,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Average the negative log-likelihood of the labels over bags.

    sum_i w_i l_i / sum_i w_i, with l_i = -log sigmoid(s_i) for label 1 and -log sigmoid(-s_i) for
    label 0 where there is one column (binary), and l_i = -log softmax(s_i)[y_i] otherwise.

    Args:
        scores: logits s.
        labels: class numbers y; 0 or 1 for a binary task.
        weights: w, not negative, at least one positive; the bags of a slide share weight 1, so that
            a slide that was scanned twice does not count twice.
        smoothing: see `bag_losses`.
    """
    return (weights * bag_losses(scores, labels, smoothing=smoothing)).sum() / weights.sum()


def bag_losses(
    scores: Scores, labels: Int[Tensor, " bag"], *, smoothing: float = 0.0
) -> Float[Tensor, " bag"]:
    """Compute the negative log-likelihood l of each bag's label, as in `task_loss`.

    With smoothing eps, the cross-entropy of (1 - eps) [c = y] + eps / C over the C classes, as
    Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, CVPR 2016, section 7; C is 2 for one column.
    """
    if scores.shape[-1] == 1:
        targets = labels.to(scores.dtype)
        if smoothing:
            targets = targets * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(scores[:, 0], targets, reduction="none")
    log_p = torch.log_softmax(scores, dim=-1)
    loss = -log_p.gather(-1, labels.long()[:, None])[:, 0]
    return (1 - smoothing) * loss - smoothing * log_p.mean(-1) if smoothing else loss


def bag_slopes(
    scores: Scores, labels: Int[Tensor, " bag"], *, smoothing: float = 0.0
) -> Float[Tensor, " bag"]:
    """Compute the derivative of each bag's l in a common factor of the scores, at 1."""
    if scores.shape[-1] == 1:
        p = F.logsigmoid(scores).exp()  # not torch.sigmoid, see `training.lanes`
        wanted = labels.to(scores.dtype)[:, None]
    else:
        p = torch.softmax(scores, dim=-1)
        wanted = F.one_hot(labels.long(), scores.shape[-1]).to(scores.dtype)
    if smoothing:
        wanted = wanted * (1 - smoothing) + smoothing / max(scores.shape[-1], 2)
    return (scores * (p - wanted)).sum(-1)


class Classes(nn.Module):
    """The task loss of classes, as other tasks have theirs; it looks at scores and a batch.

    Args:
        smoothing: of the labels, see `bag_losses`.
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, scores: Scores, batch: Batch) -> Float[Tensor, ""]:
        """Compute the loss."""
        return task_loss(scores, batch.label, batch.weight, smoothing=self.smoothing)

    def bags(self, scores: Scores, batch: Batch) -> BagLosses:
        """Compute what each bag's label asks."""
        each = bag_losses(scores, batch.label, smoothing=self.smoothing)
        return BagLosses(each, batch.weight)

    def slopes(self, scores: Scores, batch: Batch) -> Float[Tensor, " bag"]:
        """Compute the derivative of each bag's loss in a common factor of all scores, at 1."""
        return bag_slopes(scores, batch.label, smoothing=self.smoothing)
