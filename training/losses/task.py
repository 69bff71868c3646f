"""The task loss: what the labels alone ask of the scores.

Runs under `torch.func.vmap` over lanes: no branch depends on a value.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from training.types import Scores


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
